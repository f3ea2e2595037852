/** What a report is made of. Any stage that can fill this in gets the same page; nothing here knows where it came from. */
import type { GroupComparison } from '../evaluate/accuracy.js'
import type { AttentionMap } from '../evaluate/attention.js'
import type { PairStatistics } from '../pairs/statistics.js'

/** A picture with what is drawn over it. */
export interface Picture {
  width: number
  height: number
  /** PNG file. */
  png: Uint8Array
  /** One byte per pixel, not 0 inside the lesion; `null` draws no outline. */
  mask: Uint8Array | null
}

/** Character spans of decisive phrases, `[start, end)` in UTF-16. */
export type Span = readonly [number, number]

export interface ExamplePair {
  question: string
  origin: string
  chosen: { text: string; spans: Span[] }
  rejected: { text: string; spans: Span[] }
  categories: string[]
  clean: Picture
  corrupted: Picture | null
  /** How the corrupted twin was made, in words. */
  corruption: string
}

export interface AttentionExample {
  question: string
  /** The answer that both rounds were asked to attend with, and the phrase whose prediction is shown. */
  answer: { text: string; span: Span }
  picture: Picture
  before: AttentionMap
  after: AttentionMap
  /** Attention inside the mask over the mask's share of the image. */
  ratios: { before: number; after: number }
}

export interface ChangedAnswer {
  question: string
  reference: string
  before: { text: string; correct: boolean; decided: boolean }
  after: { text: string; correct: boolean; decided: boolean }
}

/** One line of metrics.jsonl: `step` and numbers under TRL's names. */
export type MetricsRow = Record<string, number>

export interface Stage {
  name: string
  seconds: number
}

export interface ReportData {
  title: string
  /** What the run did, in a few sentences for a reader who has not met the method. */
  summary: string[]
  objective: string
  comparisons: GroupComparison[]
  metrics: MetricsRow[]
  pairs: PairStatistics
  examples: ExamplePair[]
  attention: AttentionExample[]
  /** How the attention was averaged, in words. */
  attentionNote: string
  changed: ChangedAnswer[]
  /** What was run and on what: label and value. */
  facts: [string, string][]
  stages: Stage[]
  /** The resolved configuration as YAML. */
  config: string
}
