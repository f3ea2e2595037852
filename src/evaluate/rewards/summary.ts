/** What the rewards of an adapter say: how often right is preferred to wrong, and whether style decides instead. */
import { type MeanByCluster, meanByCluster, type Proportion, wilson } from '../../statistics/index.js'
import type { RewardRecord, rewardTexts } from '../records.js'

/** Of one adapter on one file of pairs. */
export interface RewardResults {
  system: string
  /** The file, from the folder of the evaluation. */
  pairs: string
  count: number
  images: number
  /** Pairs about images that were trained on; null where the training pairs are not known. */
  seen: number | null
  /** Share of pairs whose chosen side has the higher reward, strictly: by all tokens, and by the decisive phrases alone. */
  accuracy: { answer: Proportion; phrases: Proportion }
  /** Mean of chosen less rejected, in nats (β not applied), by image. */
  margin: Record<'answer' | 'phrases', MeanByCluster>
  /** Null where no pair crosses with a reference. */
  crossed: CrossedResults | null
  /** Pairs without the crossed probe, by reason. */
  notCrossed: Record<string, number>
}

/**
 * The crossed probe: right and wrong, each in the reference's style and in the model's own. Shares of items in which right has the
 * higher reward, strictly. A model that has learnt style instead of content is far apart in the last two.
 */
export interface CrossedResults {
  items: number
  /** Mean words of the texts in the reference's style, and in the model's own. */
  words: { reference: number; own: number }
  /**
   * Mean log-ratios of the four texts, in nats. Where those of one style are far above those of the other, the last two shares say what
   * the adapter did to the styles, and little of right and wrong.
   */
  logRatios: { referenceRight: number; referenceWrong: number; ownRight: number; ownWrong: number }
  /** Both texts in the reference's style. */
  bothReference: Proportion
  /** Both in the model's own. */
  bothOwn: Proportion
  /** Wrong in the reference's style, right in the model's own. */
  rightOwn: Proportion
  /** Right in the reference's style, wrong in the model's own. */
  rightReference: Proportion
  /** `rightReference − rightOwn`, paired: 0 where content decides, up to 1 where the reference's style is preferred, down to −1. */
  styleGap: MeanByCluster
  /**
   * Main effects of the two by two texts on the log-ratio, in nats: right less wrong over both styles, and the reference's style less
   * the model's own over right and wrong. A style that outweighs content is what the adapter learnt to reward.
   */
  effects: { content: MeanByCluster; style: MeanByCluster }
}

/** By system and file, in the order of the records. @param seed of the intervals. */
export function rewardResults(records: readonly RewardRecord[], seed: number): RewardResults[] {
  const groups = new Map<string, RewardRecord[]>()
  for (const record of records) {
    const key = `${record.system}\0${record.pairs}`
    const own = groups.get(key)
    if (own) own.push(record)
    else groups.set(key, [record])
  }
  return [...groups.values()].map((own) => {
    const [{ system, pairs, seenImage }] = own
    const notCrossed: Record<string, number> = {}
    for (const { reason } of own) if (reason !== null) notCrossed[reason] = (notCrossed[reason] ?? 0) + 1
    const share = (over: Scored) =>
      wilson(own.filter((each) => each.chosen[over] > each.rejected[over]).length, own.length)
    const margin = (over: Scored) => meanByImage(own, ({ chosen, rejected }) => chosen[over] - rejected[over], seed)
    return {
      system,
      pairs,
      count: own.length,
      images: new Set(own.map(({ imageId }) => imageId)).size,
      seen: seenImage === null ? null : own.filter((record) => record.seenImage).length,
      accuracy: { answer: share('answer'), phrases: share('phrases') },
      margin: { answer: margin('answer'), phrases: margin('phrases') },
      crossed: crossedResults(own, seed),
      notCrossed,
    }
  })
}

type Scored = 'answer' | 'phrases'

function meanByImage<Item extends { imageId: string }>(
  items: readonly Item[],
  measure: (item: Item) => number,
  seed: number,
): MeanByCluster {
  return meanByCluster(
    items.map((item) => ({ cluster: item.imageId, value: measure(item) })),
    seed,
  )
}

function crossedResults(records: readonly RewardRecord[], seed: number): CrossedResults | null {
  const items = records.flatMap(({ imageId, chosen, rejected, referenceRight, referenceWrong }) =>
    referenceRight && referenceWrong ? [{ imageId, chosen, rejected, referenceRight, referenceWrong }] : [],
  )
  if (items.length === 0) return null
  type Item = (typeof items)[number]
  type Text = (typeof rewardTexts)[number]
  const prefers = (item: Item, right: Text, wrong: Text): boolean => item[right].answer > item[wrong].answer
  const preferred = (right: Text, wrong: Text) =>
    wilson(items.filter((item) => prefers(item, right, wrong)).length, items.length)
  const mean = (of: (item: Item) => number) => items.reduce((sum, item) => sum + of(item), 0) / items.length
  type Two = [Text, Text]
  const contrast = (of: Two, against: Two) => {
    const sum = (item: Item, [one, other]: Two): number => item[one].answer + item[other].answer
    return meanByImage(items, (item) => (sum(item, of) - sum(item, against)) / 2, seed)
  }
  const words = (one: Text, other: Text) => mean((item) => (item[one].words + item[other].words) / 2)
  const logRatio = (text: Text) => mean((item) => item[text].answer)
  return {
    items: items.length,
    words: { reference: words('referenceRight', 'referenceWrong'), own: words('chosen', 'rejected') },
    logRatios: {
      referenceRight: logRatio('referenceRight'),
      referenceWrong: logRatio('referenceWrong'),
      ownRight: logRatio('chosen'),
      ownWrong: logRatio('rejected'),
    },
    bothReference: preferred('referenceRight', 'referenceWrong'),
    bothOwn: preferred('chosen', 'rejected'),
    rightOwn: preferred('chosen', 'referenceWrong'),
    rightReference: preferred('referenceRight', 'rejected'),
    styleGap: meanByImage(
      items,
      (item) => Number(prefers(item, 'referenceRight', 'rejected')) - Number(prefers(item, 'chosen', 'referenceWrong')),
      seed,
    ),
    effects: {
      content: contrast(['referenceRight', 'chosen'], ['referenceWrong', 'rejected']),
      style: contrast(['referenceRight', 'referenceWrong'], ['chosen', 'rejected']),
    },
  }
}
