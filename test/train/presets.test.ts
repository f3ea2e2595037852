import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { ConfigError } from '../../src/errors.js'
import { formatConfig, loadTrainConfig, resolveTrainConfig } from '../../src/train/config.js'
import { presetNames } from '../../src/train/presets.js'
import type { TrainConfig } from '../../src/train/settings.js'
import { temporaryFolder } from '../fakes/world.js'

const models = fileURLToPath(new URL('../../models', import.meta.url))
const paths = { model: '/m', data: { train: '/p.jsonl' }, output: '/o' }
const pathFlags = ['model=/m', 'data.train=/p.jsonl', 'output=/o']

let folder: string
let files = 0

beforeAll(async () => {
  folder = await temporaryFolder()
})

async function load(text: string, set: string[] = []): Promise<TrainConfig> {
  files += 1
  const path = join(folder, `${files}.yaml`)
  await writeFile(path, text)
  return loadTrainConfig(path, set)
}

const own = 'preset: qwen3-vl-4b\nmodel: model\ndata: { train: pairs.jsonl }\noutput: run\n'

/** The hyper-parameters of the paper's table and, where that is silent, of the authors' code. */
const published = {
  objective: { name: 'fire', beta: 0.1, alpha: 0.01, gamma: 0.1, lambda: 0.5, klReduction: 'sum' },
  lora: {
    rank: 128,
    alpha: 256,
    dropout: 0.05,
    rslora: true,
    targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
  },
  optimizer: { lr: 1e-6, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, maxGradNorm: 1 },
  schedule: { name: 'cosine', warmupSteps: null, warmupRatio: null },
  epochs: 1,
  batchSize: 8,
  dtype: 'bf16',
  seed: 42,
}

describe('presets', () => {
  it('are the files of models/', () => {
    expect(presetNames()).toEqual(['huatuogpt-vision-7b', 'phantom', 'qwen3-vl-4b'])
  })

  it.each(['qwen3-vl-4b', 'huatuogpt-vision-7b'] as const)('%s holds the published settings', async (name) => {
    const config = await loadTrainConfig(join(models, `${name}.yaml`), pathFlags)
    expect(config).toMatchObject(published)
    // No setting of the result: the same bits with and without.
    expect(config.checkpointing).toBe('auto')
    // The scale that the release trains with, as its comment says.
    const { alpha, rank } = config.lora as { alpha: number; rank: number }
    expect(alpha / Math.sqrt(rank)).toBeCloseTo(22.6, 1)
    expect(resolveTrainConfig({ preset: name, ...paths })).toEqual(config)
  })

  it('phantom is what the demo trains with, and brings its model', async () => {
    const config = await load('preset: phantom\ndata: { train: /p.jsonl }\noutput: /o\n')
    expect(config).toMatchObject({
      model: join(models, 'phantom'),
      epochs: 1,
      batchSize: 8,
      dtype: 'f32',
      lora: { rank: 32, alpha: 64, dropout: 0.05, rslora: true },
      optimizer: { lr: 1e-4 },
      objective: resolveTrainConfig({ ...paths }).objective,
    })
    const { train } = parse(await readFile(join(models, 'phantom', 'demo.yaml'), 'utf8'))
    expect(train).toEqual({ preset: 'phantom', objective: { name: 'fire' }, checkpoint: { every: 0 } })
  })
})

describe('preset: NAME', () => {
  it('lies under the file, and the file under flags, key by key', async () => {
    const config = await load(`${own}lora: { rank: 64, targets: [q_proj] }\nbatchSize: 4\n`, ['lora.rank=16', 'seed=1'])
    expect(config.lora).toEqual({
      init: null,
      reference: 'init',
      rank: 16,
      alpha: 256,
      dropout: 0.05,
      rslora: true,
      targets: ['q_proj'],
    })
    expect(config).toMatchObject({ batchSize: 4, seed: 1, dtype: 'bf16', epochs: 1 })
    expect(config).toMatchObject({ model: join(folder, 'model'), data: { train: join(folder, 'pairs.jsonl') } })
  })

  it('can come from a flag, which is stronger than the file', async () => {
    expect((await load(own, ['preset=phantom'])).lora.rank).toBe(32)
    expect((await load(own.replace(/preset.*\n/, ''), ['preset=phantom'])).optimizer.lr).toBe(1e-4)
    expect((await load(own.replace(/preset.*\n/, ''))).lora.rslora).toBe(false)
  })

  it('is spelled out in what is printed, which loads back to the same', async () => {
    const config = await load(own, ['objective.name=rrpo'])
    expect(formatConfig(config)).not.toContain('preset')
    expect(await load(formatConfig(config))).toEqual(config)
  })

  it('yields coefficients only to an objective that uses them', async () => {
    expect((await load(own, ['objective.name=dpo'])).objective).toMatchObject({ name: 'dpo', beta: 0.1 })
    expect((await load(`${own}objective: { name: sft }\n`)).objective.name).toBe('sft')
    // What somebody wrote for this run is still refused.
    await expect(load(`${own}objective: { name: dpo, gamma: 0.2 }\n`)).rejects.toThrow('does not use gamma')
  })
})

describe('mistakes with presets', () => {
  it('names the known presets, the one probably meant, and the place', async () => {
    const error = await load(own.replace('qwen3-vl-4b', 'qwen3-vl-4B')).catch((failure) => failure)
    expect(error).toBeInstanceOf(ConfigError)
    expect(error.message).toMatch(
      /\/\d+\.yaml:1: Unknown preset 'qwen3-vl-4B'; the presets are huatuogpt-vision-7b, phantom, qwen3-vl-4b; did you mean 'qwen3-vl-4b'\?$/,
    )
    await expect(load(own, ['preset=../package'])).rejects.toThrow(
      "--set preset=../package: Unknown preset '../package'",
    )
    expect(() => resolveTrainConfig({ preset: 'none', ...paths })).toThrow("Unknown preset 'none'")
    await expect(load(own.replace('qwen3-vl-4b', '3'))).rejects.toThrow('Expected a text for preset but received 3')
    await expect(load(own.replace('preset', 'presett'))).rejects.toThrow("did you mean 'preset'?")
  })

  it('places a mistake where it was made', async () => {
    await expect(load(`${own}lora:\n  rank: 0\n`)).rejects.toThrow(
      /\/\d+\.yaml:6: Expected a number > 0 for lora\.rank/,
    )
    // 9 pairs at once do not fit the 8 of the preset: the key of the file is at fault.
    await expect(load(`${own}microBatchSize: 9\n`)).rejects.toThrow(/\/\d+\.yaml:5: microBatchSize \(9\) is larger/)
    await expect(load('preset: phantom\noutput: run\n')).rejects.toThrow(/\/\d+\.yaml: data is missing/)
    await expect(load(`${own}lora: [128]\n`)).rejects.toThrow(/:5: Expected keys and values for lora/)
  })
})
