/** From answers to numbers: verdicts, reports, counts, and everything that decides them. Nothing is asked of a system here. */
import { join } from 'node:path'
import { deleteAll, sha256File, writeJson } from '../data/files.js'
import { readJsonl, writeJsonl } from '../data/jsonl.js'
import { pair, type Sample } from '../data/records.js'
import { ArgumentError, type FireError } from '../errors.js'
import type { SampleSettings } from '../sample/settings.js'
import type { StageContext } from '../stage/stage.js'
import { madeHere } from './about.js'
import { alongTraining } from './along.js'
import { blindSummary, type PriorAnswer } from './blind.js'
import type { EvidenceResults } from './evidence.js'
import { evaluationFiles } from './files.js'
import type { EvaluationResults, Retest } from './finished.js'
import type { Judge } from './judge.js'
import { labelResults, readLabels } from './judges/labels.js'
import { askJudges, type JudgeRequest } from './judges/run.js'
import { agreementOfVerdicts } from './judges/select.js'
import { notesOn, problemOf } from './notes.js'
import { rulesVersion } from './questions/rule.js'
import { lexiconSha256 } from './questions/words.js'
import type { LabelRecord, Prediction, PriorRecord, VerdictRecord } from './records.js'
import { type EarlierReports, scoreReports } from './reports/run.js'
import type { GreenRequest } from './reports/score.js'
import { type Judging, questionResults } from './results.js'
import { verdictOf } from './verdicts.js'

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
  /** File of what people say of some of the answers, see `readLabels`. */
  labels?: string
  /** The system that others are compared with; default: the first. */
  baseline?: string
  /** The system whose comparison with the baseline was fixed beforehand; the others are adjusted by Holm and are exploratory. */
  primary?: string
  /** Difference below which systems count as equivalent, as a share. */
  margin: number
  /** Share of unreadable replies above which the numbers are no result, as a share. */
  maxUnreadable: number
  /** Pair records that were trained on, to tell questions about their images. */
  trainedOn?: readonly string[]
  seed: number
}

/** The signal asks for an orderly stop; the same request then goes on. Without `progress` nothing is shown. */
export type EvaluationContext = Partial<Pick<StageContext, 'signal' | 'progress' | 'native' | 'ranks'>>

/** What came of it. */
export interface Evaluated {
  results: EvaluationResults
  /** The numbers are there, and should not be built on. */
  problem: FireError | undefined
}

/** The answers and where they come from. */
export interface Answered {
  samples: readonly Sample[]
  predictions: readonly Prediction[]
  priors: readonly PriorAnswer[]
  about: ReadonlyMap<string, Record<string, unknown>>
  inputs: EvaluationResults['inputs']
  asked: SampleSettings
}

/** Verdicts, and who made them. */
export interface Judged {
  records: VerdictRecord[]
  priors: PriorRecord[]
  judging: Omit<Judging, 'agreement'>
}

/** The evaluation whose answers are judged again. */
export interface Earlier {
  reports: EarlierReports
  labels: readonly LabelRecord[]
  verdicts: readonly VerdictRecord[]
  /** Its folder, from this one. */
  folder: string
}

export async function countAll(
  answered: Answered,
  { records, priors, judging }: Judged,
  looked: EvidenceResults & Pick<EvaluationResults, 'grounding' | 'rewards'>,
  request: JudgingRequest,
  context: Pick<StageContext, 'signal' | 'progress'>,
  earlier?: Earlier,
): Promise<Evaluated> {
  const { out, margin, seed } = request
  const { samples, predictions, about, inputs, asked } = answered
  const names = [...about.keys()]
  const roles = rolesOf(names, request)
  const reports = await scoreReports(samples, predictions, names, { ...request, ...roles }, context, earlier?.reports)
  const ids = new Set(records.map(({ sampleId }) => sampleId))
  const labels = request.labels === undefined ? (earlier?.labels ?? []) : await readLabels(request.labels, names, ids)
  // What a kill leaves from here on is no evaluation, rather than one of other verdicts.
  const { results: numbers, page, tables } = evaluationFiles
  await deleteAll([numbers, page, tables].map((name) => join(out, name)))
  await writeJsonl(join(out, evaluationFiles.verdicts), records)
  await writeJsonl(join(out, evaluationFiles.priors), priors)
  await writeJsonl(join(out, evaluationFiles.labels), labels)
  const byName = new Map(names.map((name) => [name, records.filter(({ system }) => system === name)]))
  const results: EvaluationResults = {
    ...questionResults(byName, about, judging, { ...roles, margin, seed }),
    ...{ made: madeHere(), inputs, asked, reports, ...looked },
    blind: priors.length > 0 ? blindSummary(byName, priors, { ...roles, margin, seed }) : null,
    training: null,
    labels: labelResults(
      records.filter(({ k }) => k === 0),
      labels,
    ),
    retest: earlier ? retestOf(records, earlier) : null,
    notes: [],
  }
  results.training = alongTraining(results, records)
  results.notes.push(...notesOn(results, answered.samples))
  await writeJson(join(out, evaluationFiles.results), results)
  return { results, problem: problemOf(results, request.maxUnreadable) }
}

function retestOf(records: readonly VerdictRecord[], { verdicts, folder }: Earlier): Retest {
  const keyOf = ({ system, sampleId, k }: VerdictRecord): string => JSON.stringify([system, sampleId, k])
  const before = new Map(verdicts.map((each) => [keyOf(each), each]))
  const all = records.flatMap((now) => {
    const then = before.get(keyOf(now))
    return then ? [[then, now] as const] : []
  })
  // What rules decided on both sides says nothing of a language model.
  const looked = all.filter((pair) => pair.some(({ by }) => by === 'judge'))
  const pairs = (looked.length > 0 ? looked : all).map(([then, now]) => [then.verdict, now.verdict] as const)
  const changed = pairs.filter(([then, now]) => then !== now).length
  return { folder, count: pairs.length, changed, agreement: agreementOfVerdicts(pairs) }
}

/** Which answers a judge decides. */
const judgeWords: Record<JudgeRequest['on'], string> = {
  undecided: 'where the rules decide nothing',
  weak: 'where the rules are not sure',
  open: 'open questions, and where the rules are not sure',
  all: 'all answers',
}

/** A free report is right or wrong only where its truth is known. */
export const isJudged = ({ task }: Sample, truth: Judge | null): boolean => task === 'vqa' || truth !== null

export async function judgeAll(
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

export async function describePairs(pairs: readonly string[] | undefined, fromOut: (place: string) => string) {
  const files: { path: string; sha256: string }[] = []
  for (const path of pairs ?? []) files.push({ path: fromOut(path), sha256: await sha256File(path) })
  return { trainedOn: files }
}

/** Null where they are not known. */
export async function imagesOf(pairs: readonly string[] = []): Promise<ReadonlySet<string> | null> {
  if (pairs.length === 0) return null
  const images = new Set<string>()
  for (const path of pairs)
    for await (const { record } of readJsonl(path, pair)) for (const { sha256 } of record.images) images.add(sha256)
  return images
}

/** Where the truth is known there is nothing for a model to judge, and its name must not stand beside the numbers. */
export function checkJudges({ truth, judge }: Pick<JudgingRequest, 'truth' | 'judge'>): void {
  if (!truth || !judge) return
  throw new ArgumentError('The truth of the samples decides every answer: a judge would have nothing to look at', {
    hint: 'Leave out the judge, or the truth.',
  })
}

/** What others are compared with, and which comparison was fixed beforehand. @throws {ArgumentError} for a name that no system has. */
export function rolesOf(
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
