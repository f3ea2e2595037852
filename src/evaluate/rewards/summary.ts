/** What the rewards of an adapter say: how often right is preferred to wrong, and whether style decides instead. */
import { clusteredMean, type Interval, type Proportion, wilson } from '../../statistics/index.js'
import type { RewardRecord } from '../records.js'

/** Of one adapter on held-out pairs. */
export interface RewardResults {
  system: string
  pairs: number
  images: number
  /** Share of pairs whose chosen side has the higher reward, strictly: by all tokens, and by the decisive phrases alone. */
  accuracy: { answer: Proportion; phrases: Proportion }
  /** Mean of chosen less rejected, in nats (β not applied), with an interval that is robust to several pairs about an image. */
  margin: Record<'answer' | 'phrases', Interval & { value: number }>
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
}

/** By system, in the order of the records. */
export function rewardResults(records: readonly RewardRecord[]): RewardResults[] {
  const systems = [...new Set(records.map(({ system }) => system))]
  return systems.map((system) => {
    const own = records.filter((record) => record.system === system)
    const notCrossed: Record<string, number> = {}
    for (const { reason } of own) if (reason !== null) notCrossed[reason] = (notCrossed[reason] ?? 0) + 1
    const share = (over: Scored) =>
      wilson(own.filter((each) => each.chosen[over] > each.rejected[over]).length, own.length)
    const margin = (over: Scored) => {
      const items = own.map(({ imageId, chosen, rejected }) => ({
        value: chosen[over] - rejected[over],
        cluster: imageId,
      }))
      const { value, low, high } = clusteredMean(items)
      return { value, low, high }
    }
    return {
      system,
      pairs: own.length,
      images: new Set(own.map(({ imageId }) => imageId)).size,
      accuracy: { answer: share('answer'), phrases: share('phrases') },
      margin: { answer: margin('answer'), phrases: margin('phrases') },
      crossed: crossedResults(own),
      notCrossed,
    }
  })
}

type Scored = 'answer' | 'phrases'

function crossedResults(records: readonly RewardRecord[]): CrossedResults | null {
  const items = records.flatMap(({ chosen, rejected, referenceRight, referenceWrong }) =>
    referenceRight && referenceWrong ? [{ chosen, rejected, referenceRight, referenceWrong }] : [],
  )
  if (items.length === 0) return null
  type Item = (typeof items)[number]
  const preferred = (right: keyof Item, wrong: keyof Item) =>
    wilson(items.filter((item) => item[right].answer > item[wrong].answer).length, items.length)
  const mean = (of: (item: Item) => number) => items.reduce((sum, item) => sum + of(item), 0) / items.length
  const words = (one: keyof Item, other: keyof Item) => mean((item) => (item[one].words + item[other].words) / 2)
  const logRatio = (text: keyof Item) => mean((item) => item[text].answer)
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
  }
}
