/** The roofline sheet is what its script writes; its arithmetic is held against the engine and against other arithmetic. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { expected, linear, tileOf } from '../../bench/gpu/expected.mjs'
// @ts-expect-error a plain script without types
import { attention, attentionBackward } from '../../bench/gpu/expected-attention.mjs'
// @ts-expect-error a plain script without types
import { floor, kernelCases, readResults, render, stepCost, stepMemory } from '../../bench/gpu/roofline.mjs'
// @ts-expect-error a plain script without types
import { adapterParameters, packedBatch, walkStep, weightParameters } from '../../bench/gpu/step.mjs'
import { stepSpecs } from '../../src/bench/protocol.js'
import { defaultLora, openEngine } from '../../src/engine/engine.js'
import { featureBytes } from '../../src/train/memory.js'
import { largeModel } from './large-model.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const readText = (path: string): string => readFileSync(join(root, path), 'utf8')
const shapes = JSON.parse(readText('bench/gpu/shapes.json'))
const { batch, rank, models } = shapes
const model4b = models['qwen3-vl-4b']
const model7b = models['huatuogpt-vision-7b']

describe('what a product on Hopper should take', () => {
  const card = { bytes: 3e12, flops: 790e12 }

  it('takes the tile that cuda/gemm_hopper_launch.cuh takes', () => {
    for (const { rows, columns, blocks, ...product } of JSON.parse(readText('test/cuda/hopper_tiles.json')))
      expect(tileOf(product), JSON.stringify(product)).toMatchObject({ rows, columns, blocks })
  })

  it('is whole rounds of tiles, the last one perhaps of halves, at the rate of a large product', () => {
    // 59 x 10 tiles of 128 x 256 are 4 rounds of 132 and 62 tiles over, which 124 blocks take as halves.
    const tile = (2 * 128 * 256 * 9728) / (card.flops / 132)
    const rounds = (1e-3 * expected(linear(7520, [2560], 9728), 0, card)) / tile
    expect(rounds).toBeGreaterThan(4.5)
    expect(rounds).toBeLessThan(4.8)
    expect(expected(linear(1, [2560], 2560), 3e9, card)).toBeCloseTo(1)
  })

  it('is longer by the instructions that a residual takes, and not by waiting for it', () => {
    const [without, residual] = [false, true].map((residual) =>
      expected(linear(7520, [2560], 9728, { residual }), 0, card),
    )
    const tile = (1e3 * 2 * 128 * 256 * 9728) / (card.flops / 132)
    expect(residual - without).toBeGreaterThan(0)
    expect(residual - without).toBeLessThan(5 * 0.01 * tile)
  })

  it('is nowhere below the floor of the sheet', () => {
    for (const model of [model4b, model7b]) {
      for (const row of kernelCases(model, batch, rank)) {
        if (row.launches)
          expect(expected(row.launches, row.bytes, card), row.kernel).toBeGreaterThanOrEqual(floor(row, card))
      }
    }
  })
})

describe('what attention on Hopper should take', () => {
  const clocks = (...spans: object[]): number => (attention(spans, 32, 8, 128)[0].seconds - 2e-6) * 1.755e9
  const tile = 2 * (215 + 600)

  it('is that of the busiest block', () => {
    // 32 tokens of four heads are a tile. 8 heads: one tile a block.
    const causal = (rows: number, context = 0): object => ({ rows, context, causal: true })
    expect(clocks(causal(25, 103))).toBeCloseTo(1024 + 2 * (341 + 67) + 245 + tile)
    expect(clocks({ rows: 32, context: 96, causal: false })).toBeCloseTo(2 * 1024 + tile)
    expect(clocks(causal(36))).toBeCloseTo(2 * (341 + 67) + 245 + tile)
    // 17 tiles of 64 rows have 2 x 8 items each: two rounds of 132, and eight.
    const many = Array.from({ length: 17 }, () => ({ rows: 64, context: 0, causal: false }))
    expect(clocks(...many)).toBeCloseTo(3 * (1024 + tile))
  })

  it('counts the steps of each consumer for dk and dv', () => {
    const keys = (...spans: object[]): number =>
      (attentionBackward(spans, 32, 8, 128)[3].seconds - 2e-6) * 1.755e9 - 2 * 1000
    // 4 heads: 4 runs of 16 rows a head are 4 steps. Rows 0 to 63 do not see the second tile.
    expect(keys({ rows: 128, context: 0, causal: true })).toBeCloseTo((8 + 4) * 1024)
    expect(keys({ rows: 128, context: 0, causal: false })).toBeCloseTo((8 + 8) * 1024)
    // A prefix of 64 with two tails of 25: 4 + 2 + 2 runs see the first tile, 2 + 2 the second.
    const tail = { rows: 25, context: 64, causal: true }
    expect(keys({ rows: 64, context: 0, causal: true }, tail, tail)).toBeCloseTo((8 + 4) * 1024)
  })
})

describe('the sheet', () => {
  it('is what the script writes', () => {
    expect(readText('bench/roofline.md')).toBe(render(shapes, readResults()))
  })

  const result = (change: object) => {
    const row = kernelCases(model4b, batch, rank).find(({ kernel }: { kernel: string }) => kernel === 'swiglu')
    const measured = { model: 'qwen3-vl-4b', dtype: 'bf16', median_ms: 0.25, share_of_floor: 0.58, torch_ms: 0.5 }
    const machine = { gpu: 'NVIDIA H100 80GB HBM3' }
    return [{ name: 'gpu-h100.json', date: '2026', machine, kernels: [{ ...row, ...measured, ...change }] }]
  }

  it('shows what was measured', () => {
    expect(render(shapes, result({}))).toContain('| 0.250 (58 %, PyTorch 0.500; H100) |')
  })

  it('shows the steps that were measured, with their settings', () => {
    const step = {
      ...{ model: 'qwen3-vl-4b', gemm: 'cublaslt', dropout: 0.05, checkpointing: false, cached_reference: true },
      ...{ gpu_s: { step: { median: 0.4004 } }, wall_s: { step: { median: 0.51 } } },
      ...{ asked: { launches: 7900, host_waits: 3 }, memory_bytes: { used: 33.4e9 } },
    }
    const [row] = result({})
    const text = render(shapes, [{ ...row, steps: [step, { ...step, model: 'tiny' }] }])
    expect(text.split('\n').filter((line: string) => line.startsWith('| H100 | cublaslt'))).toEqual([
      '| H100 | cublaslt, dropout 0.05, cached reference | 400 | 510 | 7900 | 3 | 33.40 |',
    ])
  })

  it('refuses a result that counts other bytes for the same shape', () => {
    expect(() => render(shapes, result({ bytes: 1 }))).toThrow(/gpu-h100.json: swiglu of qwen3-vl-4b counts 1 bytes/)
  })
})

describe('a step on paper', () => {
  /** What walkStep assumes of a pair: see packedBatch. */
  function pairs(count: number, imageToken: number, lengths: typeof batch, imageTokens: number) {
    const { text, common, tail, phrase } = lengths
    const answer = (first: number) => {
      const ids = Int32Array.from({ length: common + tail + 1 }, (_, i) => (i < common ? 7 : first + i))
      const mask = Uint8Array.from(ids, (_, i) => Number(i === common || i > common + tail + 1 - phrase))
      return { ids, mask }
    }
    const [chosen, rejected] = [answer(100), answer(200)]
    const prompt = Int32Array.from({ length: text + imageTokens }, (_, i) =>
      i > 0 && i <= imageTokens ? imageToken : 5,
    )
    return Array.from({ length: count }, (_, k) => ({
      id: `pair${k}`,
      prompt,
      chosen: chosen.ids,
      rejected: rejected.ids,
      chosenMask: chosen.mask,
      rejectedMask: rejected.mask,
      images: [`clean${k}`],
      corruptedImages: [`corrupted${k}`],
    }))
  }

  it.each([
    ['qwen3_vl', false],
    ['qwen3_vl', true],
    ['qwen3_vl_b', false],
    ['qwen3_vl_b', true],
    ['llava_qwen2', false],
    ['llava_qwen2', true],
  ])('takes the memory that the engine plans, to the byte: %s, checkpointing %s', async (folder, checkpointing) => {
    const path = join(root, 'test', 'golden', folder)
    const config = JSON.parse(readText(`test/golden/${folder}/config.json`))
    const text = config.text_config ?? config
    const model = {
      hidden: text.hidden_size,
      layers: text.num_hidden_layers,
      heads: text.num_attention_heads,
      kv_heads: text.num_key_value_heads,
      head_dim: text.head_dim ?? text.hidden_size / text.num_attention_heads,
      intermediate: text.intermediate_size,
      vocab: text.vocab_size,
      head_norms: folder !== 'llava_qwen2',
      image_tokens: 16,
      vision: { mergers: 1 + (config.vision_config?.deepstack_visual_indexes.length ?? 0) },
    }
    const { r } = JSON.parse(readText(`test/golden/${folder}/adapter/adapter_config.json`))
    const lengths = { images: 6, text: 9, common: 4, tail: 5, phrase: 3 }
    await using engine = await openEngine({ model: path, adapter: join(path, 'adapter'), checkpointing })
    const planned = await engine.plan(
      pairs(3, engine.info.imageTokenId, lengths, model.image_tokens),
      stepSpecs.fire.objective,
      {
        normalizer: 3,
        layout: 'packed',
      },
    )
    const packed = packedBatch(model, lengths)
    const settings = { rank: r, activation: 4, checkpointing, block: 64 * 2 ** 20 }
    expect({ tokens: packed.tokens, rows: packed.rows }).toEqual({ tokens: planned.tokens, rows: planned.rows })
    expect(walkStep(model, packed, settings).arenaBytes).toBe(planned.activationBytes)
    expect(4 * adapterParameters(model, r)).toBe(planned.adapterBytes)
  })

  it.each([
    ['qwen3-vl-4b', false],
    ['qwen3-vl-4b', true],
    ['huatuogpt-vision-7b', false],
    ['huatuogpt-vision-7b', true],
  ])('takes the memory that the engine plans for a GPU: %s, checkpointing %s', async (name, checkpointing) => {
    const model = models[name]
    const { parts } = stepMemory(model, batch, rank, checkpointing)
    const path = await largeModel(name)
    await using engine = await openEngine({
      ...{ model: path, device: 'cuda', dtype: 'bf16', planOnly: true, checkpointing },
      lora: { ...defaultLora, rank, dropout: 0 },
    })
    const { pairs: count } = batch
    const plan = await engine.plan(
      pairs(count, engine.info.imageTokenId, batch, model.image_tokens),
      stepSpecs.fire.objective,
      { normalizer: count, layout: 'packed' },
    )
    expect(plan.weightBytes).toBe(parts['weights (matrices bf16, vectors f32)'])
    expect(plan.adapterBytes).toBe(parts['adapter, f32 and bf16'])
    expect(plan.optimizerBytes).toBe(parts['gradients and two moments, f32'])
    expect(featureBytes(new Array(batch.images).fill(model.image_tokens), plan)).toBe(parts['encoded images'])
    // The tables of attention: a few numbers for each tile of 64 rows, three times.
    const tables = plan.activationBytes - parts['activations, workspaces and logits (the arena)']
    expect(tables).toBeGreaterThan(0)
    expect(tables).toBeLessThan(1e6)
    expect(plan.visionBytes).toBeLessThan(plan.activationBytes)
    const room =
      parts['room in the arena, workspaces beside it'] + parts['activations, workspaces and logits (the arena)']
    expect(Math.abs(plan.arenaBytes + plan.scratchBytes - room)).toBeLessThanOrEqual(2 ** 21)
  })

  it('counts the published numbers of parameters', () => {
    const total = (weights: { matrices: number; vectors: number; vision: number }): number =>
      weights.matrices + weights.vectors + weights.vision
    expect(total(weightParameters(model4b))).toBe(4_437_815_808)
    expect(total(weightParameters(model7b))).toBe(7_935_646_208)
  })

  it.each([
    ['qwen3-vl-4b', model4b],
    ['huatuogpt-vision-7b', model7b],
  ])('agrees with the arithmetic by parameters: %s', (_, model) => {
    // Per row 2 per parameter forward and as much for dx; of the adapter twice that in backward, for its own gradients.
    // The last layer has queries and MLP on the read rows only, the first no dx of q, k and v: less than a layer each.
    const { tokens, rows, seen } = packedBatch(model, batch)
    const { matrices } = weightParameters(model)
    const head = model.vocab * model.hidden
    const trunk = matrices - head * (model.tied_head ? 1 : 2)
    const adapter = adapterParameters(model, rank)
    const attention = (4 + 4 + 10) * model.layers * seen * model.heads * model.head_dim
    const expected = tokens * (3 * 2 * trunk + (2 + 4) * adapter) + 3 * 2 * rows * head + attention
    const { flops } = stepCost(model, batch, rank)
    const { flops: vision } = stepCost(model, batch, rank).rows.find(
      ({ name }: { name: string }) => name === 'vision tower',
    )
    const ratio = (flops - vision) / expected
    expect(ratio).toBeLessThan(1)
    expect(ratio).toBeGreaterThan(1 - 1.5 / model.layers)
  })

  it('keeps activations of every layer and row, and fits the target', () => {
    for (const model of [model4b, model7b]) {
      const { tokens } = packedBatch(model, batch)
      const { heads: n, kv_heads: kv, head_dim: d } = model
      // Input, q, k, v, o, middle, gate, up and seven LoRA rows in bf16; norms and log-sum-exp in f32.
      const wide = 2 * model.hidden + 2 * n * d + 2 * kv * d + 2 * model.intermediate + 7 * rank
      const kept = tokens * (2 * wide + 4 * (2 + 2 * n + kv)) * (model.layers - 1)
      const memory = stepMemory(model, batch, rank, false)
      const arena = memory.parts['activations, workspaces and logits (the arena)']
      expect(arena).toBeGreaterThan(kept + memory.logits)
      expect(arena).toBeLessThan(1.08 * (kept + memory.logits))
      expect(memory.total).toBeLessThan(60e9)
      expect(stepMemory(model, batch, rank, true).total).toBeLessThan(memory.total)
    }
  })
})
