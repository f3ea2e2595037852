/** The phantom world as a data set: what is written, that it is what the other stages read, and what is refused. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { corruptPairs, encodeRle } from '../../src/corrupt/index.js'
import { checkReferenced } from '../../src/data/images.js'
import { writeJsonl } from '../../src/data/jsonl.js'
import { importData } from '../../src/import/index.js'
import { conceptMask, generateStudies, readTruth } from '../../src/phantom/index.js'
import { makePair, temporaryFolder } from '../fakes/world.js'
import { readLines } from '../sample/records.js'
import { runImport } from './support.js'

const phantom = { trainStudies: 5, testStudies: 4, seed: 2 }
const studies = [
  ...generateStudies({ seed: 2, split: 'train', count: 5 }),
  ...generateStudies({ seed: 2, split: 'test', count: 4 }),
]

describe('import phantom', () => {
  it('writes both splits with their truth, and images that are what the records say', async () => {
    const { out, report, samples, pairs } = await runImport({ kind: 'phantom', phantom })
    expect(samples.map(({ id }) => id)).toEqual(studies.flatMap(({ questions }) => questions.map(({ id }) => id)))
    expect(samples.map(({ meta }) => readTruth(meta))).toEqual(
      studies.flatMap(({ questions }) => questions.map(({ truth }) => truth)),
    )
    for (const { images } of samples) await checkReferenced(images[0], out)
    expect(pairs).toEqual([])
    const split = (name: string) => samples.filter((sample) => sample.split === name)
    expect(report).toMatchObject({
      kind: 'phantom',
      samples: samples.length,
      problems: [],
      options: phantom,
      counts: {
        train: { records: split('train').length, images: 5 },
        test: { records: split('test').length, images: 4 },
      },
      leakage: { written: [], source: [] },
    })
  })

  it('is the same again, and begins alike whatever the number of studies', async () => {
    const { samples } = await runImport({ kind: 'phantom', phantom })
    const more = await runImport({ kind: 'phantom', phantom: { ...phantom, trainStudies: 7 } })
    const test = (records: typeof samples) => records.filter(({ split }) => split === 'test')
    expect(test(more.samples)).toEqual(test(samples))
    expect(more.samples.slice(0, 20)).toEqual(samples.slice(0, 20))
    expect((await runImport({ kind: 'phantom', phantom: { ...phantom, seed: 3 } })).samples).not.toEqual(samples)
  })

  it('writes a validation split when asked, and changes nothing else', async () => {
    const plain = await runImport({ kind: 'phantom', phantom })
    const { out, report, samples } = await runImport({ kind: 'phantom', phantom: { ...phantom, validationStudies: 3 } })
    const validation = samples.filter(({ split }) => split === 'validation')
    expect(samples.filter(({ split }) => split !== 'validation')).toEqual(plain.samples)
    expect(plain.samples.some(({ split }) => split === 'validation')).toBe(false)
    const made = generateStudies({ seed: 2, split: 'validation', count: 3 })
    expect(validation.map(({ id }) => id)).toEqual(made.flatMap(({ questions }) => questions.map(({ id }) => id)))
    expect(Object.keys(report.counts)).toEqual(['train', 'validation', 'test'])
    expect(report.counts.validation).toMatchObject({ records: validation.length, images: 3 })
    expect(report.images.stored).toBe(12)
    expect(report.leakage.written).toEqual([])
    const masks = await readLines<{ image: string }>(join(out, 'masks.jsonl'))
    const [{ images }] = validation
    expect(masks.some(({ image }) => image === images[0].sha256)).toBe(true)
  })

  it('writes a harder world when asked, about the same findings', async () => {
    const difficulty = { contrast: 0.5, size: 0.7, fullReports: true }
    const plain = await runImport({ kind: 'phantom', phantom })
    const { report, samples } = await runImport({ kind: 'phantom', phantom: { ...phantom, difficulty } })
    expect(report.options).toMatchObject({ difficulty })
    expect(samples.map(({ id }) => id)).toEqual(plain.samples.map(({ id }) => id))
    const answers = (records: typeof samples) =>
      records.filter(({ task }) => task === 'vqa').map(({ answer }) => answer)
    expect(answers(samples)).toEqual(answers(plain.samples))
    expect(samples[0].images[0].sha256).not.toBe(plain.samples[0].images[0].sha256)
  })

  it('has masks that the corruption stage finds by concept', async () => {
    const { out, samples } = await runImport({ kind: 'phantom', phantom })
    const records = samples.map(({ id, images, meta }) =>
      makePair(id, { images, provenance: { concept: meta.concept } }),
    )
    await writeJsonl(join(out, 'pairs.jsonl'), records)
    const { report } = await corruptPairs({
      pairs: join(out, 'pairs.jsonl'),
      out: join(out, 'corrupt'),
      masks: join(out, 'masks.jsonl'),
      method: 'lesion-noise',
      fallback: 'image-noise',
      maxCoverage: 0.8,
      seed: 0,
      resizeMasks: false,
      sheetRows: 0,
    })
    // All but the reports on chests without findings.
    const empty = studies.filter(({ findings }) => findings.length === 0).length
    expect(report.methods['lesion-noise']).toBe(samples.length - empty)
    expect(report.sources).toEqual({ 'manifest: rle': samples.length - empty })
    expect(report.concepts).toEqual({ record: samples.length - empty })
    expect(report.missing).toEqual(empty > 0 ? { emptyMask: expect.objectContaining({ count: empty }) } : {})
    expect(report.warnings).toHaveLength(Object.keys(report.missing).length)
  })

  it('says of each mask whether the concept is there', async () => {
    const { out, samples } = await runImport({ kind: 'phantom', phantom })
    const lines = await readLines<{ image: string; concept: string; mask: object; absent?: true }>(
      join(out, 'masks.jsonl'),
    )
    for (const study of studies) {
      const { images } = samples.find(({ meta }) => meta.study === study.id)!
      for (const question of study.questions) {
        const inside = conceptMask(study, question)
        const line = lines.find(({ image, concept }) => image === images[0].sha256 && concept === question.concept)
        const here = question.concept === 'report' || study.findings.some(({ type }) => type === question.concept)
        expect(line).toMatchObject({ mask: encodeRle({ ...study, inside }) })
        expect(line?.absent).toBe(here ? undefined : true)
      }
    }
  })

  it('refuses a folder that is no import, and kinds that need a source without one', async () => {
    const out = join(await temporaryFolder(), 'out')
    await mkdir(out)
    await writeFile(join(out, 'thesis.tex'), 'precious')
    await expect(importData({ kind: 'phantom', phantom, out, overwrite: true })).rejects.toThrow(/no earlier import/)
    await expect(importData({ kind: 'jsonl', out: join(out, 'new') })).rejects.toThrow(/needs a SOURCE/)
    await expect(importData({ kind: 'phantom', out: join(out, 'new') })).rejects.toThrow(/number of studies/)
  })

  it('stops when told to, and leaves nothing', async () => {
    const out = join(await temporaryFolder(), 'out')
    const controller = new AbortController()
    const request = { kind: 'phantom', phantom, out, signal: controller.signal, onProgress: () => controller.abort() }
    await expect(importData(request)).rejects.toMatchObject({ code: 'ERR_FIRE_ABORTED' })
    await expect(checkReferenced({ path: 'samples.jsonl', sha256: '', width: 1, height: 1 }, out)).rejects.toThrow()
  })
})
