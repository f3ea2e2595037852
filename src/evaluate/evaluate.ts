/** The evaluation of an adapter: greedy answers to held-out questions without it and with it, judged and compared. */
import { join } from 'node:path'
import { deleteAll, writeJson } from '../data/files.js'
import { readJsonl, writeJsonl } from '../data/jsonl.js'
import { lockOutput } from '../data/lock.js'
import { pair, response, type Sample } from '../data/records.js'
import { type Engine, type EngineOptions, openEngine } from '../engine/engine.js'
import { DataError } from '../errors.js'
import { checkOptions } from '../options.js'
import { namingFirst } from '../sample/answerer.js'
import { engineAnswerer, sampleAnswers } from '../sample/index.js'
import { chosenSamples } from '../sample/questions.js'
import type { SampleSettings } from '../sample/settings.js'
import { counted } from '../settings/plural.js'
import { type Progress, silent } from '../stage/progress.js'
import type { StageContext } from '../stage/stage.js'
import { Chat } from '../text/chat.js'
import { version } from '../version.js'
import {
  accuracyByGroup,
  compareRounds,
  type GroupAccuracy,
  type GroupComparison,
  type JudgedAnswer,
} from './accuracy.js'
import { evaluationFiles } from './files.js'
import { type GroundingRequest, type MeanRatios, meanRatios, type ProbedQuestion, probeGrounding } from './grounding.js'
import { type Judge, judgeAnswers } from './judge.js'

/** What is asked of which model, and how it is judged. */
export interface EvaluateRequest {
  /** Sample records that were not trained on. */
  samples: string
  imageRoot: string
  /** Folder that is filled. */
  out: string
  engine: EngineOptions & { adapter: string }
  asked: SampleSettings
  /** Questions decoded together; no answer depends on it. */
  batchSize: number
  /** Ask what is longer than the model's context. */
  beyondContext?: boolean
  judge: Judge
  /** Pair records that were trained on: questions about their images are counted. */
  trainedOn?: string
  /** None for 0 questions. */
  grounding: GroundingRequest
  /** Replace an evaluation of other settings. */
  overwrite?: boolean
}

const evaluateKeys: Record<keyof EvaluateRequest, true> = {
  samples: true,
  imageRoot: true,
  out: true,
  engine: true,
  asked: true,
  batchSize: true,
  judge: true,
  trainedOn: true,
  grounding: true,
  beyondContext: true,
  overwrite: true,
}

/** The signal asks for an orderly stop. Without `progress` nothing is shown. */
export type EvaluateContext = Partial<Pick<StageContext, 'signal' | 'progress' | 'native'>>

/** What results.json holds. */
export interface EvaluationResults {
  version: string
  judge: Judge['about']
  /** Questions whose image was trained on; null where the pairs are not known. */
  seenImages: number | null
  before: GroupAccuracy[]
  after: GroupAccuracy[]
  comparison: GroupComparison[]
  /** Null when it was not asked for or no question has a mask. */
  attention: MeanRatios | null
}

/**
 * Asks every question without and with the adapter, judges both rounds, and compares them.
 * @returns undefined when the signal stopped it; the same request then goes on.
 * @throws {DataError} for a bad sample file or a mask that does not fit its image.
 * @throws {LockedError} when another run writes to `out`.
 */
export async function evaluateAdapter(
  request: EvaluateRequest,
  { signal, progress = silent, native }: EvaluateContext = {},
): Promise<EvaluationResults | undefined> {
  checkOptions('evaluateAdapter', request, evaluateKeys)
  const { samples: path, out, engine: spec, asked, judge, trainedOn, grounding } = request
  await using _lock = await lockOutput(out, 'folder')
  // One engine for all: without its adapter it is the model as it was.
  await using engine = await openEngine(spec, { signal, native })
  const samples: Sample[] = []
  for await (const sample of chosenSamples(path, asked)) samples.push(sample)
  // The results of one evaluation never stand beside answers of another; nothing is given up before this one can begin.
  if (request.overwrite) await deleteAll(Object.values(evaluationFiles).map((name) => join(out, name)))
  const rounds: JudgedAnswer[][] = []
  for (const round of ['before', 'after'] as const) {
    const said = await answerRound(round, engine, request, { signal, progress })
    if (!said) return undefined
    const judged = await judgeAnswers(samples, said, judge)
    await writeJsonl(join(out, evaluationFiles[round]), judged)
    rounds.push(judged)
  }
  const [before, after] = rounds
  const seenImages = trainedOn === undefined ? null : await countSeen(after, trainedOn)
  if (seenImages) progress.log(`warning: the images of ${seenImages} of ${after.length} questions were trained on`)
  const probed =
    grounding.questions > 0 ? await probeAll(grounding, samples, rounds, engine, request, { signal, progress }) : []
  await writeJsonl(join(out, evaluationFiles.attention), probed)
  const results: EvaluationResults = {
    version,
    judge: judge.about,
    seenImages,
    before: accuracyByGroup(before),
    after: accuracyByGroup(after),
    comparison: compareRounds(before, after),
    attention: meanRatios(probed),
  }
  await writeJson(join(out, evaluationFiles.results), results)
  return results
}

/** Texts by sample id; undefined when it was stopped. */
async function answerRound(
  round: 'before' | 'after',
  engine: Engine,
  { samples, out, engine: spec, asked, batchSize, beyondContext, imageRoot, overwrite }: EvaluateRequest,
  { signal, progress }: StageContext,
): Promise<Map<string, string> | undefined> {
  const answers = join(out, `${round}.responses.jsonl`)
  const { model, adapter, dtype = 'f32' } = spec
  const who = { model, adapter: round === 'after' ? adapter : null, dtype, batchSize, beyondContext, imageRoot, engine }
  const request = { samples, out: answers, settings: asked, overwrite }
  const report = await sampleAnswers(request, await engineAnswerer(who, asked), {
    signal,
    onStart(done, total) {
      progress.start(round, total, 'answers')
      progress.update(done)
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
  for await (const { record } of readJsonl(answers, response)) said.set(record.sampleId, record.text)
  return said
}

async function probeAll(
  grounding: GroundingRequest,
  samples: readonly Sample[],
  [before, after]: readonly JudgedAnswer[][],
  engine: Engine,
  { imageRoot, out, engine: { model } }: EvaluateRequest,
  { signal, progress }: { signal: AbortSignal | undefined; progress: Progress },
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

/** How many questions are about an image that is in the training pairs: common in public benchmarks, and no fair test. */
async function countSeen(judged: readonly JudgedAnswer[], pairs: string): Promise<number> {
  const images = new Set<string>()
  for await (const { record } of readJsonl(pairs, pair)) for (const { sha256 } of record.images) images.add(sha256)
  return judged.filter(({ imageId }) => images.has(imageId)).length
}
