/** Several ranks that train together: N calls of `train` in one process, on fake engines whose group really sums. */
import { existsSync } from 'node:fs'
import { cp, readdir, readFile, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ConfigError, type FireError, RankError } from '../../src/errors.js'
import type { Ranks } from '../../src/ranks/ranks.js'
import type { RankRow } from '../../src/train/metrics.js'
import type { TrainConfig, TrainConfigInput } from '../../src/train/settings.js'
import { type TrainOptions, train } from '../../src/train/train.js'
import type { TrainReport } from '../../src/train/train-report.js'
import { ranksInMemory } from '../fakes/ranks.js'
import { fakeNative, type World, writeWorld } from '../fakes/world.js'
import { adapterOf, configOf, run } from './fake-runs.js'
import { repeatableRows } from './rows.js'

let world: World

beforeEach(async () => {
  world = await writeWorld(13)
})

afterEach(() => {
  vi.restoreAllMocks()
  delete process.env.FIRE_FAKE_NAN
  delete process.env.FIRE_FAKE_DELAY_MS
})

const config = (output: string, changes: Partial<TrainConfigInput> = {}) =>
  configOf(world, output, { report: false, tensorboard: false, ...changes })

type OfRank<T> = (rank: number) => T

/** What each rank of a run came to. */
function together(
  ranks: Ranks[],
  settings: TrainConfig | OfRank<TrainConfig>,
  options: OfRank<TrainOptions> = () => ({}),
): Promise<PromiseSettledResult<TrainReport>[]> {
  const native = fakeNative()
  const of = typeof settings === 'function' ? settings : () => settings
  return Promise.allSettled(ranks.map((each, rank) => train(of(rank), { native, ranks: each, ...options(rank) })))
}

async function reports(...run: Parameters<typeof together>): Promise<TrainReport[]> {
  return (await together(...run)).map((result) => {
    if (result.status === 'rejected') throw result.reason
    return result.value
  })
}

async function errors(...run: Parameters<typeof together>): Promise<FireError[]> {
  return (await together(...run)).map((result) => {
    if (result.status === 'fulfilled') expect.fail('it ended well')
    return result.reason
  })
}

const parametersOf = async (settings: TrainConfig) => JSON.parse(await adapterOf(settings)) as number[]

async function rankRows({ output }: TrainConfig): Promise<RankRow[]> {
  const text = await readFile(join(output, 'ranks.jsonl'), 'utf8')
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as RankRow)
}

/** Sums over ranks are made in another order than those over micro-batches: a few roundings of float64. */
async function expectSameRun(one: TrainConfig, other: TrainConfig): Promise<void> {
  const [rows, others] = [await repeatableRows(one), await repeatableRows(other)]
  expect(rows.length).toBe(others.length)
  for (const [index, row] of rows.entries()) {
    expect(Object.keys(row)).toEqual(Object.keys(others[index]))
    for (const [key, value] of Object.entries(row)) {
      if (key !== 'wall_time') expect(others[index][key], `${key} of row ${index}`).toBeCloseTo(value, 10)
    }
  }
  const parameters = await parametersOf(other)
  for (const [index, value] of (await parametersOf(one)).entries()) expect(parameters[index]).toBeCloseTo(value, 10)
}

describe('several ranks', () => {
  it.each([
    ['2, 3 and 4 of them, steps of 4 pairs and a last one of 1', [2, 3, 4], { batchSize: 4 }, 'random'],
    ['fewer pairs than ranks', [3], { batchSize: 2 }, 'random'],
    ['one pair a step', [2], { batchSize: 1, epochs: 1 }, 'random'],
    ['all pairs at once', [4], { batchSize: 13 }, 'random'],
    ['pairs by image', [3], { batchSize: 6 }, 'image'],
  ] as const)('take the steps that one takes with more accumulation: %s', async (_, ranks, sizes, order) => {
    const data = { train: world.pairs, order }
    const changes = { ...sizes, data, microBatchSize: 1, checkpoint: { every: 2 } }
    const alone = config('alone', changes)
    await run(alone)
    for (const size of ranks) {
      const several = config(`ranks-${size}`, changes)
      const [report, ...others] = await reports(ranksInMemory(size), several)
      expect(report).toMatchObject({ interrupted: false, ranks: size })
      for (const other of others) expect(other).toEqual(JSON.parse(JSON.stringify(report)))
      await expectSameRun(alone, several)
    }
  })

  it('evaluate held-out pairs to the bits of one rank, stop early where it does, and keep the same best', async () => {
    const changes = (objective: 'fire' | 'dpo') => ({
      data: { train: world.pairs, evalShare: 0.4 },
      evalEvery: 2,
      evalSamples: 1,
      epochs: 4,
      objective: { name: objective },
      // The training of both is then the same bits, too.
      optimizer: { lr: 0 },
      checkpoint: { every: 3, best: 'eval_rewards/accuracies' as const },
      earlyStopping: { patience: 2, metric: 'eval_loss' as const, minDelta: 0.001 },
    })
    for (const objective of ['fire', 'dpo'] as const) {
      const alone = config(`alone-${objective}`, changes(objective))
      const one = await run(alone)
      const evaluations = async (settings: TrainConfig) =>
        (await repeatableRows(settings))
          .filter((row) => row.eval_loss !== undefined)
          .map(({ wall_time: _, eval_samples_per_second: __, ...row }) => row)
      for (const size of [3]) {
        const several = config(`several-${objective}-${size}`, changes(objective))
        const [report] = await reports(ranksInMemory(size), several)
        expect(report.stoppedEarly).toBe(one.stoppedEarly)
        expect(report.best?.step).toBe(one.best?.step)
        expect(await evaluations(several)).toEqual(await evaluations(alone))
        const samples = (settings: TrainConfig) => readdir(join(settings.output, 'samples'))
        expect(await samples(several)).toEqual(await samples(alone))
      }
    }
  })

  it('say of each step what each of them did, in ranks.jsonl and on the page', async () => {
    const settings = config('said', { batchSize: 5, report: true })
    await reports(ranksInMemory(3), settings)
    const rows = await rankRows(settings)
    const steps = await repeatableRows(settings)
    expect(rows.map(({ step, rank }) => [step, rank])).toEqual(
      steps.flatMap(({ step }) => [0, 1, 2].map((rank) => [step, rank])),
    )
    for (const [index, { num_tokens: tokens }] of steps.entries()) {
      const ofStep = rows.slice(3 * index, 3 * index + 3)
      const before = index === 0 ? 0 : steps[index - 1].num_tokens
      expect(ofStep.reduce((sum, row) => sum + row.rows, 0)).toBe(tokens - before)
      expect(ofStep.reduce((sum, row) => sum + row.pairs, 0)).toBe(index % 3 === 2 ? 3 : 5)
      for (const row of ofStep) {
        expect(row.engine_time + row.data_time + row.ranks_time).toBeCloseTo(row.seconds, 9)
        expect(row.host).toBe(hostname())
      }
    }
    const page = await readFile(join(settings.output, 'report.html'), 'utf8')
    expect(page).toMatch(/<h2>Ranks<\/h2>\s*<p>Over the last 6 steps rank [012] was the slowest/)
    await run(config('by one'))
    expect(existsSync(join(world.root, 'by one', 'ranks.jsonl'))).toBe(false)
  })

  it('write what one rank writes, from rank 0 alone', async () => {
    const alone = config('files-of-one')
    await run(alone)
    const several = config('files-of-several')
    const said: string[] = []
    await reports(ranksInMemory(2), several, (rank) => ({
      onLog: (line) => said.push(`${rank}: ${line}`),
      onProgress: ({ step }) => said.push(`${rank}: step ${step}`),
    }))
    const files = (await readdir(several.output)).filter((name) => name !== 'ranks.jsonl')
    expect(files).toEqual(await readdir(alone.output))
    expect(said.filter((line) => !line.startsWith('0: '))).toEqual([])
    expect(said).toContain('0: step 8')
  })
})

describe('a resume of several ranks', () => {
  async function interrupted(output: string, size: number, changes: Partial<TrainConfigInput> = {}) {
    const settings = config(output, changes)
    const stop = new AbortController()
    await reports(ranksInMemory(size), settings, () => ({
      stop: stop.signal,
      onProgress: ({ step }) => step === 3 && stop.abort(),
    }))
    return settings
  }

  it('is bit-exact with the same number, and ranks.jsonl has each step once', async () => {
    const whole = config('whole')
    await reports(ranksInMemory(2), whole)
    const parts = await interrupted('parts', 2)
    // What a kill would leave behind the checkpoint.
    await writeFile(join(parts.output, 'ranks.jsonl'), '{"step": 4, "ra', { flag: 'a' })
    const said: string[] = []
    const [report] = await reports(ranksInMemory(2), parts, () => ({ resume: true, onLog: (line) => said.push(line) }))
    expect(report).toMatchObject({ step: 8, resumedFrom: 3 })
    expect(said.join('\n')).toMatch(/resuming after step 3 from \S+$/m)
    expect(await adapterOf(parts)).toBe(await adapterOf(whole))
    const rows = async (settings: TrainConfig) =>
      (await repeatableRows(settings)).map(({ wall_time: _, ...row }) => row)
    expect(await rows(parts)).toEqual(await rows(whole))
    expect((await rankRows(parts)).map(({ step, rank }) => [step, rank])).toEqual(
      (await rankRows(whole)).map(({ step, rank }) => [step, rank]),
    )
  })

  it.each([
    [2, 3],
    [3, 1],
    [1, 2],
  ])('of %i ranks with %i is the same up to rounding, and says so', async (before, after) => {
    const whole = config('whole')
    await run(whole)
    const parts = await interrupted('parts', before)
    const said: string[] = []
    await reports(ranksInMemory(after), parts, () => ({ resume: true, onLog: (line) => said.push(line) }))
    expect(said.join('\n')).toContain(
      `; its steps were taken by ${before} ${before === 1 ? 'rank' : 'ranks'}, the rest by ${after}: it equals theirs up to rounding, not bit for bit`,
    )
    const state = join(parts.output, 'checkpoints', 'step-8', 'trainer.json')
    expect(JSON.parse(await readFile(state, 'utf8')).ranks).toBe(after)
    await expectSameRun(whole, parts)
  })

  it('is refused where a rank does not see the checkpoint of rank 0', async () => {
    const parts = await interrupted('unseen', 2)
    const ranks = ranksInMemory(2)
    // What a disk of its own would show rank 1 at that place.
    const copy = `${parts.output}-elsewhere`
    await cp(parts.output, copy, { recursive: true })
    await writeFile(join(copy, 'checkpoints', 'step-3', 'trainer.json'), '{}')
    const gather = ranks[1].gather
    ranks[1].gather = async (what, value) => {
      const said = await gather(what, value)
      if (what !== 'checkpoint') return said
      return said.map((named) => named && { ...named, path: join(copy, 'checkpoints', 'step-3') }) as typeof said
    }
    const [first, second] = await errors(ranks, parts, () => ({ resume: true }))
    expect(second).toBeInstanceOf(RankError)
    expect(second.message).toMatch(/elsewhere\/checkpoints\/step-3\/trainer\.json is another file on this machine/)
    expect(first.message).toMatch(/^Rank 1 \(memory, pid 1\) failed: .*is another file on this machine/)
  })
})

describe('ranks that were not started alike', () => {
  it.each([
    ['settings', { optimizer: { lr: 0.06 } }, /optimizer\.lr is 0\.05 on rank 0, 0\.06 on rank 1/],
    ['seeds', { seed: 7 }, /seed is 42 on rank 0, 7 on rank 1/],
    ['folders', { output: '/elsewhere' }, /output is "\S+" on rank 0, "\/elsewhere" on rank 1/],
  ])('are refused, with what differs: %s', async (_, changes, message) => {
    const all = await errors(ranksInMemory(2), (rank) => config('differ', rank === 1 ? changes : {}))
    for (const error of all) {
      expect(error).toBeInstanceOf(RankError)
      expect(error.message).toMatch(message)
    }
    expect(existsSync(join(world.root, 'differ'))).toBe(false)
  })

  it('are refused for other pairs at the same place, and for others that can be used', async () => {
    const other = await writeWorld(12)
    const named = (rank: number) => config('data', rank === 1 ? { data: { train: other.pairs } } : {})
    for (const error of await errors(ranksInMemory(2), named)) expect(error.message).toMatch(/dataSha256 is /)
  })
})

describe('a failure of one rank', () => {
  const stages = ['the run: hash', 'checkpoint', 'places', 'the pairs: hash', 'step 1', 'update of step 3', 'report']

  it.each(stages)('ends all of them with its cause, and leaves whole checkpoints: at %s', async (stage) => {
    for (const failing of [0, 1]) {
      const settings = config(`fails-${failing}`, { checkpoint: { every: 1 }, epochs: 1 })
      const ranks = ranksInMemory(2, (rank, what) => {
        if (rank === failing && what === stage) throw new ConfigError('the disk of this rank burns', { hint: 'Run.' })
      })
      const all = await errors(ranks, settings)
      for (const [rank, error] of all.entries()) {
        const message = 'the disk of this rank burns'
        expect(error.message).toBe(
          rank === failing ? message : `Rank ${failing} (memory, pid ${failing}) failed: ${message}`,
        )
        expect(error).toBeInstanceOf(rank === failing ? ConfigError : RankError)
      }
      if (!existsSync(join(settings.output, 'checkpoints'))) continue
      const resumed = await reports(ranksInMemory(2), settings, () => ({ resume: true }))
      expect(resumed[0]).toMatchObject({ step: 4, interrupted: false })
    }
  })

  it('is a loss that is not finite, with step and pair, on every rank', async () => {
    process.env.FIRE_FAKE_NAN = 'pair-6'
    const settings = config('nan', { checkpoint: { every: 1 }, report: true })
    const all = await errors(ranksInMemory(3), settings)
    for (const error of all) expect(error.message).toMatch(/Step \d: the loss is not a finite number for pair.*pair-6/)
    expect(all.filter((error) => !(error instanceof RankError))).toHaveLength(1)
    expect(await readFile(join(settings.output, 'report.html'), 'utf8')).toMatch(
      /Failed[\s\S]*the loss is not a finite/,
    )
  })

  it('is an abort by its signal', async () => {
    const native = fakeNative()
    const controller = new AbortController()
    const settings = config('aborted')
    const ranks = ranksInMemory(2)
    const all = await Promise.allSettled(
      ranks.map((each, rank) =>
        train(settings, {
          ...{ native, ranks: each },
          ...(rank === 0 && { onProgress: () => controller.abort(new Error('enough')) }),
          ...(rank === 1 && { signal: controller.signal }),
        }),
      ),
    )
    expect(all.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    expect(all[1]).toMatchObject({ reason: { code: 'ERR_FIRE_ABORTED' } })
    expect(all[0]).toMatchObject({ reason: { code: 'ERR_FIRE_RANKS', detail: { rank: 1, code: 'ERR_FIRE_ABORTED' } } })
    for (const engine of native.engines) expect(engine.closed).toBe(true)
  })

  it('is an adapter that is no longer the same', async () => {
    const settings = config('drift')
    const ranks = ranksInMemory(2)
    const { gather } = ranks[1]
    ranks[1].gather = (what, value) => gather(what, what === 'update of step 3' ? { ...value, gradNorm: 0.5 } : value)
    for (const error of await errors(ranks, settings)) {
      expect(error.message).toMatch(/Step 3: the ranks drifted apart: rank 1 has gradient norm 0\.5, rank 0 has 0\.\d+/)
    }
  })

  it('is a step that one took and another one gave up, which the first alone finds out', async () => {
    const ranks = ranksInMemory(2)
    const { gather } = ranks[1]
    ranks[1].gather = async (what, value) => {
      if (what !== 'step 3') return gather(what, value)
      // Meanwhile both have added up their gradients.
      await sleep(200)
      const [first] = await gather(what, null as typeof value)
      return [first, value]
    }
    const [first, second] = await errors(ranks, config('taken'))
    expect(first.message).toMatch(/^Step 3: the ranks drifted apart: rank 0 took it, and another one gave it up/)
    expect(first.detail).toEqual({ step: 3, rank: 0 })
    expect(second.message).toMatch(/^Rank 0 \(.+\) failed: Step 3: the ranks drifted apart/)
  })
})

describe('a stop of one rank', () => {
  it.each([0, 2])('is a stop of all after the same step: rank %i', async (stopping) => {
    const settings = config('stopped')
    const stop = new AbortController()
    const all = await reports(
      ranksInMemory(3, (rank, what) => {
        if (rank === stopping && what === 'step 4') stop.abort()
      }),
      settings,
      (rank) => (rank === stopping ? { stop: stop.signal } : {}),
    )
    for (const report of all) expect(report).toMatchObject({ step: 4, interrupted: true })
    const whole = config('whole')
    await reports(ranksInMemory(3), whole)
    await reports(ranksInMemory(3), settings, () => ({ resume: true }))
    expect(await adapterOf(settings)).toBe(await adapterOf(whole))
  })

  it('between two steps takes back what the others have begun', async () => {
    const settings = config('between')
    const stop = new AbortController()
    const ranks = ranksInMemory(3)
    const { gather } = ranks[2]
    ranks[2].gather = async (what, value) => {
      const said = await gather(what, value)
      if (what === 'update of step 5') stop.abort()
      return said
    }
    const all = await reports(ranks, settings, (rank) => (rank === 2 ? { stop: stop.signal } : {}))
    for (const report of all) expect(report).toMatchObject({ step: 5, interrupted: true })
    const whole = config('whole')
    await reports(ranksInMemory(3), whole)
    await reports(ranksInMemory(3), settings, () => ({ resume: true }))
    expect(await adapterOf(settings)).toBe(await adapterOf(whole))
  })

  it('gives up a step that takes long, on all of them', async () => {
    const settings = config('impatient')
    const stop = new AbortController()
    const ranks = ranksInMemory(2, (rank, what) => {
      if (what !== 'update of step 2') return
      process.env.FIRE_FAKE_DELAY_MS = '2500'
      if (rank === 1) setTimeout(() => stop.abort(), 100)
    })
    const running = reports(ranks, settings, (rank) => (rank === 1 ? { stop: stop.signal } : {}))
    const all = await running.finally(() => delete process.env.FIRE_FAKE_DELAY_MS)
    for (const report of all) expect(report).toMatchObject({ step: 2, interrupted: true })
    const whole = config('whole')
    await reports(ranksInMemory(2), whole)
    await reports(ranksInMemory(2), settings, () => ({ resume: true }))
    expect(await adapterOf(settings)).toBe(await adapterOf(whole))
  })
})
