/** An evaluation: systems answer, answers are judged and counted, and what they rest on is measured. */
import { join } from 'node:path'
import { deleteAll, sha256File } from '../data/files.js'
import { writeJsonl } from '../data/jsonl.js'
import { refuseInputs } from '../data/lock.js'
import type { Sample } from '../data/records.js'
import { ArgumentError, atPlace, DataError } from '../errors.js'
import { checkOptions } from '../options.js'
import { alone } from '../ranks/ranks.js'
import { seatOf } from '../ranks/seat.js'
import { chosenSamples, countQuestions } from '../sample/questions.js'
import type { SampleSettings } from '../sample/settings.js'
import { silent } from '../stage/progress.js'
import { byFirst, forgetFound, lockByFirst, saidOnce, writtenByFirst } from '../stage/split.js'
import type { StageContext } from '../stage/stage.js'
import { describeSystems, pathFrom, refuseChanged } from './about.js'
import { askPriors } from './blind.js'
import { refuseOther, wantedBy } from './earlier.js'
import { type EvidenceRequest, type EvidenceResults, measureEvidence } from './evidence.js'
import { evaluationFiles, evaluationTraces, writeAnswers } from './files.js'
import { readEvaluation } from './finished.js'
import { checkGrounding, type GroundingFiles, groundSystems } from './grounding/run.js'
import type { Judge } from './judge.js'
import {
  checkJudges,
  countAll,
  describePairs,
  type Evaluated,
  type EvaluationContext,
  imagesOf,
  isJudged,
  type Judged,
  type JudgingRequest,
  judgeAll,
  rolesOf,
} from './judging.js'
import { Models } from './models.js'
import { problemOf } from './notes.js'
import type { Prediction, PriorKind, VerdictRecord } from './records.js'
import { detectableWith } from './results.js'
import { type RewardRequest, rewardsOf } from './rewards/run.js'
import { type AnsweringSystem, type Asking, answersOf, greedyOf } from './systems.js'
import { firstVerdict } from './verdicts.js'

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
  labels: true,
  baseline: true,
  primary: true,
  margin: true,
  maxUnreadable: true,
  trainedOn: true,
  seed: true,
}

/**
 * Asks every system every question, judges the answers and compares the systems.
 * @returns undefined when the signal stopped it; the same request goes on, and nothing is paid for twice.
 * @throws {DataError} for bad samples or answers to other questions, and for an adapter or a file that is replaced meanwhile.
 * @throws {FileError} when `out` holds an evaluation that this one would lose a part of, and `overwrite` is not set.
 * @throws {EndpointError} when a server cannot answer any more; what is done is kept.
 */
export async function evaluate(
  request: EvaluationRequest,
  { signal, progress: shown = silent, native, ranks = alone }: EvaluationContext = {},
): Promise<Evaluated | undefined> {
  checkOptions('evaluate', request, requestKeys)
  const { systems, samples: path, imageRoot, asked, engine, out, overwrite } = request
  checkNames(systems)
  checkJudges(request)
  const progress = saidOnce(ranks, shown)
  await using _lock = await lockByFirst(ranks, out, 'folder')
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
  const fromOut = pathFrom(out)
  let about: Awaited<ReturnType<typeof describeSystems>> = new Map()
  await byFirst(ranks, `${out} begun`, signal, async () => {
    await checkGrounding(request.grounding, progress)
    if (!overwrite) await refuseOther(wantedBy(request))
    about = await describeSystems(systems, fromOut)
    // The numbers of one evaluation never stand beside answers of another; nothing is given up before this one can begin.
    if (overwrite) await deleteAll(evaluationTraces(out))
  })
  const folder = join(out, evaluationFiles.answers)
  const { dtype, packWeights = 'auto', store } = engine
  const { device, threads } = await seatOf(
    { device: engine.device ?? 'cpu', threads: engine.threads ?? 0 },
    ranks,
    native,
  )
  const refs = systems.filter((system) => system.kind === 'model')
  await using models = new Models(refs, { device, dtype, threads, packWeights, store }, { signal, native })
  const context = { signal, progress, native, ranks }
  const predictions: Prediction[] = []
  const asking: Asking = { samples: path, imageRoot, settings: asked, folder, engine }
  for (const system of systems) {
    const answers = await answersOf(system, samples, asking, models, context)
    if (!answers) return undefined
    predictions.push(...answers)
  }
  const priors = await askPriors(request.priors ?? [], systems, samples, asking, models, context)
  if (!priors) return undefined
  const inputs = {
    samples: fromOut(path),
    samplesSha256: await sha256File(path),
    imageRoot: fromOut(imageRoot),
    ...(await describePairs(request.trainedOn, fromOut)),
  }
  const answered = { samples, predictions, priors, about, inputs, asked }
  let judged: Judged | undefined
  // A judge is a server: one client keeps its budget.
  await byFirst(ranks, `${out} judged`, signal, async () => {
    await writeAnswers(out, samples, predictions)
    judged = await judgeAll(answered, request, context)
  })
  const evidence = await evidenceOf(request, samples, judged?.records ?? [], models, context)
  if (!evidence) return undefined
  const looked = { out, baseline, seed: request.seed }
  const grounding = await groundSystems(request.grounding, systems, looked, models, context)
  const rewards = await rewardsOf({ ...request, trained: await imagesOf(request.trainedOn) }, samples, models, context)
  let evaluated: Evaluated | undefined
  await writtenByFirst(ranks, join(out, evaluationFiles.results), signal, async () => {
    await refuseChanged(systems, about, fromOut)
    evaluated = await countAll(answered, judged as Judged, { ...evidence, grounding, rewards }, request, context)
    for (const name of [evaluationFiles.grounding, evaluationFiles.rewards]) await forgetFound(join(out, name))
  })
  return evaluated ?? (await evaluatedIn(out, request))
}

/** What rank 0 has written. */
async function evaluatedIn(out: string, { maxUnreadable }: EvaluationRequest): Promise<Evaluated> {
  const results = await readEvaluation(out)
  return { results, problem: problemOf(results, maxUnreadable) }
}

/** The base model's and the adapter's answers, as the rounds before and after training. */
async function evidenceOf(
  { evidence, truth, margin, imageRoot, out, asked, engine, systems, overwrite }: EvaluationRequest,
  samples: readonly Sample[],
  records: readonly VerdictRecord[],
  models: Models,
  context: StageContext,
): Promise<EvidenceResults | undefined> {
  const { ranks = alone } = context
  if (!evidence) {
    for (const name of ranks.rank === 0 ? (['hidden', 'attention'] as const) : []) {
      await writeJsonl(join(out, evaluationFiles[name]), [])
    }
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
  labels,
  grounding,
  rewards,
  out,
}: EvaluationRequest): Promise<void> {
  const files = systems.flatMap((system) => (system.kind === 'file' ? [system.path] : []))
  const inputs = [
    samples,
    ...files,
    ...scores,
    ...(trainedOn ?? []),
    ...(labels === undefined ? [] : [labels]),
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

function checkNames(systems: readonly AnsweringSystem[]): void {
  const names = systems.map(({ name }) => name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (names.length === 0) throw new ArgumentError('There is no system to evaluate')
  if (twice !== undefined) throw new ArgumentError(`Two systems are called ${JSON.stringify(twice)}`)
  const odd = names.find((name) => !/^[\w][\w .+-]*$/.test(name))
  if (odd !== undefined)
    throw new ArgumentError(`${JSON.stringify(odd)} is no name of a system: it becomes a file's name`)
}
