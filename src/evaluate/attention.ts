/** Where a model looks when it is about to say a decisive word. */
import { imageSource } from '../data/images.js'
import type { ImageRef } from '../data/records.js'
import type { AttentionProbe, Engine, ImageFeatures } from '../engine/engine.js'
import { ImageCache } from '../engine/image-cache.js'
import { DataError } from '../errors.js'
import { checkOptions } from '../options.js'
import type { Chat } from '../text/chat.js'
import { phraseMask } from '../text/phrases.js'

/** Attention over an image's tokens: `rows * columns` values that are not negative, row-major. */
export interface AttentionMap {
  rows: number
  columns: number
  values: Float32Array
}

/** The question, the answer and the phrase in it that is probed. */
export interface ProbeRequest {
  question: string
  /** One image: a map of several would not be one picture. */
  image: ImageRef
  answer: string
  /** Characters of the decisive phrase in the answer. */
  span: readonly [number, number]
  /** Layers to average over; all when left out. */
  layers?: readonly number[]
}

/** An engine with a trained adapter, and what it takes to ask it. */
export interface ProbedModel {
  engine: Engine
  chat: Chat
  /** Folder that image paths are relative to. */
  imageRoot: string
}

/** Attention of the same question before and after training. */
export interface Probe {
  /** The model as it was: adapter off. */
  before: AttentionMap
  after: AttentionMap
}

/**
 * Attention from the position that predicts the first token of the phrase to the image's tokens, averaged over all heads
 * of the chosen layers. The sequence is question and given answer: both models are probed on the same tokens.
 */
export async function probeAttention(model: ProbedModel, request: ProbeRequest): Promise<Probe> {
  checkOptions('probeAttention', request, { question: true, image: true, answer: true, span: true, layers: true })
  const { engine, chat, imageRoot } = model
  const { image, question, answer, span } = request
  const prompt = chat.promptIds(question, [engine.imageTokens(image.width, image.height)])
  const { ids, offsets } = chat.tokenizer.encodeWithOffsets(answer)
  const first = phraseMask(offsets, [span]).indexOf(1)
  if (first < 0) throw new DataError(`No token of ${JSON.stringify(answer)} lies in [${span[0]}, ${span[1]})`)
  await using images = new ImageCache(engine, 1)
  const [features] = await images.hold([imageSource(image, imageRoot)])
  const sequence = { ids: Int32Array.from([...prompt, ...ids]), images: [image.sha256] }
  const probe = async (adapter: boolean): Promise<AttentionMap> => {
    // The logits of a token come from the position before it.
    const [weights] = await engine.attention(sequence, [prompt.length + first - 1], { adapter })
    return { ...gridOf(features), values: averageHeads(weights, request.layers) }
  }
  return { before: await probe(false), after: await probe(true) }
}

/** Rows and columns of an image's tokens: its patches, of which a square may share a token. */
export function gridOf({ grid: [, height, width], tokens }: ImageFeatures): { rows: number; columns: number } {
  const side = Math.sqrt((height * width) / tokens)
  return { rows: height / side, columns: width / side }
}

/** Mean over the heads of the chosen layers of weights `[layers, heads, tokens]`. */
export function averageHeads(probe: AttentionProbe, layers?: readonly number[]): Float32Array {
  const chosen = layers ?? Array.from({ length: probe.layers }, (_, layer) => layer)
  const mean = new Float64Array(probe.tokens)
  for (const layer of chosen) {
    for (let head = 0; head < probe.heads; head++) {
      const row = (layer * probe.heads + head) * probe.tokens
      for (let token = 0; token < probe.tokens; token++) mean[token] += probe.weights[row + token]
    }
  }
  return Float32Array.from(mean, (sum) => sum / (chosen.length * probe.heads))
}

/**
 * Share of the attention that falls inside a mask over the share of the image that the mask takes: 1 is no preference.
 * A token counts by the part of its cell that the mask covers.
 *
 * @param mask one byte per pixel of a `width * height` image, row-major.
 * @returns NaN for an empty mask or no attention at all.
 */
export function attentionRatio(map: AttentionMap, mask: Uint8Array, width: number, height: number): number {
  const covered = new Float64Array(map.values.length)
  let area = 0
  for (let pixel = 0; pixel < mask.length; pixel++) {
    if (mask[pixel] === 0) continue
    const row = Math.floor((Math.floor(pixel / width) * map.rows) / height)
    const column = Math.floor(((pixel % width) * map.columns) / width)
    covered[row * map.columns + column]++
    area++
  }
  const cell = (width * height) / map.values.length
  const total = map.values.reduce((sum, value) => sum + value, 0)
  const inside = map.values.reduce((sum, value, token) => sum + (value * covered[token]) / cell, 0)
  return inside / total / (area / (width * height))
}
