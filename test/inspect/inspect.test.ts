/** Record files looked into: kinds, counts, every planted problem found with its place, bounded memory. */
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import sharp from 'sharp'
import { beforeEach, describe, expect, it } from 'vitest'
import { describeInspection, markText } from '../../src/cli/inspection.js'
import { describeImage } from '../../src/data/images.js'
import { type Inspection, inspectFiles } from '../../src/inspect/index.js'
import { Categories, Examples, Numbers, Seen } from '../../src/inspect/tally.js'
import { runCommand } from '../command.js'
import { makePair, temporaryFolder, writeImage } from '../fakes/world.js'
import { makeSample, writeRecords } from '../sample/records.js'

let root: string
beforeEach(async () => {
  root = await temporaryFolder()
})

async function inspect(records: readonly unknown[], options = {}): Promise<Inspection> {
  const path = join(root, 'records.jsonl')
  await writeRecords(path, records)
  return (await inspectFiles([path], options))[0]
}

/** `severity what: places`, as one string a problem. */
const problemsOf = ({ problems }: Inspection): string[] =>
  problems.map(({ severity, what, count, places }) => `${severity} ${count} ${what} | ${places.join(' | ')}`)

const countsOf = ({ distributions }: Inspection, name: string) =>
  Object.fromEntries(distributions.find((each) => each.name === name)?.counts ?? [])

describe('inspectFiles', () => {
  it('counts samples', async () => {
    const image = await writeImage(root, 'a.png', 1)
    const found = await inspect([
      makeSample('a', { images: [image], answerType: 'open', answer: 'left lower lobe', language: 'zh' }),
      makeSample('b', { images: [image], answer: 'No' }),
      makeSample('c', { images: [image, image], answer: 'no' }),
    ])
    expect(found).toMatchObject({ kind: 'samples', records: 3, problems: [] })
    expect(countsOf(found, 'answerType')).toEqual({ closed: 2, open: 1 })
    expect(countsOf(found, 'closed answers')).toEqual({ no: 2 })
    expect(countsOf(found, 'images per record')).toEqual({ 1: 2, 2: 1 })
    expect(found.facts).toEqual([['distinct images', 1]])
    const { spread } = found.spreads.find(({ name }) => name === 'words of an answer') ?? {}
    expect(spread).toMatchObject({ min: 1, median: 1, max: 3, mean: 5 / 3 })
  })

  it('tells an image in several splits once, however many questions ask about it', async () => {
    const [image, other] = [await writeImage(root, 'a.png', 1), await writeImage(root, 'b.png', 2)]
    const asked = (id: string, split: string, images = [image]) => makeSample(id, { images, split, question: `${id}?` })
    const found = await inspect([
      ...[asked('a', 'train'), asked('b', 'train'), asked('c', 'test'), asked('d', 'test'), asked('e', 'validation')],
      ...[asked('f', 'train'), asked('g', 'test', [other])],
    ])
    expect(problemsOf(found)).toEqual([
      'warning 1 an image of split "train" is also in split "test" | line 3: record c',
    ])
  })

  it('takes a folder, and every kind of file that stages leave in it', async () => {
    await writeRecords(join(root, 'samples.jsonl'), [makeSample('a')])
    await mkdir(join(root, 'pairs', 'cache'), { recursive: true })
    await writeRecords(join(root, 'pairs', 'rejected.jsonl'), [
      { id: 'a#0', sampleId: 'a', reason: 'undecided', detail: 'nothing said', text: 'Hm.' },
    ])
    await writeFile(join(root, 'pairs', 'cache', 'reply.json'), '{}')
    await writeFile(join(root, 'pairs', 'pairs.report.json'), '{"mode": "on-policy"}')
    await writeFile(join(root, 'config.resolved.yaml'), 'model: m\nlora:\n  rank: 8\n')
    const verdict = {
      ...{ system: 'base', sampleId: 'a', k: 0, imageId: 'i', answerType: 'closed', question: 'Q?', reference: 'yes' },
      ...{ text: 'Yes.', verdict: 'correct', by: 'rule' },
    }
    await writeRecords(join(root, 'verdicts.jsonl'), [verdict])
    await writeRecords(join(root, 'masks.jsonl'), [{ image: 'i', concept: 'nodule', mask: 'm.png' }])
    await mkdir(join(root, 'adapter'))
    await writeFile(join(root, 'adapter', 'adapter_config.json'), '{"r": 8}')
    await writeFile(join(root, 'adapter', 'adapter_model.safetensors'), 'weights')
    const found = await inspectFiles([root, join(root, 'samples.jsonl')])
    expect(found.map(({ path, kind }) => `${relative(root, path)}: ${kind}`)).toEqual([
      'adapter: adapter',
      'config.resolved.yaml: settings',
      'masks.jsonl: masks',
      'pairs/pairs.report.json: document',
      'pairs/rejected.jsonl: rejected answers',
      'samples.jsonl: samples',
      'verdicts.jsonl: verdicts',
    ])
    expect(found.flatMap(({ problems }) => problems.filter(({ severity }) => severity === 'error'))).toEqual([])
    expect(found[0].facts).toEqual([
      ['weight files', 1],
      ['bytes of weights', 7],
      ['r', 8],
    ])
    expect(countsOf(found[6], 'base')).toEqual({ correct: 1 })
    expect(countsOf(found[4], 'reason')).toEqual({ undecided: 1 })
  })

  it('names bad lines, taken ids and empty questions with their place', async () => {
    const path = join(root, 'records.jsonl')
    await writeRecords(path, [makeSample('a'), { ...makeSample('b'), answerType: 'maybe' }, makeSample('a')])
    await appendFile(path, `\n${JSON.stringify(makeSample('d', { question: ' ' }))}\n{"id": "tor`)
    const [found] = await inspectFiles([path])
    expect(found.records).toBe(5)
    const problems = problemsOf(found).join('\n')
    expect(problems).toMatch(/error 1 the line is not one of samples \| line 2: record b: answerType: Invalid option/)
    expect(problems).toMatch(/error 1 the id is taken by an earlier record \| line 3: record a: first in line 1/)
    expect(problems).toMatch(/error 1 the question is empty \| line 5: record d/)
    expect(problems).toMatch(/error 1 the line is not JSON \| line 6: .*\(the file ends within it\)/)
    expect(problems).toMatch(/warning 1 the same question about the same images again \| line 3/)
  })

  it('finds images that splits share, within a file and between files, and only those', async () => {
    const [one, two, three] = await Promise.all([1, 2, 3].map((level) => writeImage(root, `${level}.png`, level)))
    const train = join(root, 'train.jsonl')
    const test = join(root, 'test.jsonl')
    await writeRecords(train, [makeSample('a', { images: [one] }), makeSample('b', { images: [two] })])
    await writeRecords(test, [
      makeSample('c', { images: [three], split: 'test' }),
      makeSample('d', { images: [{ ...one, path: 'copy.png' }], split: 'test' }),
    ])
    const [first, second] = await inspectFiles([train, test])
    expect(problemsOf(first)).toEqual([])
    expect(problemsOf(second)).toEqual([
      'warning 1 an image of split "train" is also in split "test" | line 2: record d',
    ])
  })

  it('reads the images when told to', async () => {
    const image = await writeImage(root, 'a.png', 1)
    const records = [
      makeSample('a', { images: [image] }),
      makeSample('b', { images: [{ ...image, path: 'b.png' }], question: 'B?' }),
      makeSample('c', { images: [{ ...image, width: 9 }], question: 'C?' }),
    ]
    expect(problemsOf(await inspect(records))).toEqual([])
    const [problem] = problemsOf(await inspect(records, { checkImages: true }))
    expect(problem).toMatch(/error 2 an image is missing or another one \| line 2: record b: .* \| line 3: record c: /)
  })

  it('warns of 16 bits that are nearly black, told once for an image', async () => {
    const raw = { width: 3, height: 1, channels: 1 } as const
    const levels = Uint16Array.from([0, 2000, 4095])
    await sharp(levels, { raw }).toColourspace('grey16').png().toFile(join(root, 'dark.png'))
    const image = await describeImage('dark.png', root)
    const records = ['a', 'b'].map((id) => makeSample(id, { images: [image], question: `${id}?` }))
    expect(problemsOf(await inspect(records))).toEqual([])
    const message = 'dark.png: 16 bits, but the highest value is 4095 of 65535: nearly black'
    expect(problemsOf(await inspect(records, { checkImages: true }))).toEqual([
      `warning 1 an image may not show what it holds | line 1: record a: ${message}`,
    ])
  })

  it('looks at an image that is named itself', async () => {
    const raw = { width: 3, height: 1, channels: 1 } as const
    await sharp(Uint16Array.from([0, 2000, 4095]), { raw })
      .toColourspace('grey16')
      .png()
      .toFile(join(root, 'dark.bin'))
    await writeFile(join(root, 'cut.png'), (await readFile(join(root, 'dark.bin'))).subarray(0, 40))
    const { cases, width, height } = JSON.parse(
      await readFile(new URL('../data/fixtures/dicom.json', import.meta.url), 'utf8'),
    )
    const window = cases.find(({ name }: { name: string }) => name === 'CT window, Explicit VR Little Endian')
    const dicom = Buffer.from(window.file, 'base64').toString('latin1').replace('400\\1500', '0.0\\1500')
    await writeFile(join(root, 'a'), dicom, 'latin1')
    const found = await inspectFiles(['dark.bin', 'cut.png', 'a'].map((name) => join(root, name)))
    expect(found.map(({ kind }) => kind)).toEqual(['image', 'image', 'image'])
    expect(found[2].facts.slice(0, 2)).toEqual([
      ['width', width],
      ['height', height],
    ])
    expect(found.flatMap(problemsOf)).toEqual([
      expect.stringMatching(
        /^warning 1 the image may not show what it holds \| 16 bits, .* 4095 of 65535: nearly black$/,
      ),
      expect.stringMatching(/^error 1 the image cannot be used \| .*cut\.png/),
      expect.stringMatching(/^warning 1 .* \| a window of centre .* and width 0 shows nothing and is passed over$/),
    ])
  })

  it('shows pairs with their edits and what is wrong with them', async () => {
    const [clean, noisy] = await Promise.all([1, 2].map((level) => writeImage(root, `${level}.png`, level)))
    const twin = { method: 'lesion-noise', sigma: 45, seed: 1, masks: [] }
    const found = await inspect([
      makePair('good', { images: [clean], corrupted: { ...twin, images: [noisy] } }),
      makePair('same', { rejected: makePair('x').chosen, edits: [] }),
      makePair('outside', { edits: [{ chosen: [21, 99], rejected: [21, 26], category: 'side' }] }),
      makePair('twin', { prompt: 'Other?', images: [clean], corrupted: { ...twin, images: [clean] } }),
    ])
    expect(found.kind).toBe('pairs')
    expect(problemsOf(found)).toEqual([
      expect.stringMatching(/^error 1 an invariant .* line 3: record outside: .*reaches past the text/),
      expect.stringMatching(/^warning 1 .*same text \| line 2/),
      expect.stringMatching(/^warning 1 the corrupted image has the bytes of the clean one \| line 4/),
    ])
    expect(countsOf(found, 'category of an edit')).toEqual({ side: 3 })
    expect(found.facts).toContainEqual(['pairs with a corrupted twin', 2])
    const good = await inspect([makePair('good')])
    expect(describeInspection(good, false)).toContain('chosen    The nodule is in the [left] lung.\n')
    expect(describeInspection(good, true)).toContain('in the \u001b[31mright\u001b[0m lung.')
  })

  it('knows responses, failures, metrics and documents, and says when it knows nothing', async () => {
    const response = { sampleId: 'a', model: 'm', adapter: null, prompt: 'p', text: 'yes', tokens: [1], seed: 1 }
    const responses = await inspect([
      { ...response, sampling: { finish: 'stop' } },
      { ...response, sampling: { finish: 'length' }, seed: 2, text: '' },
      { ...response, sampling: { finish: 'length' }, seed: 1 },
    ])
    expect(responses.kind).toBe('responses')
    expect(countsOf(responses, 'ended by')).toEqual({ length: 2, stop: 1 })
    expect(problemsOf(responses).join()).toMatch(
      /same seed again \| line 3: record a: first in line 1.*is empty \| line 2/,
    )
    const failed = await inspect([{ sampleId: 'a', prompt: 'p', seed: 1, code: 'ERR_FIRE_IO', reason: 'gone' }])
    expect([failed.kind, countsOf(failed, 'code')]).toEqual(['failed questions', { ERR_FIRE_IO: 1 }])
    const metrics = await inspect([1, 2, 4].map((step) => ({ step, loss: 1 / step, epoch: 1 })))
    expect(metrics.kind).toBe('metrics')
    expect(metrics.facts).toContainEqual(['loss', '1 at first, 0.25 at last'])
    expect(problemsOf(metrics).join()).toContain('line 3: step 4 after 2')
    const evaluated = await inspect([
      { step: 1, loss: 1 },
      { step: 2, loss: 0.5 },
      { step: 2, eval_loss: 0.7 },
      { step: 3, loss: 0.4 },
    ])
    expect(evaluated.kind).toBe('metrics')
    expect(evaluated.facts).toContainEqual(['eval_loss', '0.7 at first, 0.7 at last'])
    expect(problemsOf(evaluated)).toEqual([])
    await writeFile(
      join(root, 'import.report.json'),
      JSON.stringify({ kept: 3, dropped: { blank: 1 }, seen: [] }, null, 2),
    )
    const [document] = await inspectFiles([join(root, 'import.report.json')])
    expect(document).toMatchObject({
      kind: 'document',
      facts: [
        ['kept', 3],
        ['dropped.blank', 1],
      ],
    })
    const unknown = await inspect([{ a: 1 }, { a: 2 }])
    expect(unknown).toMatchObject({ kind: 'unknown', records: 2, problems: [{ count: 2 }] })
    expect(problemsOf(await inspect([]))[0]).toContain('the file holds no record')
  })

  it('keeps control characters of records from the terminal', () => {
    const marked = markText(
      { label: '', text: 'a\u001b[2Jb\nc\u202ed', marks: [{ start: 1, end: 5, kind: 'chosen' }] },
      false,
    )
    expect(marked).toBe('a[\\u001b[2J]b⏎c\\u202ed')
  })

  it('streams: sixty thousand records in 40 MB of heap', { timeout: 120_000 }, async () => {
    const path = join(root, 'large.jsonl')
    const file = createWriteStream(path)
    const image = { path: 'x.png', sha256: '0'.repeat(64), width: 1, height: 1 }
    const count = 60_000
    for (let from = 0; from < count; from += 1000) {
      const lines = Array.from({ length: 1000 }, (_, index) => {
        const hash = (from + index).toString(16).padStart(64, '0')
        const sample = makeSample(`sample-${from + index}`, {
          images: [{ ...image, sha256: hash }],
          question: `Q${from + index}?`,
        })
        return JSON.stringify(sample)
      })
      if (!file.write(`${lines.join('\n')}\n`)) await once(file, 'drain')
    }
    file.end(`${JSON.stringify(makeSample('sample-7'))}\n`)
    await once(file, 'close')
    const { code, stdout } = await runCommand(['inspect', path, '--json'], {
      nodeOptions: ['--max-old-space-size=40'],
    })
    expect(code).toBe(1)
    const [found] = JSON.parse(stdout).files as Inspection[]
    expect(found.records).toBe(count + 1)
    expect(found.facts).toEqual([['distinct images', count]])
    expect(problemsOf(found)[0]).toBe(
      `error 1 the id is taken by an earlier record | line ${count + 1}: record sample-7: first in line 8`,
    )
  })
})

describe('tallies', () => {
  it('tell texts apart and remember where they were', () => {
    const seen = new Seen()
    for (let index = 0; index < 5000; index += 1) expect(seen.add(`text ${index}`, index)).toBeUndefined()
    for (let index = 0; index < 5000; index += 1) expect(seen.add(`text ${index}`, -1)).toBe(index)
    seen.set('text 3', 9)
    expect([seen.add('text 3', 0), seen.size]).toEqual([9, 5000])
  })

  it('bound what they keep and say so', () => {
    const categories = new Categories()
    for (let index = 0; index < 500; index += 1) categories.add(`value ${index % 250}`)
    const counts = categories.counts()
    expect(counts).toHaveLength(201)
    expect(counts.at(-1)).toEqual(['(200 and more others)', 100])
    const numbers = new Numbers()
    expect(numbers.spread()).toBeUndefined()
    for (let value = 1; value <= 4000; value += 1) numbers.add(value)
    const { median, p95, max } = numbers.spread() ?? { median: 0, p95: 0, max: 0 }
    expect(Math.abs(median / 2000 - 1)).toBeLessThan(0.01)
    expect(Math.abs(p95 / 3800 - 1)).toBeLessThan(0.01)
    expect(max).toBe(4000)
  })

  it('choose the same examples whatever the order', () => {
    const chosen = (ids: string[]) => {
      const examples = new Examples<string>(3)
      for (const id of ids) examples.add(id, id)
      return examples.records()
    }
    const ids = Array.from({ length: 50 }, (_, index) => `id ${index}`)
    expect(chosen([...ids].reverse())).toEqual(chosen(ids))
    expect(chosen(ids)).toHaveLength(3)
    expect(chosen([])).toEqual([])
    expect(new Examples<string>(0).records()).toEqual([])
  })
})
