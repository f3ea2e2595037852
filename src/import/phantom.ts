/**
 * The phantom world as a data set: nothing is read, everything follows from a seed. Masks of what each question is about
 * are a manifest (masks.jsonl), as `corrupt` takes it from any user.
 */
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
// The image library of the whole project (src/data/images.ts).
import sharp from 'sharp'
import { encodeRle, type ManifestLine } from '../corrupt/index.js'
import type { ImageRef } from '../data/records.js'
import { asFileError, throwIfAborted } from '../errors.js'
import { conceptMask, type Difficulty, generateStudy, STANDARD, type Study, studySamples } from '../phantom/index.js'
import { version } from '../version.js'
import { LineWriter } from './lines.js'
import { type ImportReport, reportName, writeReport } from './report.js'
import { masksName } from './settings.js'
import { Tally } from './tally.js'

export interface PhantomOptions {
  /** Studies whose questions are for training; each has about six. */
  trainStudies: number
  /** To choose settings on, so that no test image decides one; default: none. */
  validationStudies?: number
  testStudies: number
  seed: number
  /** Default: that of the bundled model's world. */
  difficulty?: Difficulty
  signal?: AbortSignal
  /** Called with the questions written so far. */
  onProgress?: (written: number) => void
}

/** Fills a folder: images/, samples.jsonl with the splits `train`, `validation` and `test`, masks.jsonl, import.report.json. */
export async function writePhantom(folder: string, options: PhantomOptions): Promise<ImportReport> {
  const { trainStudies, validationStudies = 0, testStudies, seed, difficulty = STANDARD, signal, onProgress } = options
  const splits = [
    ['train', trainStudies],
    ['validation', validationStudies],
    ['test', testStudies],
  ] as const
  await using samples = new LineWriter(join(folder, 'samples.jsonl'))
  await using masks = new LineWriter(join(folder, masksName))
  const tally = new Tally()
  await mkdir(join(folder, 'images'), { recursive: true })
  for (const [split, count] of splits) {
    for (let index = 0; index < count; index += 1) {
      throwIfAborted(signal)
      const study = generateStudy(seed, split, index, difficulty)
      const image = await writePicture(folder, study)
      for (const sample of studySamples(study, image)) {
        await samples.write(sample)
        tally.add(split, sample.answerType === 'closed', [image.sha256])
      }
      for (const line of maskLines(study, image)) await masks.write(line)
      onProgress?.(samples.count)
    }
  }
  await samples.close()
  await masks.close()
  const [counts, leaks] = [tally.counts(), tally.leaks()]
  const report: ImportReport = {
    format: 1,
    fireTrain: version,
    kind: 'phantom',
    layout: 'generated',
    source: '',
    files: [],
    options: { trainStudies, validationStudies, testStudies, seed, difficulty },
    closedRule: { asked: 'answer_type', fallback: 0 },
    read: samples.count,
    samples: samples.count,
    pairs: 0,
    counts,
    sourceCounts: counts,
    images: { stored: trainStudies + validationStudies + testStudies, sameContent: 0, missing: 0, recordsWithout: 0 },
    leakage: { written: leaks, source: leaks },
    notes: [],
    leftOut: {},
  }
  await writeReport(join(folder, reportName), report, undefined)
  return report
}

async function writePicture(folder: string, { id, width, height, rgb }: Study): Promise<ImageRef> {
  const path = `images/${id}.png`
  const png = await sharp(rgb, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer()
  await writeFile(join(folder, path), png).catch(asFileError('Writing', join(folder, path)))
  return { path, sha256: createHash('sha256').update(png).digest('hex'), width, height }
}

/** One line a concept that the study is asked about. The mask of a report on a chest without findings is empty. */
function maskLines(study: Study, image: ImageRef): ManifestLine[] {
  const { width, height, findings } = study
  const byConcept = new Map(study.questions.map((question) => [question.concept, question]))
  return [...byConcept].map(([concept, question]) => {
    const mask = encodeRle({ width, height, inside: conceptMask(study, question) })
    const absent = concept !== 'report' && findings.every(({ type }) => type !== concept)
    return { image: image.sha256, concept, mask, ...(absent && { absent }) }
  })
}
