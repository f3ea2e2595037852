/**
 * What an evaluation writes, one JSON object a line. A number of `evaluation.json` can be counted again from these lines alone.
 * Numbers are counts; percentages are made for the eye.
 */
import { z } from 'zod'
import { imageRef } from '../data/records.js'

const share = z.number().min(0).max(1)

/** What can become of an answer. Only `correct` counts as right; every other one stays in the denominator. */
export const outcomes = ['correct', 'incorrect', 'undecided', 'unreadable', 'failed'] as const
/** `undecided`: it commits to nothing; `unreadable`: the judge's reply says nothing; `failed`: no answer, or no reply at all. */
export type OutcomeOfAnswer = (typeof outcomes)[number]

/** A verdict of the rules: `weak` ones are for a judge to look at. */
export const ruleVerdict = z.strictObject({
  verdict: z.enum(['correct', 'incorrect', 'undecided']),
  strength: z.enum(['strong', 'weak']),
  /** One of a few words, such as `opens_with` or `other_side`. */
  reason: z.string(),
})
/** A verdict of the rules. */
export type RuleVerdict = z.infer<typeof ruleVerdict>

/** A verdict of a language model, and what it rests on. */
export const judgeVerdict = z.strictObject({
  verdict: z.enum(['correct', 'incorrect', 'undecided', 'unreadable', 'failed']),
  reason: z.string(),
  /** As it was asked for; `servedAs` is what the server called itself, null where it does not say. */
  model: z.string(),
  servedAs: z.string().nullable(),
  /** Day of the last reply, `2026-11-28`; null where none came. */
  date: z.string().nullable(),
  promptSha256: z.string(),
  /** Names of the requests in the cache. */
  requests: z.array(z.string()),
  finish: z.string().nullable(),
  retries: z.number().int().nonnegative(),
  /** The last reply as it came; null where none came. */
  raw: z.string().nullable(),
})
/** A verdict of a language model, and what it rests on. */
export type JudgeVerdict = z.infer<typeof judgeVerdict>

/** The closed rules of published numbers, each applied to the question at hand. */
export const closedUnder = z.strictObject({
  /** The data set says so, or, where it says nothing, the rule of the import. */
  answerType: z.boolean(),
  /** The reference is yes or no. */
  yesNoExact: z.boolean(),
  /** The reference contains "yes" or "no" as letters. */
  paperSubstring: z.boolean(),
})
export type ClosedUnder = z.infer<typeof closedUnder>

/** What published scripts would have counted; null where one leaves the question out. */
export const parity = z.strictObject({
  llavaMed2023: z.number().nullable(),
  llavaMed: z.number().nullable(),
  medEvalKit: z.boolean().nullable(),
  lmmsEval: z.boolean().nullable(),
  companion: z.boolean().nullable(),
  /** LLaVA-Med's word scores of open questions. */
  scores: z
    .strictObject({ exactMatch: z.number(), f1: z.number(), precision: z.number(), recall: z.number() })
    .nullable(),
})
/** What published scripts would have counted. */
export type Parity = z.infer<typeof parity>

/** An answer of a system: one line of predictions.jsonl. */
export const prediction = z.strictObject({
  system: z.string().min(1),
  sampleId: z.string().min(1),
  /** Number of the answer, from 0; accuracy is counted on 0, which is the greedy one where a model gives several. */
  k: z.number().int().nonnegative(),
  /** One of several that were drawn, which pass@k and diversity are counted on. */
  sampled: z.boolean(),
  /** Null where there is none; then `failure` says why. */
  text: z.string().nullable(),
  failure: z.string().nullable(),
  /** Of the answer, separated by white space. */
  words: z.number().int().nonnegative(),
})
/** An answer of a system. */
export type Prediction = z.infer<typeof prediction>

/** A judged answer: one line of verdicts.jsonl. */
export const verdictRecord = z.strictObject({
  system: z.string().min(1),
  sampleId: z.string().min(1),
  k: z.number().int().nonnegative(),
  sampled: z.boolean(),
  /** SHA-256 of the first image, else its name in the source, else the sample's id: questions about one image are a cluster. */
  imageId: z.string(),
  dataset: z.string(),
  answerType: z.enum(['closed', 'open']),
  closedUnder,
  /** The image was trained on; null where the training pairs are not known. */
  seenImage: z.boolean().nullable(),
  /** What the question belongs to, for instance `{ ask: 'side', concept: 'nodule' }`. */
  groups: z.record(z.string(), z.string()),
  question: z.string(),
  reference: z.string(),
  /** The whole answer; null where there is none. */
  text: z.string().nullable(),
  /** What of it was judged. */
  said: z.string(),
  verdict: z.enum(outcomes),
  strength: z.enum(['strong', 'weak']),
  by: z.enum(['truth', 'rule', 'judge']),
  reason: z.string(),
  rule: ruleVerdict.nullable(),
  judge: judgeVerdict.nullable(),
  /** The second judge's, where the question is in its sample. */
  second: judgeVerdict.nullable(),
  parity: parity.nullable(),
})
/** A judged answer. */
export type VerdictRecord = z.infer<typeof verdictRecord>

/** What a person says of the first answer of a system to a question: one line of labels.jsonl. */
export const labelRecord = z.strictObject({
  system: z.string().min(1),
  sampleId: z.string().min(1),
  label: z.enum(['correct', 'incorrect']),
})
/** What a person says of an answer. */
export type LabelRecord = z.infer<typeof labelRecord>

export const priorKinds = ['question', 'swapped'] as const
/** `question`: the question alone, no image; `swapped`: another image of the data set. */
export type PriorKind = (typeof priorKinds)[number]

/** A judged answer without the image that belongs to the question: one line of priors.jsonl. */
export const priorRecord = verdictRecord.extend({
  prior: z.enum(priorKinds),
  /** SHA-256 of the image that was shown; null for none. */
  shown: z.string().nullable(),
})
/** A judged answer without the image that belongs to the question. */
export type PriorRecord = z.infer<typeof priorRecord>

const counts = z.array(z.number().int().nonnegative()).length(6)

/** What a reply of a GREEN model says: errors a to f of a report, findings that match, and what the reading needed. */
export const greenReading = z.strictObject({
  status: z.enum(['ok', 'repaired', 'unreadable']),
  /** Why it is unreadable, one of a few words such as `missing_matched`; null else. */
  reason: z.string().nullable(),
  /** What was read although it is not as the prompt asks. */
  repairs: z.array(z.string()),
  /** Clinically significant errors, a to f. */
  significant: counts.nullable(),
  insignificant: counts.nullable(),
  matched: z.number().int().nonnegative().nullable(),
  /** matched / (matched + significant); null where it is unreadable, and where there is neither match nor error. */
  green: share.nullable(),
})
/** What a reply of a GREEN model says. */
export type GreenReading = z.infer<typeof greenReading>

/** A report held against its reference: one line of reports.jsonl. */
export const reportRecord = z.strictObject({
  system: z.string().min(1),
  sampleId: z.string().min(1),
  imageId: z.string(),
  /** Words of reference and candidate, and whether the prompt of GREEN cut them. */
  words: z.tuple([z.number().int(), z.number().int()]),
  cut: z.tuple([z.boolean(), z.boolean()]),
  /** The reply of the GREEN model as it came; null where none was asked or none came. */
  raw: z.string().nullable(),
  servedAs: z.string().nullable(),
  date: z.string().nullable(),
  failure: z.string().nullable(),
  /** As the published code reads it: it always finds numbers. */
  parity: z
    .strictObject({ significant: counts, insignificant: counts, matched: z.number().int().nonnegative(), green: share })
    .nullable(),
  strict: greenReading.nullable(),
  /** BLEU-1 to 4, ROUGE-L and imported scores by name; CIDEr-D with the document frequencies of all references. */
  scores: z.record(z.string(), z.number()),
})
/** A report held against its reference. */
export type ReportRecord = z.infer<typeof reportRecord>

/** Attention of one question over an image, layer by layer: one line of grounding.jsonl. */
export const groundingRecord = z.strictObject({
  system: z.string().min(1),
  sampleId: z.string().min(1),
  kind: z.enum(['localization', 'attribute']),
  imageId: z.string(),
  /** Why it was left out; the lists are then empty. */
  skipped: z.string().nullable(),
  /** Boxes that leave their image: many of them mean that their format was misread. */
  outside: z.number().int().nonnegative(),
  grid: z.tuple([z.number().int(), z.number().int()]),
  maskTokens: z.number(),
  /** Share of attention on the image. */
  mass: z.array(z.number()),
  ar: z.array(z.number()),
  /** Null where it is infinite: a region without any attention. */
  kl: z.array(z.number().nullable()),
  js: z.array(z.number()),
  /** The same ratio for a mask of equal size elsewhere. */
  shiftedAr: z.array(z.number()),
})
/** Attention of one question over an image, layer by layer. */
export type GroundingRecord = z.infer<typeof groundingRecord>

/** Where a model looks when it is asked one question: one line of maps.jsonl. */
export const groundingMap = z.strictObject({
  system: z.string().min(1),
  sampleId: z.string().min(1),
  kind: z.enum(['localization', 'attribute']),
  question: z.string(),
  /** Its path is relative to the folder of the evaluation. */
  image: imageRef,
  /** Corners in pixels of the image. */
  boxes: z.array(z.tuple([z.number(), z.number(), z.number(), z.number()])),
  /** What the grid divides, in pixels of the image: larger where the family pads, smaller where it crops. */
  frame: z.strictObject({ left: z.number(), top: z.number(), width: z.number(), height: z.number() }),
  grid: z.tuple([z.number().int(), z.number().int()]),
  /** First and last layer of the mean, from 1. */
  layers: z.tuple([z.number().int(), z.number().int()]),
  /** Relative attention over its mean, a number a token, row by row: 1 is no preference. */
  values: z.array(z.number()),
})
export type GroundingMap = z.infer<typeof groundingMap>
/** The texts of the crossed probe: the sides of a pair, and its reference, right and made wrong. */
export const rewardTexts = ['chosen', 'rejected', 'referenceRight', 'referenceWrong'] as const

const textReward = z.strictObject({
  /** Log-ratio of adapter and model alone, in nats: over all tokens with the end token, and over those of the phrases. */
  answer: z.number(),
  phrases: z.number(),
  words: z.number().int().nonnegative(),
})
/** How much likelier an adapter finds a text than the model alone. */
export type TextReward = z.infer<typeof textReward>

/** Rewards of a pair under one adapter: one line of rewards.jsonl. */
export const rewardRecord = z.strictObject({
  system: z.string().min(1),
  /** Its file, from the folder of the evaluation. */
  pairs: z.string().min(1),
  pairId: z.string().min(1),
  sampleId: z.string(),
  imageId: z.string(),
  /** One of its images was trained on; null where the training pairs are not known. */
  seenImage: z.boolean().nullable(),
  chosen: textReward,
  rejected: textReward,
  referenceRight: textReward.nullable(),
  referenceWrong: textReward.nullable(),
  /** Why there is nothing in the reference's style. */
  reason: z.string().nullable(),
})
/** Rewards of a pair under one adapter. */
export type RewardRecord = z.infer<typeof rewardRecord>
