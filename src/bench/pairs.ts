/** Random tokenised preference pairs with their images, in the one file that every variant reads. */
import { addLesionNoise, type PixelImage } from '../corrupt/index.js'
import type { ImageInput, PairInput } from '../engine/engine.js'
import { DataError } from '../errors.js'
import { Draws } from './random.js'
import { int64, readSafetensors, type Tensor, toNumbers, writeSafetensors } from './safetensors.js'
import type { BenchSpec, PairsSpec } from './spec.js'

/** Names and types: bench/peer/README.md, "Pairs file". One image a pair, with its corrupted twin. */
export async function writePairs(path: string, spec: BenchSpec, seed: number): Promise<void> {
  const tensors = new Map<string, Tensor>()
  for (let k = 0; k < spec.pairs.count; k++) {
    const draws = new Draws(`pair${k}`, seed)
    const set = (name: string, tensor: Tensor): Map<string, Tensor> => tensors.set(`pair${k}.${name}`, tensor)
    set('prompt', int64(drawPrompt(spec, draws)))
    for (const [side, { ids, mask }] of Object.entries(drawAnswers(spec, k, draws))) {
      set(side, int64(ids))
      set(`${side}_mask`, int64(mask))
    }
    const image = drawImage(spec.pairs.image, draws)
    set('image0.rgb', pixels(image))
    set('corrupted0.rgb', pixels(corrupt(image, spec.pairs.corruption, seed + k)))
  }
  await writeSafetensors(path, tensors)
}

export interface BenchPairs {
  pairs: PairInput[]
  images: ImageInput[]
}

/** @throws {DataError} when there is no pair in the file. */
export async function readPairs(path: string): Promise<BenchPairs> {
  const tensors = await readSafetensors(path)
  const found: BenchPairs = { pairs: [], images: [] }
  for (let k = 0; tensors.has(`pair${k}.prompt`); k++) {
    const numbers = (name: string): number[] => toNumbers(required(tensors, `pair${k}.${name}`, path))
    const images = imagesOf(tensors, `pair${k}.image`)
    const twins = imagesOf(tensors, `pair${k}.corrupted`)
    found.images.push(...images, ...twins)
    found.pairs.push({
      id: `pair${k}`,
      prompt: Int32Array.from(numbers('prompt')),
      chosen: Int32Array.from(numbers('chosen')),
      rejected: Int32Array.from(numbers('rejected')),
      chosenMask: Uint8Array.from(numbers('chosen_mask')),
      rejectedMask: Uint8Array.from(numbers('rejected_mask')),
      images: images.map(({ id }) => id),
      corruptedImages: twins.length > 0 ? twins.map(({ id }) => id) : null,
    })
  }
  if (found.pairs.length === 0) throw new DataError(`${path} holds no pair (no tensor named pair0.prompt)`)
  return found
}

export function required(tensors: ReadonlyMap<string, Tensor>, name: string, path: string): Tensor {
  const tensor = tensors.get(name)
  if (!tensor) throw new DataError(`${path} lacks the tensor ${name}`)
  return tensor
}

/** `prefix0.rgb`, `prefix1.rgb`, … as far as they go. */
function imagesOf(tensors: ReadonlyMap<string, Tensor>, prefix: string): ImageInput[] {
  const images: ImageInput[] = []
  for (let i = 0; tensors.has(`${prefix}${i}.rgb`); i++) {
    const { shape, data } = tensors.get(`${prefix}${i}.rgb`) as Tensor
    images.push({ id: `${prefix}${i}`, height: shape[0], width: shape[1], rgb: data })
  }
  return images
}

/** A chat turn: the user's image and question, then the opening of the assistant's turn. */
export function drawPrompt({ config, pairs }: BenchSpec, draws: Draws): number[] {
  const { turn_start: start, user, assistant, newline } = pairs.structure
  const cell = config.vision_config.patch_size * config.vision_config.spatial_merge_size
  const [height, width] = pairs.image
  const placeholders = Array<number>((height / cell) * (width / cell)).fill(config.image_token_id)
  const question = draws.integers(pairs.question_tokens, ...pairs.text_token_ids)
  const image = [config.vision_start_token_id, ...placeholders, config.vision_end_token_id]
  const end = config.text_config.eos_token_id
  return [start, user, newline, ...image, ...question, end, newline, start, assistant, newline]
}

interface Answer {
  ids: number[]
  /** 1 on phrase tokens. */
  mask: number[]
}

function drawAnswers({ config, pairs }: BenchSpec, index: number, draws: Draws): Record<'chosen' | 'rejected', Answer> {
  const { common, phrases } = pairs.answers[index % pairs.answers.length]
  const shared = common.map((count) => draws.integers(count, ...pairs.text_token_ids))
  const answer = (side: 0 | 1): Answer => {
    const parts = shared.flatMap((ids, at) => {
      const phrase = at === 0 ? [] : draws.integers(phrases[at - 1][side], ...pairs.text_token_ids)
      return [
        { ids: phrase, flag: 1 },
        { ids, flag: 0 },
      ]
    })
    parts.push({ ids: [config.text_config.eos_token_id], flag: 0 })
    return { ids: parts.flatMap(({ ids }) => ids), mask: parts.flatMap(({ ids, flag }) => ids.map(() => flag)) }
  }
  return { chosen: answer(0), rejected: answer(1) }
}

const squareSize = 32

/** Coarse random squares under pixel noise. */
export function drawImage([height, width]: PairsSpec['image'], draws: Draws): PixelImage {
  const [rows, columns] = [Math.ceil(height / squareSize), Math.ceil(width / squareSize)]
  const squares = draws.uniforms(rows * columns * 3, 30, 225)
  const noise = draws.normals(height * width * 3, 0, 10)
  const rgb = new Uint8Array(height * width * 3)
  for (let at = 0; at < rgb.length; at++) {
    const pixel = Math.floor(at / 3)
    const [row, column] = [Math.floor(pixel / width / squareSize), Math.floor((pixel % width) / squareSize)]
    rgb[at] = Math.min(255, Math.max(0, squares[(row * columns + column) * 3 + (at % 3)] + noise[at]))
  }
  return { width, height, rgb }
}

function corrupt(image: PixelImage, { sigma, box }: PairsSpec['corruption'], seed: number): PixelImage {
  const [x0, y0, x1, y1] = box
  const mask = new Uint8Array(image.width * image.height)
  for (let y = y0; y < y1; y++) mask.fill(1, y * image.width + x0, y * image.width + x1)
  return addLesionNoise(image, mask, { sigma, fallbackSigma: sigma }, seed)
}

export function pixels({ width, height, rgb }: PixelImage): Tensor {
  return { dtype: 'U8', shape: [height, width, 3], data: rgb }
}
