import type { GenerateBenchResult } from '../../bench/generate.js'
import { defineCommand } from '../command.js'
import { formatTable } from '../format.js'
import { catchSignals } from '../signals.js'
import { withRange } from './range.js'

export const generate = defineCommand({
  usage: 'generate',
  summary: 'Answers to several questions an image, beside transformers: time, memory, agreement',
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
      .option('images', { type: 'number', default: 4, describe: 'Images' })
      .option('questions', { type: 'number', default: 8, describe: 'Questions about each image' })
      .option('new-tokens', { type: 'number', default: 48, describe: 'Tokens of every answer' })
      .option('batch-size', { type: 'number', default: 32, describe: 'Questions decoded together' })
      .option('seed', { type: 'number', default: 0, describe: 'Seed of model and questions' })
      .option('peer', { type: 'boolean', default: true, describe: 'The PyTorch peer; --no-peer leaves it out' })
      .option('python', {
        type: 'string',
        default: 'python3',
        describe: 'Interpreter of the peer, with torch, transformers and peft',
      })
      .option('out', { type: 'string', describe: 'File for the results, raw samples included (JSON)' }),
  async run(options, { stdout, stderr, progress }) {
    const { benchGenerate } = await import('../../bench/generate.js')
    const { writeFileAtomic } = await import('../../data/files.js')
    const { size, dtype, threads, rounds, images, questions, newTokens, batchSize, seed, peer, python, out } = options
    using stop = catchSignals((name) => stderr(`\n${name}: ending the processes of the benchmark\n`))
    const settings = { size, dtype, threads, rounds, images, questions, newTokens, batchSize, seed }
    try {
      const result = await benchGenerate(
        { ...settings, python: peer ? python : null },
        {
          signal: stop.signal,
          onNote: (line) => progress.log(line),
          onStage: (title, total, unit) => progress.start(title, total, unit),
          onProgress: (done, status) => progress.update(done, status),
        },
      )
      progress.end()
      stdout(describe(result))
      if (out !== undefined) await writeFileAtomic(out, `${JSON.stringify(result, null, 2)}\n`)
      return 0
    } catch (error) {
      if (stop.exitCode === undefined) throw error
      progress.end('stopped')
      return stop.exitCode
    }
  },
})

/** Speed and memory against the first baseline that ran, and whose answers are ours. */
function describe({ variants, ratios, agreement }: GenerateBenchResult): string {
  const [baseline, rows] = Object.entries(ratios)[0]
  const cells = variants.map(({ variant, seconds, tokens, peakBytes }, index) => [
    variant,
    withRange(seconds, (value) => value.toPrecision(3)),
    withRange(rows[index].speed, (value) => value.toFixed(2)),
    (tokens / seconds.median).toFixed(1),
    Math.round(peakBytes / 2 ** 20),
    `${agreement[index].same}/${agreement[index].answers}`,
    `${(100 * agreement[index].leading).toFixed(1)} %`,
  ])
  const headers = [
    ...['variant', 'seconds (min-max)', `speed-up over ${baseline}`, 'new tokens/s', 'peak MiB'],
    ...['same answers', 'tokens before a difference'],
  ]
  return `${formatTable(headers, cells)}\n`
}
