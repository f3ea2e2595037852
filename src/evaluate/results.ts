/** evaluation.json: the numbers of an evaluation, and everything that decides them. */
import type { ServedBy } from '../endpoint/serving.js'
import { minimalDetectable, type Proportion } from '../statistics/index.js'
import { version } from '../version.js'
import { compareSystems, type SystemComparison } from './compare.js'
import { type GroupResult, resultsByGroup } from './groups.js'
import { agreementOfJudges, type JudgeAgreement } from './judges/select.js'
import { type Priors, priorsOf } from './priors.js'
import { type PublishedTotals, publishedTotals } from './questions/published-totals.js'
import type { VerdictRecord } from './records.js'
import { type SampledResults, sampledResults } from './several.js'

/** A language model that judged. */
export interface JudgeAbout extends ServedBy {
  /** As it was asked for; `servedAs` is what the server called itself. */
  model: string
  protocol: string
  promptSha256: string
  /** Answers that it looked at, over all systems; how many replies said nothing and how many requests failed. */
  judged: number
  unreadable: number
  failed: number
  /** US dollars, replies of earlier runs included. */
  cost: number
}

/** How answers were judged. */
export interface Judging {
  /** In words, as in "judged by rule against the reference answer". */
  description: string
  first: 'truth' | 'rules'
  /** Null where the truth judged. Other rules may give other verdicts on the same answers. */
  rules: { version: number; lexiconSha256: string } | null
  on: string | null
  judge: JudgeAbout | null
  second: JudgeAbout | null
  agreement: JudgeAgreement | null
}

/** One system's numbers. */
export interface SystemResults {
  name: string
  /** The model, the adapter, the server or the file. */
  about: Record<string, unknown>
  groups: GroupResult[]
  /** Null where each question has one answer. */
  sampled: SampledResults | null
  /** What published rules count. */
  published: PublishedTotals
}

/** Questions whose image was trained on. */
export interface Leakage {
  seen: number
  unseen: number
}

/** What evaluation.json holds of questions. */
export interface QuestionResults {
  version: string
  questions: number
  images: number
  judging: Judging
  baseline: string
  /** The system whose comparison was fixed beforehand; null where none was named. */
  primary: string | null
  systems: SystemResults[]
  comparisons: SystemComparison[]
  /** What this many questions can show: the smallest true difference found with 80 % power, where so large a share changes. */
  detectable: { discordant: number; difference: number | null }[]
  priors: Priors
  /** Null where the training pairs are not known. */
  leakage: Leakage | null
  /** Difference below which systems count as equivalent, as a share. */
  margin: number
  seed: number
}

/** Shares of questions on which two systems differ, for the table of what can be detected. */
const discordances = [0.05, 0.1, 0.2, 0.3]

/** What so many questions can show at all; to be read before anything is run. */
export const detectableWith = (questions: number): QuestionResults['detectable'] =>
  discordances.map((discordant) => ({ discordant, difference: minimalDetectable(questions, discordant) ?? null }))

/** @param verdicts by system, in the order of the systems. */
export function questionResults(
  verdicts: ReadonlyMap<string, readonly VerdictRecord[]>,
  about: ReadonlyMap<string, Record<string, unknown>>,
  judging: Omit<Judging, 'agreement'>,
  { baseline, primary, margin, seed }: { baseline: string; primary: string | null; margin: number; seed: number },
): QuestionResults {
  const firsts = (verdicts.get(baseline) ?? []).filter(({ k }) => k === 0)
  const seen = firsts.filter(({ seenImage }) => seenImage).length
  return {
    version,
    questions: firsts.length,
    images: new Set(firsts.map(({ imageId }) => imageId)).size,
    judging: { ...judging, agreement: agreementOfJudges([...verdicts.values()].flat()) },
    baseline,
    primary,
    systems: [...verdicts].map(([name, records]) => ({
      name,
      about: about.get(name) ?? {},
      groups: resultsByGroup(records.filter(({ k }) => k === 0)),
      sampled: sampledResults(records, seed),
      published: publishedTotals(records.filter(({ k }) => k === 0)),
    })),
    comparisons: compareSystems(verdicts, { baseline, primary, margin, seed }),
    detectable: detectableWith(firsts.length),
    priors: priorsOf(firsts),
    leakage: firsts[0]?.seenImage == null ? null : { seen, unseen: firsts.length - seen },
    margin,
    seed,
  }
}

/** All questions of one system. */
export const overallOf = ({ groups }: SystemResults): Proportion | undefined => groups[0]?.accuracy
