/** The random model, adapter and pairs of the benchmark. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { modelShapes, writeAdapter, writeModel } from '../../src/bench/model.js'
import { type BenchPairs, readPairs, writePairs } from '../../src/bench/pairs.js'
import { readSafetensors } from '../../src/bench/safetensors.js'
import { type BenchSpec, benchSizes, type ModelConfig, readSpec } from '../../src/bench/spec.js'
import { temporaryFolder } from '../fakes/world.js'

const golden = fileURLToPath(new URL('../golden/qwen3_vl', import.meta.url))

let folder: string
let spec: BenchSpec

beforeAll(async () => {
  folder = await temporaryFolder()
  spec = await readSpec('small')
})

describe('the benchmark model', () => {
  it('has the names and shapes that transformers saves', async () => {
    const config = JSON.parse(await readFile(join(golden, 'config.json'), 'utf8')) as ModelConfig
    const published = await readSafetensors(join(golden, 'model.safetensors'))
    const expected = Object.fromEntries([...published].map(([name, { shape }]) => [name, shape]))
    expect(Object.fromEntries(modelShapes(config))).toEqual(expected)
  })

  it('follows the weight rules and the seed', async () => {
    await writeModel(join(folder, 'model'), spec, 1)
    const path = join(folder, 'model', 'model.safetensors')
    const first = await readFile(path)
    const weights = await readSafetensors(path)
    expect([...weights.keys()].sort()).toEqual([...modelShapes(spec.config).keys()].sort())
    const { mean, deviation } = moments(weights.get('model.language_model.embed_tokens.weight')!.data)
    expect(mean).toBeCloseTo(0, 2)
    expect(deviation).toBeCloseTo(0.3, 2)
    expect(moments(weights.get('model.language_model.norm.weight')!.data).mean).toBeCloseTo(1, 1)
    await writeModel(join(folder, 'model'), spec, 1)
    expect((await readFile(path)).equals(first)).toBe(true)
    await writeModel(join(folder, 'model'), spec, 2)
    expect((await readFile(path)).equals(first)).toBe(false)
  })

  it('carries an adapter on every projection, with a B that is not zero', async () => {
    await writeAdapter(join(folder, 'adapter'), spec.config, spec.adapter, 1)
    const tensors = await readSafetensors(join(folder, 'adapter', 'adapter_model.safetensors'))
    const { num_hidden_layers: layers } = spec.config.text_config
    expect(tensors.size).toBe(layers * 7 * 2)
    const b = tensors.get('base_model.model.model.language_model.layers.0.mlp.up_proj.lora_B.weight')!
    expect(b.shape).toEqual([spec.config.text_config.intermediate_size, spec.adapter.r])
    expect(new Float32Array(b.data.buffer).every((value) => value !== 0)).toBe(true)
    const settings = JSON.parse(await readFile(join(folder, 'adapter', 'adapter_config.json'), 'utf8'))
    expect(settings).toMatchObject({ peft_type: 'LORA', r: spec.adapter.r, lora_alpha: spec.adapter.lora_alpha })
  })
})

describe('the benchmark pairs', () => {
  it.each(benchSizes)('%s: share all but the phrases, and the image but for the box', async (size) => {
    const { config, pairs: rules, ...rest } = await readSpec(size)
    const path = join(folder, `${size}.safetensors`)
    const counts = { pairs: rules.count, images: rules.count, twins: 'own' } as const
    await writePairs(path, { config, pairs: rules, ...rest }, counts, 3)
    const { pairs, images } = await readPairs(path)
    expect(pairs).toHaveLength(rules.count)
    expect(images).toHaveLength(2 * rules.count)
    for (const [index, pair] of pairs.entries()) {
      const { common, phrases } = rules.answers[index % rules.answers.length]
      const phraseTokens = (side: 0 | 1): number => phrases.reduce((sum, phrase) => sum + phrase[side], 0)
      expect(pair.chosenMask.reduce((sum, flag) => sum + flag, 0)).toBe(phraseTokens(0))
      expect(pair.rejectedMask.reduce((sum, flag) => sum + flag, 0)).toBe(phraseTokens(1))
      expect(pair.chosen).toHaveLength(common.reduce((sum, count) => sum + count, 1 + phraseTokens(0)))
      expect(unmasked(pair.chosen, pair.chosenMask)).toEqual(unmasked(pair.rejected, pair.rejectedMask))
      const cell = config.vision_config.patch_size * config.vision_config.spatial_merge_size
      const placeholders = pair.prompt.filter((id) => id === config.image_token_id).length
      expect(placeholders).toBe((rules.image[0] / cell) * (rules.image[1] / cell))

      const [clean, twin] = [pair.images[0], pair.corruptedImages![0]].map((id) => images.find((one) => one.id === id)!)
      const [x0, y0, x1, y1] = rules.corruption.box
      const changed = [...clean.rgb.keys()].filter((at) => clean.rgb[at] !== twin.rgb[at])
      const inside = changed.filter((at) => {
        const [x, y] = [Math.floor(at / 3) % clean.width, Math.floor(at / 3 / clean.width)]
        return x >= x0 && x < x1 && y >= y0 && y < y1
      })
      expect(inside).toHaveLength(changed.length)
      expect(changed.length).toBeGreaterThan((x1 - x0) * (y1 - y0) * 2)
    }
  })
})

describe('pairs about the same images', () => {
  const written = async (images: number, twins: 'own' | 'shared') => {
    const path = join(folder, 'shared.safetensors')
    await writePairs(path, spec, { pairs: 4, images, twins }, 3)
    return readPairs(path)
  }
  const shown = ({ pairs }: BenchPairs) => pairs.map(({ images: [id], corruptedImages }) => [id, corruptedImages![0]])

  it('name an image once, and a twin each or one together', async () => {
    const [own, shared] = [await written(2, 'own'), await written(2, 'shared')]
    expect(shown(own)).toEqual([
      ['image0', 'image2'],
      ['image1', 'image3'],
      ['image0', 'image4'],
      ['image1', 'image5'],
    ])
    expect(shown(shared)).toEqual([
      ['image0', 'image2'],
      ['image1', 'image3'],
      ['image0', 'image2'],
      ['image1', 'image3'],
    ])
    expect([own.images.length, shared.images.length]).toEqual([6, 4])
    expect(new Set(own.images.map(({ rgb }) => Buffer.from(rgb).toString('latin1'))).size).toBe(6)
    expect(own.pairs[0].prompt).not.toEqual(own.pairs[2].prompt)
  })

  it('are, with an image each, those of the same seed', async () => {
    const [each, fewer] = [await written(4, 'own'), await written(2, 'own')]
    expect(await written(4, 'shared')).toEqual(each)
    expect(fewer.pairs.map(({ chosen }) => chosen)).toEqual(each.pairs.map(({ chosen }) => chosen))
    expect(fewer.images[0]).toEqual(each.images[0])
  })
})

function unmasked(ids: Int32Array, mask: Uint8Array): number[] {
  return [...ids].filter((_, index) => mask[index] === 0)
}

/** Of bfloat16 values. */
function moments(data: Uint8Array): { mean: number; deviation: number } {
  const values = new Float32Array(Uint32Array.from(new Uint16Array(data.buffer), (bits) => bits << 16).buffer)
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length
  return { mean, deviation: Math.sqrt(variance) }
}
