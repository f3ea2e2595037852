/** Studies: a chest, its findings, the film they leave, and questions about it. One seed gives one set of bytes. */

import { checkOptions } from '../options.js'
import { drawAnatomy, sampleAnatomy } from './anatomy.js'
import { Canvas, rectangle, type Shape, SIZE, stroke, unionMasks, unite } from './canvas.js'
import { drawFindings, homeRegions, sampleFacts } from './findings.js'
import { terseReport } from './language.js'
import { askStudy } from './questions.js'
import { Rng } from './rng.js'
import {
  type Difficulty,
  type Finding,
  REGIONS,
  type Split,
  STANDARD,
  type Study,
  type StudyQuestion,
} from './types.js'

/** Independent studies; study k depends on `seed`, `split` and k alone, so a longer set begins with the shorter one. */
export function generateStudies(options: {
  seed: number
  split: Split
  count: number
  /** Default: that of the bundled model's world. */
  difficulty?: Difficulty
}): Study[] {
  checkOptions('generateStudies', options, { seed: true, split: true, count: true, difficulty: true })
  const { seed, split, count, difficulty } = options
  return Array.from({ length: count }, (_, index) => generateStudy(seed, split, index, difficulty))
}

/**
 * Study `index` of a stream: a pure function of its arguments.
 * @throws {RangeError} for a difficulty outside its ranges.
 */
export function generateStudy(seed: number, split: Split, index: number, difficulty: Difficulty = STANDARD): Study {
  checkOptions('generateStudy, difficulty', difficulty, STANDARD)
  const { contrast, size, fullReports } = difficulty
  if (!(contrast > 0 && contrast <= 1)) throw new RangeError(`The contrast must be in (0, 1], not ${contrast}.`)
  if (!(size >= 0.6 && size <= 1)) throw new RangeError(`The size must be in [0.6, 1], not ${size}.`)
  const id = `${split}-${seed}-${String(index).padStart(5, '0')}`
  const stream = (part: string): Rng => new Rng('phantom', seed, split, index, part)
  const facts = sampleFacts(stream('facts'))
  const anatomy = sampleAnatomy(
    stream('anatomy'),
    facts.some((fact) => fact.type === 'cardiomegaly'),
    size,
  )
  const canvas = new Canvas()
  drawAnatomy(canvas, anatomy, stream('tones'))
  const findings = drawFindings(canvas, anatomy, facts, stream('findings'), difficulty)
  canvas.blend(marker(), 230)
  return {
    id,
    split,
    width: SIZE,
    height: SIZE,
    rgb: expose(canvas, stream('film')),
    findings,
    report: terseReport(REGIONS, facts),
    questions: askStudy(id, facts, stream('questions'), fullReports),
    regions: homeRegions(anatomy),
  }
}

/** The lead letter R by the patient's right shoulder. */
function marker(): Shape {
  return unite(
    rectangle(5, 8, 0.5, 4, 0.6),
    stroke(
      [
        [5, 4.5],
        [8, 5],
        [8, 7.5],
        [5, 8],
        [8.5, 12],
      ],
      0.5,
      0.6,
    ),
  )
}

/** Gain, offset and grain of the film, rounded to bytes; the three channels are equal. */
function expose(canvas: Canvas, rng: Rng): Uint8Array {
  const gain = rng.between(0.92, 1.06)
  const offset = rng.between(-6, 6)
  const grain = rng.between(3.5, 6)
  const rgb = new Uint8Array(SIZE * SIZE * 3)
  for (let i = 0; i < SIZE * SIZE; i++) {
    const value = Math.round(canvas.pixels[i]! * gain + offset + grain * rng.gauss())
    const byte = value < 0 ? 0 : Math.min(value, 255)
    rgb[3 * i] = byte
    rgb[3 * i + 1] = byte
    rgb[3 * i + 2] = byte
  }
  return rgb
}

/**
 * The pixels that decide a question: the lesions of its concept, or, where there are none, the place where one would be.
 * For a report: all lesions of the study.
 */
export function conceptMask(study: Study, question: StudyQuestion): Uint8Array {
  const { ask } = question.truth
  const lesions = (found: readonly Finding[]): Uint8Array => unionMasks(found.map((finding) => finding.mask))
  if (ask.intent === 'report') return lesions(study.findings)
  const found = study.findings.filter((finding) => finding.type === ask.finding)
  return found.length > 0 ? lesions(found) : study.regions[ask.finding].slice()
}

/** One grey byte per pixel, for tools that want no colour. */
export function studyPixels(study: Study): Uint8Array {
  return study.rgb.filter((_, index) => index % 3 === 0)
}
