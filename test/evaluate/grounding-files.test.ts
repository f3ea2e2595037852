/** Files of questions with boxes: what tells questions apart, what is computed once, what says that boxes were misread. */
import { mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { openEngine } from '../../src/engine/engine.js'
import { groundingPresets, measureGrounding } from '../../src/evaluate/grounding/measure.js'
import { readGroundingFiles } from '../../src/evaluate/grounding/questions.js'
import { checkGrounding } from '../../src/evaluate/grounding/run.js'
import { compareGrounding } from '../../src/evaluate/grounding/summary.js'
import type { GroundingRecord } from '../../src/evaluate/records.js'
import { silent } from '../../src/stage/progress.js'
import { Chat } from '../../src/text/chat.js'
import { fakeNative, temporaryFolder, writeImage, writeModel } from '../fakes/world.js'
import { writeRecords } from '../sample/records.js'

let folder: string

beforeEach(async () => {
  folder = await temporaryFolder()
})

async function write(name: string, records: readonly object[]): Promise<string> {
  const path = join(folder, name)
  await mkdir(join(path, '..'), { recursive: true })
  await writeRecords(path, records)
  return path
}

const asked = (image: string, more: object = {}) => ({ image, question: 'Where?', bbox: [0, 0, 2, 2], ...more })

describe('files of questions with boxes', () => {
  it('have ids that tell files apart', async () => {
    const files = await Promise.all(
      ['a/localization.jsonl', 'b/localization.jsonl'].map((name) => write(name, [asked('x.png'), asked('y.png')])),
    )
    const sets = await readGroundingFiles(files)
    expect(sets.map(({ root }) => root)).toEqual([join(folder, 'a'), join(folder, 'b')])
    expect(sets.flatMap(({ questions }) => questions.map(({ id }) => id))).toEqual([
      'a/localization-1',
      'a/localization-2',
      'b/localization-1',
      'b/localization-2',
    ])
    const [alone] = await readGroundingFiles([files[0]])
    expect(alone.questions[0].id).toBe('localization-1')
  })

  it('refuse an id that is there twice, in one file or in two', async () => {
    const one = await write('localization.jsonl', [asked('x.png', { id: 7 })])
    const other = await write('attribute.jsonl', [asked('x.png', { id: '7' })])
    await expect(readGroundingFiles([one, other])).rejects.toThrow(
      /attribute\.jsonl:1: the id 7 is taken by .*localization/,
    )
    await expect(readGroundingFiles([one, one])).rejects.toThrow('is taken by')
  })
})

describe('what can be known of questions with boxes before anything is computed', () => {
  const check = async (files: readonly string[], images?: string) => {
    const lines: string[] = []
    const wanted = { files, images, preset: 'ours', boxFormat: 'auto' } as const
    await checkGrounding(wanted, { ...silent, log: (line) => lines.push(line) })
    return lines
  }

  it('images that are not there or lie elsewhere are counted, and none at all is an error', async () => {
    await writeImage(folder, 'x.png', 1)
    const root = join(folder, 'root')
    await mkdir(root)
    await writeImage(root, 'x.png', 1)
    await symlink(join(folder, 'x.png'), join(root, 'link.png'))
    const wrong = ['missing.png', '../x.png', join(folder, 'x.png'), 'link.png']
    const file = await write('localization.jsonl', [asked('x.png'), ...wrong.map((name) => asked(name))])
    expect(await check([file], root)).toEqual([
      expect.stringMatching(/4 of 5 questions with boxes have no image, first missing\.png/),
    ])
    const none = await write(
      'localization-2.jsonl',
      wrong.map((name) => asked(name)),
    )
    await expect(check([none], root)).rejects.toThrow('4 of 4')
  })

  it('a question that is there twice is said', async () => {
    await writeImage(folder, 'x.png', 1)
    const file = await write('localization.jsonl', [asked('x.png'), asked('x.png')])
    expect(await check([file])).toEqual([expect.stringContaining('1 questions with boxes are there twice')])
  })
})

describe('questions of several files', () => {
  async function measured(
    files: readonly string[],
    format: 'xyxy' | 'xywh' = 'xyxy',
    preset: keyof typeof groundingPresets = 'upstream',
  ) {
    await writeModel(join(folder, 'model'))
    await writeImage(folder, 'x.png', 1)
    const native = fakeNative()
    await using engine = await openEngine({ model: join(folder, 'model') }, { native })
    let passes = 0
    const [fake] = native.engines
    fake.attention = async () => {
      passes++
      return [{ layers: 1, heads: 1, tokens: 4, weights: new Float32Array(4).fill(0.25) }]
    }
    const chat = await Chat.load(join(folder, 'model'), engine.info)
    const records: GroundingRecord[] = []
    for (const { questions, root } of await readGroundingFiles(files, format)) {
      const model = { engine, chat, imageRoot: root, adapter: false }
      for await (const record of measureGrounding('base', questions, model, groundingPresets[preset]))
        records.push(record)
    }
    return { records, passes }
  }

  it('share the general prompt of an image: n questions about m images are n + m passes', async () => {
    const files = [
      await write('localization.jsonl', [asked('x.png'), asked('x.png')]),
      await write('attribute.jsonl', [asked('x.png')]),
    ]
    const { records, passes } = await measured(files)
    expect(records.map(({ skipped }) => skipped)).toEqual([null, null, null])
    expect(passes).toBe(3 + 1)
  })

  it('count boxes that leave the image among those that no box touches: misread corners', async () => {
    const { records } = await measured([await write('localization.jsonl', [asked('x.png', { bbox: [20, 20, 10, 8] })])])
    expect(records).toMatchObject([{ skipped: 'no box touches the image', outside: 1 }])
  })

  it('leave out an image that is not there or lies elsewhere, and a box without area', async () => {
    const lines = [asked('x.png'), asked('y.png'), asked('../x.png'), asked('x.png', { bbox: [1, 1, 1, 1] })]
    const file = await write('localization.jsonl', lines)
    const reasons = async (preset: 'ours' | 'upstream') =>
      (await measured([file], 'xyxy', preset)).records.map(({ skipped }) => skipped)
    // Those about one image come together.
    expect(await reasons('ours')).toEqual([
      null,
      'no box has an area',
      expect.stringMatching(/^it is not below/),
      expect.stringMatching(/^it is not below/),
    ])
    expect((await reasons('upstream'))[1]).toBeNull()
  })

  it('are compared with themselves, not with those of the other file', () => {
    const record = (system: string, file: number, i: number): GroundingRecord => ({
      ...{
        system,
        sampleId: `f${file}/localization-${i}`,
        kind: 'localization',
        imageId: `${file}-${i}`,
        skipped: null,
      },
      ...{
        outside: 0,
        grid: [1, 1],
        maskTokens: 1,
        mass: [1],
        ar: [file === 0 ? 1 : 3],
        kl: [0],
        js: [0],
        shiftedAr: [1],
      },
    })
    const records = ['base', 'adapter'].flatMap((system) =>
      [0, 1].flatMap((file) => Array.from({ length: 30 }, (_, i) => record(system, file, i))),
    )
    const [{ both, difference, p }] = compareGrounding(records, 'base', 0)
    expect([both, difference.value, difference.interval?.low, difference.interval?.high, p]).toEqual([60, 0, 0, 0, 1])
  })
})
