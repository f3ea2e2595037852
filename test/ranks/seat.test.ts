/** Which GPU or which share of the threads each rank of a machine takes. */
import { availableParallelism } from 'node:os'
import { describe, expect, it } from 'vitest'
import type { Device } from '../../src/engine/engine.js'
import { ConfigError, NoDeviceError } from '../../src/errors.js'
import { alone } from '../../src/ranks/ranks.js'
import { meetNeighbours, seatOf } from '../../src/ranks/seat.js'
import { ranksInMemory } from '../fakes/ranks.js'

/** A machine that shows GPUs of these names; one that ends in - is too old. */
const showing = (...uuids: string[]) => ({
  gpuReport: () => ({
    gpus: uuids.map((uuid) => ({
      ...{ name: 'a card', capability: 'sm_90', kernels: 'sm_90a', totalBytes: 1, uuid },
      objection: uuid.endsWith('-') ? 'is too old' : '',
    })),
    ...{ reason: '', cublaslt: '' },
  }),
})

const asked = (device: Device, natives: ReturnType<typeof showing>[], threads = 0) =>
  ranksInMemory(natives.length).map((ranks) => seatOf({ device, threads }, ranks, natives[ranks.rank]))

const seats = (...asking: Parameters<typeof asked>) => Promise.all(asked(...asking))

const devices = async (device: Device, natives: ReturnType<typeof showing>[]) =>
  (await seats(device, natives)).map((seat) => seat.device)

const same = (size: number, ...uuids: string[]) => new Array(size).fill(showing(...uuids))

describe('the seat of a rank', () => {
  it('is the GPU of its turn among those that can be used', async () => {
    expect(await devices('cuda', same(3, 'a', 'b', 'c', 'd'))).toEqual(['cuda:0', 'cuda:1', 'cuda:2'])
    expect(await devices('auto', same(2, 'a', 'old-', 'c'))).toEqual(['cuda:0', 'cuda:2'])
  })

  it('is number 0 where each rank is shown a GPU of its own, and counted among those who share', async () => {
    expect(await devices('cuda', [showing('a'), showing('b'), showing('c')])).toEqual(['cuda:0', 'cuda:0', 'cuda:0'])
    const pairs = [showing('a', 'b'), showing('a', 'b'), showing('c', 'd'), showing('c', 'd')]
    expect(await devices('cuda', pairs)).toEqual(['cuda:0', 'cuda:1', 'cuda:0', 'cuda:1'])
  })

  it('is no GPU of another rank where they are shown different ones', async () => {
    expect(await devices('cuda', [showing('a', 'b'), showing('a', 'b', 'c'), showing('b', 'c')])).toEqual([
      'cuda:0',
      'cuda:1',
      'cuda:1',
    ])
    expect(await devices('cuda', [showing('a', 'b'), showing('b', 'a')])).toEqual(['cuda:0', 'cuda:0'])
  })

  it('is its part of the threads on a processor', async () => {
    const cores = availableParallelism()
    expect(await seats('auto', same(2))).toEqual(
      new Array(2).fill({ device: 'cpu', threads: Math.max(1, Math.floor(cores / 2)), localRanks: 2 }),
    )
    expect((await seats('cpu', same(64, 'a'))).map(({ threads }) => threads)).toEqual(new Array(64).fill(1))
    expect((await seats('cpu', same(2), 3)).map(({ threads }) => threads)).toEqual([3, 3])
  })

  it('is what the settings say for one rank alone', async () => {
    const settings = { device: 'cuda:1', threads: 0 } as const
    expect(await seatOf(settings, alone)).toEqual({ ...settings, localRanks: 1 })
  })

  it('is known without asking where neighbours have met before', async () => {
    const natives = same(2, 'a', 'b')
    const met = await Promise.all(ranksInMemory(2).map((ranks) => meetNeighbours(ranks, true, natives[ranks.rank])))
    const steps = await Promise.all(
      met.map((neighbours) => seatOf({ device: 'cuda', threads: 0 }, { ...alone, neighbours })),
    )
    expect(steps.map(({ device }) => device)).toEqual(['cuda:0', 'cuda:1'])
  })

  it.each([
    [
      'one GPU by number',
      'cuda:1',
      same(2, 'a', 'b'),
      ConfigError,
      /device is cuda:1, and 2 ranks run on .*: all would/,
    ],
    ['more ranks than GPUs', 'cuda', same(2, 'a'), NoDeviceError, /2 ranks run on .*, which shows them 1 GPU that can/],
    ['GPUs too old', 'cuda', same(2, 'a', 'b-'), NoDeviceError, /2 ranks run on .*, which shows them 1 GPU that can/],
  ] as const)('is refused where ranks would share a GPU: %s', async (_, device, natives, type, message) => {
    const settled = await Promise.allSettled(asked(device, natives))
    expect(settled.some(({ status }) => status === 'rejected')).toBe(true)
    for (const each of settled) {
      if (each.status === 'fulfilled') continue
      expect(each.reason).toBeInstanceOf(type)
      expect(each.reason.message).toMatch(message)
    }
  })
})
