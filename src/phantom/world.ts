/** Studies: a chest, its findings, the film they leave, and questions about it. One seed gives one set of bytes. */

import { checkOptions } from '../options.js'
import { drawAnatomy, sampleAnatomy } from './anatomy.js'
import { Canvas, rectangle, type Shape, SIZE, stroke, unionMasks, unite } from './canvas.js'
import { drawFindings, homeRegions, sampleFacts } from './findings.js'
import { terseReport } from './language.js'
import { askStudy } from './questions.js'
import { Rng } from './rng.js'
import { type Finding, REGIONS, type Split, type Study, type StudyQuestion } from './types.js'

/** Independent studies; study k depends on `seed`, `split` and k alone, so a longer set begins with the shorter one. */
export function generateStudies(options: { seed: number; split: Split; count: number }): Study[] {
  checkOptions('generateStudies', options, { seed: true, split: true, count: true })
  return Array.from({ length: options.count }, (_, index) => generateStudy(options.seed, options.split, index))
}

/** Study `index` of a stream: a pure function of its arguments. */
export function generateStudy(seed: number, split: Split, index: number): Study {
  const id = `${split}-${seed}-${String(index).padStart(5, '0')}`
  const stream = (part: string): Rng => new Rng('phantom', seed, split, index, part)
  const facts = sampleFacts(stream('facts'))
  const anatomy = sampleAnatomy(
    stream('anatomy'),
    facts.some((fact) => fact.type === 'cardiomegaly'),
  )
  const canvas = new Canvas()
  drawAnatomy(canvas, anatomy, stream('tones'))
  const findings = drawFindings(canvas, anatomy, facts, stream('findings'))
  canvas.blend(marker(), 230)
  return {
    id,
    split,
    width: SIZE,
    height: SIZE,
    rgb: expose(canvas, stream('film')),
    findings,
    report: terseReport(REGIONS, facts),
    questions: askStudy(id, facts, stream('questions')),
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
