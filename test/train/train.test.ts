import { existsSync } from 'node:fs'
import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CheckpointError, ConfigError, DataError, NumericError } from '../../src/errors.js'
import { resolveTrainConfig } from '../../src/train/config.js'
import { planTraining } from '../../src/train/plan.js'
import type { TrainConfig, TrainConfigInput } from '../../src/train/settings.js'
import { type TrainOptions, train } from '../../src/train/train.js'
import { goneOwner } from '../data/owners.js'
import { fakeNative, type World, writePairs, writeWorld } from '../fakes/world.js'

let world: World

beforeEach(async () => {
  world = await writeWorld(13)
})

afterEach(() => {
  delete process.env.FIRE_FAKE_NAN
})

function config(output: string, changes: Partial<TrainConfigInput> = {}): TrainConfig {
  return resolveTrainConfig({
    model: world.model,
    data: { train: world.pairs },
    output: join(world.root, output),
    optimizer: { lr: 0.05 },
    epochs: 2,
    batchSize: 4,
    microBatchSize: 3,
    checkpoint: { every: 3, keep: 2 },
    ...changes,
  })
}

const run = (settings: TrainConfig, options: TrainOptions = {}) => train(settings, { native: fakeNative(), ...options })

async function metricsOf(settings: TrainConfig): Promise<Record<string, number>[]> {
  const text = await readFile(join(settings.output, 'metrics.jsonl'), 'utf8')
  return text
    .trimEnd()
    .split('\n')
    .map((line) => {
      const { tokens_per_second: _, pairs_per_second: __, ...row } = JSON.parse(line)
      return row
    })
}

const adapterOf = (settings: TrainConfig) =>
  readFile(join(settings.output, 'adapter', 'adapter_model.safetensors'), 'utf8')

describe('train', () => {
  it('writes the run folder and TRL-named metrics that add up', async () => {
    const settings = config('run')
    const report = await run(settings)
    expect(report).toMatchObject({ step: 8, totalSteps: 8, interrupted: false, resumedFrom: 0 })
    expect((await readdir(settings.output)).sort()).toEqual([
      'adapter',
      'checkpoints',
      'config.resolved.yaml',
      'metrics.jsonl',
      'train.json',
    ])
    expect((await readdir(join(settings.output, 'checkpoints'))).sort()).toEqual(['step-6', 'step-8'])
    const rows = await metricsOf(settings)
    expect(rows).toHaveLength(8)
    const first = rows[0]
    expect(first.loss).toBeCloseTo(first['loss/base'] + first['loss/visual'] + first['loss/kl'], 10)
    expect(first['rewards/accuracies']).toBe(0)
    expect(first.epoch).toBe(0.25)
    expect(first.learning_rate).toBe(0.05)
    for (const key of ['rewards/margins', 'rewards/visual/accuracies', 'logps/rejected', 'kl/mixed', 'grad_norm']) {
      expect(first).toHaveProperty([key])
    }
    expect(rows[7].loss).toBeLessThan(first.loss)
  })

  it('saves nothing when it is stopped before the first step', async () => {
    const settings = config('unstarted')
    expect(await run(settings, { stop: AbortSignal.abort() })).toMatchObject({
      ...{ step: 0, interrupted: true, checkpoint: null, adapter: null },
    })
    expect(await run(settings, { resume: true })).toMatchObject({ step: 8, resumedFrom: 0, interrupted: false })
  })

  it('resumes bit-exactly after an interruption, wherever it fell', async () => {
    const whole = config('whole')
    await run(whole)
    for (const stopAfter of [1, 3, 7]) {
      const parts = config(`parts-${stopAfter}`)
      const stop = new AbortController()
      const interrupted = await run(parts, {
        stop: stop.signal,
        onProgress: ({ step }) => step === stopAfter && stop.abort(),
      })
      expect(interrupted).toMatchObject({ step: stopAfter, interrupted: true, adapter: null })
      expect(existsSync(join(parts.output, 'checkpoints', `step-${stopAfter}`, 'adapter'))).toBe(true)
      const left = `.tmp-step-99-${goneOwner()}.01234567`
      // What a kill after the checkpoint would leave: a half-written line and a half-written checkpoint.
      await appendFile(join(parts.output, 'metrics.jsonl'), '{"step": 99, "lo')
      await mkdir(join(parts.output, 'checkpoints', left))
      const resumed = await run(parts, { resume: true })
      expect(resumed).toMatchObject({ step: 8, resumedFrom: stopAfter, interrupted: false })
      expect(await metricsOf(parts)).toEqual(await metricsOf(whole))
      expect(await adapterOf(parts)).toBe(await adapterOf(whole))
      expect(await readdir(join(parts.output, 'checkpoints'))).not.toContain(left)
    }
  })

  it('has nothing to do when a complete run is resumed', async () => {
    const settings = config('done')
    await run(settings)
    const adapter = await adapterOf(settings)
    expect(await run(settings, { resume: true })).toMatchObject({ step: 8, resumedFrom: 8, last: null })
    expect(await adapterOf(settings)).toBe(adapter)
  })

  it('accumulates micro-batches to the same step', async () => {
    const one = config('one', { microBatchSize: 4, maxSteps: 3 })
    const many = config('many', { microBatchSize: 1, maxSteps: 3 })
    await run(one)
    await run(many)
    expect(await adapterOf(many)).toBe(await adapterOf(one))
  })

  it('encodes an image once while the cache holds it, and again when it does not', async () => {
    const native = fakeNative()
    await train(config('wide'), { native })
    await train(config('narrow', { imageCache: 1 }), { native })
    // Each run plans with an engine that computes nothing, then trains with another.
    const [wide, narrow] = native.engines.filter((engine) => !engine.spec.planOnly)
    expect(native.engines.map((engine) => engine.closed)).toEqual([true, true, true, true])
    expect(wide.encoded).toBe(6)
    expect(narrow.encoded).toBeGreaterThan(6)
    expect(narrow.images.size).toBeLessThanOrEqual(6)
  })

  it('refuses a folder that holds a run, and a resume under other settings or data', async () => {
    const settings = config('used', { maxSteps: 3 })
    await run(settings)
    await expect(run(settings)).rejects.toThrow(CheckpointError)
    await expect(run(config('used', { maxSteps: 3, seed: 7 }), { resume: true })).rejects.toThrow(
      /seed: 42 then, 7 now/,
    )
    await run(config('used', { maxSteps: 3, threads: 1, logEvery: 5 }), { resume: true })
    await writeFile(join(settings.output, 'mine.txt'), 'kept')
    await run(config('used', { maxSteps: 3, seed: 7 }), { overwrite: true })
    expect(await readFile(join(settings.output, 'mine.txt'), 'utf8')).toBe('kept')
    await writePairs(world.pairs, world.records.slice(1))
    await expect(run(config('used', { maxSteps: 3, seed: 7 }), { resume: true })).rejects.toThrow(/has changed since/)
  })

  it('keeps an earlier run when the one that should replace it cannot start', async () => {
    const settings = config('precious', { maxSteps: 1 })
    await run(settings)
    await writePairs(world.pairs, [{ ...world.records[0], chosen: 'too short' }])
    await expect(run(settings, { overwrite: true })).rejects.toThrow(DataError)
    expect(existsSync(join(settings.output, 'adapter', 'adapter_model.safetensors'))).toBe(true)
  })

  it('names step and pair of a loss that is not finite and saves nothing over the last checkpoint', async () => {
    const settings = config('nan', { checkpoint: { every: 1 } })
    const stop = new AbortController()
    await run(settings, { stop: stop.signal, onProgress: ({ step }) => step === 2 && stop.abort() })
    process.env.FIRE_FAKE_NAN = 'pair-6'
    const failure = await run(settings, { resume: true }).catch((error) => error)
    expect(failure).toBeInstanceOf(NumericError)
    expect(failure.message).toMatch(/^Step \d: the loss is not a finite number for pair\(s\) "pair-6"$/)
    const steps = await readdir(join(settings.output, 'checkpoints'))
    expect(steps).toContain(`step-${failure.detail.step - 1}`)
    expect(steps).not.toContain(`step-${failure.detail.step}`)
  })

  it('rejects with the reason of its signal and leaves the engine closed', async () => {
    const native = fakeNative()
    const controller = new AbortController()
    const reason = new Error('enough')
    const running = train(config('aborted'), {
      native,
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    })
    await expect(running).rejects.toBe(reason)
    expect(native.engines[0].closed).toBe(true)
  })

  it('leaves out pairs as configured and counts them', async () => {
    await writePairs(world.pairs, [
      ...world.records,
      { ...world.records[0], id: 'same', rejected: world.records[0].chosen, edits: [] },
      {
        ...world.records[0],
        id: 'bare',
        chosen: 'A b',
        rejected: 'A',
        edits: [{ chosen: [1, 3], rejected: [1, 1], category: 'x' }],
      },
    ])
    const logged: string[] = []
    const report = await run(config('counted', { maxSteps: 1 }), { onLog: (line) => logged.push(line) })
    expect(report.pairs).toMatchObject({ read: 15, kept: 13, identical: 1, emptyPhrase: 1, withoutCorrupted: 2 })
    expect(logged.join('\n')).toMatch(
      /warning: 1 pair left out, chosen and rejected are the same text; first: .*:14: record same/,
    )
    const strict = config('strict', { maxSteps: 1, objective: { emptyPhrase: 'error' } })
    await expect(run(strict)).rejects.toThrow(/:15: record bare: the rejected answer has no phrase/)
    const whole = await run(config('dpo', { maxSteps: 1, objective: { name: 'dpo' } }))
    expect(whole.pairs.kept).toBe(14)
  })

  it('plans without writing', async () => {
    const plan = await planTraining(config('planned'), { native: fakeNative() })
    expect(plan).toMatchObject({ stepsPerEpoch: 4, totalSteps: 8, images: 6, trainableParameters: 4 })
    expect(plan.tokens).toBeGreaterThan(0)
    expect(existsSync(join(world.root, 'planned'))).toBe(false)
  })

  it('refuses an objective with a coefficient it does not use', () => {
    expect(() => config('x', { objective: { name: 'dpo', gamma: 0.1 } })).toThrow(ConfigError)
  })
})
