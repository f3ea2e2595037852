/**
 * The records that stages exchange, one JSON object a line (JSON Lines). Stages meet only through these types and files
 * on disk. Character offsets are UTF-16 code units on the clean text; ranges are half-open `[start, end)`.
 */
import { z } from 'zod'

/** Schema of `ImageRef`. */
export const imageRef = z.strictObject({
  /** Relative to the folder of the record file; `scan.dcm#3` is the third frame of a DICOM file. */
  path: z.string().min(1),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  width: z.number().int().positive(),
  height: z.number().int().positive(),
  /** What the file was called in its source, where an import renamed it; masks may be named after it. */
  name: z.string().min(1).optional(),
})

/** Schema of `Sample`. */
export const sample = z.strictObject({
  id: z.string().min(1),
  dataset: z.string(),
  split: z.string(),
  task: z.enum(['vqa', 'report']),
  images: z.array(imageRef),
  question: z.string(),
  answer: z.string(),
  answerType: z.enum(['closed', 'open']),
  language: z.string(),
  meta: z.record(z.string(), z.unknown()),
})

/** Schema of `Response`. */
export const response = z.strictObject({
  sampleId: z.string().min(1),
  model: z.string(),
  adapter: z.string().nullable(),
  prompt: z.string(),
  /** SHA-256 of the images that were shown, in order; left out where another program did not say. */
  images: z.array(z.string()).optional(),
  text: z.string(),
  tokens: z.array(z.number().int().nonnegative()),
  sampling: z.record(z.string(), z.unknown()),
  seed: z.number().int(),
})

const span = z.tuple([z.number().int().nonnegative(), z.number().int().nonnegative()])

/** One minimal edit: what stands at `chosen` in the chosen text stands as `rejected` in the rejected text. */
export const edit = z.strictObject({ chosen: span, rejected: span, category: z.string() })

/** Schema of `Pair`; `pairProblem` checks what a schema cannot. */
export const pair = z.strictObject({
  id: z.string().min(1),
  sampleId: z.string(),
  images: z.array(imageRef),
  prompt: z.string(),
  chosen: z.string(),
  rejected: z.string(),
  origin: z.string(),
  edits: z.array(edit),
  corrupted: z
    .strictObject({
      images: z.array(imageRef),
      method: z.string(),
      sigma: z.number(),
      seed: z.number().int(),
      masks: z.array(z.string()),
    })
    .optional(),
  /** Multiplies the pair's loss in training; 1 where it is left out. */
  weight: z.number().nonnegative().optional(),
  /** Severity of what is wrong with the rejected answer, for hsa-dpo; 1 where it is left out. */
  rejectedScore: z.number().nonnegative().optional(),
  provenance: z.record(z.string(), z.unknown()),
})

/** What a judge says of one answer; `decided` is false when the answer commits to nothing that can be checked. */
export interface Verdict {
  correct: boolean
  decided: boolean
  reason: string
}

export const undecided = (reason: string): Verdict => ({ correct: false, decided: false, reason })

/** An image file with its SHA-256 (hex) and its size in pixels. */
export type ImageRef = z.infer<typeof imageRef>

/** Of a picture, in pixels. */
export type Size = Pick<ImageRef, 'width' | 'height'>

/** A question with its images and reference answer; one line of samples.jsonl. */
export type Sample = z.infer<typeof sample>
/** What a model answered to a sample, with everything that decides it; one line of responses.jsonl. */
export type Response = z.infer<typeof response>
/** One difference of a pair: a span in each text, and the kind of difference. */
export type Edit = z.infer<typeof edit>
/** A preference pair with its edits and, when it has one, its corrupted twin; one line of pairs.jsonl. */
export type Pair = z.infer<typeof pair>
