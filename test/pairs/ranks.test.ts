/** Pairs by ranks that a model then measures: what rank 0 hands to the others is gone when they have ended. */
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { DataError, RankError } from '../../src/errors.js'
import { type BuildPairsOptions, buildPairs, RulesProvider } from '../../src/pairs/index.js'
import { alone, type Ranks } from '../../src/ranks/ranks.js'
import { ranksInMemory } from '../fakes/ranks.js'
import { manyTasks, writeTasks } from './records.js'

const files = await writeTasks(manyTasks(12))
const out = join(files.folder, 'pairs.jsonl')
const handedOn = '.pairs.jsonl.built'

const hidden = async (): Promise<string[]> => (await readdir(files.folder)).filter((name) => name.startsWith('.'))

const build = (ranks: Ranks) => {
  const options: BuildPairsOptions = {
    ...{ samples: files.samples, responses: files.responses, out, concurrency: 2, ranks },
    ...{ provider: new RulesProvider(), blindJudge: null, mode: 'on-policy', seed: 0 },
    measure: async (pairs) => ({
      ...{ model: 'm', chosen: 1, rejected: 2, chosenIsLikelier: 1 },
      logprobs: pairs.map(() => ({ chosen: -1, rejected: -2 })),
    }),
  }
  return buildPairs(options).catch(async (error) => {
    await ranks.fail(error)
    throw error
  })
}

it('leaves no file behind, whether a rank fails while they read it or the run before was killed there', async () => {
  const during: string[][] = []
  const failing = ranksInMemory(2, (rank, what) => {
    if (rank === 0 || !what.endsWith(`${handedOn} read`)) return
    throw new DataError('the disk of this rank is gone')
  })
  const [first, second] = await Promise.allSettled(failing.map(build))
  expect(second).toMatchObject({ reason: expect.any(DataError) })
  expect(first).toMatchObject({ reason: expect.any(RankError) })
  expect(await hidden()).not.toContain(handedOn)

  await writeFile(join(files.folder, handedOn), 'of a run that was killed')
  await build(alone)
  expect(await hidden()).toEqual([])

  const all = await Promise.all(
    ranksInMemory(2, (_, what) => void (what.endsWith('read') && hidden().then((names) => during.push(names)))).map(
      build,
    ),
  )
  expect(all[1].pairs).toEqual(all[0].pairs)
  expect(all[0].pairs.length).toBeGreaterThan(5)
  expect(during[0]).toContain(handedOn)
  expect(await hidden()).toEqual([])
})
