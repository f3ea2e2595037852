import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import {
  conceptMask,
  type Difficulty,
  generateStudies,
  generateStudy,
  STANDARD,
  type Study,
} from '../../src/phantom/index.js'

const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
/** Everything a study holds, as one hash. */
const digest = ({ rgb, findings, regions, ...rest }: Study): string => {
  const all = createHash('sha256').update(rgb).update(JSON.stringify(rest))
  for (const { mask, ...facts } of findings) all.update(mask).update(JSON.stringify(facts))
  for (const mask of Object.values(regions)) all.update(mask)
  return all.digest('hex')
}
const area = (mask: Uint8Array): number => mask.reduce((sum, bit) => sum + bit, 0)

const train = generateStudies({ seed: 1, split: 'train', count: 150 })
const test = generateStudies({ seed: 1, split: 'test', count: 150 })

describe('studies', () => {
  it('are the same bytes for the same seed, on every machine', () => {
    const again = generateStudies({ seed: 1, split: 'train', count: 20 })
    expect(again.map(digest)).toEqual(train.slice(0, 20).map(digest))
    expect(hash(train[0]!.rgb)).toBe('d0ac567e3fdd138ea789ba12a94b421b3dad881c0f57c60eea86ef80ad245c19')
  })

  it('begin alike whatever the count', () => {
    expect(digest(generateStudy(1, 'train', 7))).toBe(digest(train[7]!))
  })

  it('share no image and no id between splits or seeds', () => {
    const other = generateStudies({ seed: 2, split: 'train', count: 150 })
    const pretrain = generateStudies({ seed: 1, split: 'pretrain', count: 150 })
    const validation = generateStudies({ seed: 1, split: 'validation', count: 150 })
    const all = [...train, ...test, ...other, ...pretrain, ...validation]
    expect(new Set(all.map((study) => hash(study.rgb))).size).toBe(all.length)
    expect(new Set(all.map((study) => study.id)).size).toBe(all.length)
  })

  it('hold and ask the same however hard they are to read, and the standard world is its own bytes', () => {
    const difficulty = { contrast: 0.4, size: 0.7, fullReports: true }
    expect(generateStudies({ seed: 1, split: 'train', count: 3, difficulty: STANDARD }).map(digest)).toEqual(
      train.slice(0, 3).map(digest),
    )
    const all = createHash('sha256')
    for (const study of [...train, ...test]) all.update(digest(study))
    // As it was before a world could be harder.
    expect(all.digest('hex')).toBe('632902115dd5837f4e7c82e62228138a536fd28d3f084014c6d5c7e900b912f4')
    for (const [index, study] of generateStudies({ seed: 1, split: 'train', count: 60, difficulty }).entries()) {
      const plain = train[index]!
      expect(study.findings.map(({ mask: _, ...facts }) => facts)).toEqual(
        plain.findings.map(({ mask: _, ...facts }) => facts),
      )
      for (const [at, question] of study.questions.entries()) {
        const { truth, question: text } = plain.questions[at]!
        if (question.task === 'vqa') expect(question).toEqual(plain.questions[at])
        else expect(question.truth.ask).toEqual({ intent: 'report', scope: ['heart', 'pleura', 'lungs', 'wall'] })
        if (question.task === 'report' && question.question !== text) expect(truth.ask).not.toEqual(question.truth.ask)
      }
    }
  })

  it('are harder to read: findings differ less from a chest without them, and cover less', () => {
    const easy = { contrast: 1, size: 1, fullReports: false }
    const seen = (difficulty: Difficulty) =>
      generateStudies({ seed: 1, split: 'validation', count: 80, difficulty }).flatMap((study) =>
        study.findings
          .filter(({ type, size }) => type === 'opacity' || (type === 'nodule' && size === 'small'))
          .map(({ mask }) => ({ area: area(mask), level: meanInside(study, mask) })),
      )
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
    const [plain, faint, small] = [easy, { ...easy, contrast: 0.4 }, { ...easy, size: 0.7 }].map(seen)
    expect(faint!.map((one) => one.area)).toEqual(plain!.map((one) => one.area))
    // Findings add 52 to 104 grey levels to a lung of about 46.
    expect(mean(faint!.map(({ level }) => level))).toBeLessThan(mean(plain!.map(({ level }) => level)) - 15)
    expect(mean(small!.map((one) => one.area))).toBeLessThan(0.75 * mean(plain!.map((one) => one.area)))
    expect(Math.min(...small!.map((one) => one.area))).toBeGreaterThan(3)
  })

  it.each([
    { ...STANDARD, contrast: 0 },
    { ...STANDARD, contrast: 1.1 },
    { ...STANDARD, size: 0.5 },
    { ...STANDARD, contrast: Number.NaN },
  ])('refuse what is no difficulty: %o', (difficulty) => {
    expect(() => generateStudy(1, 'train', 0, difficulty)).toThrow(RangeError)
  })

  it('are grey pictures of the stated size', () => {
    for (const { rgb, width, height } of train) {
      expect(rgb.length).toBe(width * height * 3)
      for (let i = 0; i < rgb.length; i += 3) {
        if (rgb[i] !== rgb[i + 1] || rgb[i] !== rgb[i + 2]) throw new Error(`pixel ${i / 3} is coloured`)
      }
    }
  })

  it('show every finding type, side, zone, size and count', () => {
    const seen = new Set<string>()
    for (const { findings } of train) {
      for (const { type, side, zone, size, count } of findings) {
        for (const value of [type, side, zone, size, count]) seen.add(String(value))
      }
    }
    const wanted = ['cardiomegaly', 'effusion', 'nodule', 'opacity', 'fracture', 'pacemaker']
    for (const value of [...wanted, 'left', 'right', 'upper', 'middle', 'lower', 'small', 'large', '1', '2', '3']) {
      expect(seen, value).toContain(value)
    }
  })
})

describe('masks', () => {
  it('are binary, inside the picture and not empty, on the side they claim', () => {
    for (const study of [...train, ...test]) {
      for (const finding of study.findings) {
        expect(finding.mask.length).toBe(study.width * study.height)
        expect(Math.max(...finding.mask)).toBe(1)
        expect(area(finding.mask), `${study.id} ${finding.type}`).toBeGreaterThan(10)
        if (finding.side && finding.type !== 'pacemaker') {
          // The patient's left is at the right of the picture.
          expect(meanColumn(study, finding.mask) > study.width / 2).toBe(finding.side === 'left')
        }
      }
    }
  })

  it('follow the concept of a question, present or absent', () => {
    for (const study of train) {
      for (const question of study.questions) {
        const mask = conceptMask(study, question)
        const found = study.findings.filter((finding) => finding.type === question.concept)
        if (question.concept === 'report') {
          expect(area(mask) > 0).toBe(study.findings.length > 0)
        } else {
          expect(area(mask)).toBeGreaterThan(0)
          if (found.length > 0) expect(area(mask)).toBe(area(found[0]!.mask))
        }
      }
    }
  })

  it('mark pixels that differ from a chest without the finding', () => {
    for (const study of train.slice(0, 100)) {
      for (const finding of study.findings.filter(({ type }) => type === 'nodule' || type === 'effusion')) {
        expect(meanInside(study, finding.mask)).toBeGreaterThan(90)
      }
    }
  })
})

function meanColumn(study: Study, mask: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < mask.length; i++) if (mask[i]) sum += i % study.width
  return sum / area(mask)
}

function meanInside(study: Study, mask: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < mask.length; i++) if (mask[i]) sum += study.rgb[3 * i]!
  return sum / area(mask)
}
