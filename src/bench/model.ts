/** A random Qwen3-VL checkpoint in Hugging Face layout and a PEFT adapter for it, without PyTorch. */
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { writeJson } from '../data/files.js'
import { Draws } from './random.js'
import { bfloat16, float32, type Tensor, writeSafetensors } from './safetensors.js'
import type { AdapterSpec, BenchSpec, ModelConfig, WeightRule } from './spec.js'

type Shapes = Map<string, number[]>

/**
 * config.json, preprocessor_config.json, generation_config.json and model.safetensors (bfloat16, tied head). Drawing takes
 * seconds: between tensors the event loop gets its turn, and `signal` is looked at.
 */
export async function writeModel(folder: string, spec: BenchSpec, seed: number, signal?: AbortSignal): Promise<void> {
  await writeJson(join(folder, 'config.json'), spec.config)
  await writeJson(join(folder, 'preprocessor_config.json'), spec.preprocessor)
  await writeJson(join(folder, 'generation_config.json'), spec.generation)
  const weights = new Map<string, Tensor>()
  for (const [name, shape] of modelShapes(spec.config)) {
    await setImmediate(undefined, { signal })
    weights.set(name, bfloat16(drawWeight(name, shape, spec.weights.rules, seed), shape))
  }
  await writeSafetensors(join(folder, 'model.safetensors'), weights)
}

/** adapter_config.json and adapter_model.safetensors: A uniform in +-1/sqrt(in) as PEFT draws it, B normal. */
export async function writeAdapter(
  folder: string,
  config: ModelConfig,
  adapter: AdapterSpec,
  seed: number,
): Promise<void> {
  const { b_std, ...settings } = adapter
  const kind = { peft_type: 'LORA', task_type: 'CAUSAL_LM', bias: 'none', inference_mode: true }
  await writeJson(join(folder, 'adapter_config.json'), { ...kind, ...settings })
  const tensors = new Map<string, Tensor>()
  for (const [module, [outputs, inputs]] of adaptedShapes(config, adapter)) {
    const [nameA, nameB] = ['A', 'B'].map((side) => `base_model.model.${module}.lora_${side}.weight`)
    const bound = inputs ** -0.5
    const { r } = adapter
    tensors.set(nameA, float32(new Draws(nameA, seed).uniforms(r * inputs, -bound, bound), [r, inputs]))
    tensors.set(nameB, float32(new Draws(nameB, seed).normals(outputs * r, 0, b_std), [outputs, r]))
  }
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors)
}

/** Tensor names and shapes of the checkpoint, as transformers saves them (the tied head is left out). */
export function modelShapes(config: ModelConfig): Shapes {
  return new Map([...textShapes(config), ...visionShapes(config)])
}

/** `[out, in]` of every projection that carries an adapter. */
function adaptedShapes(config: ModelConfig, { target_modules }: AdapterSpec): Shapes {
  const found = [...textShapes(config)].map(([name, shape]) => [name.replace(/\.weight$/, ''), shape] as const)
  return new Map(found.filter(([module]) => target_modules.includes(module.split('.').at(-1) ?? '')))
}

function textShapes({ text_config: text }: ModelConfig): Shapes {
  const { hidden_size: hidden, intermediate_size: wide, head_dim: head } = text
  const [queries, keys] = [text.num_attention_heads * head, text.num_key_value_heads * head]
  const layer: [string, number[]][] = [
    ['input_layernorm.weight', [hidden]],
    ['self_attn.q_proj.weight', [queries, hidden]],
    ['self_attn.k_proj.weight', [keys, hidden]],
    ['self_attn.v_proj.weight', [keys, hidden]],
    ['self_attn.o_proj.weight', [hidden, queries]],
    ['self_attn.q_norm.weight', [head]],
    ['self_attn.k_norm.weight', [head]],
    ['post_attention_layernorm.weight', [hidden]],
    ['mlp.gate_proj.weight', [wide, hidden]],
    ['mlp.up_proj.weight', [wide, hidden]],
    ['mlp.down_proj.weight', [hidden, wide]],
  ]
  const root = 'model.language_model'
  return new Map([
    [`${root}.embed_tokens.weight`, [text.vocab_size, hidden]],
    ...repeat(text.num_hidden_layers, `${root}.layers`, layer),
    [`${root}.norm.weight`, [hidden]],
  ])
}

function visionShapes({ vision_config: vision }: ModelConfig): Shapes {
  const { hidden_size: hidden, intermediate_size: wide, out_hidden_size: out } = vision
  const merged = hidden * vision.spatial_merge_size ** 2
  const patch = [vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size]
  const block = [
    ...norm('norm1', hidden),
    ...linear('attn.qkv', 3 * hidden, hidden),
    ...linear('attn.proj', hidden, hidden),
    ...norm('norm2', hidden),
    ...linear('mlp.linear_fc1', wide, hidden),
    ...linear('mlp.linear_fc2', hidden, wide),
  ]
  // The last merger normalises patches, the deepstack ones what they have merged.
  const merger = (width: number): [string, number[]][] => [
    ...norm('norm', width),
    ...linear('linear_fc1', merged, merged),
    ...linear('linear_fc2', out, merged),
  ]
  const root = 'model.visual'
  return new Map([
    [`${root}.patch_embed.proj.weight`, [hidden, ...patch]],
    [`${root}.patch_embed.proj.bias`, [hidden]],
    [`${root}.pos_embed.weight`, [vision.num_position_embeddings, hidden]],
    ...repeat(vision.depth, `${root}.blocks`, block),
    ...under(`${root}.merger`, merger(hidden)),
    ...repeat(vision.deepstack_visual_indexes.length, `${root}.deepstack_merger_list`, merger(merged)),
  ])
}

function norm(name: string, width: number): [string, number[]][] {
  return [
    [`${name}.weight`, [width]],
    [`${name}.bias`, [width]],
  ]
}

function linear(name: string, outputs: number, inputs: number): [string, number[]][] {
  return [
    [`${name}.weight`, [outputs, inputs]],
    [`${name}.bias`, [outputs]],
  ]
}

function under(root: string, shapes: [string, number[]][]): [string, number[]][] {
  return shapes.map(([name, shape]) => [`${root}.${name}`, shape])
}

function repeat(count: number, root: string, shapes: [string, number[]][]): [string, number[]][] {
  return Array.from({ length: count }, (_, index) => under(`${root}.${index}`, shapes)).flat()
}

/** By the first rule whose pattern is found in the name; the last rule of a specification matches everything. */
function drawWeight(name: string, shape: number[], rules: WeightRule[], seed: number): Float32Array {
  const rule = rules.find(({ pattern }) => new RegExp(pattern).test(name)) ?? { pattern: '', gain: 1 }
  const size = shape.reduce((product, extent) => product * extent, 1)
  const deviation = rule.std ?? (rule.gain ?? 1) / Math.sqrt(size / shape[0])
  return new Draws(name, seed).normals(size, rule.mean ?? 0, deviation)
}
