/**
 * What the answers of a model and its adapter rest on: the same questions with the lesions hidden, and attention on the lesions at the
 * decisive words.
 */
import { join } from 'node:path'
import { readJsonl, writeJsonl } from '../data/jsonl.js'
import { type ImageRef, response, type Sample } from '../data/records.js'
import type { DType, Engine } from '../engine/engine.js'
import { DataError } from '../errors.js'
import { alone } from '../ranks/ranks.js'
import { namingFirst } from '../sample/answerer.js'
import { engineAnswerer, sampleAnswers } from '../sample/index.js'
import type { SampleSettings } from '../sample/settings.js'
import { byFirst, writtenByFirst } from '../stage/split.js'
import type { StageContext } from '../stage/stage.js'
import { Chat } from '../text/chat.js'
import { counted } from '../text/plural.js'
import { evaluationFiles } from './files.js'
import { type GroundingRequest, type MeanRatios, meanRatios, type ProbedQuestion, probeGrounding } from './grounding.js'
import {
  type HiddenAnswers,
  type HiddenResults,
  type HidingRequest,
  hiddenLines,
  hiddenResults,
  type LesionQuestion,
  lesionQuestions,
  type Rounds,
  writeTwins,
} from './hidden.js'
import type { HidingMethod } from './hiding.js'
import type { Judge } from './judge.js'
import type { VerdictRecord } from './records.js'
import { judgeAnswers } from './verdicts.js'

/** Which model with which adapter is looked into, and how. */
export interface EvidenceRequest {
  imageRoot: string
  /** Folder that is filled. */
  out: string
  /** Open, with its adapter: without it, it is the model as it was. */
  engine: Engine
  model: string
  adapter: string
  dtype: DType
  asked: SampleSettings
  /** Questions decoded together; no answer depends on it. */
  batchSize: number
  /** Ask what is longer than the model's context. */
  beyondContext?: boolean
  /** Judges answers with hidden lesions, as it judged the others; null for the rules. */
  truth: Judge | null
  /** Difference below which rounds count as equivalent, as a share. */
  margin: number
  /** None for 0 questions. */
  grounding: GroundingRequest
  /** Ask again with the lesions hidden; not asked without it. */
  hiding?: HidingRequest
  /** Replace answers of other settings. */
  overwrite?: boolean
}

/** What was found. */
export interface EvidenceResults {
  /** Null when it was not asked for or no question has a mask. */
  attention: MeanRatios | null
  /** One for each way to hide lesions; none when it was not asked for or no question has a mask. */
  hidden: HiddenResults[]
}

/**
 * Measures what was asked for, on the answers without the adapter and with it.
 * @param rounds judged by the truth or the rules, as the answers with hidden lesions are: no language model looks at those.
 * @returns undefined when the signal stopped it; the same request then goes on. Of several ranks the first has the numbers.
 * @throws {DataError} for a mask that does not fit its image.
 */
export async function measureEvidence(
  samples: readonly Sample[],
  rounds: Rounds,
  request: EvidenceRequest,
  context: StageContext,
): Promise<EvidenceResults | undefined> {
  const { out, grounding, engine } = request
  const { ranks = alone, signal } = context
  const hidden = await askHidden(samples, rounds, engine, request, context)
  if (!hidden) return undefined
  let probed: ProbedQuestion[] = []
  await byFirst(ranks, 'attention', signal, async () => {
    if (grounding.questions > 0) probed = await probeAll(grounding, samples, rounds, engine, request, context)
    await writeJsonl(join(out, evaluationFiles.attention), probed)
  })
  return { attention: meanRatios(probed), hidden }
}

const roundNames = ['before', 'after'] as const

/** Questions that are put to the model without the adapter and with it. */
interface Series {
  /** Before the names of its files and rounds. */
  name: `${HidingMethod}.`
  /** As they are judged, in order. */
  samples: readonly Sample[]
  /** The file that they are asked from. */
  path: string
  imageRoot: string
  asked: SampleSettings
}

/** Undefined when it was stopped. */
async function askBoth(
  series: Series,
  engine: Engine,
  request: EvidenceRequest,
  context: StageContext,
): Promise<Rounds | undefined> {
  const rounds: VerdictRecord[][] = []
  for (const round of roundNames) {
    const said = await answerRound(round, series, engine, request, context)
    if (!said) return undefined
    rounds.push(await judgeAnswers(series.samples, said, request.truth, round))
  }
  const [before, after] = rounds
  return { before, after }
}

/** Texts by sample id; undefined when it was stopped. */
async function answerRound(
  round: (typeof roundNames)[number],
  { name, path: samples, imageRoot, asked }: Series,
  engine: Engine,
  { out, model, adapter, dtype, batchSize, beyondContext, overwrite }: EvidenceRequest,
  { signal, progress, ranks = alone }: StageContext,
): Promise<Map<string, string> | undefined> {
  const answers = join(out, evaluationFiles.answers, `${name}${round}.responses.jsonl`)
  const who = { model, adapter: round === 'after' ? adapter : null, dtype, batchSize, beyondContext, imageRoot, engine }
  const request = { samples, out: answers, settings: asked, overwrite }
  const report = await sampleAnswers(request, await engineAnswerer(who, asked), {
    signal,
    ranks,
    onStart(done, total) {
      progress.start(`${name}${round}`, total, 'answers', done)
    },
    onProgress: (done) => progress.update(done),
    onFailure: namingFirst((line) => progress.log(line)),
  })
  if (report.interrupted) return undefined
  if (report.answers === 0) {
    throw new DataError(`No question has an answer ${round} training`, {
      hint: `The reasons are in ${report.failures}.`,
    })
  }
  if (report.failures)
    progress.log(
      `${counted(report.failed, 'question has', 'questions have')} no answer, which counts as wrong: ${report.failures}`,
    )
  const said = new Map<string, string>()
  if (ranks.rank > 0) return said
  for await (const { record } of readJsonl(answers, response)) said.set(record.sampleId, record.text)
  return said
}

/** Undefined when it was stopped. */
async function askHidden(
  samples: readonly Sample[],
  rounds: Rounds,
  engine: Engine,
  request: EvidenceRequest,
  context: StageContext,
): Promise<HiddenResults[] | undefined> {
  const { out, imageRoot, hiding } = request
  const { signal, ranks = alone } = context
  const place = join(out, evaluationFiles.hidden)
  const write = (lines: readonly HiddenAnswers[]) =>
    byFirst(ranks, `${place} written`, signal, () => writeJsonl(place, lines))
  if (!hiding) return write([]).then(() => [])
  let questions: LesionQuestion[] = []
  const count = await byFirst(ranks, 'lesions', signal, async () => {
    questions = await lesionQuestions(samples, hiding, { imageRoot, out, signal }, (reason) =>
      context.progress.log(`lesion not hidden: ${reason}`),
    )
    return questions.length
  })
  if (count === 0) context.progress.log('warning: no lesion was hidden: no question has a mask')
  const asked = questions.map(({ sample }) => sample)
  const ids = new Set(asked.map(({ id }) => id))
  const among = (round: readonly VerdictRecord[]) => round.filter(({ sampleId }) => ids.has(sampleId))
  const visible = { before: among(rounds.before), after: among(rounds.after) }
  const results: HiddenResults[] = []
  const lines: HiddenAnswers[] = []
  for (const method of count > 0 ? hiding.methods : []) {
    const path = join(out, evaluationFiles.answers, `${method}.samples.jsonl`)
    let twins: ImageRef[] = []
    await writtenByFirst(ranks, path, signal, async () => {
      twins = await writeTwins(questions, method, hiding, { imageRoot, out, signal })
      await writeJsonl(
        path,
        asked.map((sample, i) => ({ ...sample, images: [twins[i]] })),
      )
    })
    const settings = { ...request.asked, split: null, limit: null }
    const series = { name: `${method}.`, samples: asked, path, imageRoot: out, asked: settings } as const
    const hidden = await askBoth(series, engine, request, context)
    if (!hidden) return undefined
    if (ranks.rank > 0) continue
    const { sigma, seed } = hiding
    results.push(hiddenResults({ method, sigma }, visible, hidden, { margin: request.margin, seed }))
    lines.push(...hiddenLines(method, questions, twins, { visible, hidden }, { imageRoot, out }))
  }
  await write(lines)
  return results
}

async function probeAll(
  grounding: GroundingRequest,
  samples: readonly Sample[],
  { before, after }: Rounds,
  engine: Engine,
  { imageRoot, out, model }: EvidenceRequest,
  { signal, progress }: StageContext,
): Promise<ProbedQuestion[]> {
  progress.start('attention', grounding.questions, 'questions')
  const answered = samples.map((sample, i) => ({ sample, before: before[i], after: after[i] }))
  const probed = await probeGrounding(
    { engine, chat: await Chat.load(model, engine.info), imageRoot },
    answered,
    grounding,
    {
      out,
      signal,
      onProgress: (done) => progress.update(done),
      onFailure: (reason) => progress.log(`attention not probed: ${reason}`),
    },
  )
  if (probed.length === 0) progress.log('warning: attention was not probed: no right answer has a mask of its lesion')
  return probed
}
