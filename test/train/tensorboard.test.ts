import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { MetricsRow } from '../../src/train/metrics.js'
import { EventFile, tagOf } from '../../src/train/tensorboard.js'
import { temporaryFolder } from '../fakes/world.js'
import { eventsOf, readEvents } from './events.js'

const fixture = (name: string) => fileURLToPath(new URL(`tensorboard/${name}`, import.meta.url))

/** Steps beyond one byte, values that float32 rounds, a row that has its held-out numbers alone. */
const rows: MetricsRow[] = [
  { step: 1, epoch: 0.25, loss: 0.7, 'rewards/accuracies': 0, wall_time: 1_800_000_001.5 },
  { step: 300, epoch: 1.5, loss: -1e-30, 'rewards/margins': -3.25, num_tokens: 123_456_789, wall_time: 1_800_000_002 },
  { step: 300, eval_loss: 0.5, 'eval_rewards/accuracies': 0.75, wall_time: 1_800_000_003 } as unknown as MetricsRow,
  { step: 5_000_000_000, epoch: 2, loss: 1e38, wall_time: 1_800_000_004 },
]

async function written(folder: string, before: readonly MetricsRow[], after: readonly MetricsRow[]): Promise<string> {
  const file = await EventFile.open(folder, before)
  for (const row of after) await file.append(row)
  await file.close()
  return folder
}

afterEach(() => {
  vi.useRealTimers()
})

describe('the event file', () => {
  it('has the bytes that TensorBoard read, wherever the rows came from', async () => {
    vi.useFakeTimers({ now: 1_800_000_000_000, toFake: ['Date'] })
    for (const kept of [0, 2, 4]) {
      const folder = await written(await temporaryFolder(), rows.slice(0, kept), rows.slice(kept))
      const [name] = await readdir(folder)
      const bytes = await readFile(join(folder, name))
      if (process.env.FIRE_WRITE_EVENTS) await writeFile(fixture('events.out.tfevents.fixture'), bytes)
      expect(bytes).toEqual(await readFile(fixture('events.out.tfevents.fixture')))
    }
  })

  it('says what TensorBoard read in it', async () => {
    const events = readEvents(await readFile(fixture('events.out.tfevents.fixture')))
    const read = JSON.parse(await readFile(fixture('read.json'), 'utf8'))
    expect(events.map(({ wallTime, step }) => ({ wallTime, step }))).toEqual(read.events)
    expect(events[0].fileVersion).toBe('brain.Event:2')
    expect(events[1].session).toBe(1)
    const scalars: Record<string, [number, number, number][]> = {}
    for (const { wallTime, step, scalars: values = {} } of events)
      for (const [tag, value] of Object.entries(values))
        scalars[tag] = [...(scalars[tag] ?? []), [wallTime, step, value]]
    expect(scalars).toEqual(read.scalars)
  })

  it('takes the place of those of earlier calls', async () => {
    vi.useFakeTimers({ now: 1_800_000_000_000, toFake: ['Date'] })
    const folder = await written(await temporaryFolder(), [], rows)
    vi.setSystemTime(1_800_000_060_000)
    await written(folder, rows.slice(0, 1), [{ ...rows[1], step: 2 }])
    const events = await eventsOf(folder)
    expect(events.flatMap(({ step, scalars }) => (scalars ? [step] : []))).toEqual([1, 2])
    vi.setSystemTime(1_800_000_120_000)
    await written(folder, rows, [])
    expect(await readdir(folder)).toHaveLength(2)
  })

  it("has the tags of Hugging Face's trainers", () => {
    expect(['loss', 'rewards/margins', 'eval_loss', 'eval_rewards/margins'].map(tagOf)).toEqual([
      ...['train/loss', 'train/rewards/margins', 'eval/loss', 'eval/rewards/margins'],
    ])
  })
})
