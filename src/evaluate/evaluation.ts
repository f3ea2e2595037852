/** An evaluation: systems answer, answers are judged, numbers are counted, and everything that decides them is written down. */
import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { deleteAll, sha256File, writeJson } from '../data/files.js'
import { readJsonl, writeJsonl } from '../data/jsonl.js'
import { lockOutput, refuseInputs } from '../data/lock.js'
import { pair, type Sample, sample } from '../data/records.js'
import { ArgumentError, DataError, type FireError } from '../errors.js'
import { checkOptions } from '../options.js'
import { chosenSamples } from '../sample/questions.js'
import type { SampleSettings } from '../sample/settings.js'
import { silent } from '../stage/progress.js'
import type { StageContext } from '../stage/stage.js'
import { Chat } from '../text/chat.js'
import { describeSystem, moveSystem, pathFrom } from './about.js'
import type { JudgedAnswer } from './accuracy.js'
import { alongTraining } from './along.js'
import { type EvidenceRequest, type EvidenceResults, measureEvidence } from './evidence.js'
import { evaluationFiles, evaluationTraces, writeAnswers } from './files.js'
import { type EvaluationResults, type GroundingSummary, type ReportsResults, readEvaluation } from './finished.js'
import { groundingPresets, measureGrounding } from './grounding/measure.js'
import { type BoxFormat, type GroundingQuestion, readGroundingQuestions } from './grounding/questions.js'
import { compareGrounding, groundingResults } from './grounding/summary.js'
import { type Judge, rulesJudge } from './judge.js'
import { askJudges, type JudgeRequest } from './judges/run.js'
import { Models } from './models.js'
import { notesOn, problemOf } from './notes.js'
import { type GroundingRecord, type Prediction, prediction, type ReportRecord, type VerdictRecord } from './records.js'
import { type ImportedScores, readScores, scoreKey } from './reports/imported.js'
import { askGreen, type GreenRequest, reportRecord } from './reports/score.js'
import { compareReports, reportResults } from './reports/summary.js'
import { detectableWith, type Judging, questionResults } from './results.js'
import { type RewardRequest, rewardsOf } from './rewards/run.js'
import { type AnsweringSystem, type Asking, answersOf, greedyOf } from './systems.js'
import { asJudged, verdictOf } from './verdicts.js'

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
  /** Difference below which systems count as equivalent, as a share. */
  margin: number
  /** Share of unreadable replies above which the numbers are no result, as a share. */
  maxUnreadable: number
  /** Pair records that were trained on, to tell questions about their images. */
  trainedOn?: string
  seed: number
}

/** How answers of a finished evaluation are judged again. */
export interface RejudgeRequest extends JudgingRequest {
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
  grounding?: {
    files: readonly string[]
    /** What paths of their images are relative to; default: the folder of each file. */
    images?: string
    preset: keyof typeof groundingPresets
    boxFormat: BoxFormat
  }
  /** Pairs whose rewards under each adapter are measured. */
  rewards?: RewardRequest
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
  rewards: true,
  overwrite: true,
  out: true,
  truth: true,
  judge: true,
  green: true,
  scores: true,
  baseline: true,
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
 * @throws {EndpointError} when a server cannot answer any more; what is done is kept.
 */
export async function evaluate(
  request: EvaluationRequest,
  { signal, progress = silent, native }: EvaluationContext = {},
): Promise<Evaluated | undefined> {
  checkOptions('evaluate', request, requestKeys)
  const { systems, samples: path, imageRoot, asked, engine, out, overwrite } = request
  checkNames(systems)
  await using _lock = await lockOutput(out, 'folder')
  await keepInputs(request)
  // Nothing is paid for before a name is found to be wrong.
  baselineOf(
    systems.map(({ name }) => name),
    request.baseline,
  )
  const samples = await readSamples(path, asked)
  const [{ difference }] = detectableWith(samples.length).filter(({ discordant }) => discordant === 0.2)
  if (difference !== null) {
    progress.log(
      `${samples.length} questions can show a difference of ${(100 * difference).toFixed(1)} points (80 % power, 20 % change)`,
    )
  }
  // The numbers of one evaluation never stand beside answers of another; nothing is given up before this one can begin.
  if (overwrite) await deleteAll(evaluationTraces(out))
  const folder = join(out, evaluationFiles.answers)
  const { device, dtype, threads, store } = engine
  const refs = systems.filter((system) => system.kind === 'model')
  await using models = new Models(refs, { device, dtype, threads, store }, { signal, native })
  const predictions: Prediction[] = []
  for (const system of systems) {
    const asking: Asking = { samples: path, imageRoot, settings: asked, folder, engine }
    const answers = await answersOf(system, samples, asking, models, { signal, progress })
    if (!answers) return undefined
    predictions.push(...answers)
  }
  await writeAnswers(out, samples, predictions)
  const fromOut = pathFrom(out)
  const inputs = {
    samples: fromOut(path),
    samplesSha256: await sha256File(path),
    imageRoot: fromOut(imageRoot),
    trainedOn: request.trainedOn === undefined ? null : fromOut(request.trainedOn),
  }
  const about = new Map(systems.map((system) => [system.name, describeSystem(system, fromOut)]))
  const context = { signal, progress, native }
  const answered = { samples, predictions, about, inputs, asked }
  const judged = await judgeAll(answered, request, context)
  const evidence = await evidenceOf(request, samples, judged.records, models, context)
  if (!evidence) return undefined
  const grounding = await groundAll(request, models, context)
  const rewards = await rewardsOf({ ...request, trained: await imagesOf(request.trainedOn) }, samples, models, context)
  return countAll(answered, judged, { ...evidence, grounding, rewards }, request, context)
}

/**
 * Judges the answers of a finished evaluation again, by other rules or another judge, without asking for an answer.
 * @param folder of the finished evaluation; `request.out` is another one.
 * @throws {FileError} when the folder holds none. @throws {ArgumentError} when it would be written over.
 */
export async function rejudge(
  folder: string,
  request: RejudgeRequest,
  { signal, progress = silent }: EvaluationContext = {},
): Promise<Evaluated> {
  const { out, overwrite } = request
  await using _lock = await lockOutput(out, 'folder', [folder])
  const before = await readEvaluation(folder)
  const samples: Sample[] = []
  for await (const { record } of readJsonl(join(folder, evaluationFiles.samples), sample)) samples.push(record)
  const predictions: Prediction[] = []
  for await (const { record } of readJsonl(join(folder, evaluationFiles.predictions), prediction)) {
    predictions.push(record)
  }
  const fromOut = pathFrom(out)
  const moved = (place: string): string => fromOut(resolve(folder, place))
  const about = new Map(before.systems.map((system) => [system.name, moveSystem(system.about, moved)]))
  baselineOf([...about.keys()], request.baseline)
  const { asked } = before
  // Which images were trained on does not change with the judge.
  const known = before.inputs.trainedOn === null ? undefined : resolve(folder, before.inputs.trainedOn)
  const trainedOn = request.trainedOn ?? (known !== undefined && existsSync(known) ? known : undefined)
  const inputs = {
    samples: moved(before.inputs.samples),
    samplesSha256: before.inputs.samplesSha256,
    imageRoot: moved(before.inputs.imageRoot),
    trainedOn: trainedOn === undefined ? null : fromOut(trainedOn),
  }
  if (overwrite) await deleteAll(evaluationTraces(out))
  await writeAnswers(out, samples, predictions)
  const context = { signal, progress }
  const answered = { samples, predictions, about, inputs, asked }
  // What models look at does not depend on who judges their answers.
  const { attention, hidden, grounding } = before
  const rewards = before.rewards.map((each) => ({ ...each, pairs: moved(each.pairs) }))
  const looked = { attention, hidden, grounding, rewards }
  const judging = { ...request, trainedOn }
  return countAll(answered, await judgeAll(answered, judging, context), looked, judging, context)
}

/** The answers and where they come from. */
interface Answered {
  samples: readonly Sample[]
  predictions: readonly Prediction[]
  about: ReadonlyMap<string, Record<string, unknown>>
  inputs: EvaluationResults['inputs']
  asked: SampleSettings
}

/** Verdicts, and who made them. */
interface Judged {
  records: VerdictRecord[]
  judging: Omit<Judging, 'agreement'>
}

async function countAll(
  answered: Answered,
  { records, judging }: Judged,
  looked: EvidenceResults & Pick<EvaluationResults, 'grounding' | 'rewards'>,
  request: JudgingRequest,
  context: Pick<StageContext, 'signal' | 'progress'>,
): Promise<Evaluated> {
  const { out, margin, seed } = request
  const reports = await scoreReports(answered, request, context)
  // What a kill leaves from here on is no evaluation, rather than one of other verdicts.
  await deleteAll([join(out, evaluationFiles.results)])
  await writeJsonl(join(out, evaluationFiles.verdicts), records)
  const names = [...answered.about.keys()]
  const baseline = baselineOf(names, request.baseline)
  const byName = new Map(names.map((name) => [name, records.filter(({ system }) => system === name)]))
  const results: EvaluationResults = {
    ...questionResults(byName, answered.about, judging, { baseline, margin, seed }),
    inputs: answered.inputs,
    asked: answered.asked,
    reports,
    ...looked,
    training: null,
    notes: [],
  }
  results.training = alongTraining(results, records)
  results.notes.push(...notesOn(results, records))
  await writeJson(join(out, evaluationFiles.results), results)
  return { results, problem: problemOf(results, request.maxUnreadable) }
}

async function judgeAll(
  { samples, predictions }: Answered,
  { truth, judge, trainedOn }: JudgingRequest,
  context: Pick<StageContext, 'signal' | 'progress'>,
): Promise<Judged> {
  const trained = await imagesOf(trainedOn)
  // A free report is right or wrong only where its truth is known.
  const judged = new Map(samples.filter(({ task }) => task === 'vqa' || truth).map((each) => [each.id, each]))
  const records: VerdictRecord[] = []
  for (const answer of predictions) {
    const asked = judged.get(answer.sampleId)
    if (asked) records.push(await verdictOf(asked, answer, { truth, trained }))
  }
  const first = truth ? ('truth' as const) : ('rules' as const)
  const description = truth?.about.description ?? 'by rule against the reference answer'
  if (!judge) return { records, judging: { description, first, on: null, judge: null, second: null } }
  const asked = await askJudges(records, judge, context)
  const also = `; where the rules ${judge.on === 'all' ? 'say anything' : 'are not sure'}, by ${asked.judge.model}`
  return {
    records: asked.records,
    judging: { description: description + also, first, on: judge.on, judge: asked.judge, second: asked.second },
  }
}

/** The base model's and the adapter's answers, as the rounds before and after training. */
async function evidenceOf(
  { evidence, truth, imageRoot, out, asked, engine, systems, overwrite }: EvaluationRequest,
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
  const round = (path: string | null): JudgedAnswer[] =>
    records.filter(({ system, k }) => system === nameOf(path) && k === 0).map(asJudged)
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
      judge: truth ?? rulesJudge,
    },
    context,
  )
}

/** Null where no question has boxes. */
async function groundAll(
  { grounding, systems, out, baseline, seed }: EvaluationRequest,
  models: Models,
  { signal, progress }: StageContext,
): Promise<GroundingSummary | null> {
  const path = join(out, evaluationFiles.grounding)
  if (!grounding) return writeJsonl(path, []).then(() => null)
  const { files, images, preset, boxFormat } = grounding
  const sets: { questions: GroundingQuestion[]; root: string }[] = []
  for (const file of files) {
    sets.push({ questions: await readGroundingQuestions(file, boxFormat), root: images ?? dirname(file) })
  }
  const total = sets.reduce((sum, { questions }) => sum + questions.length, 0)
  const records: GroundingRecord[] = []
  for (const system of systems) {
    if (system.kind !== 'model') continue
    const { name, model, adapter } = system
    const engine = await models.engine(system)
    const chat = await Chat.load(model, engine.info)
    progress.start(`${name}: grounding`, total, 'questions')
    const before = records.length
    for (const { questions, root } of sets) {
      const looking = { engine, chat, imageRoot: root, adapter: adapter !== null }
      for await (const record of measureGrounding(name, questions, looking, groundingPresets[preset], signal)) {
        records.push(record)
        progress.update(records.length - before)
      }
    }
  }
  await writeJsonl(path, records)
  const outside = records.filter(({ outside }) => outside > 0).length
  if (outside > 0.01 * records.length) {
    progress.log(`warning: boxes of ${outside} of ${records.length} questions leave their image: look at boxFormat`)
  }
  const first = baselineOf(
    systems.map(({ name }) => name),
    baseline,
  )
  return {
    preset,
    results: groundingResults(records, seed),
    comparisons: compareGrounding(records, first, seed),
  }
}

/** Null where no sample is a report. */
async function scoreReports(
  { samples, predictions, about }: Answered,
  { out, green, scores, baseline, seed }: JudgingRequest,
  context: Pick<StageContext, 'signal' | 'progress'>,
): Promise<ReportsResults | null> {
  const asked = new Map(samples.filter(({ task }) => task === 'report').map((each) => [each.id, each]))
  if (asked.size === 0) {
    if (green || scores.length > 0)
      context.progress.log('no sample is a report: GREEN and scores have nothing to look at')
    return null
  }
  const names = [...about.keys()]
  const imported: ImportedScores[] = []
  for (const path of scores) imported.push(await readScores(path, names, new Set(asked.keys())))
  const answers = predictions.filter(({ sampleId, k }) => asked.has(sampleId) && k === 0)
  const texts = answers.map(({ sampleId, text }) => ({
    reference: (asked.get(sampleId) as Sample).answer,
    candidate: text ?? '',
  }))
  let records = answers.map((answer) => {
    const key = scoreKey(answer.system, answer.sampleId)
    const own = Object.assign({}, ...imported.map((each) => each.get(key) ?? {})) as Record<string, number>
    return reportRecord(asked.get(answer.sampleId) as Sample, answer, own)
  })
  let counted: ReportsResults['green'] = null
  if (green) {
    const read = await askGreen(records, texts, green, context)
    records = read.records
    const date = new Date().toISOString().slice(0, 10)
    counted = { model: green.endpoint.model, promptSha256: green.prompt.sha256, date, cost: read.cost }
  }
  await writeJsonl(join(out, evaluationFiles.reports), records)
  const of = (name: string): ReportRecord[] => records.filter(({ system }) => system === name)
  const textsOf = (name: string) => texts.filter((_, i) => answers[i].system === name)
  const first = baselineOf(names, baseline)
  return {
    systems: names.map((name) => ({
      ...reportResults(of(name), textsOf(name), { green: !!green, seed }),
      system: name,
    })),
    comparisons: names
      .filter((name) => name !== first)
      .map((name) => ({ system: name, scores: compareReports(of(first), of(name), seed) })),
    green: counted,
  }
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
  if (samples.size === 0) throw new DataError(`${path} holds no sample that is asked for`, { detail: { path } })
  return [...samples.values()]
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

function baselineOf(names: readonly string[], wanted: string | undefined): string {
  if (wanted === undefined || names.includes(wanted)) return wanted ?? names[0]
  throw new ArgumentError(`No system is called ${JSON.stringify(wanted)}; there are ${names.join(', ')}`)
}
