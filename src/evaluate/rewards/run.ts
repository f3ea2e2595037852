/**
 * Rewards of pairs under every adapter of an evaluation. A study gives held-out pairs, the same for all arms, and those that the arm
 * was trained on; it reads rewards.jsonl.
 */
import { dirname, join } from 'node:path'
import { sha256 } from '../../data/files.js'
import { writeJsonl } from '../../data/jsonl.js'
import type { Sample } from '../../data/records.js'
import type { Provider } from '../../pairs/index.js'
import { alone } from '../../ranks/ranks.js'
import { markOf } from '../../sample/engine.js'
import { neighbours, splitWork } from '../../stage/split.js'
import type { StageContext } from '../../stage/stage.js'
import { Chat } from '../../text/chat.js'
import { pathFrom } from '../about.js'
import { evaluationFiles } from '../files.js'
import type { Models } from '../models.js'
import type { RewardRecord } from '../records.js'
import type { AnsweringModel, AnsweringSystem, Asking } from '../systems.js'
import { type RewardItem, readRewardItems } from './items.js'
import { imageIdOf, measureRewards, type Rewarded } from './measure.js'
import { type RewardResults, rewardResults } from './summary.js'

/** Whose rewards are measured. */
export interface RewardRequest {
  /** Pair records; each file has its own numbers. */
  files: readonly string[]
  /** Pairs of each file, evenly spread over it; default: all. */
  limit?: number
  /** Makes references wrong, for the crossed probe. */
  provider: Provider
}

interface Measured {
  rewards?: RewardRequest
  systems: readonly AnsweringSystem[]
  out: string
  engine: Asking['engine']
  seed: number
  /** SHA-256 of the images that were trained on; null where they are not known. */
  trained: ReadonlySet<string> | null
}

/** A pair under an adapter. */
interface Asked {
  system: AnsweringModel
  /** The file of pairs. */
  path: string
  item: RewardItem
}

/**
 * Writes rewards.jsonl. @returns the numbers of each adapter on each file; none where nothing was asked for, and on all ranks but the
 * first.
 */
export async function rewardsOf(
  measured: Measured,
  samples: readonly Sample[],
  models: Models,
  { signal, progress, ranks = alone }: StageContext,
): Promise<RewardResults[]> {
  const { rewards, systems, out, engine, seed, trained } = measured
  const asked: Asked[] = []
  const adapters = systems.filter((each) => each.kind === 'model').filter(({ adapter }) => adapter !== null)
  const marks = new Map<string, string>()
  for (const system of rewards ? adapters : []) {
    const { files, provider, limit } = rewards as RewardRequest
    marks.set(system.name, await markOf(system.model, system.adapter))
    for (const path of files) {
      const items = await readRewardItems(path, samples, provider, { seed, limit })
      asked.push(...items.map((item) => ({ system, path, item })))
    }
  }
  const records: RewardRecord[] = []
  const path = join(out, evaluationFiles.rewards)
  const known = trained && [...trained].sort()
  const about = { dtype: engine.dtype, beyondContext: engine.beyondContext, trained: known && sha256(known.join()) }
  if (asked.length > 0) progress.start('rewards', asked.length, 'pairs')
  await splitWork<Asked, Rewarded, null>(ranks, {
    ...{ what: 'rewards', output: path, signal, lasting: true, items: () => asked },
    keyOf: ({ system, path, item }) => [about, system.name, marks.get(system.name), pathFrom(out)(path), item],
    groupOf: ({ system, path, item }) => [system.name, path, imageIdOf(item.pair.images)].join('\n'),
    work: (items, stop) => measureAll(items, measured, models, stop),
    holds: (found) => 'record' in found,
    async finish(found) {
      let done = 0
      for await (const each of found) {
        if ('record' in each) records.push(each.record)
        else progress.log(`rewards not measured: ${each.problem}`)
        progress.update(++done)
      }
      await writeJsonl(path, records)
      return null
    },
    onProgress: (done) => progress.update(done),
  })
  return rewardResults(records, seed)
}

/** One adapter and file after the other. */
async function* measureAll(
  items: AsyncIterable<Asked>,
  { out, engine: { beyondContext }, trained }: Measured,
  models: Models,
  signal?: AbortSignal,
): AsyncGenerator<Rewarded> {
  for await (const together of neighbours(items, ({ system, path }) => `${system.name}\n${path}`)) {
    const [{ system, path }] = together
    const engine = await models.engine(system)
    const chat = await Chat.load(system.model, engine.info)
    const model = { engine, chat, imageRoot: dirname(path), beyondContext }
    const about = { system: system.name, pairs: pathFrom(out)(path) }
    const own = together.map(({ item }) => item)
    yield* measureRewards(about, own, model, { trained, signal })
  }
}
