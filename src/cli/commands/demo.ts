import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { objectiveNames } from '../../engine/objectives.js'
import type { ComparedRounds } from '../../report/types.js'
import { compute, outputPath, seed, text } from '../../settings/common.js'
import { defineCommand } from '../command.js'
import { formatTable } from '../format.js'
import { runStages } from './run.js'

const file = fileURLToPath(new URL('../../../models/phantom/demo.yaml', import.meta.url))

const demoSettings = z.strictObject({
  out: text.default('fire-demo').meta(outputPath('Folder for records, pictures and report.html')),
  seed: seed
    .default(0)
    .meta({ description: 'Seed of the synthetic radiographs, the answers, the noise and the training' }),
  objective: z
    .enum(objectiveNames)
    .default('fire')
    .meta({ description: 'The loss to train with (docs/objectives.md)' }),
  quick: z
    .boolean()
    .default(false)
    .meta({ description: 'Run every stage on few images, in seconds; too small to conclude anything from' }),
  device: compute.device,
  threads: compute.threads,
})

/** Far too few questions to conclude anything, and the intervals say so. */
const quickSettings = { 'import.trainStudies': 24, 'import.testStudies': 16, 'evaluate.attentionQuestions': 12 }

export const demo = defineCommand({
  name: 'demo',
  summary: 'Run the whole method on a bundled model and synthetic radiographs, with a report at the end',
  settings: demoSettings,
  examples: [
    ['demo', 'the published objective, then open fire-demo/report.html'],
    ['demo --objective dpo --out dpo-demo', 'another objective'],
  ],
  notes:
    'The demo is a pipeline, models/phantom/demo.yaml. After a stop the same command continues, and skips what is done.',
  async run({ out: output, objective, quick, ...shared }, context) {
    const { loadPipeline } = await import('../../pipeline/index.js')
    const settings = { output, ...shared, 'train.objective.name': objective, ...(quick && quickSettings) }
    const overrides = Object.entries(settings).map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    const outcome = await runStages(await loadPipeline(file, overrides), context)
    if (outcome.stopped !== undefined) return outcome
    return { ...outcome, text: `${outcome.text}${await describeResults(join(output, 'evaluate'))}` }
  },
})

const independence = `The intervals of this table take the questions as independent, and several are about one image.
What may be concluded is said below, by the interval over images.`

async function describeResults(folder: string): Promise<string> {
  const { readEvaluation } = await import('../../evaluate/index.js')
  const { comparedRounds } = await import('../../report/rounds.js')
  const rounds = comparedRounds(await readEvaluation(folder))
  return rounds ? await describeRounds(rounds) : ''
}

/** Accuracy before and after, and what may be concluded. */
export async function describeRounds(rounds: ComparedRounds): Promise<string> {
  const { accuraciesOf } = await import('../../report/compared.js')
  const { headline } = await import('../../report/words.js')
  const { pointsWithInterval, withInterval } = await import('../../page/numbers.js')
  const rows = rounds.comparison.groups
    .filter(({ kind }) => kind === 'overall' || kind === 'answerType')
    .map(({ name, count, counts, difference }) => {
      const { before, after } = accuraciesOf(counts)
      return [name, count, withInterval(before), withInterval(after), pointsWithInterval(difference)]
    })
  const table = formatTable(['accuracy, %', 'n', 'before [95 %]', 'after [95 %]', 'difference [95 %]'], rows)
  const { title, detail } = headline(rounds)
  return `\n${table}\n\n${independence}\n\n${title}: ${detail}\n`
}
