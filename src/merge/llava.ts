/** HuatuoGPT-Vision's layout (LlavaQwen2ForCausalLM) as transformers' LlavaForConditionalGeneration. */
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { ModelError } from '../errors.js'
import { readDefinition } from '../text/definition.js'
import { readJson } from '../text/files.js'

type Json = Record<string, unknown>

/** Tensor names, by prefix; those that published LLaVA checkpoints have, which every version of transformers reads. */
export const llavaNames: [string, string][] = [
  ['model.vision_tower.vision_tower.', 'vision_tower.'],
  ['model.mm_projector.0.', 'multi_modal_projector.linear_1.'],
  ['model.mm_projector.2.', 'multi_modal_projector.linear_2.'],
  ['model.', 'language_model.model.'],
  ['lm_head.', 'language_model.lm_head.'],
]

/** The conversation format as a template, its newlines quoted; the engine's own form of it is `HuatuoFormat`. */
const template = [
  "{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>\\n' }}",
  "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for item in message['content'] %}",
  "{% if item['type'] == 'image' %}{{ '<image>\\n' }}{% else %}{{ item['text'] }}{% endif %}{% endfor %}{% endif %}{{ '\\n' }}",
  "{% else %}{{ '<|assistant|>\\n' }}{{ message['content'] }}{{ ' \\n' }}{% endif %}{% endfor %}",
  "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
].join('')

/** The files that differ from the base folder's, by name. */
export async function llavaFiles(model: string, config: Json): Promise<Map<string, string>> {
  const tower = towerFolder(model, String(config.mm_vision_tower))
  const vision = await readJson(join(tower, 'config.json'))
  const { files, imageTokenId } = await imageToken(model, Number(config.vocab_size))
  const preprocessor = await readJson(join(tower, 'preprocessor_config.json'))
  const text = Object.fromEntries(
    Object.entries(config).filter(
      ([key]) => !/^mm_|^tune_mm_|^use_mm_|^(architectures|image_|freeze_mm|auto_map)/.test(key),
    ),
  )
  const visionConfig = (vision.vision_config as Json | undefined) ?? vision
  files.set('config.json', {
    architectures: ['LlavaForConditionalGeneration'],
    model_type: 'llava',
    torch_dtype: config.torch_dtype,
    image_token_index: imageTokenId,
    projector_hidden_act: 'gelu',
    vision_feature_layer: config.mm_vision_select_layer,
    vision_feature_select_strategy: 'default',
    image_seq_length: (Number(visionConfig.image_size) / Number(visionConfig.patch_size)) ** 2,
    tie_word_embeddings: config.tie_word_embeddings ?? false,
    text_config: { ...text, model_type: 'qwen2' },
    vision_config: { ...visionConfig, model_type: 'clip_vision_model' },
  })
  files.set('preprocessor_config.json', {
    ...preprocessor,
    image_processor_type: 'LlavaImageProcessor',
    processor_class: 'LlavaProcessor',
    do_pad: true,
    crop_size: square(preprocessor.crop_size),
    size: typeof preprocessor.size === 'number' ? { shortest_edge: preprocessor.size } : preprocessor.size,
  })
  files.set('processor_config.json', {
    processor_class: 'LlavaProcessor',
    image_token: '<image>',
    patch_size: visionConfig.patch_size,
    num_additional_image_tokens: 1,
    vision_feature_select_strategy: 'default',
  })
  const texts = [...files].map(([name, value]) => [name, `${JSON.stringify(value, null, 2)}\n`] as const)
  return new Map([...texts, ['chat_template.jinja', template]])
}

function square(size: unknown): unknown {
  return typeof size === 'number' ? { height: size, width: size } : size
}

/** As the engine finds it (native/model/llava.cpp). */
function towerFolder(model: string, name: string): string {
  const inside = name.startsWith('/') || name.includes('..') ? [] : [join(model, name)]
  const found = [...inside, join(model, 'vit', basename(name))].find((path) => existsSync(join(path, 'config.json')))
  if (found) return found
  throw new ModelError(`${model} has no config of its vision tower (${name})`)
}

/**
 * The vocabulary has no token for an image: `<image>` takes the first free row of the embedding table, which published
 * tables have more of than tokens. A folder without a tokenizer gets the last row.
 */
async function imageToken(model: string, rows: number): Promise<{ files: Map<string, Json>; imageTokenId: number }> {
  const files = new Map<string, Json>()
  if (!existsSync(join(model, 'tokenizer_config.json'))) return { files, imageTokenId: rows - 1 }
  const { definition: tokenizer, config } = await readDefinition(model)
  const added = (tokenizer.added_tokens as { id: number; content: string }[] | undefined) ?? []
  const vocabulary = Object.values((tokenizer.model as { vocab: Record<string, number> }).vocab)
  const imageTokenId = [...vocabulary, ...added.map(({ id }) => id)].reduce((a, b) => Math.max(a, b), -1) + 1
  if (imageTokenId >= rows) throw new ModelError(`${model}: the embedding table has no free row for an image token`)
  const token = {
    content: '<image>',
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }
  files.set('tokenizer.json', { ...tokenizer, added_tokens: [...added, { id: imageTokenId, ...token }] })
  const decoder = { ...(config.added_tokens_decoder as Json | undefined), [imageTokenId]: token }
  files.set('tokenizer_config.json', {
    ...config,
    added_tokens_decoder: decoder,
    image_token: '<image>',
    processor_class: 'LlavaProcessor',
  })
  return { files, imageTokenId }
}
