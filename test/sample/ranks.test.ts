/** Answers by ranks: the bytes of one process, whoever stops, fails or goes on. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { DataError, LockedError, RankError } from '../../src/errors.js'
import { alone, type Ranks } from '../../src/ranks/ranks.js'
import type { Answerer, Outcome } from '../../src/sample/answerer.js'
import { failuresPath } from '../../src/sample/files.js'
import { engineAnswerer, type SampleContext, sampleAnswers, sampleSettings } from '../../src/sample/index.js'
import { shownIn } from '../../src/sample/questions.js'
import { allRanks, onRanks, ranksInMemory } from '../fakes/ranks.js'
import { fakeNative, temporaryFolder, writeImage, writeModel } from '../fakes/world.js'
import { makeSample, writeRecords } from './records.js'

let root: string
let folder: string
/** Questions that were asked, by rank. */
let asked: string[][]

const settings = sampleSettings.parse({ samples: 's', out: 'o', answers: 2, temperature: 1 })

beforeAll(async () => {
  root = await temporaryFolder()
  await writeModel(join(root, 'model'))
  const images = await Promise.all([0, 1, 2, 3, 4].map((level) => writeImage(root, `${level}.png`, level)))
  const samples = Array.from({ length: 15 }, (_, index) =>
    makeSample(`s${index}`, { images: index === 7 ? [] : [images[Math.floor(index / 3)]], question: `Q${index}?` }),
  )
  await writeRecords(join(root, 'samples.jsonl'), samples)
})

beforeEach(async () => {
  folder = await temporaryFolder()
  asked = [[], [], []]
})

/** Answers at once, but for two questions that cannot be asked. */
const answerer = (rank: number, fail?: (id: string) => void): Answerer => ({
  about: { model: 'm', adapter: null, sampling: { dtype: 'f32' } },
  async *answer(questions, signal) {
    for await (const each of questions) {
      signal?.throwIfAborted()
      const { sampleId, prompt, seed } = each
      asked[rank].push(`${sampleId} ${seed}`)
      fail?.(sampleId)
      const common = { sampleId, prompt, images: shownIn(each) as string[], seed }
      yield (
        sampleId === 's4' || sampleId === 's11'
          ? { ...common, code: 'ERR_FIRE_DATA', reason: 'torn' }
          : { ...common, model: 'm', adapter: null, text: `so ${seed}`, tokens: [], sampling: { dtype: 'f32' } }
      ) as Outcome
      // Others have their turn too.
      await new Promise(setImmediate)
    }
  },
})

const run = (name: string, ranks: Ranks, by = answerer(ranks.rank), context: SampleContext = {}, more = {}) =>
  sampleAnswers(
    { samples: join(root, 'samples.jsonl'), out: join(folder, name), settings: { ...settings, ...more } },
    by,
    { ranks, ...context },
  )

/** Both files of a run. */
const written = async (name: string): Promise<string[]> =>
  Promise.all([name, failuresPath(name)].map((each) => readFile(join(folder, each), 'utf8')))

/** A rank stops when it has so many. */
function stopAfter(count: number): SampleContext {
  const stop = new AbortController()
  return { signal: stop.signal, onProgress: (done) => void (done >= count && stop.abort()) }
}

describe('sampleAnswers by ranks', () => {
  it.each([2, 3])('writes with %i ranks what one process writes', async (size) => {
    const whole = await run('one.jsonl', alone)
    asked = [[], [], []]
    const reports = await allRanks(size, (ranks) => run('all.jsonl', ranks))
    expect(await written('all.jsonl')).toEqual(await written('one.jsonl'))
    for (const report of reports) {
      expect(report).toEqual({ ...whole, out: reports[0].out, failures: failuresPath(reports[0].out) })
    }
    expect(await readdir(folder)).toHaveLength(4)
    expect(asked.flat().sort()).toEqual([...new Set(asked.flat())].sort())
    for (const mine of asked.slice(0, size)) expect(mine.length).toBeGreaterThanOrEqual(2)
    // Questions about one image are one rank's.
    for (const id of ['s0', 's1', 's2']) expect(asked[0].some((each) => each.startsWith(`${id} `))).toBe(true)
  })

  it('asks a model in any batch and on any rank with the same answers', async () => {
    const ask = async (name: string, ranks: Ranks, batchSize: number) => {
      const model = { model: join(root, 'model'), adapter: null, dtype: 'f32' as const, imageRoot: root }
      return run(name, ranks, await engineAnswerer({ ...model, batchSize, native: fakeNative() }, settings))
    }
    await ask('one.jsonl', alone, 4)
    await allRanks(3, (ranks) => ask('all.jsonl', ranks, 2 + ranks.rank))
    expect(await readFile(join(folder, 'all.jsonl'))).toEqual(await readFile(join(folder, 'one.jsonl')))
  })

  it('gives ranks nothing to do where there is less than they are', async () => {
    await run('one.jsonl', alone, undefined, {}, { limit: 1 })
    asked = [[], [], []]
    await allRanks(3, (ranks) => run('all.jsonl', ranks, undefined, {}, { limit: 1 }))
    expect(await readFile(join(folder, 'all.jsonl'))).toEqual(await readFile(join(folder, 'one.jsonl')))
    expect(asked.map(({ length }) => length)).toEqual([2, 0, 0])
  })

  it('keeps what is finished at a stop of one, and goes on with other numbers of ranks', async () => {
    await run('one.jsonl', alone)
    asked = [[], [], []]
    const stopped = await allRanks(3, (ranks) =>
      run('all.jsonl', ranks, undefined, ranks.rank === 1 ? stopAfter(2) : {}),
    )
    expect(stopped.map(({ interrupted }) => interrupted)).toEqual([true, true, true])
    expect(asked[0].length).toBeGreaterThan(2)
    const again = await allRanks(2, (ranks) => run('all.jsonl', ranks, undefined, ranks.rank === 0 ? stopAfter(9) : {}))
    expect(again.every(({ interrupted }) => interrupted)).toBe(true)
    const report = await run('all.jsonl', alone)
    expect(report).toMatchObject({ interrupted: false, answers: 26, failed: 4 })
    expect(await written('all.jsonl')).toEqual(await written('one.jsonl'))
    expect(await readdir(folder)).toHaveLength(4)
    // Nothing is asked twice but what was under way when a rank stopped.
    expect(asked.flat().length).toBeLessThanOrEqual(30 + 2)
  })

  it('goes on from what one process left', async () => {
    await run('one.jsonl', alone)
    await run('all.jsonl', alone, undefined, stopAfter(10))
    asked = [[], [], []]
    const [{ reused }] = await allRanks(3, (ranks) => run('all.jsonl', ranks))
    expect(reused).toBeGreaterThanOrEqual(8)
    expect(await written('all.jsonl')).toEqual(await written('one.jsonl'))
    expect(asked.flat().length).toBeLessThanOrEqual(21)
    // Done already: nobody asks again but for what has no answer.
    asked = [[], [], []]
    await allRanks(2, (ranks) => run('all.jsonl', ranks))
    expect(asked.flat().every((each) => /^s(4|11) /.test(each))).toBe(true)
  })

  it('ends on all ranks when one fails, and loses nothing', async () => {
    await run('one.jsonl', alone)
    asked = [[], [], []]
    const broken = (id: string): void => {
      if (id === 's10') throw new DataError('the disk of this rank is gone')
    }
    const settled = await onRanks(3, (ranks) => run('all.jsonl', ranks, answerer(ranks.rank, broken)))
    const reasons = settled.map((each) => (each.status === 'rejected' ? each.reason : null))
    expect(reasons.filter((each) => each instanceof DataError)).toHaveLength(1)
    const others = reasons.filter((each) => each instanceof RankError)
    expect(others).toHaveLength(2)
    expect(others[0].message).toMatch(/^Rank \d (.+) failed: the disk of this rank is gone/)
    const before = asked.flat().length
    await allRanks(2, (ranks) => run('all.jsonl', ranks))
    expect(await written('all.jsonl')).toEqual(await written('one.jsonl'))
    expect(asked.flat().length - before).toBeLessThan(30)
  })

  it('takes nothing of a part that the disk has spoilt', async () => {
    await run('one.jsonl', alone)
    const broken = (id: string): void => {
      if (id === 's14') throw new DataError('the disk of this rank is gone')
    }
    await onRanks(2, (ranks) => run('all.jsonl', ranks, answerer(ranks.rank, broken)))
    const parts = (await readdir(folder)).filter((name) => /\.rank-\d$/.test(name)).map((name) => join(folder, name))
    expect(parts).toHaveLength(2)
    await writeFile(parts[0], (await readFile(parts[0], 'utf8')).replaceAll('so ', 'no '))
    await writeFile(parts[1], (await readFile(parts[1], 'utf8')).replaceAll(/"found":.*\}/g, '"found":5}'))
    await run('all.jsonl', alone)
    expect(await written('all.jsonl')).toEqual(await written('one.jsonl'))
  })

  it('is refused before the first question where a rank does not see the output of rank 0', async () => {
    const ranks = ranksInMemory(2)
    const { gather } = ranks[1]
    ranks[1].gather = async (what, value) => {
      const said = await gather(what, value)
      return what.endsWith('locked') ? (said.map(() => 'another lock') as typeof said) : said
    }
    const start = Date.now()
    vi.spyOn(Date, 'now')
      .mockReturnValueOnce(start)
      .mockReturnValue(start + 61_000)
    const [, second] = await Promise.allSettled(
      ranks.map((each) => run('all.jsonl', each).catch((error) => each.fail(error).then(() => Promise.reject(error)))),
    )
    vi.restoreAllMocks()
    expect(second).toMatchObject({ reason: { message: expect.stringContaining('is not what rank 0 sees') } })
    expect(asked.flat()).toEqual([])
  })

  it('has its output for itself until it has ended', async () => {
    let second: Promise<unknown> | undefined
    const during = answerer(0, (id) => {
      if (id === 's12') second ??= run('held.jsonl', alone).catch((error) => error)
    })
    await run('held.jsonl', alone, during)
    expect(await second).toBeInstanceOf(LockedError)
  })

  it('refuses answers of other settings on every rank', async () => {
    await run('all.jsonl', alone)
    const settled = await onRanks(2, (ranks) => run('all.jsonl', ranks, undefined, {}, { seed: 5 }))
    expect(settled.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  })

  it('lets one rank ask a server, which keeps its budget', async () => {
    await run('one.jsonl', alone)
    asked = [[], [], []]
    await allRanks(3, (ranks) => run('all.jsonl', ranks, { ...answerer(ranks.rank), oneClient: true }))
    expect(asked.map(({ length }) => length)).toEqual([30, 0, 0])
    expect(await written('all.jsonl')).toEqual(await written('one.jsonl'))
  })
})
