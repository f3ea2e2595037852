import type { DemoResult } from '../../demo/index.js'
import { FireError } from '../../errors.js'
import { objectiveNames } from '../../train/objectives.js'
import { defineCommand } from '../command.js'
import { deviceOption } from '../device.js'
import { formatTable } from '../format.js'
import { formatDuration } from '../progress.js'
import { catchSignals } from '../signals.js'

export const demo = defineCommand({
  usage: 'demo',
  summary: 'Run the whole method on a bundled model and synthetic radiographs, with a report at the end',
  options: (parser) =>
    parser
      .option('out', { type: 'string', default: './fire-demo', describe: 'Folder for records, pictures and report' })
      .option('seed', { type: 'number', default: 0, describe: 'Of the world, the answers, the noise and the training' })
      .option('objective', { choices: objectiveNames, default: 'fire' as const, describe: 'What to train with' })
      .option('quick', { type: 'boolean', default: false, describe: 'See every stage; too small to conclude from' })
      .option('device', deviceOption)
      .option('threads', { type: 'number', default: 0, describe: '0 = all; results do not depend on it' }),
  examples: [
    ['demo', 'the published objective, then open fire-demo/report.html'],
    ['demo --objective dpo --out dpo-demo', 'the same pairs, another objective'],
  ],
  async run({ out, seed, objective, quick, device, threads }, { stdout, progress }) {
    const { runDemo } = await import('../../demo/index.js')
    using stop = catchSignals((name) => progress.log(`${name}: stopping; finished stages stay; again to leave at once`))
    try {
      const result = await runDemo({ out, seed, objective, quick, device, threads }, { signal: stop.signal, progress })
      stdout(describeResult(result))
      return 0
    } catch (error) {
      if (stop.exitCode === undefined || !(error instanceof FireError)) throw error
      progress.log([error.message, error.hint].filter(Boolean).join('\n'))
      return stop.exitCode
    }
  },
})

function describeResult({ comparisons, conclusion, detail, report, seconds }: DemoResult): string {
  const percent = (value: number): string => (100 * value).toFixed(1)
  const share = ({ value, low, high }: { value: number; low: number; high: number }): string =>
    `${percent(value)} [${percent(low)}, ${percent(high)}]`
  const shown = comparisons.filter((group) => group.kind === 'overall' || group.kind === 'answerType')
  const rows = shown.map((group) => [
    group.name,
    group.before.count,
    share(group.before),
    share(group.after),
    share(group.difference),
  ])
  const table = formatTable(['accuracy, %', 'n', 'before [95 %]', 'after [95 %]', 'difference [95 %]'], rows)
  return `${table}\n\n${conclusion}: ${detail}\n${formatDuration(seconds)}; report: ${report}\n`
}
