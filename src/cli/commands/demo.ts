import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { objectiveNames } from '../../config/objectives.js'
import type { EvaluationResults } from '../../evaluate/index.js'
import { defineCommand } from '../command.js'
import { deviceOption } from '../device.js'
import { formatTable } from '../format.js'
import { runStages } from './run.js'

const file = fileURLToPath(new URL('../../../models/phantom/demo.yaml', import.meta.url))

/** A look at every stage in a few seconds. Far too few questions to conclude anything, and the intervals say so. */
const quickSettings = { 'import.trainStudies': 24, 'import.testStudies': 16, 'evaluate.attentionQuestions': 12 }

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
      .option('threads', { type: 'number', default: 0, describe: '0 = all; results do not depend on it' })
      .example('$0 demo', 'the published objective, then open fire-demo/report.html')
      .example('$0 demo --objective dpo --out dpo-demo', 'the same pairs, another objective')
      .epilogue(
        'It is the pipeline models/phantom/demo.yaml; the same command goes on after a stop and skips what is done.',
      ),
  async run({ out, seed, objective, quick, device, threads }, context) {
    const { loadPipeline } = await import('../../pipeline/index.js')
    const settings = { output: resolve(out), seed, device, threads, 'train.objective.name': objective }
    const overrides = Object.entries({ ...settings, ...(quick && quickSettings) }).map(
      ([key, value]) => `${key}=${JSON.stringify(value)}`,
    )
    const code = await runStages(await loadPipeline(file, overrides), context)
    if (code === 0) context.stdout(await describeResults(join(out, 'evaluate', 'results.json')))
    return code
  },
})

async function describeResults(path: string): Promise<string> {
  const { headline } = await import('../../report/index.js')
  const { comparison } = JSON.parse(await readFile(path, 'utf8')) as EvaluationResults
  const percent = (value: number): string => (100 * value).toFixed(1)
  const share = ({ value, low, high }: { value: number; low: number; high: number }): string =>
    `${percent(value)} [${percent(low)}, ${percent(high)}]`
  const rows = comparison
    .filter(({ kind }) => kind === 'overall' || kind === 'answerType')
    .map(({ name, before, after, difference }) => [name, before.count, ...[before, after, difference].map(share)])
  const table = formatTable(['accuracy, %', 'n', 'before [95 %]', 'after [95 %]', 'difference [95 %]'], rows)
  const { title, detail } = headline(comparison[0])
  return `\n${table}\n\n${title}: ${detail}\n`
}
