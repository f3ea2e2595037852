/** Hostile training: mutated configurations and pair files end in a run or in a typed error that names the place. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Draws } from '../../src/bench/random.js'
import type { Pair } from '../../src/data/records.js'
import { FireError, InternalError } from '../../src/errors.js'
import { loadTrainConfig } from '../../src/train/config.js'
import { train } from '../../src/train/train.js'
import { fakeNative, temporaryFolder, type World, writeWorld } from '../fakes/world.js'
import { drawsOf, pick, rounds, timeFor } from './campaign.js'

let world: World

beforeAll(async () => {
  world = await writeWorld(4)
})

/** What no setting and no field expects. */
const oddities = [
  ...[
    '',
    ' ',
    'NaN',
    '1e999',
    '\ud800',
    'a\u0000b',
    '\u202e\u0007',
    'x'.repeat(20_000),
    '🫁'.repeat(500),
    'é'.normalize('NFD'),
  ],
  ...[0, -1, 0.5, 1e308, -1e308, 5e-324, 2 ** 53, 1e38, true, false, null, [], {}, [[]], [1, 2], { name: 'fire' }],
]

type Tree = Record<string, unknown>

/** Replaces, adds or removes a value at a random place of a tree. */
function mutate(tree: unknown, draws: Draws): void {
  let node = tree as Tree
  for (;;) {
    const keys = Object.keys(node)
    const key = keys.length > 0 ? pick(draws, keys) : 'extra'
    const child = node[key]
    if (typeof child === 'object' && child !== null && draws.integers(1, 0, 3)[0] > 0) {
      node = child as Tree
      continue
    }
    const kind = draws.integers(1, 0, 8)[0]
    if (kind === 0) delete node[key]
    else if (kind === 1) node[`${key}s`] = child
    else if (typeof child === 'number' && kind < 5) node[key] = child + pick(draws, [-1, 1, 0.5, 1000, -1000])
    else if (typeof child === 'string' && kind < 5) node[key] = cut(child, draws)
    else node[key] = structuredClone(pick<unknown>(draws, oddities))
    return
  }
}

function cut(text: string, draws: Draws): string {
  const at = draws.integers(1, 0, text.length + 1)[0]
  return pick(draws, [text.slice(0, at), text.slice(at), `${text.slice(0, at)}\ud83e${text.slice(at)}`, text + text])
}

/** A line that is broken as bytes, not as JSON. */
function breakLine(line: string, draws: Draws): string {
  const at = draws.integers(1, 0, line.length)[0]
  return pick(draws, [
    line.slice(0, at),
    line.replace('"id"', '"weight": NaN, "id"'),
    line.replace('"id"', '"weight": 1e999, "id"'),
    line.replace('"id"', '"weight": -0.5, "id"'),
    `${line.slice(0, at)}\u0000${line.slice(at)}`,
    `${'['.repeat(20_000)}${line}`,
    line + line,
  ])
}

/** The record is well formed, and its image is not there, another one, or of another size. */
function hurtImage({ images }: Pair, draws: Draws): void {
  const changes = [{ path: 'gone.png' }, { path: '/' }, { sha256: '0'.repeat(64) }, { width: 600, height: 2 }]
  Object.assign(images[0], pick<object>(draws, changes))
}

/** A run, or the typed error that it ended with. */
async function outcomeOf(run: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await run()
    return undefined
  } catch (error) {
    expect(error, String((error as Error).stack)).toBeInstanceOf(FireError)
    expect(error, String((error as Error).stack)).not.toBeInstanceOf(InternalError)
    return (error as Error).message
  }
}

const short = rounds(40, 1500)

describe('hostile training', () => {
  it('takes or refuses mutated configurations', { timeout: timeFor(30_000) }, async () => {
    const outcomes = { ran: 0, refused: 0 }
    for (let round = 0; round < short; round += 1) {
      const draws = drawsOf('train-config', round)
      const folder = await temporaryFolder()
      const config: Tree = {
        ...{ model: world.model, data: { train: world.pairs }, output: join(folder, 'run'), seed: 1, batchSize: 2 },
        lora: { rank: 2, alpha: 4, dropout: 0.1, rslora: false, targets: ['q_proj'] },
        objective: { name: 'fire', beta: 0.1, alpha: 0.01, gamma: 0.1, lambda: 0.5, klReduction: 'sum' },
        optimizer: { lr: 1e-3, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1, maxGradNorm: 1 },
        schedule: { name: 'cosine', warmupSteps: 1 },
        ...{ epochs: 1, maxSteps: 2, checkpoint: { every: 1, keep: 1 }, imageCache: 4, beyondContext: false },
      }
      mutate(config, draws)
      const path = join(folder, 'train.yaml')
      await writeFile(path, JSON.stringify(config))
      // A path or a number of steps that a mutation made is not this test's to follow.
      const message = await outcomeOf(async () => {
        const settings = await loadTrainConfig(path)
        const { model, data } = settings
        const here = model === world.model && data.train === world.pairs && settings.output.startsWith(folder)
        const safe = { ...settings, maxSteps: 2, ...(here ? {} : { output: join(folder, 'run') }) }
        return train(safe, { native: fakeNative() })
      })
      outcomes[message === undefined ? 'ran' : 'refused'] += 1
    }
    expect(outcomes.ran).toBeGreaterThan(0)
    expect(outcomes.refused).toBeGreaterThan(0)
  })

  it('takes, leaves out or refuses mutated pairs, with their place', { timeout: timeFor(30_000) }, async () => {
    const outcomes = { ran: 0, refused: 0, leftOut: 0 }
    for (let round = 0; round < short; round += 1) {
      const draws = drawsOf('train-pairs', round)
      const folder = await temporaryFolder()
      const records = structuredClone(world.records).map((record) => ({
        ...record,
        weight: pick(draws, [0, 1e-300, 0.2, 1, 3]),
        images: record.images.map((image) => ({ ...image, path: join(world.root, image.path) })),
        corrupted: undefined,
      })) as unknown as Pair[]
      const victim = draws.integers(1, 0, records.length)[0]
      const kind = pick(draws, ['value', 'value', 'bytes', 'image'])
      if (kind === 'value') mutate(records[victim], draws)
      if (kind === 'image') hurtImage(records[victim], draws)
      const lines = records.map((record) => JSON.stringify(record))
      if (kind === 'bytes') lines[victim] = breakLine(lines[victim], draws)
      const path = join(folder, 'pairs.jsonl')
      await writeFile(path, `${lines.join('\n')}\n`)
      const output = join(folder, 'run')
      const file = join(folder, 'train.yaml')
      await writeFile(
        file,
        JSON.stringify({ model: world.model, data: { train: path }, output, batchSize: 2, maxSteps: 2 }),
      )
      let failed = 0
      const message = await outcomeOf(async () => {
        const report = await train(await loadTrainConfig(file), { native: fakeNative() })
        failed = report.pairs.failed
      })
      if (message !== undefined) expect(message).toMatch(/pairs\.jsonl:\d+|has no pair|record |pair\(s\)|step \d/i)
      outcomes[message !== undefined ? 'refused' : failed > 0 ? 'leftOut' : 'ran'] += 1
    }
    for (const count of Object.values(outcomes)) expect(count).toBeGreaterThan(0)
  })
})
