/** Sizes, token ids and random-weight rules of a benchmark model: `bench/peer/{mid,small}.json`, shared with the peer. */
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { asFileError } from '../errors.js'

export const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

/** Where the peer's script and the specifications lie. */
export const peerFolder = join(packageRoot, 'bench', 'peer')

/** `mid` is what is measured; `small` shows in seconds that everything runs. */
export const benchSizes = ['mid', 'small'] as const
export type BenchSize = (typeof benchSizes)[number]

interface TextConfig {
  hidden_size: number
  intermediate_size: number
  num_hidden_layers: number
  num_attention_heads: number
  num_key_value_heads: number
  head_dim: number
  vocab_size: number
  eos_token_id: number
}

interface VisionConfig {
  hidden_size: number
  intermediate_size: number
  out_hidden_size: number
  depth: number
  in_channels: number
  patch_size: number
  temporal_patch_size: number
  spatial_merge_size: number
  num_position_embeddings: number
  deepstack_visual_indexes: number[]
}

/** `config.json` of a Qwen3-VL checkpoint, the part that shapes depend on; the rest is passed through. */
export interface ModelConfig {
  image_token_id: number
  vision_start_token_id: number
  vision_end_token_id: number
  text_config: TextConfig
  vision_config: VisionConfig
}

/** Normal with `std` around `mean`, or with `gain / sqrt(fan in)` around zero, for names that match `pattern`. */
export interface WeightRule {
  pattern: string
  mean?: number
  std?: number
  gain?: number
}

export interface AdapterSpec {
  r: number
  lora_alpha: number
  lora_dropout: number
  /** Standard deviation of B, which PEFT starts at zero: margins and KL would then be zero as well. */
  b_std: number
  target_modules: string[]
}

export interface PairsSpec {
  count: number
  /** `[height, width]` in pixels, multiples of `patch_size * spatial_merge_size` so that nothing is resized. */
  image: [number, number]
  /** Noise of this deviation (grey levels) inside `[x0, y0, x1, y1]`. */
  corruption: { sigma: number; box: [number, number, number, number] }
  question_tokens: number
  /** Text ids are drawn from `[first, end)`. */
  text_token_ids: [number, number]
  structure: { turn_start: number; user: number; assistant: number; newline: number }
  /** Runs of common tokens around phrases of `[chosen, rejected]` tokens: one more run than phrases. */
  answers: { common: number[]; phrases: [number, number][] }[]
}

export interface BenchSpec {
  config: ModelConfig
  preprocessor: object
  generation: object
  weights: { rules: WeightRule[] }
  adapter: AdapterSpec
  pairs: PairsSpec
}

/** @throws {FileError} where the package came without its `bench` folder. */
export async function readSpec(size: BenchSize): Promise<BenchSpec> {
  const path = join(peerFolder, `${size}.json`)
  const text = await readFile(path, 'utf8').catch(asFileError('Reading', path))
  return JSON.parse(text) as BenchSpec
}
