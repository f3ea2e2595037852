/** Implicit rewards of texts: how much likelier the adapter finds them than the model alone. */
import { imageSource } from '../../data/images.js'
import type { ImageRef } from '../../data/records.js'
import type { CallOptions, Engine } from '../../engine/engine.js'
import { ImageCache } from '../../engine/image-cache.js'
import { isOfRecord, throwIfAborted } from '../../errors.js'
import { type Chat, refuseBeyondContext } from '../../text/chat.js'
import type { Range } from '../../text/normalize.js'
import { phraseMask } from '../../text/phrases.js'
import { countWords } from '../groups.js'
import { type RewardRecord, rewardTexts, type TextReward } from '../records.js'
import type { RewardItem } from './items.js'

/** A model with its adapter, open, and where its images are. */
export interface RewardedModel {
  engine: Engine
  chat: Chat
  imageRoot: string
  /** Take what is longer than the model's context. */
  beyondContext?: boolean
}

/** A text to measure, and the characters of it that decide. */
export interface MeasuredText {
  text: string
  phrases: readonly Range[]
}

const cachedImages = 16

/**
 * Log-ratios of answers to one question, policy over reference: `log π(y|x) − log π_ref(y|x)` in nats, over all tokens with the end
 * token, and over the tokens of the phrases. β times it is the implicit reward. The reference is the model without its adapter.
 * @param options.images that are held already are not encoded again.
 * @throws {DataError} for an image that cannot be used, or a text beyond the model's context.
 */
export async function implicitRewards(
  { engine, chat, imageRoot, beyondContext }: RewardedModel,
  { prompt, images }: { prompt: string; images: readonly ImageRef[] },
  texts: readonly MeasuredText[],
  options: CallOptions & { images: ImageCache },
): Promise<TextReward[]> {
  const call = { signal: options.signal }
  const features = await options.images.hold(
    images.map((image) => imageSource(image, imageRoot)),
    call,
  )
  const asked = chat.promptIds(
    prompt,
    features.map(({ tokens }) => tokens),
  )
  const answers = texts.map(({ text }) => chat.tokenizer.encodeWithOffsets(text))
  const sequences = answers.map(({ ids }) => ({
    ids: Int32Array.from([...asked, ...ids, chat.endTokenId]),
    images: features.map(({ id }) => id),
  }))
  if (!beyondContext) refuseBeyondContext(Math.max(...sequences.map(({ ids }) => ids.length)), chat)
  const policy = await engine.logprobs(sequences, { ...call, adapter: true })
  const reference = await engine.logprobs(sequences, { ...call, adapter: false })
  return texts.map(({ text, phrases }, i) => {
    const { ids, offsets } = answers[i]
    const decisive = phraseMask(offsets, phrases, ids.length + 1)
    const reward = { answer: 0, phrases: 0, words: countWords(text) }
    for (let token = 0; token <= ids.length; token += 1) {
      // The log-probability of a token stands at the position before it.
      const at = asked.length - 1 + token
      const ratio = policy[i][at] - reference[i][at]
      reward.answer += ratio
      if (decisive[token]) reward.phrases += ratio
    }
    return reward
  })
}

/** The rewards of an item, or why it could not be measured. */
export type Rewarded = { record: RewardRecord } | { problem: string }

/**
 * Rewards of all items under one adapter, one by one.
 * @param trained SHA-256 of the images that were trained on; null where they are not known.
 */
export async function* measureRewards(
  about: Pick<RewardRecord, 'system' | 'pairs'>,
  items: readonly RewardItem[],
  model: RewardedModel,
  { trained, signal }: CallOptions & { trained: ReadonlySet<string> | null },
): AsyncGenerator<Rewarded> {
  await using images = new ImageCache(model.engine, cachedImages)
  for (const { pair, reference, reason } of items) {
    throwIfAborted(signal)
    const whole = (text: string): MeasuredText => ({ text, phrases: [] })
    const texts = [
      { text: pair.chosen, phrases: pair.edits.map(({ chosen }) => chosen) },
      { text: pair.rejected, phrases: pair.edits.map(({ rejected }) => rejected) },
      ...(reference ? [whole(reference.right), whole(reference.wrong)] : []),
    ]
    let rewards: TextReward[]
    try {
      rewards = await implicitRewards(model, pair, texts, { signal, images })
    } catch (error) {
      if (!isOfRecord(error)) throw error
      yield { problem: `pair ${pair.id}: ${error.message}` }
      continue
    }
    const named = Object.fromEntries(rewardTexts.map((name, i) => [name, rewards[i] ?? null]))
    const { id: pairId, sampleId } = pair
    const imageId = imageIdOf(pair.images)
    const seenImage = trained && pair.images.some(({ sha256 }) => trained.has(sha256))
    yield { record: { ...about, pairId, sampleId, imageId, seenImage, ...named, reason } as RewardRecord }
  }
}

/** Questions about the same images are a cluster. */
export const imageIdOf = (images: readonly ImageRef[]): string => images.map(({ sha256 }) => sha256).join(' ')
