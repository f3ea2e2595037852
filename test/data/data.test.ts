import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { JsonlAppender, removeTemporaries, writeFileAtomic, writeFolderAtomic } from '../../src/data/files.js'
import { readJsonl, writeJsonl } from '../../src/data/jsonl.js'
import { loadPairs, pairProblem } from '../../src/data/pairs.js'
import { exchange } from '../../src/engine/exchange.js'
import { DiskFullError, FileError, fileError } from '../../src/errors.js'
import { makePair, temporaryFolder, writeImage, writePairs } from '../fakes/world.js'
import { goneOwner } from './owners.js'

let folder: string

beforeEach(async () => {
  folder = await temporaryFolder()
})

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

describe('readJsonl', () => {
  const schema = z.strictObject({ id: z.string(), n: z.number() })
  const file = (): string => join(folder, 'x.jsonl')

  it('reads records with their lines, whatever the line ends and Unicode separators', async () => {
    await writeFile(file(), '\uFEFF{"id":"a","n":1}\r\n\n{"id":"b\u2028c","n":2}')
    expect(await collect(readJsonl(file(), schema))).toEqual([
      { record: { id: 'a', n: 1 }, line: 1 },
      { record: { id: 'b\u2028c', n: 2 }, line: 3 },
    ])
  })

  it('reads lines longer than a chunk', async () => {
    const id = 'é'.repeat(200_000)
    await writeJsonl(file(), [
      { id, n: 1 },
      { id: 'b', n: 2 },
    ])
    expect((await collect(readJsonl(file(), schema))).map((line) => line.record.id)).toEqual([id, 'b'])
  })

  it.each([
    ['{"id":"a","n":1}\n{"id":"b","n"\n', /x\.jsonl:2: not a JSON object/],
    ['{"id":"a","n":"1"}\n', /x\.jsonl:1: record a: n: .*expected number/],
    ['{"id":"a","n":1,"m":2}\n', /x\.jsonl:1: record a: .*"m"/],
    ['[]\n', /x\.jsonl:1: .*expected object/],
  ])('names the place of %j', async (text, message) => {
    await writeFile(file(), text)
    await expect(collect(readJsonl(file(), schema))).rejects.toThrow(message)
  })

  it('refuses bytes that are not UTF-8 and files that are not there', async () => {
    await writeFile(file(), Buffer.from([0x7b, 0xff, 0x7d, 0x0a]))
    await expect(collect(readJsonl(file(), schema))).rejects.toThrow(/:1: the bytes are not UTF-8/)
    await expect(collect(readJsonl(join(folder, 'none'), schema))).rejects.toThrow(FileError)
  })
})

describe('atomic writes', () => {
  it('leaves the old file and no temporary when writing fails', async () => {
    const path = join(folder, 'a', 'b.txt')
    await writeFileAtomic(path, 'old')
    await mkdir(join(folder, 'a', 'c.txt'))
    await expect(writeFileAtomic(join(folder, 'a', 'c.txt'), 'x')).rejects.toThrow(FileError)
    expect(await readFile(path, 'utf8')).toBe('old')
    expect((await readdir(join(folder, 'a'))).sort()).toEqual(['b.txt', 'c.txt'])
  })

  it('replaces a folder as a whole, or not at all', async () => {
    const path = join(folder, 'step')
    const fill = (text: string) => (temporary: string) => writeFile(join(temporary, text), text)
    await writeFolderAtomic(path, fill('one'))
    await writeFolderAtomic(path, fill('two'))
    expect(await readdir(path)).toEqual(['two'])
    const failure = new Error('broke')
    const failing = writeFolderAtomic(path, async (temporary) => {
      await writeFile(join(temporary, 'three'), '')
      throw failure
    })
    await expect(failing).rejects.toBe(failure)
    expect(await readdir(path)).toEqual(['two'])
    expect(await readdir(folder)).toEqual(['step'])
  })

  it('replaces a folder in one step: at every moment it is there', async () => {
    const path = join(folder, 'step')
    const fill = (text: string) => (temporary: string) => writeFile(join(temporary, 'file'), text)
    await writeFolderAtomic(path, fill('0'))
    await mkdir(join(folder, 'other'))
    // Elsewhere the order is another, and one whole copy is there under a temporary name.
    if (!exchange(path, join(folder, 'other'))) return
    exchange(path, join(folder, 'other'))
    let watching = true
    let looked = 0
    const watch = async () => {
      for (; watching; looked += 1) expect(await readFile(join(path, 'file'), 'utf8')).toMatch(/^\d+$/)
    }
    const watched = watch()
    for (let round = 0; round < 50; round += 1) await writeFolderAtomic(path, fill(String(round)))
    watching = false
    await watched
    expect(looked).toBeGreaterThan(50)
  })

  it('clears what a crash left', async () => {
    await mkdir(join(folder, `.tmp-step-3-${goneOwner()}.01234567`))
    await writeFile(join(folder, 'kept'), '')
    await writeFile(join(folder, '.tmp-of-another-program'), '')
    await removeTemporaries(folder)
    expect((await readdir(folder)).sort()).toEqual(['.tmp-of-another-program', 'kept'])
    await removeTemporaries(join(folder, 'none'))
  })

  it('gives a folder its name back once, however many sweep', async () => {
    await mkdir(join(folder, `.tmp-step-3-${goneOwner()}.01234567.old`))
    await Promise.all(Array.from({ length: 8 }, () => removeTemporaries(folder)))
    expect(await readdir(folder)).toEqual(['step-3'])
  })

  it('types a full disk', async () => {
    const error = fileError(Object.assign(new Error('x'), { code: 'ENOSPC' }), 'writing', '/a')
    expect(error).toBeInstanceOf(DiskFullError)
    expect(error.message).toMatch(/^writing \/a failed: the disk is full, \d+\.\d MiB are free in \/$/)
    expect((error as DiskFullError).hint).toContain('run the same command again')
    if (process.platform !== 'linux') return
    const full = await JsonlAppender.open('/dev/full')
    await expect(full.append({ a: 1 })).rejects.toThrow(DiskFullError)
    await full.close()
  })

  it('appends after cutting a file back', async () => {
    const path = join(folder, 'm.jsonl')
    const first = await JsonlAppender.open(path)
    await first.append({ a: 'é' })
    const kept = first.bytes
    await first.append({ b: 2 })
    await first.close()
    const second = await JsonlAppender.open(path, kept)
    await second.append({ c: 3 })
    await second.close()
    expect(await readFile(path, 'utf8')).toBe('{"a":"é"}\n{"c":3}\n')
    await expect(JsonlAppender.open(path, 99)).rejects.toThrow(/expected at least 99/)
    expect(second.bytes).toBe(Buffer.byteLength('{"a":"é"}\n{"c":3}\n'))
  })
})

describe('pairProblem', () => {
  const edit = (chosen: [number, number], rejected: [number, number]) => ({ chosen, rejected, category: 'x' })

  it('accepts a sound pair, insertions and several edits', () => {
    expect(pairProblem(makePair('a'))).toBeUndefined()
    const many = { chosen: 'no big left x', rejected: 'no right x y' }
    expect(
      pairProblem(makePair('a', { ...many, edits: [edit([3, 11], [3, 8]), edit([13, 13], [10, 12])] })),
    ).toBeUndefined()
  })

  it.each([
    ['ends before', [edit([25, 21], [21, 26])]],
    ['reaches past', [edit([21, 99], [21, 26])]],
    ['overlaps', [edit([21, 25], [21, 26]), edit([23, 25], [26, 26])]],
    ['empty on both sides', [edit([21, 21], [21, 21])]],
    ['text outside the edits differs', [edit([21, 24], [21, 26])]],
    ['text outside the edits differs', []],
  ])('finds: %s', (message, edits) => {
    expect(pairProblem(makePair('a', { edits }))).toContain(message)
  })

  it('finds a span inside a surrogate pair', () => {
    const pair = makePair('a', { chosen: '👍', rejected: '👎', edits: [edit([1, 2], [1, 2])] })
    expect(pairProblem(pair)).toContain('splits a surrogate pair')
  })
})

describe('loadPairs', () => {
  const load = () => loadPairs(join(folder, 'p.jsonl'), { emptyPhrase: 'skip' })

  it('warns of a twin with the bytes of its image and keeps the pair', async () => {
    const image = await writeImage(folder, 'x.png', 5)
    const corrupted = { images: [image], method: 'none', sigma: 0, seed: 0, masks: [] }
    await writePairs(join(folder, 'p.jsonl'), [makePair('a', { images: [image], corrupted })])
    const { counts, warnings } = await load()
    expect(counts).toMatchObject({ kept: 1, corruptedSameAsClean: 1 })
    expect(warnings[0]).toContain('same bytes as the clean one; first: ')
  })

  it.each([
    [
      'a missing image',
      { images: [{ path: 'none.png', sha256: '0'.repeat(64), width: 1, height: 1 }] },
      /record a: .*none\.png/,
    ],
    [
      'an edit out of range',
      { edits: [{ chosen: [0, 400], rejected: [0, 1], category: 'x' }] },
      /record a: edits\.0\.chosen/,
    ],
    ['a twin too few', { corrupted: { images: [], method: '', sigma: 0, seed: 0, masks: [] }, images: [] }, undefined],
  ])('stops at %s', async (_name, fields, message) => {
    await writePairs(join(folder, 'p.jsonl'), [makePair('a', fields as object)])
    if (message) await expect(load()).rejects.toThrow(message)
    else await expect(load()).resolves.toBeDefined()
  })

  it('refuses an id twice and an unknown key', async () => {
    await writePairs(join(folder, 'p.jsonl'), [makePair('a'), makePair('a')])
    await expect(load()).rejects.toThrow(/p\.jsonl:2: record a: the id is taken by line 1/)
    await writePairs(join(folder, 'p.jsonl'), [{ ...makePair('a'), chosn: 'x' }])
    await expect(load()).rejects.toThrow(/p\.jsonl:1: record a: .*chosn/)
  })
})
