/** What tells a model from another. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { hashModel, markFolder } from '../../src/data/files.js'
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
