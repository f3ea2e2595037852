/** The phantom world as samples and image files. */
import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { writeJsonl } from '../data/jsonl.js'
import type { ImageRef, Sample } from '../data/records.js'
import { DataError, fileError } from '../errors.js'
import { generateStudies, type Study, type StudyQuestion } from '../phantom/index.js'
import type { DemoFolder } from './folder.js'
import type { Update } from './stages.js'

/** A question with the world it is asked in: what a judge needs beside the record. */
export interface DemoItem {
  sample: Sample
  study: Study
  question: StudyQuestion
}

export interface DemoData {
  train: DemoItem[]
  test: DemoItem[]
}

/**
 * Generates both splits, writes their images and samples.jsonl.
 * @throws DataError when the splits share an image: a result on them would mean nothing.
 */
export async function makeData(
  folder: DemoFolder,
  counts: { seed: number; trainStudies: number; testStudies: number },
  update: Update,
): Promise<DemoData> {
  const { seed, trainStudies, testStudies } = counts
  const items: DemoItem[] = []
  for (const [split, count] of [
    ['train', trainStudies],
    ['test', testStudies],
  ] as const) {
    for (const study of generateStudies({ seed, split, count })) {
      items.push(...(await describeStudy(folder, study)))
      update(new Set(items.map((item) => item.study)).size)
    }
  }
  const data = {
    train: items.filter((item) => item.sample.split === 'train'),
    test: items.filter((item) => item.sample.split === 'test'),
  }
  refuseSharedImages(data)
  await writeJsonl(
    folder.samples,
    items.map((item) => item.sample),
  )
  return data
}

async function describeStudy(folder: DemoFolder, study: Study): Promise<DemoItem[]> {
  const image = await writeImage(folder, `${folder.images}/${study.id}.png`, study)
  return study.questions.map((question) => ({
    study,
    question,
    sample: {
      id: question.id,
      dataset: 'phantom',
      split: study.split,
      task: question.task,
      images: [image],
      question: question.question,
      answer: question.answer,
      answerType: question.answerType,
      language: 'en',
      meta: { study: study.id, concept: question.concept, truth: question.truth },
    },
  }))
}

function refuseSharedImages({ train, test }: DemoData): void {
  const seen = new Map(train.map((item) => [item.sample.images[0].sha256, item.study.id]))
  const shared = test.find((item) => seen.has(item.sample.images[0].sha256))
  if (!shared) return
  const twin = seen.get(shared.sample.images[0].sha256)
  throw new DataError(`Studies ${twin} (train) and ${shared.study.id} (test) are the same image`)
}

/** Pixels of one (grey) or three (RGB) channels, row-major. */
interface Pixels {
  width: number
  height: number
  rgb: Uint8Array
}

/**
 * Writes a PNG; `path` is relative to the demo's folder. Pictures are not synced one by one: the records that name them
 * are written after them, with their hashes.
 */
export async function writeImage(folder: DemoFolder, path: string, image: Pixels): Promise<ImageRef> {
  const { width, height, rgb } = image
  const channels = rgb.length === width * height ? 1 : 3
  const png = await sharp(rgb, { raw: { width, height, channels } }).png().toBuffer()
  const target = join(folder.root, path)
  await writeFile(target, png).catch((error) => {
    throw fileError(error, 'Writing', target)
  })
  return { path, sha256: createHash('sha256').update(png).digest('hex'), width, height }
}
