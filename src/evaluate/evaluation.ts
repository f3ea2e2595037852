/** An evaluation: systems answer, answers are judged, numbers are counted, and everything that decides them is written down. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { deleteAll, sha256File, writeJson } from '../data/files.js'
import { readJsonl, writeJsonl } from '../data/jsonl.js'
import { lockOutput, refuseInputs } from '../data/lock.js'
import { pair, type Sample, sample } from '../data/records.js'
import { ArgumentError, atPlace, DataError, type FireError } from '../errors.js'
import { checkOptions } from '../options.js'
import { chosenSamples, countQuestions } from '../sample/questions.js'
import type { SampleSettings } from '../sample/settings.js'
import { silent } from '../stage/progress.js'
import type { StageContext } from '../stage/stage.js'
import { describeSystem, madeHere, moveSystem, pathFrom } from './about.js'
import { alongTraining } from './along.js'
import { askPriors, blindSummary, type PriorAnswer, priorAnswerOf } from './blind.js'
import { carryOver, carryReplies, recordsIn } from './carry.js'
import { checkWhole, refuseOther, wantedBy } from './earlier.js'
import { type EvidenceRequest, type EvidenceResults, measureEvidence } from './evidence.js'
import { evaluationFiles, evaluationTraces, writeAnswers } from './files.js'
import { type EvaluationResults, readEvaluation } from './finished.js'
import { checkGrounding, type GroundingFiles, groundSystems } from './grounding/run.js'
import { countWords } from './groups.js'
import type { Judge } from './judge.js'
import { askJudges, type JudgeRequest } from './judges/run.js'
import { Models } from './models.js'
import { notesOn, problemOf } from './notes.js'
import { rulesVersion } from './questions/rule.js'
import { lexiconSha256 } from './questions/words.js'
import {
  type Prediction,
  type PriorKind,
  type PriorRecord,
  prediction,
  priorRecord,
  reportRecord,
  type VerdictRecord,
} from './records.js'
import { type EarlierReports, scoreReports } from './reports/run.js'
import type { GreenRequest } from './reports/score.js'
import { detectableWith, type Judging, questionResults } from './results.js'
import { type RewardRequest, rewardsOf } from './rewards/run.js'
import { type AnsweringSystem, type Asking, answersOf, greedyOf } from './systems.js'
import { firstVerdict, verdictOf } from './verdicts.js'

/** How answers are judged and counted; none of it needs an answer again. */
export interface JudgingRequest {
  /** Folder that is filled. */
  out: string
  /** The exact judge of samples that carry their truth; else the rules. */
  truth: Judge | null
  judge?: JudgeRequest
  green?: GreenRequest
  /** Files of scores of other programs, see `readScores`. */
  scores: readonly string[]
  /** The system that others are compared with; default: the first. */
  baseline?: string
  /** The system whose comparison with the baseline was fixed beforehand; the others are adjusted by Holm and are exploratory. */
  primary?: string
  /** Difference below which systems count as equivalent, as a share. */
  margin: number
  /** Share of unreadable replies above which the numbers are no result, as a share. */
  maxUnreadable: number
  /** Pair records that were trained on, to tell questions about their images. */
  trainedOn?: string
  seed: number
}

/** How answers of a finished evaluation are judged again. Baseline, primary and margin are those of the first where they are not given. */
export interface RejudgeRequest extends Omit<JudgingRequest, 'margin'> {
  margin?: number
  /** Replace what an earlier run left. */
  overwrite?: boolean
}

/** Who is asked what, and how the answers are judged. */
export interface EvaluationRequest extends JudgingRequest {
  systems: readonly AnsweringSystem[]
  /** Sample records that were not trained on. */
  samples: string
  imageRoot: string
  asked: SampleSettings
  engine: Asking['engine']
  /** Look into what the answers of a model and its adapter rest on; both are among the systems. */
  evidence?: Pick<EvidenceRequest, 'grounding' | 'hiding'> & { model: string; adapter: string }
  /** Questions with boxes: where the models among the systems look. */
  grounding?: GroundingFiles
  /** Pairs whose rewards under each adapter are measured. */
  rewards?: RewardRequest
  /** Ask the systems without the image too: what is right so is not seen. */
  priors?: readonly PriorKind[]
  /** Replace an evaluation of other settings. */
  overwrite?: boolean
}

const requestKeys: Record<keyof EvaluationRequest, true> = {
  systems: true,
  samples: true,
  imageRoot: true,
  asked: true,
  engine: true,
  evidence: true,
  grounding: true,
  priors: true,
  rewards: true,
  overwrite: true,
  out: true,
  truth: true,
  judge: true,
  green: true,
  scores: true,
  baseline: true,
  primary: true,
  margin: true,
  maxUnreadable: true,
  trainedOn: true,
  seed: true,
}

/** The signal asks for an orderly stop; the same request then goes on. Without `progress` nothing is shown. */
export type EvaluationContext = Partial<Pick<StageContext, 'signal' | 'progress' | 'native'>>

/** What came of it. */
export interface Evaluated {
  results: EvaluationResults
  /** The numbers are there, and should not be built on. */
  problem: FireError | undefined
}

/**
 * Asks every system every question, judges the answers and compares the systems.
 * @returns undefined when the signal stopped it; the same request goes on, and nothing is paid for twice.
 * @throws {DataError} for bad samples or answers to other questions.
 * @throws {FileError} when `out` holds an evaluation that this one would lose a part of, and `overwrite` is not set.
 * @throws {EndpointError} when a server cannot answer any more; what is done is kept.
 */
export async function evaluate(
  request: EvaluationRequest,
  { signal, progress = silent, native }: EvaluationContext = {},
): Promise<Evaluated | undefined> {
  checkOptions('evaluate', request, requestKeys)
  const { systems, samples: path, imageRoot, asked, engine, out, overwrite } = request
  checkNames(systems)
  checkJudges(request)
  await using _lock = await lockOutput(out, 'folder')
  await keepInputs(request)
  // Nothing is paid for before a name is found to be wrong.
  const { baseline } = rolesOf(
    systems.map(({ name }) => name),
    request,
  )
  const samples = await readSamples(path, asked)
  const questions = samples.filter((each) => isJudged(each, request.truth)).length
  const [{ difference }] = detectableWith(questions).filter(({ discordant }) => discordant === 0.2)
  if (difference !== null) {
    progress.log(
      `${questions} questions can show a difference of ${(100 * difference).toFixed(1)} points (80 % power, 20 % change)`,
    )
  }
  checkTruth(path, samples, request.truth)
  await checkGrounding(request.grounding, progress)
  if (!overwrite) await refuseOther(wantedBy(request))
  // The numbers of one evaluation never stand beside answers of another; nothing is given up before this one can begin.
  if (overwrite) await deleteAll(evaluationTraces(out))
  const folder = join(out, evaluationFiles.answers)
  const { device, dtype, threads, store } = engine
  const refs = systems.filter((system) => system.kind === 'model')
  await using models = new Models(refs, { device, dtype, threads, store }, { signal, native })
  const predictions: Prediction[] = []
  const asking: Asking = { samples: path, imageRoot, settings: asked, folder, engine }
  for (const system of systems) {
    const answers = await answersOf(system, samples, asking, models, { signal, progress })
    if (!answers) return undefined
    predictions.push(...answers)
  }
  const priors = await askPriors(request.priors ?? [], systems, samples, asking, models, { signal, progress })
  if (!priors) return undefined
  await writeAnswers(out, samples, predictions)
  const fromOut = pathFrom(out)
  const inputs = {
    samples: fromOut(path),
    samplesSha256: await sha256File(path),
    imageRoot: fromOut(imageRoot),
    ...(await describePairs(request.trainedOn, fromOut)),
  }
  const about = new Map<string, Record<string, unknown>>()
  for (const system of systems) about.set(system.name, await describeSystem(system, fromOut))
  const context = { signal, progress, native }
  const answered = { samples, predictions, priors, about, inputs, asked }
  const judged = await judgeAll(answered, request, context)
  const evidence = await evidenceOf(request, samples, judged.records, models, context)
  if (!evidence) return undefined
  const looked = { out, baseline, seed: request.seed }
  const grounding = await groundSystems(request.grounding, systems, looked, models, context)
  const rewards = await rewardsOf({ ...request, trained: await imagesOf(request.trainedOn) }, samples, models, context)
  return countAll(answered, judged, { ...evidence, grounding, rewards }, request, context)
}

/**
 * Judges the answers of a finished evaluation again, by other rules or another judge, without asking for an answer.
 * @param folder of the finished evaluation; `request.out` is another one.
 * @throws {FileError} when the folder holds none, or `request.out` another one. @throws {DataError} when its files were cut. @throws {ArgumentError} when it would be written over.
 */
export async function rejudge(
  folder: string,
  asking: RejudgeRequest,
  { signal, progress = silent }: EvaluationContext = {},
): Promise<Evaluated> {
  const { out, overwrite } = asking
  checkJudges(asking)
  await using _lock = await lockOutput(out, 'folder', [folder])
  const before = await readEvaluation(folder)
  const { baseline = before.baseline, margin = before.margin } = asking
  // The primary comparison is one with the baseline that it was named with.
  const primary = asking.primary ?? (baseline === before.baseline ? (before.primary ?? undefined) : undefined)
  const request = { ...asking, baseline, margin, primary }
  const samples: Sample[] = []
  for await (const { record } of readJsonl(join(folder, evaluationFiles.samples), sample)) samples.push(record)
  const predictions: Prediction[] = []
  for await (const { record } of readJsonl(join(folder, evaluationFiles.predictions), prediction)) {
    predictions.push(record)
  }
  checkWhole(folder, before, samples, predictions)
  const fromOut = pathFrom(out)
  const moved = (place: string): string => fromOut(resolve(folder, place))
  const about = new Map(before.systems.map((system) => [system.name, moveSystem(system.about, moved)]))
  rolesOf([...about.keys()], request)
  const { asked } = before
  // Which images were trained on does not change with the judge.
  const trained = before.inputs.trainedOn === null ? undefined : resolve(folder, before.inputs.trainedOn)
  const trainedOn = request.trainedOn ?? (trained !== undefined && existsSync(trained) ? trained : undefined)
  const inputs = {
    samples: moved(before.inputs.samples),
    samplesSha256: before.inputs.samplesSha256,
    imageRoot: moved(before.inputs.imageRoot),
    ...(await describePairs(trainedOn, fromOut)),
  }
  if (overwrite) await deleteAll(evaluationTraces(out))
  else await refuseOther({ ...request, systems: [...about.keys()], samples: inputs.samples, asked })
  for (const asked of [request.judge, request.green]) if (asked) await carryReplies(folder, asked.cache)
  await writeAnswers(out, samples, predictions)
  const context = { signal, progress }
  const known = await recordsIn(join(folder, evaluationFiles.priors), priorRecord)
  const priors = known.map((record) => priorAnswerOf(record, countWords(record.text ?? '')))
  const answered = { samples, predictions, priors, about, inputs, asked }
  const sameFirst = before.judging.first === (request.truth ? 'truth' : 'rules')
  const looked = await carryOver(folder, out, before, moved, sameFirst, context)
  const judging = { ...request, trainedOn }
  const earlier = {
    records: await recordsIn(join(folder, evaluationFiles.reports), reportRecord),
    green: before.reports?.green ?? null,
  }
  return countAll(answered, await judgeAll(answered, judging, context), looked, judging, context, earlier)
}

/** The answers and where they come from. */
interface Answered {
  samples: readonly Sample[]
  predictions: readonly Prediction[]
  priors: readonly PriorAnswer[]
  about: ReadonlyMap<string, Record<string, unknown>>
  inputs: EvaluationResults['inputs']
  asked: SampleSettings
}

/** Verdicts, and who made them. */
interface Judged {
  records: VerdictRecord[]
  priors: PriorRecord[]
  judging: Omit<Judging, 'agreement'>
}

async function countAll(
  answered: Answered,
  { records, priors, judging }: Judged,
  looked: EvidenceResults & Pick<EvaluationResults, 'grounding' | 'rewards'>,
  request: JudgingRequest,
  context: Pick<StageContext, 'signal' | 'progress'>,
  earlier?: EarlierReports,
): Promise<Evaluated> {
  const { out, margin, seed } = request
  const { samples, predictions, about, inputs, asked } = answered
  const names = [...about.keys()]
  const roles = rolesOf(names, request)
  const reports = await scoreReports(samples, predictions, names, { ...request, ...roles }, context, earlier)
  // What a kill leaves from here on is no evaluation, rather than one of other verdicts.
  const { results: numbers, page, tables } = evaluationFiles
  await deleteAll([numbers, page, tables].map((name) => join(out, name)))
  await writeJsonl(join(out, evaluationFiles.verdicts), records)
  await writeJsonl(join(out, evaluationFiles.priors), priors)
  const byName = new Map(names.map((name) => [name, records.filter(({ system }) => system === name)]))
  const results: EvaluationResults = {
    ...questionResults(byName, about, judging, { ...roles, margin, seed }),
    ...{ made: madeHere(), inputs, asked, reports, ...looked },
    blind: priors.length > 0 ? blindSummary(byName, priors, { ...roles, margin, seed }) : null,
    training: null,
    notes: [],
  }
  results.training = alongTraining(results, records)
  results.notes.push(...notesOn(results, answered.samples))
  await writeJson(join(out, evaluationFiles.results), results)
  return { results, problem: problemOf(results, request.maxUnreadable) }
}

/** Which answers a judge decides. */
const judgeWords: Record<JudgeRequest['on'], string> = {
  undecided: 'where the rules decide nothing',
  weak: 'where the rules are not sure',
  open: 'open questions, and where the rules are not sure',
  all: 'all answers',
}

/** A free report is right or wrong only where its truth is known. */
const isJudged = ({ task }: Sample, truth: Judge | null): boolean => task === 'vqa' || truth !== null

async function judgeAll(
  { samples, predictions, priors: asked }: Answered,
  { truth, judge, trainedOn }: JudgingRequest,
  context: Pick<StageContext, 'signal' | 'progress'>,
): Promise<Judged> {
  const trained = await imagesOf(trainedOn)
  const judged = new Map(samples.filter((each) => isJudged(each, truth)).map((each) => [each.id, each]))
  const records: VerdictRecord[] = []
  for (const answer of predictions) {
    const sample = judged.get(answer.sampleId)
    if (sample) records.push(await verdictOf(sample, answer, { truth, trained }))
  }
  const priors: PriorRecord[] = []
  for (const { prior, shown, prediction } of asked) {
    const sample = judged.get(prediction.sampleId)
    if (sample) priors.push({ ...(await verdictOf(sample, prediction, { truth, trained })), prior, shown })
  }
  const first = truth ? ('truth' as const) : ('rules' as const)
  const description = truth?.about.description ?? 'by rule against the reference answer'
  const rules = truth ? null : { version: rulesVersion, lexiconSha256 }
  if (!judge) return { records, priors, judging: { description, first, rules, on: null, judge: null, second: null } }
  const looked = await askJudges(records, priors, judge, context)
  const also = `; ${judgeWords[judge.on]}, by ${looked.judge.model}`
  return {
    records: looked.records,
    priors: looked.priors,
    judging: {
      description: description + also,
      first,
      rules,
      on: judge.on,
      judge: looked.judge,
      second: looked.second,
    },
  }
}

/** The base model's and the adapter's answers, as the rounds before and after training. */
async function evidenceOf(
  { evidence, truth, margin, imageRoot, out, asked, engine, systems, overwrite }: EvaluationRequest,
  samples: readonly Sample[],
  records: readonly VerdictRecord[],
  models: Models,
  context: StageContext,
): Promise<EvidenceResults | undefined> {
  if (!evidence) {
    for (const name of ['hidden', 'attention'] as const) await writeJsonl(join(out, evaluationFiles[name]), [])
    return { attention: null, hidden: [] }
  }
  const { model, adapter, ...wanted } = evidence
  const nameOf = (path: string | null): string | undefined =>
    systems.find((system) => system.kind === 'model' && system.model === model && system.adapter === path)?.name
  const round = (path: string | null): VerdictRecord[] =>
    records.filter(({ system, k }) => system === nameOf(path) && k === 0).map(firstVerdict)
  const judgedIds = new Set(records.map(({ sampleId }) => sampleId))
  const { batchSize, beyondContext } = engine
  return measureEvidence(
    samples.filter(({ id }) => judgedIds.has(id)),
    { before: round(null), after: round(adapter) },
    {
      ...wanted,
      ...{ imageRoot, out, model, adapter, batchSize, beyondContext, overwrite },
      engine: await models.engine({ model, adapter }),
      dtype: engine.dtype,
      asked: greedyOf(asked),
      ...{ truth, margin },
    },
    context,
  )
}

/** An evaluation in the folder of its samples must not replace them by the part that was asked. */
async function keepInputs({
  samples,
  systems,
  scores,
  trainedOn,
  grounding,
  rewards,
  out,
}: EvaluationRequest): Promise<void> {
  const files = systems.flatMap((system) => (system.kind === 'file' ? [system.path] : []))
  const inputs = [
    samples,
    ...files,
    ...scores,
    ...(trainedOn === undefined ? [] : [trainedOn]),
    ...(grounding?.files ?? []),
    ...(rewards?.files ?? []),
  ]
  for (const trace of evaluationTraces(out)) await refuseInputs(trace, inputs)
}

async function readSamples(path: string, asked: SampleSettings): Promise<Sample[]> {
  const samples = new Map<string, Sample>()
  for await (const each of chosenSamples(path, asked)) {
    if (samples.has(each.id)) {
      throw new DataError(`${path}: two samples have the id ${each.id}`, {
        detail: { path, id: each.id },
        hint: 'Answers are found by the id of their sample, so it must be its own.',
      })
    }
    samples.set(each.id, each)
  }
  // Says which splits there are.
  if (samples.size === 0) await countQuestions(path, asked)
  return [...samples.values()]
}

/** The truth is looked for in every sample before an answer is paid for. */
function checkTruth(path: string, samples: readonly Sample[], truth: Judge | null): void {
  for (const each of samples) {
    try {
      truth?.check?.(each)
    } catch (error) {
      atPlace(`${path}: sample ${each.id}`)(error)
    }
  }
}

async function describePairs(pairs: string | undefined, fromOut: (place: string) => string) {
  if (pairs === undefined) return { trainedOn: null, trainedOnSha256: null }
  return { trainedOn: fromOut(pairs), trainedOnSha256: await sha256File(pairs) }
}

/** Null where they are not known. */
async function imagesOf(pairs: string | undefined): Promise<ReadonlySet<string> | null> {
  if (pairs === undefined) return null
  const images = new Set<string>()
  for await (const { record } of readJsonl(pairs, pair)) for (const { sha256 } of record.images) images.add(sha256)
  return images
}

function checkNames(systems: readonly AnsweringSystem[]): void {
  const names = systems.map(({ name }) => name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (names.length === 0) throw new ArgumentError('There is no system to evaluate')
  if (twice !== undefined) throw new ArgumentError(`Two systems are called ${JSON.stringify(twice)}`)
  const odd = names.find((name) => !/^[\w][\w .+-]*$/.test(name))
  if (odd !== undefined)
    throw new ArgumentError(`${JSON.stringify(odd)} is no name of a system: it becomes a file's name`)
}

/** Where the truth is known there is nothing for a model to judge, and its name must not stand beside the numbers. */
function checkJudges({ truth, judge }: Pick<JudgingRequest, 'truth' | 'judge'>): void {
  if (!truth || !judge) return
  throw new ArgumentError('The truth of the samples decides every answer: a judge would have nothing to look at', {
    hint: 'Leave out the judge, or the truth.',
  })
}

/** What others are compared with, and which comparison was fixed beforehand. @throws {ArgumentError} for a name that no system has. */
function rolesOf(
  names: readonly string[],
  { baseline: wanted, primary }: Pick<JudgingRequest, 'baseline' | 'primary'>,
): { baseline: string; primary: string | null } {
  for (const name of [wanted, primary]) {
    if (name !== undefined && !names.includes(name))
      throw new ArgumentError(`No system is called ${JSON.stringify(name)}; there are ${names.join(', ')}`)
  }
  const baseline = wanted ?? names[0]
  if (primary === baseline) {
    throw new ArgumentError(
      `${JSON.stringify(primary)} is the baseline: the primary comparison is that of another system`,
    )
  }
  return { baseline, primary: primary ?? null }
}
