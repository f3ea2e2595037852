/**
 * Rewards of pairs under every adapter of an evaluation. A study gives held-out pairs, the same for all arms, and those that the arm
 * was trained on; it reads rewards.jsonl.
 */
import { dirname, join } from 'node:path'
import { writeJsonl } from '../../data/jsonl.js'
import type { Sample } from '../../data/records.js'
import type { Provider } from '../../pairs/index.js'
import type { StageContext } from '../../stage/stage.js'
import { Chat } from '../../text/chat.js'
import { pathFrom } from '../about.js'
import { evaluationFiles } from '../files.js'
import type { Models } from '../models.js'
import type { RewardRecord } from '../records.js'
import type { AnsweringSystem, Asking } from '../systems.js'
import { readRewardItems } from './items.js'
import { measureRewards } from './measure.js'
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

/** Writes rewards.jsonl. @returns the numbers of each adapter on each file; none where nothing was asked for. */
export async function rewardsOf(
  { rewards, systems, out, engine: { beyondContext }, seed, trained }: Measured,
  samples: readonly Sample[],
  models: Models,
  { signal, progress }: StageContext,
): Promise<RewardResults[]> {
  const fromOut = pathFrom(out)
  const sets = []
  for (const path of rewards?.files ?? []) {
    const { provider, limit } = rewards as RewardRequest
    sets.push({ path, items: await readRewardItems(path, samples, provider, { seed, limit }) })
  }
  const records: RewardRecord[] = []
  for (const system of sets.length > 0 ? systems : []) {
    if (system.kind !== 'model' || system.adapter === null) continue
    const engine = await models.engine(system)
    const chat = await Chat.load(system.model, engine.info)
    for (const { path, items } of sets) {
      progress.start(`${system.name}: rewards`, items.length, 'pairs')
      const model = { engine, chat, imageRoot: dirname(path), beyondContext }
      const told = {
        trained,
        signal,
        onProgress: (done: number): void => progress.update(done),
        onFailure: (reason: string): void => progress.log(`rewards not measured: ${reason}`),
      }
      records.push(...(await measureRewards({ system: system.name, pairs: fromOut(path) }, items, model, told)))
    }
  }
  await writeJsonl(join(out, evaluationFiles.rewards), records)
  return rewardResults(records, seed)
}
