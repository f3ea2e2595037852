/** Twins by ranks: the folder of one process. */
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import type { CorruptOptions } from '../../src/corrupt/index.js'
import type { Pair } from '../../src/data/records.js'
import { DataError, RankError } from '../../src/errors.js'
import { alone, type Ranks } from '../../src/ranks/ranks.js'
import { allRanks, onRanks } from '../fakes/ranks.js'
import { box, sha256, World } from './world.js'

let world: World

/** Pairs with a mask, without one, with an image that is torn, and several about one image. */
beforeEach(async () => {
  world = await World.create()
  const pairs: Pair[] = []
  const lines: object[] = []
  for (let index = 0; index < 12; index += 1) {
    const name = `images/${index >> 1}.png`
    const image = await world.image(name, 24, 16, 20 + (index >> 1))
    pairs.push(world.pair(`p${index}`, [index === 9 ? { ...image, sha256: 'f'.repeat(64) } : image]))
    if (index % 4 === 0) lines.push({ image: name, mask: box })
  }
  await world.pairs(pairs)
  await world.manifest(lines)
})

const options = (name: string, ranks: Ranks, more: Partial<CorruptOptions> = {}): Partial<CorruptOptions> => ({
  ...{ out: world.path(name), sheet: join(world.path(name), 'sheet.html'), masks: world.path('masks.jsonl') },
  ...{ sheetRows: 4, ranks, ...more },
})

const run = (name: string, ranks: Ranks, more: Partial<CorruptOptions> = {}) =>
  world.corrupt(options(name, ranks, more))

async function contents(name: string): Promise<Record<string, string>> {
  const folder = world.path(name)
  const files: Record<string, string> = {}
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile()) files[path.slice(folder.length)] = sha256(await readFile(path))
  }
  return files
}

describe('corruptPairs by ranks', () => {
  it.each([
    [2, 'pair'],
    [3, 'image'],
  ] as const)('fills with %i ranks the folder of one process, seeds by %s', async (size, seedBy) => {
    const whole = await run('one', alone, { seedBy })
    const [first, ...others] = await allRanks(size, (ranks) => run('all', ranks, { seedBy }))
    expect(await contents('all')).toEqual(await contents('one'))
    expect(first.report).toEqual(whole.report)
    expect(first.report).toMatchObject({ pairs: 12, failed: 1 })
    for (const other of others) expect(other.report).toEqual(whole.report)
  })

  it('goes on after a stop with another number of ranks, and tries what failed again', async () => {
    await run('one', alone)
    const stop = new AbortController()
    const settled = await onRanks(3, (ranks) => {
      const onProgress = (done: number): void => void (done >= 2 && stop.abort())
      return run('all', ranks, ranks.rank === 2 ? { onProgress, signal: stop.signal } : {})
    })
    expect(settled.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    // A twin that is gone is made again.
    const [twin] = await readdir(join(world.path('all'), 'corrupted'))
    await rm(join(world.path('all'), 'corrupted', twin))
    await allRanks(2, (ranks) => run('all', ranks))
    expect(await contents('all')).toEqual(await contents('one'))
  })

  it('ends on all ranks with the mask that is missing on one', async () => {
    const settled = await onRanks(2, (ranks) => run('all', ranks, { fallback: 'error' }))
    const reasons = settled.map((each) => (each.status === 'rejected' ? each.reason : null))
    expect(reasons.some((each) => each instanceof DataError)).toBe(true)
    expect(reasons.every((each) => each instanceof DataError || each instanceof RankError)).toBe(true)
  })
})
