/** What tells a model from another. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { hashModel, isEarlierMark, markFolder } from '../../src/data/files.js'
import { writeMergedFrom } from '../../src/data/merged.js'
import { temporaryFolder } from '../fakes/world.js'

it('is its files, and not the record of what it was merged from', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'model.safetensors'), 'weights')
  await writeFile(join(folder, 'config.json'), '{}')
  const of = async () => [await hashModel(folder), await markFolder(folder)]
  const before = await of()
  for (const digit of ['a', 'b']) {
    await writeMergedFrom(folder, { adapterSha256: digit.repeat(64) })
    expect(await of()).toEqual(before)
  }
  await writeFile(join(folder, 'config.json'), '{"other": 1}')
  const after = await of()
  expect(after[0]).not.toBe(before[0])
  expect(after[1]).not.toBe(before[1])
})

it('sees weights that differ between the ends of a large file', async () => {
  const folder = await temporaryFolder()
  const weights = Buffer.alloc(5_000_000, 7)
  const mark = async (): Promise<string> => {
    await writeFile(join(folder, 'model.safetensors'), weights)
    return await markFolder(folder)
  }
  const before = await mark()
  // A merge changes the linear layers, which are most of a model, and leaves embeddings and norms alone.
  weights.fill(8, 1_000_000, 1_100_000)
  const merged = await mark()
  expect(merged).not.toBe(before)
  weights.fill(7)
  expect(await mark()).toBe(before)
  expect([isEarlierMark(before), isEarlierMark('ab'.repeat(32)), isEarlierMark(null)]).toEqual([false, true, false])
})
