/** What rewards are measured on: pairs, and for each the right and the wrong answer in the reference's style. */
import { readJsonl } from '../../data/jsonl.js'
import { type Pair, pair as pairSchema, type Sample } from '../../data/records.js'
import { DataError } from '../../errors.js'
import { constructPair, type Provider } from '../../pairs/index.js'

/** A pair, and what the crossed probe needs beside it. */
export interface RewardItem {
  pair: Pair
  /** The reference and its falsification; null with a reason where there is none. */
  reference: { right: string; wrong: string } | null
  /** Why not. */
  reason: string | null
}

/**
 * Reads pairs. Those whose sides are the model's own words (`on-policy`) cross with the reference of
 * their sample, which the provider makes wrong as it would in the mode `reference-style`.
 * @param samples of the evaluation. @param limit pairs, evenly spread over the file. @throws {DataError} for a file without pairs.
 */
export async function readRewardItems(
  path: string,
  samples: readonly Sample[],
  provider: Provider,
  { seed, limit }: { seed: number; limit?: number },
): Promise<RewardItem[]> {
  const known = new Map(samples.map((sample) => [sample.id, sample]))
  const pairs: Pair[] = []
  for await (const { record } of readJsonl(path, pairSchema)) pairs.push(record)
  if (pairs.length === 0) throw new DataError(`${path} holds no pair to measure rewards on`, { detail: { path } })
  const count = Math.min(limit ?? pairs.length, pairs.length)
  const items: RewardItem[] = []
  for (let i = 0; i < count; i += 1) {
    const pair = pairs[Math.floor((i * pairs.length) / count)]
    items.push({ pair, ...(await crossOf(pair, known.get(pair.sampleId), provider, seed)) })
  }
  return items
}

async function crossOf(
  pair: Pair,
  sample: Sample | undefined,
  provider: Provider,
  seed: number,
): Promise<Omit<RewardItem, 'pair'>> {
  const without = (reason: string) => ({ reference: null, reason })
  if (pair.provenance.mode !== 'on-policy') return without("its sides are not the model's own words")
  if (!sample) return without('its question is not asked here')
  const { id, question, answer } = sample
  const response = { sampleId: id, model: '', adapter: null, prompt: question, text: answer, tokens: [] }
  const made = await constructPair(
    { id, sample, response: { ...response, sampling: {}, seed: 0 } },
    { provider, blindJudge: null, mode: 'reference-style', seed },
  )
  if (!made.pair) return without('its reference could not be made wrong')
  const [right, wrong] = [made.pair.chosen, made.pair.rejected]
  const own = [pair.chosen, pair.rejected]
  if (own.includes(right) || own.includes(wrong)) return without('the model speaks as the reference does')
  return { reference: { right, wrong }, reason: null }
}
