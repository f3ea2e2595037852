/** What is said of several ranks before they run, and beside their numbers. */
import { parseHTML } from 'linkedom'
import { describe, expect, it } from 'vitest'
import type { RankRow } from '../../src/train/metrics.js'
import { rankMeans, ranksSection } from '../../src/train/page/ranks-section.js'
import { planTraining, rankTraffic } from '../../src/train/plan.js'
import { fakeNative, writeWorld } from '../fakes/world.js'
import { configOf } from './fake-runs.js'

describe('a plan by rank', () => {
  it('counts what a ring moves, and the parts of whole layers that are summed', () => {
    expect(rankTraffic(2, 1000, 10)).toEqual({ ranks: 2, bytesPerStep: 4000, buckets: 1 })
    expect(rankTraffic(8, 1000, 10).bytesPerStep).toBe(7000)
    // 36 layers of 3.67 M parameters, 14 MiB each: 5 of them make 64 MiB.
    expect(rankTraffic(8, 132e6, 36)).toEqual({ ranks: 8, bytesPerStep: 924e6, buckets: 8 })
    // A layer is never cut.
    expect(rankTraffic(2, 1e9, 2).buckets).toBe(2)
  })

  it('has the largest share of a step instead of the step', async () => {
    const world = await writeWorld(12)
    const config = configOf(world, 'plan', { batchSize: 12, microBatchSize: 12 })
    const plan = (ranks?: number) => planTraining(config, { native: fakeNative(), ranks })
    const [one, three] = [await plan(), await plan(3)]
    expect(one.ranks).toBeNull()
    expect(three.ranks).toEqual({ ranks: 3, bytesPerStep: 21, buckets: 1 })
    expect(three.tokens).toBe(one.tokens)
    expect(three.memory.activations).toBeLessThan(one.memory.activations / 2)
    await expect(plan(0)).rejects.toThrow(/positive integer for ranks/)
  })
})

describe('the ranks on the page of a run', () => {
  const row = (step: number, rank: number, engine: number, waited: number): RankRow => ({
    ...{ step, rank, host: `node<${rank}>`, pairs: 2 + rank, rows: 100 * (rank + 1), seconds: engine + 0.1 + waited },
    ...{ engine_time: engine, data_time: 0.1, ranks_time: waited, peak_host_bytes: 2 ** 20 * (rank + 1) },
  })
  const steps = [1, 2].map((step) => [row(step, 0, 1, 2), row(step, 1, 3, 0), row(step, 2, 1.5, 1.5)])

  it('are compared in means of a step, the slowest named', () => {
    expect(rankMeans(steps)[1]).toMatchObject({ rank: 1, engine: 3, images: 0.1, ranks: 0, pairs: 3, rows: 200 })
    const { document } = parseHTML(`${ranksSection(steps)}`)
    expect(document.querySelector('p')?.textContent?.replace(/\s+/g, ' ')).toBe(
      'Over the last 2 steps rank 1 was the slowest: at work for 3.1 s of a step, 60.3 % longer than the mean. Waiting for other ranks took 37.6 % of the time of all.',
    )
    expect([...document.querySelectorAll('tr.slowest td')].map(({ textContent }) => textContent)).toEqual([
      '1',
      'node<1>',
      '3.0',
      '200',
      '3.00',
      '0.100',
      '0.000',
      '2',
    ])
    expect(ranksSection([])).toBeUndefined()
  })
})
