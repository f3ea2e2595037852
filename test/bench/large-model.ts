/** Model folders of the real sizes without their bytes: the tensors are a hole in a file, which a plan does not read. */

import { mkdir, open, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { modelShapes } from '../../src/bench/model.js'
import { temporaryFolder } from '../fakes/world.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const readJson = async (...path: string[]) => JSON.parse(await readFile(join(root, ...path), 'utf8'))

type Shapes = Map<string, number[]>

/** A folder with the configuration of a published model (the name of a preset) and tensors of its shapes. */
export async function largeModel(name: string): Promise<string> {
  const folder = await temporaryFolder()
  if (name === 'qwen3-vl-4b') {
    const config = await readJson('bench', 'large', 'qwen3-vl-4b.json')
    const small = await readJson('models', 'phantom', 'config.json')
    for (const key of ['image_token_id', 'video_token_id', 'vision_start_token_id', 'vision_end_token_id']) {
      config[key] = small[key]
    }
    config.text_config.eos_token_id = small.text_config.eos_token_id
    const preprocessor = await readJson('models', 'phantom', 'preprocessor_config.json')
    await writeJson(join(folder, 'preprocessor_config.json'), { ...preprocessor, patch_size: 16 })
    await writeModel(folder, config, modelShapes(config))
  } else {
    const golden = join('test', 'golden', 'llava_qwen2')
    const config = { ...(await readJson(golden, 'config.json')), ...huatuo }
    const tower = await readJson(golden, config.mm_vision_tower, 'config.json')
    Object.assign(tower.vision_config, clip)
    const preprocessor = await readJson(golden, config.mm_vision_tower, 'preprocessor_config.json')
    preprocessor.size = { shortest_edge: clip.image_size }
    preprocessor.crop_size = { height: clip.image_size, width: clip.image_size }
    await mkdir(join(folder, config.mm_vision_tower), { recursive: true })
    await writeJson(join(folder, config.mm_vision_tower, 'config.json'), tower)
    await writeJson(join(folder, config.mm_vision_tower, 'preprocessor_config.json'), preprocessor)
    await writeModel(folder, config, huatuoShapes())
  }
  return folder
}

/** HuatuoGPT-Vision-7B: Qwen2-7B and CLIP ViT-L/14 at 336 pixels. */
const huatuo = {
  vocab_size: 152064,
  hidden_size: 3584,
  intermediate_size: 18944,
  num_hidden_layers: 28,
  num_attention_heads: 28,
  num_key_value_heads: 4,
  mm_hidden_size: 1024,
}
const clip = {
  hidden_size: 1024,
  intermediate_size: 4096,
  num_hidden_layers: 24,
  num_attention_heads: 16,
  image_size: 336,
}

function huatuoShapes(): Shapes {
  const { hidden_size: hidden, intermediate_size: wide, vocab_size: vocab } = huatuo
  const keys = (hidden / huatuo.num_attention_heads) * huatuo.num_key_value_heads
  const shapes: Shapes = new Map([
    ['model.embed_tokens.weight', [vocab, hidden]],
    ['model.norm.weight', [hidden]],
    ['lm_head.weight', [vocab, hidden]],
  ])
  const linear = (name: string, outputs: number, inputs: number, bias = true): void => {
    shapes.set(`${name}.weight`, [outputs, inputs])
    if (bias) shapes.set(`${name}.bias`, [outputs])
  }
  const norm = (name: string): void => {
    for (const part of ['weight', 'bias']) shapes.set(`${name}.${part}`, [clip.hidden_size])
  }
  for (let layer = 0; layer < huatuo.num_hidden_layers; layer += 1) {
    const name = `model.layers.${layer}`
    for (const each of ['input_layernorm', 'post_attention_layernorm']) shapes.set(`${name}.${each}.weight`, [hidden])
    linear(`${name}.self_attn.q_proj`, hidden, hidden)
    for (const each of ['k_proj', 'v_proj']) linear(`${name}.self_attn.${each}`, keys, hidden)
    linear(`${name}.self_attn.o_proj`, hidden, hidden, false)
    for (const each of ['gate_proj', 'up_proj']) linear(`${name}.mlp.${each}`, wide, hidden, false)
    linear(`${name}.mlp.down_proj`, hidden, wide, false)
  }
  const width = clip.hidden_size
  const tower = 'model.vision_tower.vision_tower.vision_model'
  shapes.set(`${tower}.embeddings.class_embedding`, [width])
  shapes.set(`${tower}.embeddings.patch_embedding.weight`, [width, 3, 14, 14])
  shapes.set(`${tower}.embeddings.position_embedding.weight`, [(clip.image_size / 14) ** 2 + 1, width])
  for (const each of ['pre_layrnorm', 'post_layernorm']) norm(`${tower}.${each}`)
  for (let block = 0; block < clip.num_hidden_layers; block += 1) {
    const name = `${tower}.encoder.layers.${block}`
    for (const each of ['layer_norm1', 'layer_norm2']) norm(`${name}.${each}`)
    for (const each of ['q_proj', 'k_proj', 'v_proj', 'out_proj']) linear(`${name}.self_attn.${each}`, width, width)
    linear(`${name}.mlp.fc1`, clip.intermediate_size, width)
    linear(`${name}.mlp.fc2`, width, clip.intermediate_size)
  }
  linear('model.mm_projector.0', hidden, width)
  linear('model.mm_projector.2', hidden, hidden)
  return shapes
}

async function writeModel(folder: string, config: object, shapes: Shapes): Promise<void> {
  await writeJson(join(folder, 'config.json'), config)
  const header: Record<string, unknown> = {}
  let end = 0
  for (const [name, shape] of shapes) {
    const begin = end
    end += 2 * shape.reduce((product, extent) => product * extent, 1)
    header[name] = { dtype: 'BF16', shape, data_offsets: [begin, end] }
  }
  const text = Buffer.from(JSON.stringify(header))
  const prefix = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ')
  prefix.writeBigUInt64LE(BigInt(prefix.length - 8))
  text.copy(prefix, 8)
  const file = await open(join(folder, 'model.safetensors'), 'w')
  await file.write(prefix)
  await file.truncate(prefix.length + end)
  await file.close()
}

const writeJson = (path: string, value: unknown): Promise<void> => writeFile(path, JSON.stringify(value))
