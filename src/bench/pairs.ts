/** Random tokenised preference pairs with their images, in the one file that every variant reads. */
import { addLesionNoise, type PixelImage } from '../corrupt/index.js'
import type { ImageInput, PairInput } from '../engine/engine.js'
import { DataError } from '../errors.js'
import { Draws } from './random.js'
import { int64, readSafetensors, type Tensor, toNumbers, writeSafetensors } from './safetensors.js'
import type { BenchSpec, PairsSpec } from './spec.js'

/** How many pairs, about how many images; pair k is about image k % images. */
export interface PairCounts {
  pairs: number
  images: number
  /** Every pair its own corrupted twin, or one for all pairs about an image: their mask is the same. */
  twins: 'own' | 'shared'
}

/** One tokenised pair with the pictures it shows. */
interface PairTensors {
  prompt: ArrayLike<number>
  answers: Record<'chosen' | 'rejected', Answer>
  /** Positions in the pictures of the file. */
  images: number[]
  corrupted: number[]
}

/** Random pairs, one image each with its corrupted twin. */
export async function writePairs(path: string, spec: BenchSpec, counts: PairCounts, seed: number): Promise<void> {
  const clean: PixelImage[] = []
  const twins: PixelImage[] = []
  const pairs: PairTensors[] = []
  for (let k = 0; k < counts.pairs; k++) {
    const draws = new Draws(`pair${k}`, seed)
    const [prompt, answers, image] = [drawPrompt(spec, draws), drawAnswers(spec, k, draws), k % counts.images]
    if (k < counts.images) clean.push(drawImage(spec.pairs.image, draws))
    const twin = counts.twins === 'own' ? k : image
    if (twin === k) twins.push(corrupt(clean[image], spec.pairs.corruption, seed + k))
    pairs.push({ prompt, answers, images: [image], corrupted: [counts.images + twin] })
  }
  await writePairsFile(path, [...clean, ...twins], pairs)
}

/** Names and types: bench/peer/README.md, "Pairs file". */
export async function writePairsFile(path: string, pictures: PixelImage[], pairs: PairTensors[]): Promise<void> {
  const tensors = new Map(pictures.map((picture, i) => [`image${i}.rgb`, pixels(picture)]))
  for (const [k, { prompt, answers, images, corrupted }] of pairs.entries()) {
    tensors.set(`pair${k}.prompt`, int64(prompt))
    for (const [side, { ids, mask }] of Object.entries(answers)) {
      tensors.set(`pair${k}.${side}`, int64(ids))
      tensors.set(`pair${k}.${side}_mask`, int64(mask))
    }
    tensors.set(`pair${k}.images`, int64(images))
    tensors.set(`pair${k}.corrupted`, int64(corrupted))
  }
  await writeSafetensors(path, tensors)
}

export interface BenchPairs {
  pairs: PairInput[]
  /** Each once, however many pairs show it. */
  images: ImageInput[]
}

/** @throws {DataError} when there is no pair in the file. */
export async function readPairs(path: string): Promise<BenchPairs> {
  const tensors = await readSafetensors(path)
  const found: BenchPairs = { pairs: [], images: readImages(tensors) }
  for (let k = 0; tensors.has(`pair${k}.prompt`); k++) {
    const numbers = (name: string): number[] => toNumbers(required(tensors, `pair${k}.${name}`, path))
    const named = (name: string): string[] => numbers(name).map((image) => `image${image}`)
    const twins = named('corrupted')
    found.pairs.push({
      id: `pair${k}`,
      prompt: Int32Array.from(numbers('prompt')),
      chosen: Int32Array.from(numbers('chosen')),
      rejected: Int32Array.from(numbers('rejected')),
      chosenMask: Uint8Array.from(numbers('chosen_mask')),
      rejectedMask: Uint8Array.from(numbers('rejected_mask')),
      images: named('images'),
      corruptedImages: twins.length > 0 ? twins : null,
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

/** `image0.rgb`, `image1.rgb`, … as far as they go, under these names. */
export function readImages(tensors: ReadonlyMap<string, Tensor>): ImageInput[] {
  const images: ImageInput[] = []
  for (let i = 0; tensors.has(`image${i}.rgb`); i++) {
    const { shape, data } = tensors.get(`image${i}.rgb`) as Tensor
    images.push({ id: `image${i}`, height: shape[0], width: shape[1], rgb: data })
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

export interface Answer {
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
