/** What a report is made of; nothing here knows where it came from. */
import type { SystemComparison } from '../evaluate/compare.js'
import type { EvaluationResults } from '../evaluate/finished.js'
import type { GroupResult } from '../evaluate/groups.js'
import type { HiddenResults } from '../evaluate/hidden.js'
import type { Heat, Picture } from '../page/picture.js'
import type { PairReport } from '../pairs/index.js'
import type { PairStatistics } from '../pairs/statistics.js'
import type { LogRow } from '../train/metrics.js'
import type { ShownObjective } from '../train/page/objective.js'

/** Character spans of decisive phrases, `[start, end)` in UTF-16. */
export type Span = readonly [number, number]

/** A pair to show, with its pictures. */
export interface ExamplePair {
  question: string
  origin: string
  chosen: { text: string; spans: Span[] }
  rejected: { text: string; spans: Span[] }
  categories: string[]
  /** The first image; null for a question without one. */
  clean: Picture | null
  corrupted: Picture | null
  corruption: { method: string; sigma: number } | null
}

/** Where both rounds look when they say the same phrase. */
export interface AttentionExample {
  question: string
  /** The answer that both rounds were asked to attend with, and the phrase whose prediction is shown. */
  answer: { text: string; span: Span }
  picture: Picture
  before: Omit<Heat, 'peak'>
  after: Omit<Heat, 'peak'>
  /** Attention inside the mask over the mask's share of the image. */
  ratios: { before: number; after: number }
}

/** A question whose answer became right or wrong by training. */
export interface ChangedAnswer {
  question: string
  reference: string
  before: { text: string; correct: boolean; decided: boolean }
  after: { text: string; correct: boolean; decided: boolean }
}

/** A question asked with its lesion in view and hidden. */
export interface HiddenExample {
  question: string
  reference: string
  visible: { picture: Picture; answers: Pick<ChangedAnswer, 'before' | 'after'> }
  hidden: { method: string; sigma: number; picture: Picture; answers: Pick<ChangedAnswer, 'before' | 'after'> }[]
}

/** The answers after training against those before, and what decides what may be said of them. */
export interface ComparedRounds extends Pick<EvaluationResults, 'questions' | 'detectable' | 'margin' | 'asked'> {
  comparison: SystemComparison
  before: readonly GroupResult[]
  after: readonly GroupResult[]
}

/** A stage and its wall time. */
export interface StageTime {
  name: string
  seconds: number
}

/** What became of one round of sampling and training; null where the files of a stage are not there. */
export interface RoundSummary {
  /** Of its folder. */
  name: string
  pairs: Pick<PairStatistics, 'answers' | 'pairs' | 'byOrigin'> | null
  /** The reward accuracy is a mean over the second half of the steps; null for an objective that has none. */
  training: { steps: number; accuracy: number | null } | null
}

/** Everything on a report page; sections without data are left out. */
export interface ReportData {
  title: string
  /** What the run did, in a few sentences for a reader who has not met the method. */
  summary: string[]
  /** Null when nothing was trained. */
  objective: ShownObjective | null
  /** Null when no two systems were evaluated. */
  rounds: ComparedRounds | null
  /** How answers were judged: `by …`. */
  judge: string
  metrics: LogRow[]
  /** In their order; none for a pipeline that trains once. */
  trainedRounds: RoundSummary[]
  /** What became of the answers; null when no pairs were made. */
  pairs: PairStatistics | null
  /** How much an edit may change; null when no pairs were made. */
  limits: PairReport['limits'] | null
  examples: ExamplePair[]
  /** None when no lesion was hidden. */
  hidden: { results: HiddenResults[]; examples: HiddenExample[] }
  attention: AttentionExample[]
  /** How the attention was averaged, in words. */
  attentionNote: string
  changed: ChangedAnswer[]
  /** What was run and on what: label and value. */
  facts: [string, string][]
  stages: StageTime[]
  /** The resolved training configuration as YAML. */
  config: string | null
}
