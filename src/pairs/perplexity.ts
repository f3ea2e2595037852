/** How likely a model finds the two sides of pairs: a side that it finds far likelier is told by its style alone. */
import { imageSource } from '../data/images.js'
import type { Pair } from '../data/records.js'
import type { CallOptions, Engine } from '../engine/engine.js'
import { ImageCache } from '../engine/image-cache.js'
import type { Chat } from '../text/chat.js'

/** Perplexities of the two sides of a set of pairs under one model. */
export interface PerplexityGap {
  /** exp of the mean negative log-likelihood over all answer tokens of a side, its end token included. */
  chosen: number
  rejected: number
  /** Share of pairs whose chosen side has the higher mean log-likelihood a token. */
  chosenIsLikelier: number
  /** For each pair, log-probabilities of the whole answers in nats, end tokens included. */
  logprobs: { chosen: number; rejected: number }[]
}

/** Log-probabilities of both sides of a pair, and of how many tokens they are. */
export interface SideLogprobs {
  chosen: number
  rejected: number
  tokens: { chosen: number; rejected: number }
}

const cachedImages = 16

/**
 * Perplexity of the chosen and of the rejected answers, each given its prompt and images.
 * @param imageRoot what the pairs' image paths are relative to.
 */
export async function perplexityGap(
  engine: Engine,
  chat: Chat,
  pairs: readonly Pair[],
  imageRoot: string,
  options: CallOptions & { onProgress?: (done: number) => void } = {},
): Promise<PerplexityGap> {
  const { signal, onProgress } = options
  return gapOf(sideLogprobs(engine, chat, pairs, imageRoot, { signal }), onProgress)
}

/** Both sides of each pair under a model, in the order of the pairs. */
export async function* sideLogprobs(
  engine: Engine,
  chat: Chat,
  pairs: AsyncIterable<Pair> | Iterable<Pair>,
  imageRoot: string,
  options: CallOptions,
): AsyncGenerator<SideLogprobs> {
  await using images = new ImageCache(engine, cachedImages)
  for await (const pair of pairs) {
    const features = await images.hold(
      pair.images.map((image) => imageSource(image, imageRoot)),
      options,
    )
    const counts = features.map(({ tokens }) => tokens)
    const prompt = chat.promptIds(pair.prompt, counts)
    const answers = [pair.chosen, pair.rejected].map((text) => [...chat.tokenizer.encode(text), chat.endTokenId])
    const sequences = answers.map((answer) => ({
      ids: Int32Array.from([...prompt, ...answer]),
      images: features.map(({ id }) => id),
    }))
    const logprobs = await engine.logprobs(sequences, options)
    const [chosen, rejected] = logprobs.map((values) => values.subarray(prompt.length - 1).reduce((a, b) => a + b, 0))
    yield { chosen, rejected, tokens: { chosen: answers[0].length, rejected: answers[1].length } }
  }
}

/** What the log-probabilities of all pairs come to. */
export async function gapOf(
  pairs: AsyncIterable<SideLogprobs>,
  onProgress?: (done: number) => void,
): Promise<PerplexityGap> {
  const each: PerplexityGap['logprobs'] = []
  const sums = { chosen: 0, rejected: 0 }
  const tokens = { chosen: 0, rejected: 0 }
  let likelier = 0
  for await (const { chosen, rejected, tokens: own } of pairs) {
    each.push({ chosen, rejected })
    sums.chosen += chosen
    sums.rejected += rejected
    tokens.chosen += own.chosen
    tokens.rejected += own.rejected
    if (chosen / own.chosen > rejected / own.rejected) likelier++
    onProgress?.(each.length)
  }
  const perplexity = (side: 'chosen' | 'rejected') => Number(Math.exp(-sums[side] / tokens[side]).toPrecision(5))
  return {
    chosen: perplexity('chosen'),
    rejected: perplexity('rejected'),
    chosenIsLikelier: Number((likelier / each.length).toFixed(4)),
    logprobs: each,
  }
}
