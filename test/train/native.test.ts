/** Training with the real engine on the reference checkpoint; skipped where the addon has not been built. */
import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { openEngine } from '../../src/engine/engine.js'
import { objectiveNames, objectives } from '../../src/engine/objectives.js'
import { CheckpointError, FileError, NumericError, UnsupportedError } from '../../src/errors.js'
import { answer, defaultGenerateSettings } from '../../src/generate/generate.js'
import { mergeAdapter } from '../../src/merge/merge.js'
import { Chat } from '../../src/text/chat.js'
import type { Example } from '../../src/train/collate.js'
import { resolveTrainConfig } from '../../src/train/config.js'
import { estimateRows } from '../../src/train/micro-batches.js'
import { firstImage, grouped } from '../../src/train/order.js'
import { planTraining } from '../../src/train/plan.js'
import { preparePlan } from '../../src/train/prepare.js'
import type { TrainConfigInput } from '../../src/train/settings.js'
import { train } from '../../src/train/train.js'
import { built, writeGoldenModel, writeHuatuoModel, writeWorld } from '../fakes/world.js'
import { config, killTraining, settings, weightsOf, world } from './native-world.js'

const adapterOf = (output: string) => weightsOf(settings(output))

describe.skipIf(!built)('training with the native engine', () => {
  it('gives the same bits with a feature store: empty, full, damaged, for another objective, and of other weights', async () => {
    const featureStore = join(world.root, 'store')
    const files = async () =>
      (await readdir(featureStore, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())
    const run = async (output: string, changes: Partial<TrainConfigInput> = {}) => {
      await train(config(output, changes))
      return adapterOf(output)
    }
    const without = await run('store-none')
    expect(await run('store-empty', { featureStore })).toEqual(without)
    const kept = (await files()).length
    // An image and a twin at least, and every pair.
    expect(kept).toBeGreaterThan(12)
    expect(await run('store-full', { featureStore, referenceCache: 0 })).toEqual(without)
    expect(await files()).toHaveLength(kept)
    for (const { parentPath, name } of await files()) await writeFile(join(parentPath, name), 'damaged')
    expect(await run('store-damaged', { featureStore })).toEqual(without)
    const dpo = { objective: { name: 'dpo' } } as const
    expect(await run('store-dpo', { featureStore, ...dpo })).toEqual(await run('store-none-dpo', dpo))

    const other = await writeWorld(12, writeGoldenModel)
    const weights = join(other.model, 'model.safetensors')
    const bytes = await readFile(weights)
    bytes[bytes.length - 3] ^= 0x10
    await writeFile(weights, bytes)
    const ofOther = { model: other.model, data: { train: other.pairs } }
    expect(await run('store-other', { featureStore, ...ofOther })).toEqual(await run('store-none-other', ofOther))
  })

  it('starts at the known loss, learns, and resumes bit-exactly', async () => {
    const whole = await train(config('whole'))
    const rows = (await readFile(join(world.root, 'whole', 'metrics.jsonl'), 'utf8')).trim().split('\n')
    const first = JSON.parse(rows[0])
    // The adapter starts at zero: policy and reference agree, and the loss is ln 2 (1 + gamma * share with a twin).
    expect(first['rewards/margins']).toBe(0)
    expect(first['rewards/accuracies']).toBe(0)
    expect(first['kl/mixed']).toBe(0)
    expect(first['loss/base']).toBeCloseTo(Math.LN2, 6)
    expect(first['loss/visual'] / (0.1 * Math.LN2)).toBeLessThanOrEqual(1 + 1e-6)
    expect(first.loss).toBeCloseTo(first['loss/base'] + first['loss/visual'] + first['loss/kl'], 6)
    expect(whole.last?.loss).toBeLessThan(first.loss)

    const stop = new AbortController()
    const onProgress = ({ step }: { step: number }): void => {
      if (step === 3) stop.abort()
    }
    await train(config('parts'), { stop: stop.signal, onProgress })
    const resumed = await train(config('parts', { threads: 2 }), { resume: true })
    expect(resumed).toMatchObject({ resumedFrom: 3, step: 6, interrupted: false })
    expect((await adapterOf('parts')).equals(await adapterOf('whole'))).toBe(true)
  })

  it.each(objectiveNames)('runs %s', async (name) => {
    const { last } = await train(config(`objective-${name}`, { objective: { name }, maxSteps: 2 }))
    expect(last).toMatchObject({ step: 2, grad_norm: expect.any(Number) })
    expect(last?.grad_norm).toBeGreaterThan(0)
    expect('rewards/visual/margins' in (last ?? {})).toBe(objectives[name].visual !== null)
    const terms = Object.entries(last ?? {}).filter(([key]) => key.startsWith('loss/'))
    expect(last?.loss).toBeCloseTo(
      terms.reduce((total, [, term]) => total + term, 0),
      5,
    )
  })

  it('says of v-dpo without a weight of the policy that it learned nothing', async () => {
    const twins = join(world.root, 'twins.jsonl')
    const withTwin = world.records.filter(({ corrupted }) => corrupted)
    await writeFile(twins, withTwin.map((record) => `${JSON.stringify(record)}\n`).join(''))
    const objective = { name: 'v-dpo', gamma: 0 } as const
    const { problem, last } = await train(config('nothing', { data: { train: twins }, objective, maxSteps: 2 }))
    expect(last).toMatchObject({ step: 2, grad_norm: 0 })
    expect(problem).toContain('the gradient is exactly 0 from step 1 to the end')
  })

  it('goes by image, and resumes bit-exactly', async () => {
    const byImage = (output: string) => settings(output, { data: { train: world.pairs, order: 'image' } })
    await train(resolveTrainConfig(byImage('image')))
    expect((await adapterOf('image')).equals(await adapterOf('whole'))).toBe(false)
    const stop = new AbortController()
    const onProgress = ({ step }: { step: number }): void => {
      if (step === 2) stop.abort()
    }
    await train(resolveTrainConfig(byImage('image-parts')), { stop: stop.signal, onProgress })
    await train(resolveTrainConfig(byImage('image-parts')), { resume: true })
    expect((await adapterOf('image-parts')).equals(await adapterOf('image'))).toBe(true)
  })

  it.each(['phrase', 'completion'] as const)(
    'computes no more rows than are estimated, and not many less: %s',
    async (scope) => {
      const planned = config('estimated', { objective: { name: 'fire', scope } })
      const { engine, examples, objective } = await preparePlan(planned)
      const rows = async (pairs: Example[], layout: 'packed' | 'pair'): Promise<number> => {
        const inputs = pairs.map(({ input }) => input)
        return (await engine.plan(inputs, objective, { normalizer: 1, layout })).tokens
      }
      const byImage = grouped(examples, firstImage)
      for (const pairs of [...examples.map((example) => [example]), ...byImage, examples]) {
        const share = (await rows(pairs, 'packed')) / estimateRows(pairs)
        expect(share).toBeLessThanOrEqual(1)
        // What both answers begin with is computed once, and what follows the last phrase not at all.
        expect(share).toBeGreaterThan(0.5)
      }
      const together = byImage.filter((pairs) => pairs.length > 1)
      expect(together.length).toBeGreaterThan(0)
      for (const pairs of together) expect(await rows(pairs, 'packed')).toBeLessThan(await rows(pairs, 'pair'))
      await engine.close()
    },
  )

  it.each(['mpo', 'cpo', 'orpo'] as const)(
    'averages the likelihood of %s over the step, whatever the micro-batch',
    async (name) => {
      const run = async (microBatchSize: number) => {
        const changes = { objective: { name }, maxSteps: 1, microBatchSize, lora: { rank: 8, alpha: 16, dropout: 0 } }
        const { last } = await train(config(`micro-${name}-${microBatchSize}`, changes))
        return { loss: last?.loss ?? 0, norm: last?.grad_norm ?? 0 }
      }
      const [whole, parts] = [await run(4), await run(1)]
      // Losses do not depend on the micro-batch; gradients add up in another order, in f32.
      expect(parts.loss).toBeCloseTo(whole.loss, 12)
      expect(parts.norm / whole.norm).toBeCloseTo(1, 5)
    },
  )

  it.each(['random', 'image'] as const)('drops the same values whatever the micro-batch: %s', async (order) => {
    const run = async (microBatchSize: number) => {
      const output = `dropped-${order}-${microBatchSize}`
      await train(config(output, { microBatchSize, maxSteps: 3, data: { train: world.pairs, order } }))
      const rows = (await readFile(join(world.root, output, 'metrics.jsonl'), 'utf8')).trim().split('\n')
      return rows.map((row) => JSON.parse(row) as Record<string, number>)
    }
    const [whole, parts] = [await run(4), await run(1)]
    const compared = Object.keys(whole[0]).filter((key) => /^(loss|grad_norm|rewards|logps|kl)/.test(key))
    expect(compared.length).toBeGreaterThan(10)
    // Gradients add up in another order, in f32, and three updates carry that on; other masks would show in the first digits.
    for (const [step, row] of whole.entries()) {
      for (const key of compared) {
        const size = Math.max(1, Math.abs(row[key]))
        expect(Math.abs(parts[step][key] - row[key]) / size, `${key} of step ${step + 1}`).toBeLessThan(1e-5)
      }
    }
  })

  it('survives kill -9 in a step or a save', async () => {
    expect(await killTraining('killed', { epochs: 12 }, [10, 45, 120])).toBeGreaterThan(0)
    await train(config('killed', { epochs: 12 }), { resume: true })
    await train(config('unkilled', { epochs: 12, checkpoint: { every: 0 } }))
    expect((await adapterOf('killed')).equals(await adapterOf('unkilled'))).toBe(true)
    const steps = await readdir(join(world.root, 'killed', 'checkpoints'))
    expect(steps.sort()).toEqual(['step-35', 'step-36'])
  })

  it('plans tokens and memory', async () => {
    const plan = await planTraining(config('planned'))
    expect(plan).toMatchObject({ totalSteps: 6, images: 6 })
    const { images, peak, ...memory } = plan.memory
    for (const value of [plan.tokens, plan.rows, images.features, images.pixels, ...Object.values(memory)]) {
      expect(value).toBeGreaterThan(0)
    }
    const parts = Object.values(memory).reduce((sum, bytes) => sum + bytes, images.features + images.pixels)
    expect(peak).toEqual({ device: 0, host: parts })
  })

  it('plans for a GPU that this machine need not have', async () => {
    const settings16 = { ...settings('planned'), device: 'cuda' as const, dtype: 'bf16' as const }
    const { memory } = await planTraining(resolveTrainConfig(settings16))
    const cpu = (await planTraining(config('planned'))).memory
    expect(memory.weights).toBeLessThan(cpu.weights) // matrices in bf16, where the file has f32
    const workspaces = 32 * 2 ** 20
    expect(memory.activations - workspaces).toBeLessThan(cpu.activations)
    const { weights, adapter, optimizer, activations, images } = memory
    expect(memory.peak.device).toBe(weights + adapter + optimizer + activations + images.features)
  })

  it('trains to the same bits with and without packed weights, which give way where memory is short', async () => {
    const lines: string[] = []
    const packed = config('packed', { packWeights: 'on' })
    const { packedBytes } = await train(packed, { onLog: (line) => lines.push(line) })
    expect(lines.join('\n')).toMatch(/packWeights: .* of copies/)
    const plain = config('unpacked', { packWeights: 'off' })
    expect((await train(plain)).packedBytes).toBe(0)
    expect((await adapterOf('packed')).equals(await adapterOf('unpacked'))).toBe(true)
    const { weights, packed: bytes, peak } = (await planTraining(packed)).memory
    // Two forms in f32, panels filled up; not of embeddings, norms and what no gradient flows through.
    expect(bytes).toBeGreaterThan(weights / 2)
    // What was planned, what the log says and what train.json keeps are one number; the engine alone knows only a bound.
    const { packedBytes: kept, model } = JSON.parse(await readFile(join(world.root, 'packed', 'train.json'), 'utf8'))
    expect([packedBytes, kept]).toEqual([bytes, bytes])
    expect(lines.join('\n')).toContain(`packWeights: ${(bytes / 2 ** 20).toFixed(0)} MiB of copies`)
    expect(model).not.toHaveProperty('packedBytes')
    expect(model.maxPackedBytes).toBeGreaterThan(bytes)
    expect((await planTraining(plain)).memory.packed).toBe(0)
    expect(peak.host).toBeGreaterThan(bytes)

    const free = vi.spyOn(process, 'availableMemory').mockReturnValue(4 * bytes - 1)
    const some = (await planTraining(config('some'))).memory.packed
    free.mockReturnValue(1)
    const none = (await planTraining(config('none'))).memory.packed
    free.mockRestore()
    expect(some).toBeGreaterThan(0)
    expect(some).toBeLessThan(bytes)
    expect(none).toBe(0)
  })

  it('chooses checkpointing by itself where memory would not suffice, and trains to the same bits', async () => {
    const kept = await train(config('kept'))
    expect(kept.checkpointing).toBe(false)
    const free = vi.spyOn(process, 'availableMemory').mockReturnValue(1 << 20)
    const lines: string[] = []
    const recomputed = await train(config('recomputed'), { onLog: (line) => lines.push(line) })
    free.mockRestore()
    expect(recomputed.checkpointing).toBe(true)
    expect(lines.join('\n')).toMatch(/checkpointing: on/)
    expect((await adapterOf('kept')).equals(await adapterOf('recomputed'))).toBe(true)
  })

  it('answers with and without a trained adapter, the same text in any batch', async () => {
    await using engine = await openEngine({
      model: world.model,
      adapter: join(world.root, 'whole', 'adapter'),
      threads: 1,
    })
    const chat = await Chat.load(world.model, engine.info)
    const questions = [0, 1, 2].map((index) => ({
      id: `q${index}`,
      prompt: `Where is the nodule? (${index})`,
      images: [join(world.root, `clean${index}.png`)],
    }))
    const sampling = { maxNewTokens: 12, temperature: 1, topP: 0.9, topK: 20, seed: 1, adapter: true }
    const texts = async (batchSize: number, asked = questions, seed = 1) => {
      const all: string[] = []
      for await (const { tokens } of answer(engine, chat, asked, { ...sampling, seed, batchSize }))
        all.push(tokens.join())
      return all
    }
    const together = await texts(3)
    expect(together).toHaveLength(3)
    expect(await texts(1)).toEqual(together)
    // several questions about each image share what they begin with
    const many = [0, 1, 2, 3, 4, 5, 6].map((index) => ({
      id: `m${index}`,
      prompt: `Is there an effusion? ${'x'.repeat(index)}`,
      images: [join(world.root, `clean${index % 2}.png`)],
    }))
    const shared = await texts(4, many)
    for (const [index, question] of many.entries()) {
      expect(await texts(1, [question], 1 + index)).toEqual([shared[index]])
    }
  })

  it('ends an answer at a stop string, in the engine itself', async () => {
    await using engine = await openEngine({ model: world.model, threads: 1 })
    const chat = await Chat.load(world.model, engine.info)
    const asked = [0, 1, 2].map((index) => ({ id: `q${index}`, prompt: `Where? (${index})`, images: [] }))
    const sampling = { maxNewTokens: 24, temperature: 1, topP: 1, topK: 0, seed: 3, adapter: true, batchSize: 2 }
    const run = async (stop: string[]) => {
      const all = []
      const streamed: string[] = []
      const onText = (index: number, text: string): void => {
        streamed[index] = (streamed[index] ?? '') + text
      }
      for await (const one of answer(engine, chat, asked, { ...sampling, stop }, { onText })) all.push(one)
      expect(all.map(({ text }) => text)).toEqual(all.map((_, index) => streamed[index] ?? ''))
      return all
    }
    const free = await run([])
    const decode = (tokens: number[]): string => chat.tokenizer.decode(tokens, { skipSpecial: true })
    // the ASCII text around the border of two tokens of the first answer
    const at = free[0].tokens.findIndex(
      (_, index) => index > 3 && /^[ -~]{2,}$/.test(decode(free[0].tokens.slice(index, index + 2))),
    )
    expect(at).toBeGreaterThan(0)
    const stop = decode(free[0].tokens.slice(at, at + 2))
    const stopped = await run([stop])
    for (const [index, { tokens, text, sampling: used }] of stopped.entries()) {
      const end = free[index].tokens.findIndex((_, last) =>
        decode(free[index].tokens.slice(0, last + 1)).includes(stop),
      )
      expect(tokens).toEqual(end < 0 ? free[index].tokens : free[index].tokens.slice(0, end + 1))
      expect(text).toBe(decode(tokens).split(stop)[0])
      if (end >= 0) expect(used.finish).toBe('stop')
    }
    expect(stopped[0].tokens.length).toBeLessThan(free[0].tokens.length)
  })

  it('names what is wrong with a model', async () => {
    const folder = join(world.root, 'broken')
    await writeGoldenModel(folder)
    const weights = await readFile(join(folder, 'model.safetensors'))
    await writeFile(join(folder, 'model.safetensors'), weights.subarray(0, weights.length - 100))
    await expect(openEngine({ model: folder })).rejects.toThrow(CheckpointError)
    await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: 'llama' }))
    await expect(openEngine({ model: folder })).rejects.toThrow(/llama/)
    await expect(openEngine({ model: folder })).rejects.toThrow(UnsupportedError)
    await expect(openEngine({ model: join(world.root, 'none') })).rejects.toThrow(FileError)
  })

  it('stops at weights that are not finite, naming the tensor', async () => {
    const folder = join(world.root, 'nan')
    await writeGoldenModel(folder)
    const weights = await readFile(join(folder, 'model.safetensors'))
    const header = JSON.parse(weights.subarray(8, 8 + Number(weights.readBigUInt64LE(0))).toString())
    const name = Object.keys(header).find((key) => key.endsWith('layers.2.mlp.up_proj.weight')) as string
    weights.writeFloatLE(Number.NaN, 8 + Number(weights.readBigUInt64LE(0)) + header[name].data_offsets[0])
    await writeFile(join(folder, 'model.safetensors'), weights)
    const failure = await train(config('from-nan', { model: folder })).catch((error) => error)
    expect(failure).toBeInstanceOf(NumericError)
    expect(failure.message).toContain(name)
    expect(existsSync(join(world.root, 'from-nan', 'checkpoints'))).toBe(false)
  })
})

describe.skipIf(!built)('HuatuoGPT-Vision from pairs to a merged model', () => {
  it('trains, answers, and answers the same as the LLaVA it is merged into', async () => {
    const world = await writeWorld(8, writeHuatuoModel)
    const { root, model } = world
    const output = join(root, 'run')
    const config = { model, data: { train: world.pairs }, output, batchSize: 4, optimizer: { lr: 1e-3 }, threads: 1 }
    const report = await train(resolveTrainConfig({ ...config, lora: { rank: 4, alpha: 8 } }))
    expect(report.model).toMatchObject({ family: 'llava_qwen2', imageTokenId: -200, eosTokenIds: [504] })
    const adapter = report.adapter as string

    const merged = join(root, 'merged')
    await mergeAdapter(model, adapter, merged)
    const questions = ['clean0.png', 'clean1.png'].map((name) => ({
      id: name,
      prompt: 'Where is the nodule?',
      images: [join(root, name), join(root, 'clean2.png')],
    }))
    const answersOf = async (spec: Parameters<typeof openEngine>[0]): Promise<string[]> => {
      await using engine = await openEngine({ ...spec, threads: 1 })
      const chat = await Chat.load(engine.spec.model, engine.info)
      const settings = { ...defaultGenerateSettings, maxNewTokens: 12 }
      const texts: string[] = []
      for await (const { text } of answer(engine, chat, questions, settings)) texts.push(text)
      return texts
    }
    const own = await answersOf({ model, adapter })
    expect(own.join('')).not.toBe('')
    expect(await answersOf({ model: merged })).toEqual(own)
  })
})
