/** A study's questions as sample records, and the truth that a record carries: all that a judge or an edit needs. */
import { z } from 'zod'
import type { ImageRef, Sample } from '../data/records.js'
import { DataError } from '../errors.js'
import { FINDING_TYPES, REGIONS, SIDES, SIZES, type Study, type Truth, ZONES } from './types.js'

const finding = z.enum(FINDING_TYPES)
const side = z.enum(SIDES)
const zone = z.enum(ZONES)
const size = z.enum(SIZES)
const count = z.number().int()

const truth: z.ZodType<Truth> = z.strictObject({
  ask: z.union([
    z.strictObject({ intent: z.enum(['presence', 'side', 'zone', 'where', 'size', 'count']), finding }),
    z.strictObject({ intent: z.literal('side-check'), finding, asked: side }),
    z.strictObject({ intent: z.literal('kind'), finding, region: z.enum(REGIONS) }),
    z.strictObject({ intent: z.literal('report'), scope: z.array(z.enum(REGIONS)) }),
  ]),
  claim: z
    .strictObject({
      finding,
      present: z.boolean().optional(),
      side: side.optional(),
      zone: zone.optional(),
      size: size.optional(),
      count: count.optional(),
    })
    .nullable(),
  findings: z.array(
    z.strictObject({
      type: finding,
      side: side.nullable(),
      zone: zone.nullable(),
      size: size.nullable(),
      count,
    }),
  ),
})

/** One record a question, all about the study's one picture. */
export function studySamples(study: Study, image: ImageRef): Sample[] {
  return study.questions.map(({ id, task, question, answer, answerType, concept, truth }) => ({
    id,
    dataset: 'phantom',
    split: study.split,
    task,
    images: [image],
    question,
    answer,
    answerType,
    language: 'en',
    meta: { study: study.id, concept, ask: truth.ask.intent, truth },
  }))
}

/**
 * The truth in a record's `meta`.
 * @throws {DataError} when the record is not of this world.
 */
export function readTruth(meta: Readonly<Record<string, unknown>>): Truth {
  const parsed = truth.safeParse(meta.truth)
  if (parsed.success) return parsed.data
  throw new DataError('The record holds no truth of the phantom world in meta.truth', {
    detail: { issues: parsed.error.issues },
    hint: 'Exact judging and editing are for records of `import phantom`; use the word rules for others.',
  })
}
