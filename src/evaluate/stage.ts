/** `evaluate`: greedy answers to held-out questions, without and with the adapter, judged by rule and compared. */
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { writeFileAtomic } from '../data/files.js'
import { readJsonl, writeJsonl } from '../data/jsonl.js'
import { pair, response } from '../data/records.js'
import type { SampleSettings } from '../sample/settings.js'
import { defineStage, type StageContext } from '../stage/index.js'
import { version } from '../version.js'
import { accuracyByGroup, compareRounds, type GroupAccuracy, type JudgedAnswer } from './accuracy.js'
import { judgeByRule } from './match.js'
import { type EvaluateSettings, evaluateSettings } from './settings.js'

const rounds = ['before', 'after'] as const
type Round = (typeof rounds)[number]

export const evaluateStage = defineStage({
  name: 'evaluate',
  summary: 'Greedy answers to held-out questions, without and with the adapter, judged and compared',
  settings: evaluateSettings,
  takes: { samples: 'heldOut', adapter: 'adapter', trainedOn: 'pairs' },
  out: { setting: 'out', name: '' },
  makes: () => ({}),
  leaves: ({ out }) => [join(out, 'results.json'), ...rounds.map((round) => join(out, `${round}.jsonl`))],
  earlier: ['overwrite'],
  async run(settings, context) {
    const { out, openMatch, trainedOn } = settings
    if (context.overwrite) await rm(out, { recursive: true, force: true })
    const asked = { ...settings, answers: 1, temperature: 0, topP: 1, topK: 0 }
    const judged: JudgedAnswer[][] = []
    for (const round of rounds) {
      const responses = await answerRound(round, asked, context)
      if (!responses) return { interrupted: true, summary: '' }
      judged.push(await judgeRound(join(out, `${round}.jsonl`), asked, responses))
    }
    const [before, after] = judged
    const seen = trainedOn === undefined ? null : await countSeen(after, trainedOn)
    if (seen) context.progress.log(`warning: the images of ${seen} of ${after.length} questions were trained on`)
    const comparison = compareRounds(before, after)
    const report = {
      version,
      judge: { kind: 'rule', openMatch },
      // Questions whose image was trained on; null where the pairs are not known.
      seenImages: seen,
      before: accuracyByGroup(before),
      after: accuracyByGroup(after),
      comparison,
    }
    await writeFileAtomic(join(out, 'results.json'), `${JSON.stringify(report, null, 2)}\n`)
    const share = ({ accuracy }: GroupAccuracy): string => `${(100 * accuracy.value).toFixed(1)} %`
    const { pValue, conclusion } = comparison[0]
    const verdict = `${conclusion.replace('_', ' ')}, p = ${pValue.toPrecision(2)}`
    const summary = `${share(report.before[0])} before, ${share(report.after[0])} after (${verdict})`
    return { interrupted: false, summary, report }
  },
})

/** Everything that decides an answer of a round, but for the adapter. */
type Asking = EvaluateSettings & SampleSettings

/** The file of responses; undefined when it was stopped. */
async function answerRound(
  round: Round,
  asked: Asking,
  { signal, progress, native }: StageContext,
): Promise<string | undefined> {
  const { engineAnswerer, sampleAnswers } = await import('../sample/index.js')
  const { samples, images, model, device, dtype, threads, batchSize } = asked
  const adapter = round === 'after' ? asked.adapter : null
  const imageRoot = images ?? dirname(samples)
  const answerer = engineAnswerer({ model, adapter, device, dtype, threads, batchSize, imageRoot, native }, asked)
  const out = join(asked.out, `${round}.responses.jsonl`)
  const report = await sampleAnswers({ samples, out, settings: asked }, answerer, {
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
async function judgeRound(path: string, asked: Asking, responses: string): Promise<JudgedAnswer[]> {
  const { chosenSamples } = await import('../sample/index.js')
  const said = new Map<string, string>()
  for await (const { record } of readJsonl(responses, response)) said.set(record.sampleId, record.text)
  const judged: JudgedAnswer[] = []
  for await (const sample of chosenSamples(asked.samples, asked)) {
    judged.push(judgeByRule(sample, said.get(sample.id) ?? null, asked.openMatch))
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
