/** Sample records and their files, for tests of what reads them. */
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import type { ImageRef, Sample } from '../../src/data/records.js'

export function makeSample(id: string, fields: Partial<Sample> = {}): Sample {
  return {
    id,
    dataset: 'test',
    split: 'train',
    task: 'vqa',
    images: [],
    question: 'Is there an effusion?',
    answer: 'yes',
    answerType: 'closed',
    language: 'en',
    meta: {},
    ...fields,
  }
}

export async function writeRecords(path: string, records: readonly unknown[]): Promise<void> {
  await writeFile(path, records.map((record) => `${JSON.stringify(record)}\n`).join(''))
}

export async function readLines<T>(path: string): Promise<T[]> {
  const text = await readFile(path, 'utf8')
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T)
}

/** Writes pixels of three channels (or one) as PNG. */
export async function writePng(
  root: string,
  path: string,
  { width, height, rgb }: { width: number; height: number; rgb: Uint8Array },
): Promise<ImageRef> {
  const channels = rgb.length === width * height ? 1 : 3
  const bytes = await sharp(rgb, { raw: { width, height, channels } }).png().toBuffer()
  await writeFile(join(root, path), bytes)
  return { path, sha256: createHash('sha256').update(bytes).digest('hex'), width, height }
}
