/** `evaluate`: greedy answers to held-out questions, without and with the adapter, judged by rule and compared. */
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { writeFileAtomic } from '../../data/files.js'
import { readJsonl, writeJsonl } from '../../data/jsonl.js'
import { pair, response } from '../../data/records.js'
import {
  accuracyByGroup,
  compareRounds,
  type GroupAccuracy,
  type JudgedAnswer,
  judgeByRule,
  type OpenMatch,
} from '../../evaluate/index.js'
import {
  chosenSamples,
  engineAnswerer,
  type SampleSettings,
  sampleAnswers,
  sampleSettings,
} from '../../sample/index.js'
import { version } from '../../version.js'
import { defineStage, type Shared, type StageContext } from '../stage.js'

const schema = sampleSettings
  .pick({ maxNewTokens: true, stop: true, promptSuffix: true, split: true, limit: true })
  .extend({
    /** Sample records that were not trained on; default: those that a stage before held out. */
    samples: z.string().min(1).optional(),
    /** What image paths are relative to; default: the folder of the samples. */
    images: z.string().min(1).optional(),
    /** PEFT folder; default: the one that was trained. */
    adapter: z.string().min(1).optional(),
    /** Open answers: equal to the reference, or containing it. */
    openMatch: z.enum(['exact', 'phrase']).default('exact'),
    batchSize: z.number().int().positive().default(8),
  })

export const evaluateStage = defineStage({
  section: 'evaluate',
  schema,
  paths: [['samples'], ['images'], ['adapter']],
  plan({ settings, shared, artifacts, folder, fail }) {
    const { samples: given, images, adapter: named, openMatch, batchSize, ...chosen } = settings
    const samples =
      given ?? artifacts.heldOut ?? fail(['samples'], 'evaluate.samples is missing: no stage holds samples out')
    const adapter = named ?? artifacts.adapter ?? fail(['adapter'], 'evaluate.adapter is missing: no stage trains one')
    const asked = sampleSettings.parse({ ...chosen, seed: shared.seed })
    const results = join(folder, 'results.json')
    const trainedOn = artifacts.pairs
    return {
      name: 'evaluate',
      inputs: [samples, shared.model, adapter, ...(trainedOn ? [trainedOn] : [])],
      settings: { asked, openMatch, dtype: shared.dtype },
      outputs: [results, ...rounds.map((round) => join(folder, `${round}.jsonl`))],
      async run(context) {
        if (!context.resume) await rm(folder, { recursive: true, force: true })
        const imageRoot = images ?? dirname(samples)
        const judged: JudgedAnswer[][] = []
        for (const round of rounds) {
          const answered = await answerRound(
            { round, samples, asked, folder },
            { ...shared, adapter: round === 'after' ? adapter : null, batchSize, imageRoot },
            context,
          )
          if (!answered) return { interrupted: true, summary: '' }
          judged.push(await judgeRound(join(folder, `${round}.jsonl`), samples, asked, answered, openMatch))
        }
        const [before, after] = judged
        const seen = trainedOn === undefined ? null : await countSeen(after, trainedOn)
        if (seen) context.progress.log(`warning: the images of ${seen} of ${after.length} questions were trained on`)
        const comparison = compareRounds(before, after)
        const content = {
          version,
          judge: { kind: 'rule', openMatch },
          // Questions whose image was trained on; null where the pairs are not known.
          seenImages: seen,
          before: accuracyByGroup(before),
          after: accuracyByGroup(after),
          comparison,
        }
        await writeFileAtomic(results, `${JSON.stringify(content, null, 2)}\n`)
        const share = ({ accuracy }: GroupAccuracy): string => `${(100 * accuracy.value).toFixed(1)} %`
        const { pValue, conclusion } = comparison[0]
        const verdict = `${conclusion.replace('_', ' ')}, p = ${pValue.toPrecision(2)}`
        const summary = `${share(content.before[0])} before, ${share(content.after[0])} after (${verdict})`
        return { interrupted: false, summary }
      },
    }
  },
})

const rounds = ['before', 'after'] as const

interface Round {
  round: (typeof rounds)[number]
  samples: string
  asked: SampleSettings
  folder: string
}

/** The file of responses; undefined when it was stopped. */
async function answerRound(
  { round, samples, asked, folder }: Round,
  who: Shared & { adapter: string | null; batchSize: number; imageRoot: string },
  { signal, progress, native }: StageContext,
): Promise<string | undefined> {
  const out = join(folder, `${round}.responses.jsonl`)
  const report = await sampleAnswers({ samples, out, settings: asked }, engineAnswerer({ ...who, native }, asked), {
    signal,
    onStart(done, total) {
      progress.start(round, total, 'answers')
      progress.update(done)
    },
    onProgress: (done) => progress.update(done),
  })
  if (report.interrupted) return undefined
  if (report.failures) progress.log(`${report.failed} questions have no answer and count as wrong: ${report.failures}`)
  return out
}

/** Judges every chosen sample, those without an answer too, so that both rounds have the same questions. */
async function judgeRound(
  path: string,
  samples: string,
  asked: SampleSettings,
  responses: string,
  open: OpenMatch,
): Promise<JudgedAnswer[]> {
  const said = new Map<string, string>()
  for await (const { record } of readJsonl(responses, response)) said.set(record.sampleId, record.text)
  const judged: JudgedAnswer[] = []
  for await (const sample of chosenSamples(samples, asked)) {
    judged.push(judgeByRule(sample, said.get(sample.id) ?? null, open))
  }
  await writeJsonl(path, judged)
  return judged
}

/** How many questions are about an image that is in the training pairs: common in public benchmarks, and no fair test. */
async function countSeen(judged: readonly JudgedAnswer[], pairs: string): Promise<number> {
  const images = new Set<string>()
  for await (const { record } of readJsonl(pairs, pair)) for (const { sha256 } of record.images) images.add(sha256)
  return judged.filter(({ imageId }) => images.has(imageId)).length
}
