/**
 * The records that stages exchange, one JSON object a line (JSON Lines). Stages meet only through these types and files
 * on disk. Character offsets are UTF-16 code units on the clean text; ranges are half-open `[start, end)`.
 */
import { z } from 'zod'

export const imageRef = z.strictObject({
  /** Relative to the folder of the record file; `scan.dcm#3` is the third frame of a DICOM file. */
  path: z.string().min(1),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  width: z.number().int().positive(),
  height: z.number().int().positive(),
})

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

export const response = z.strictObject({
  sampleId: z.string().min(1),
  model: z.string(),
  adapter: z.string().nullable(),
  prompt: z.string(),
  text: z.string(),
  tokens: z.array(z.number().int().nonnegative()),
  sampling: z.record(z.string(), z.unknown()),
  seed: z.number().int(),
})

const span = z.tuple([z.number().int().nonnegative(), z.number().int().nonnegative()])

/** One minimal edit: what stands at `chosen` in the chosen text stands as `rejected` in the rejected text. */
export const edit = z.strictObject({ chosen: span, rejected: span, category: z.string() })

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
  weight: z.number().positive().optional(),
  provenance: z.record(z.string(), z.unknown()),
})

/** What a judge says of one answer; `decided` is false when the answer commits to nothing that can be checked. */
export interface Verdict {
  correct: boolean
  decided: boolean
  reason: string
}

export type ImageRef = z.infer<typeof imageRef>
export type Sample = z.infer<typeof sample>
export type Response = z.infer<typeof response>
export type Edit = z.infer<typeof edit>
export type Pair = z.infer<typeof pair>
