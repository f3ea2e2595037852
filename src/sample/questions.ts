/** From sample records to what is asked, one entry an answer wanted. */
import { recordSeed } from '../corrupt/index.js'
import { placeOf, readJsonl } from '../data/jsonl.js'
import { type ImageRef, type Sample, sample } from '../data/records.js'
import { DataError } from '../errors.js'
import type { SampleSettings } from './settings.js'

/** One answer wanted. */
export interface Asked {
  sampleId: string
  /** What is known of each image: a bare path with the hash of what lies there, null where it cannot be read. */
  images: (ImageRef | { path: string; sha256: string | null })[]
  prompt: string
  /** Follows from the sample's id, the number of the answer and the run's seed: order and filters do not change it. */
  seed: number
}

/** What is shown with a question, by content: answers about other images are not answers to it. */
export const shownIn = ({ images }: Pick<Asked, 'images'>): (string | null)[] => images.map(({ sha256 }) => sha256)

/** The chosen samples of a file, in its order. */
export async function* chosenSamples(
  path: string,
  { split, limit }: Pick<SampleSettings, 'split' | 'limit'>,
): AsyncGenerator<Sample> {
  let taken = 0
  for await (const { record } of readJsonl(path, sample)) {
    if (split !== null && record.split !== split) continue
    if (taken === limit) return
    taken += 1
    yield record
  }
}

/** The seed of one answer to a sample, from the seed of the run; `number` from 0. */
export const answerSeed = (id: string, number: number, seed: number): number => recordSeed(`${id}#${number}`, seed)

/** Every answer wanted, those to one sample together. */
export async function* questions(path: string, settings: SampleSettings): AsyncGenerator<Asked> {
  for await (const { id, images, question } of chosenSamples(path, settings)) {
    const prompt = question + settings.promptSuffix
    for (let answer = 0; answer < settings.answers; answer += 1) {
      yield { sampleId: id, images, prompt, seed: answerSeed(id, answer, settings.seed) }
    }
  }
}

/**
 * Reads the whole file once, before anything is computed, and counts the answers wanted.
 * @throws {DataError} at a bad line, at an id that comes twice, or when no sample is chosen.
 */
export async function countQuestions(path: string, settings: SampleSettings): Promise<number> {
  const seen = new Map<string, number>()
  const splits = new Map<string, number>()
  for await (const { record, line } of readJsonl(path, sample)) {
    const earlier = seen.get(record.id)
    if (earlier !== undefined) {
      throw new DataError(`${placeOf(path, line, record.id)}: the id is taken by line ${earlier}`, {
        detail: { path, line, id: record.id },
        hint: 'Answers are found by the id of their sample, so it must be its own.',
      })
    }
    seen.set(record.id, line)
    splits.set(record.split, (splits.get(record.split) ?? 0) + 1)
  }
  const { split, limit, answers } = settings
  const chosen = split === null ? seen.size : (splits.get(split) ?? 0)
  if (chosen === 0) {
    const what = split === null ? 'no sample' : `no sample of split "${split}"`
    throw new DataError(`${path} holds ${what}`, {
      detail: { path, splits: [...splits.keys()] },
      hint: splits.size > 0 ? `Its splits are ${[...splits.keys()].join(', ')}.` : undefined,
    })
  }
  return Math.min(chosen, limit ?? chosen) * answers
}
