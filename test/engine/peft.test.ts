/**
 * Adapters across the border to PEFT. The folders and numbers of test/golden/peft were made and checked with PEFT itself by
 * test/golden/peft_crossing.py; here the engine must still agree with them.
 */
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { readSafetensors, type Tensor, toNumbers } from '../../src/bench/safetensors.js'
import { hashModel } from '../../src/data/files.js'
import { readMergedFrom } from '../../src/data/merged.js'
import { type Engine, openEngine } from '../../src/engine/engine.js'
import { FileError } from '../../src/errors.js'
import { describeSystem } from '../../src/evaluate/about.js'
import { mergeAdapter } from '../../src/merge/merge.js'
import { built } from '../fakes/world.js'

const golden = fileURLToPath(new URL('../golden', import.meta.url))
const crossing = JSON.parse(readFileSync(join(golden, 'peft', 'crossing.json'), 'utf8'))
const scratch = mkdtempSync(join(tmpdir(), 'fire-peft-'))
afterAll(() => rmSync(scratch, { recursive: true }))

const floats = (tensor: Tensor): Float32Array => new Float32Array(tensor.data.slice().buffer)
const sha256 = (folder: string): string => {
  const hash = createHash('sha256')
  for (const name of readdirSync(folder)
    .filter((each) => each.startsWith('adapter_'))
    .sort())
    hash.update(readFileSync(join(folder, name)))
  return hash.digest('hex')
}

/** Log-probabilities of item 0, chosen answer, clean image, as the golden folder has them. */
async function logps(engine: Engine, family: string): Promise<Float32Array> {
  const file = await readSafetensors(join(golden, family, 'golden.safetensors'))
  const images: string[] = []
  for (let index = 0; file.has(`item0.image${index}.rgb`); index += 1) {
    const { shape, data } = file.get(`item0.image${index}.rgb`) as Tensor
    const id = `image${index}`
    await engine.encodeImages([{ id, height: shape[0], width: shape[1], rgb: data }])
    images.push(id)
  }
  const stored = toNumbers(file.get('item0.chosen.input_ids') as Tensor)
  const placeholder = family === 'llava_qwen2' ? 500 : engine.info.imageTokenId
  const ids = Int32Array.from(stored, (id) => (id === placeholder ? engine.info.imageTokenId : id))
  const [values] = await engine.logprobs([{ ids, images }])
  return values
}

/** float32 noise of the reference itself is 2e-5 in the logits (golden.json). A placeholder has no log-probability. */
function expectClose(got: Float32Array, want: Float32Array, tolerance = 1e-4): void {
  expect(got.length).toBe(want.length)
  got.forEach((value, index) => {
    if (!Number.isNaN(value + want[index])) expect(Math.abs(value - want[index])).toBeLessThan(tolerance)
  })
}

describe.skipIf(!built)('adapters and PEFT', () => {
  it.each(Object.keys(crossing.ours))('saves what PEFT was seen to load: %s', async (family) => {
    const model = join(golden, family)
    await using engine = await openEngine({ model, adapter: join(model, 'adapter'), threads: 1 })
    const folder = join(scratch, family)
    await engine.saveAdapter(folder, family)
    expect(sha256(folder)).toBe(crossing.ours[family].sha256)
    expect(crossing.ours[family].largest_difference).toBeLessThan(1e-4)
  })

  it.each(Object.keys(crossing.theirs))('gives the numbers that PEFT gives for its own adapter: %s', async (name) => {
    const { family, sha256: made } = crossing.theirs[name]
    const adapter = join(golden, 'peft', 'theirs', name)
    expect(sha256(adapter)).toBe(made)
    await using engine = await openEngine({ model: join(golden, family), adapter, threads: 1 })
    const want = floats((await readSafetensors(join(adapter, 'logps.safetensors'))).get('logps') as Tensor)
    expectClose(await logps(engine, family), want)
  })

  it('spells out the layers of an adapter that has not all of them', async () => {
    const model = join(golden, 'llava_qwen2')
    const adapter = join(golden, 'peft', 'theirs', 'llava_regex')
    await using engine = await openEngine({ model, adapter, threads: 1 })
    await engine.saveAdapter(join(scratch, 'some'))
    const { target_modules: targets } = JSON.parse(readFileSync(join(scratch, 'some', 'adapter_config.json'), 'utf8'))
    const places = ['1', '3'].flatMap((n) => [`${n}.self_attn.v_proj`, `${n}.mlp.up_proj`])
    const all = ['0', '1', '2', '3'].flatMap((n) =>
      ['self_attn.q_proj', 'self_attn.v_proj', 'mlp.up_proj', 'mlp.down_proj'].map((proj) => `${n}.${proj}`),
    )
    const hit = all.filter((place) => new RegExp(`^${targets}$`).test(`model.language_model.layers.${place}`))
    expect(hit.sort()).toEqual(places.sort())
  })
})

describe.skipIf(!built)('mergeAdapter', () => {
  it.each([
    ['qwen3_vl', {}],
    ['llava_qwen2', { keepLayout: true }],
    ['llava_qwen2', {}],
    ['qwen3_vl', { shardBytes: 400_000 }],
  ])('makes a model that needs no adapter any more: %s %o', async (family, options) => {
    const model = join(golden, family)
    const merged = join(scratch, `merged-${family}-${Object.keys(options)}`)
    const stats = await mergeAdapter(model, join(model, 'adapter'), merged, options)
    expect(stats.merged).toBe(28)
    await using adapted = await openEngine({ model, adapter: join(model, 'adapter'), threads: 1 })
    await using plain = await openEngine({ model: merged, threads: 1 })
    expect(plain.info.parameters).toBe(adapted.info.parameters)
    // f32 weights: a product in another order of the same sums
    expectClose(await logps(plain, family), await logps(adapted, family), 5e-5)
    const files = readdirSync(merged)
    expect(files.filter((name) => /golden|adapter|name_map/.test(name))).toEqual([])
    expect(files.includes('model.safetensors.index.json')).toBe('shardBytes' in options)
    const adapterSha256 = await hashModel(join(model, 'adapter'))
    expect(await readMergedFrom(merged)).toEqual({ adapterSha256 })
    const system = { kind: 'model', name: 'merged', model: merged, adapter: null } as const
    expect(await describeSystem(system, String)).toMatchObject({ adapter: null, adapterSha256 })
  })

  it('replaces a model folder only, and none that it reads', async () => {
    const model = join(scratch, 'base')
    cpSync(join(golden, 'qwen3_vl'), model, { recursive: true })
    const home = join(scratch, 'home')
    cpSync(join(model, 'adapter'), home, { recursive: true })
    const before = readdirSync(home)
    const merge = (output: string) => mergeAdapter(model, join(model, 'adapter'), output, { overwrite: true })
    await expect(merge(home)).rejects.toThrow(/is no model folder/)
    for (const read of [model, join(model, 'adapter'), scratch])
      await expect(merge(read)).rejects.toThrow(/is read from it/)
    expect(readdirSync(home)).toEqual(before)
    await merge(join(scratch, 'merged'))
    await merge(join(scratch, 'merged'))
    expect(readdirSync(scratch).filter((name) => name.startsWith('.'))).toEqual([])
  })

  it('gives HuatuoGPT-Vision an image token and its conversation as a template', async () => {
    const model = join(scratch, 'huatuo')
    cpSync(join(golden, 'llava_qwen2'), model, { recursive: true })
    const tokenizer = {
      model: { type: 'BPE', vocab: { a: 0, b: 1 }, merges: [] },
      added_tokens: [{ id: 7, content: '<end>' }],
    }
    writeFileSync(join(model, 'tokenizer.json'), JSON.stringify(tokenizer))
    writeFileSync(join(model, 'tokenizer_config.json'), JSON.stringify({ eos_token: '<end>' }))
    const merged = join(scratch, 'huatuo-merged')
    await mergeAdapter(model, join(model, 'adapter'), merged)
    const read = (name: string) => JSON.parse(readFileSync(join(merged, name), 'utf8'))
    expect(read('config.json')).toMatchObject({ model_type: 'llava', image_token_index: 8 })
    expect(read('tokenizer.json').added_tokens.at(-1)).toMatchObject({ id: 8, content: '<image>', special: true })
    expect(read('preprocessor_config.json')).toMatchObject({
      do_pad: true,
      image_processor_type: 'LlavaImageProcessor',
    })
    const { Template } = await import('@huggingface/jinja')
    const template = new Template(readFileSync(join(merged, 'chat_template.jinja'), 'utf8'))
    const content = [{ type: 'image' }, { type: 'image' }, { type: 'text', text: 'Where is the lesion?' }]
    expect(template.render({ messages: [{ role: 'user', content }], add_generation_prompt: true })).toBe(
      '<|user|>\n<image>\n<image>\nWhere is the lesion?\n<|assistant|>\n',
    )
  })

  it('leaves a folder alone that is there, and nothing behind when adapter and model do not fit', async () => {
    const model = join(golden, 'qwen3_vl')
    const there = join(scratch, 'there')
    cpSync(join(golden, 'qwen3_vl', 'adapter'), there, { recursive: true })
    await expect(mergeAdapter(model, join(model, 'adapter'), there)).rejects.toThrow(FileError)
    const out = join(scratch, 'unfit')
    await expect(mergeAdapter(model, join(golden, 'qwen3_vl_b', 'adapter'), out)).rejects.toThrow(/adapter_model/)
    expect(existsSync(out)).toBe(false)
    expect(readdirSync(scratch).filter((name) => name.includes('unfit'))).toEqual([])
  })
})
