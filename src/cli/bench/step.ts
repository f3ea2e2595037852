import type { StepBenchResult } from '../../bench/step.js'
import type { Agreement } from '../../bench/summary.js'
import { defineCommand } from '../command.js'
import { formatDifference, formatTable } from '../format.js'
import { catchSignals } from '../signals.js'
import { withRange } from './range.js'

export const step = defineCommand({
  usage: 'step',
  summary: 'A training step beside its unshared form and a PyTorch peer: time, memory, agreement',
  options: (parser) =>
    parser
      .option('dtype', { choices: ['f32', 'bf16'] as const, default: 'f32' as const, describe: 'Matrix arithmetic' })
      .option('threads', { type: 'number', default: 1, describe: 'Compute threads of every variant' })
      .option('rounds', { type: 'number', default: 3, describe: 'Timed rounds, after one that warms up' })
      .option('size', {
        choices: ['mid', 'small'] as const,
        default: 'mid' as const,
        describe: 'The model to measure, or a tiny one that only shows that everything runs',
      })
      .option('gemm', {
        choices: ['auto', 'native', 'onednn'] as const,
        default: 'auto' as const,
        describe: 'Our matrix products',
      })
      .option('seed', { type: 'number', default: 0, describe: 'Seed of model, adapter and pairs' })
      .option('peer', { type: 'boolean', default: true, describe: 'The PyTorch peer; --no-peer leaves it out' })
      .option('python', {
        type: 'string',
        default: 'python3',
        describe: 'Interpreter of the peer, with torch, transformers and peft',
      })
      .option('out', { type: 'string', describe: 'File for the results, raw samples included (JSON)' }),
  async run({ dtype, threads, rounds, size, gemm, seed, peer, python, out }, { stdout, stderr, progress }) {
    const { benchStep } = await import('../../bench/step.js')
    const { writeFileAtomic } = await import('../../data/files.js')
    using stop = catchSignals((name) => stderr(`\n${name}: ending the processes of the benchmark\n`))
    const options = { size, dtype, threads, rounds, gemm, seed, python: peer ? python : null }
    try {
      const result = await benchStep(options, {
        signal: stop.signal,
        onNote: (line) => progress.log(line),
        onStage: (title, total, unit) => progress.start(title, total, unit),
        onProgress: (done, status) => progress.update(done, status),
      })
      progress.end()
      stdout(describe(result))
      if (out !== undefined) await writeFileAtomic(out, `${JSON.stringify(result, null, 2)}\n`)
      return result.agreement.agrees ? 0 : 1
    } catch (error) {
      if (stop.exitCode === undefined) throw error
      progress.end('stopped')
      return stop.exitCode
    }
  },
})

function describe(result: StepBenchResult): string {
  const { agrees, reference } = result.agreement
  const verdict = agrees
    ? `loss and gradient norm of the first step agree with ${reference}`
    : `MISS: loss or gradient norm of the first step differ from ${reference} by more than the tolerance`
  return `${timings(result)}\n\n${agreement(result.agreement)}\n${verdict}\n`
}

/** Speed and memory against the first baseline that ran. */
function timings({ variants, ratios }: StepBenchResult): string {
  const [baseline, rows] = Object.entries(ratios)[0]
  const cells = variants.map(({ variant, seconds, tokens, peakBytes }, index) => [
    variant,
    withRange(seconds, (value) => value.toPrecision(3)),
    withRange(rows[index].speed, (value) => value.toFixed(2)),
    tokens,
    Math.round(peakBytes / 2 ** 20),
    Number(rows[index].memory.toFixed(2)),
  ])
  const headers = ['variant', 'seconds (min-max)', `speed-up over ${baseline}`, 'tokens', 'peak MiB', 'peak ratio']
  return formatTable(headers, cells)
}

function agreement({ rows, tolerance }: Agreement): string {
  const cells = rows.map((row) => [
    row.variant,
    row.loss.toFixed(7),
    row.gradNorm.toPrecision(7),
    formatDifference(row.lossDifference),
    formatDifference(row.gradNormDifference),
    row.agrees ? 'agrees' : 'MISS',
  ])
  const limits = [`abs diff <= ${tolerance.loss}`, `rel diff <= ${tolerance.gradNorm}`]
  return formatTable(['variant', 'first loss', 'grad norm', ...limits, 'result'], cells)
}
