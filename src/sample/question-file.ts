/** A file of bare questions, JSON Lines of {id, prompt or question, images}: what `generate --in` reads. */
import { resolve } from 'node:path'
import { z } from 'zod'
import { hashImage } from '../data/images.js'
import { readJsonl } from '../data/jsonl.js'
import { imageRef } from '../data/records.js'
import { DataError, isOfRecord } from '../errors.js'
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

/** Its questions, in its order; question k has the seed `seed + k`. Paths of images are relative to `imageRoot`. */
export async function* fileQuestions(path: string, imageRoot: string, seed: number): AsyncGenerator<Asked> {
  const known = new Map<string, string | null>()
  const hashOf = async (image: string): Promise<string | null> => {
    const hash = known.get(image) ?? (await hashImage(resolve(imageRoot, image)).catch(nullForRecord))
    known.set(image, hash)
    return hash
  }
  let number = 0
  for await (const { record } of readJsonl(path, line)) {
    const images: Asked['images'] = []
    for (const image of record.images) {
      images.push(typeof image === 'string' ? { path: image, sha256: await hashOf(image) } : image)
    }
    yield { sampleId: record.id, images, prompt: record.prompt ?? record.question ?? '', seed: seed + number }
    number += 1
  }
}

/** Whoever shows the image says what is wrong with it. */
function nullForRecord(error: unknown): null {
  if (isOfRecord(error)) return null
  throw error
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
