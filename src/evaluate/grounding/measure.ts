/** Where a model looks when it is asked about a place: VGMED's measure, question by question. */
import { realpath } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { describeImage, imageSource } from '../../data/images.js'
import type { ImageRef, Size } from '../../data/records.js'
import type { AttentionProbe, Engine, ImageView } from '../../engine/engine.js'
import { ImageCache } from '../../engine/image-cache.js'
import { isOfRecord, throwIfAborted } from '../../errors.js'
import type { Chat } from '../../text/chat.js'
import { gridOf } from '../attention.js'
import type { GroundingMap, GroundingRecord } from '../records.js'
import { type Box, type Frame, type Grid, touchedTokens } from './boxes.js'
import { type GroundingConvention, groundingMetrics, type HeadWeights, headMean, relativeAttention } from './metrics.js'
import type { GroundingQuestion } from './questions.js'

/** What is asked beside the question, and how numbers are made. */
export interface GroundingPreset {
  /** After both prompts. */
  suffix: string
  convention: GroundingConvention
  /** `family`: boxes go through the geometry of the image; `upstream`: as if every image had been stretched. */
  geometry: 'family' | 'upstream'
}

const brief = ' Answer the question using a single word or phrase.'

/** `ours`, and the two published scripts, which differ in the suffix, the constants, and in padded images. */
export const groundingPresets = {
  ours: { suffix: '', convention: 'exact', geometry: 'family' },
  upstream: { suffix: brief, convention: 'upstream', geometry: 'upstream' },
  companion: { suffix: '', convention: 'companion', geometry: 'family' },
} as const satisfies Record<string, GroundingPreset>

/** What every question is held against. */
export const generalPrompt = 'Write a general description of the image.'

/** An open model and where its images are. */
export interface GroundedModel {
  engine: Engine
  chat: Chat
  imageRoot: string
  /** Whether its adapter is on. */
  adapter: boolean
}

/**
 * Measures questions one by one, those about one image together: the general prompt is computed once for each image, so that n
 * questions about m images are n + m forward passes.
 *
 * @param onMap is given the map of each question that was measured; the path of its image is that of the question.
 * A question that cannot be measured (no box on the image, an image that is not there) is left out by name and counted.
 * @throws {NumericError} and other failures of the model.
 */
export async function* measureGrounding(
  system: string,
  questions: readonly GroundingQuestion[],
  model: GroundedModel,
  preset: GroundingPreset,
  signal?: AbortSignal,
  onMap?: (map: GroundingMap, question: GroundingQuestion) => void,
): AsyncGenerator<GroundingRecord> {
  const byImage = new Map<string, GroundingQuestion[]>()
  for (const question of questions) {
    const others = byImage.get(question.image)
    if (others) others.push(question)
    else byImage.set(question.image, [question])
  }
  await using images = new ImageCache(model.engine, 1)
  for (const [path, asked] of byImage) {
    throwIfAborted(signal)
    const seen = await look(path, model, images, preset, signal)
    for (const question of asked) {
      throwIfAborted(signal)
      if (typeof seen === 'string') yield leftOut(system, question, '', seen)
      else yield await measureOne(system, question, seen, model, preset, onMap)
    }
  }
}

/** An image with its geometry, and how the general prompt attends to it. */
interface Seen {
  ref: ImageRef
  grid: Grid
  frame: Frame
  general: AttentionProbe[]
}

/** The reason where the image cannot be read. */
async function look(
  path: string,
  model: GroundedModel,
  images: ImageCache,
  preset: GroundingPreset,
  signal?: AbortSignal,
): Promise<Seen | string> {
  const { engine, imageRoot } = model
  try {
    const problem = await problemOfImage(path, imageRoot)
    if (problem !== null) return problem
    const ref = { ...(await describeImage(join(imageRoot, path), resolve(imageRoot))), path }
    const source = imageSource(ref, imageRoot)
    const view = await engine.viewImage(await source.decode())
    const [features] = await images.hold([source], { signal })
    const frame = preset.geometry === 'family' ? frameOf(view) : { left: 0, top: 0, ...sizeOf(ref) }
    return { ref, grid: gridOf(features), frame, general: await attend(generalPrompt, ref, model, preset) }
  } catch (error) {
    if (isOfRecord(error)) return error.message
    throw error
  }
}

/** Why an image may not be opened, in words that tell nothing of what lies outside; null where it may. */
export async function problemOfImage(path: string, root: string): Promise<string | null> {
  const isBelow = (from: string, to: string): boolean => !/^(\.\.([\\/]|$)|[\\/]|[A-Za-z]:)/.test(relative(from, to))
  if (!isBelow(resolve(root), resolve(root, path))) return `it is not below ${root}`
  // The frame of a file is named after it.
  const places = [path, path.replace(/#[1-9]\d*$/, '')].map((each) => join(root, each))
  const [real] = (await Promise.all(places.map((place) => realpath(place).catch(() => null)))).filter(
    (at) => at !== null,
  )
  if (real === undefined) return `it is not below ${root}`
  return isBelow(await realpath(root), real) ? null : `it is a link that leaves ${root}`
}

const sizeOf = ({ width, height }: Size): Size => ({ width, height })

/** Where the image lies in what the tower is shown, in pixels of the image. */
export function frameOf({ width, height, scaleX, scaleY, left, top }: Omit<ImageView, 'rgb'>): Frame {
  return { left: -left / scaleX, top: -top / scaleY, width: width / scaleX, height: height / scaleY }
}

/** Attention of the last position of a prompt, layer by layer: `weights` [heads, tokens] each. */
async function attend(
  text: string,
  ref: ImageRef,
  { engine, chat, adapter }: GroundedModel,
  { suffix }: GroundingPreset,
): Promise<AttentionProbe[]> {
  const ids = chat.promptIds(text + suffix, [engine.imageTokens(ref.width, ref.height)])
  return engine.attention({ ids, images: [ref.sha256] }, [ids.length - 1], { adapter })
}

function layersOf([{ layers, heads, tokens, weights }]: readonly AttentionProbe[]): HeadWeights[] {
  const size = heads * tokens
  return Array.from({ length: layers }, (_, layer) => ({
    heads,
    weights: weights.subarray(layer * size, (layer + 1) * size),
  }))
}

async function measureOne(
  system: string,
  question: GroundingQuestion,
  { ref, grid, frame, general }: Seen,
  model: GroundedModel,
  preset: GroundingPreset,
  onMap?: (map: GroundingMap, question: GroundingQuestion) => void,
): Promise<GroundingRecord> {
  const outside = question.boxes.filter((box) => leavesImage(box, ref)).length
  if (question.boxes.length === 0) return leftOut(system, question, ref.sha256, 'it has no box')
  // The published scripts take a box without area for a token.
  const boxes = preset.convention === 'exact' ? question.boxes.filter(hasArea) : question.boxes
  if (boxes.length === 0) return leftOut(system, question, ref.sha256, 'no box has an area', outside)
  const region = touchedTokens(boxes, frame, grid)
  const maskTokens = region.reduce((sum, value) => sum + value, 0)
  if (maskTokens === 0) return leftOut(system, question, ref.sha256, 'no box touches the image', outside)
  const shifted = shiftRegion(region, grid)
  const neutral = layersOf(general)
  const asked = layersOf(await attend(question.question, ref, model, preset))
  const { convention } = preset
  const numbers = asked.map((layer, i) => groundingMetrics(layer, neutral[i], region, convention))
  onMap?.(
    { ...mapOf(asked, neutral, region.length, convention), ...aboutMap(system, question, ref, grid, frame) },
    question,
  )
  const control = asked.map((layer, i) => groundingMetrics(layer, neutral[i], shifted, convention).ar)
  return {
    system,
    sampleId: question.id,
    kind: question.kind,
    imageId: ref.sha256,
    skipped: null,
    outside,
    grid: [grid.rows, grid.columns],
    maskTokens,
    mass: asked.map((layer) => headMean(layer, region.length).reduce((sum, value) => sum + value, 0)),
    ar: numbers.map(({ ar }) => ar),
    kl: numbers.map(({ kl }) => (Number.isFinite(kl) ? kl : null)),
    js: numbers.map(({ js }) => js),
    shiftedAr: control,
  }
}

function aboutMap(
  system: string,
  { id, kind, question, boxes }: GroundingQuestion,
  image: ImageRef,
  grid: Grid,
  frame: Frame,
) {
  const corners = boxes.map((box): [number, number, number, number] => [...box])
  const shape: [number, number] = [grid.rows, grid.columns]
  return { system, sampleId: id, kind, question, image, boxes: corners, grid: shape, frame }
}

/** The mean of the last third of the layers, each over its own mean. */
function mapOf(
  asked: readonly HeadWeights[],
  neutral: readonly HeadWeights[],
  tokens: number,
  convention: GroundingConvention,
): Pick<GroundingMap, 'layers' | 'values'> {
  const first = Math.floor((2 * asked.length) / 3)
  const values = new Float64Array(tokens)
  for (let layer = first; layer < asked.length; layer++) {
    const relative = relativeAttention(asked[layer], neutral[layer], tokens, convention)
    const mean = relative.reduce((sum, value) => sum + value, 0) / tokens
    for (let token = 0; token < tokens; token++) values[token] += relative[token] / mean / (asked.length - first)
  }
  return { layers: [first + 1, asked.length], values: [...values] }
}

/** The same number of tokens elsewhere: half of the grid further, around its edges. */
export function shiftRegion(region: Float64Array, { rows, columns }: Grid): Float64Array {
  const [down, right] = [Math.floor(rows / 2), Math.floor(columns / 2)]
  return region.map((_, token) => {
    const [row, column] = [Math.floor(token / columns), token % columns]
    return region[((row + rows - down) % rows) * columns + ((column + columns - right) % columns)]
  })
}

function leftOut(
  system: string,
  { id, kind }: GroundingQuestion,
  imageId: string,
  skipped: string,
  outside = 0,
): GroundingRecord {
  const none = { mass: [], ar: [], kl: [], js: [], shiftedAr: [] }
  return { system, sampleId: id, kind, imageId, skipped, outside, grid: [0, 0], maskTokens: 0, ...none }
}

const hasArea = ([left, top, right, bottom]: Box): boolean => right > left && bottom > top

/** Boxes that leave their image: under the wrong reading of their format there are many. */
const leavesImage = ([left, top, right, bottom]: Box, { width, height }: Size): boolean =>
  left < 0 || top < 0 || right > width || bottom > height || right < left || bottom < top
