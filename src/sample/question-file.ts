/** A file of bare questions, JSON Lines of {id, prompt or question, images}: what `generate --in` reads. */
import { z } from 'zod'
import { readJsonl } from '../data/jsonl.js'
import { imageRef } from '../data/records.js'
import { DataError } from '../errors.js'
import type { Asked } from './questions.js'

const line = z
  .object({
    id: z.string().min(1),
    prompt: z.string().optional(),
    question: z.string().optional(),
    images: z.array(z.union([z.string().min(1), imageRef])).default([]),
  })
  .refine(
    ({ prompt, question }) => prompt !== undefined || question !== undefined,
    'it has neither prompt nor question',
  )

/** Its questions, in its order; question k has the seed `seed + k`. */
export async function* fileQuestions(path: string, seed: number): AsyncGenerator<Asked> {
  let number = 0
  for await (const { record } of readJsonl(path, line)) {
    const images = record.images.map((image) => (typeof image === 'string' ? { path: image } : image))
    yield { sampleId: record.id, images, prompt: record.prompt ?? record.question ?? '', seed: seed + number }
    number += 1
  }
}

/**
 * Reads the whole file once, before anything is computed.
 * @throws {DataError} at a bad line, or when there is no question.
 */
export async function countFileQuestions(path: string): Promise<number> {
  let count = 0
  for await (const _ of readJsonl(path, line)) count += 1
  if (count === 0) throw new DataError(`${path} holds no question`, { detail: { path } })
  return count
}
