import { existsSync } from 'node:fs'
import { appendFile, cp, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { mergeWeights, openEngine } from '../../src/engine/engine.js'
import { CheckpointError, ConfigError, DataError, FileError, NumericError } from '../../src/errors.js'
import { resolveTrainConfig } from '../../src/train/config.js'
import { planTraining } from '../../src/train/plan.js'
import type { TrainConfig, TrainConfigInput } from '../../src/train/settings.js'
import { type TrainOptions, train } from '../../src/train/train.js'
import { goneOwner } from '../data/owners.js'
import { fakeNative, type World, writePairs, writeWorld } from '../fakes/world.js'
import { eventsOf } from './events.js'
import { repeatableRows } from './rows.js'

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

/** TensorBoard is told what metrics.jsonl says, each step once. */
async function expectSameEvents({ output }: TrainConfig): Promise<void> {
  const events = (await eventsOf(join(output, 'tensorboard'))).filter(({ scalars }) => scalars)
  const lines = (await readFile(join(output, 'metrics.jsonl'), 'utf8')).trimEnd().split('\n')
  const rows = lines.map((line) => JSON.parse(line) as Record<string, number>)
  expect(events.map(({ step, wallTime }) => [step, wallTime])).toEqual(rows.map((row) => [row.step, row.wall_time]))
  const losses = events.map(({ scalars = {} }) => scalars['train/loss'])
  expect(losses).toEqual(rows.map(({ loss }) => Math.fround(loss)))
}

/** What report.html says first, without markup. */
async function standingOf({ output }: TrainConfig): Promise<string> {
  const page = await readFile(join(output, 'report.html'), 'utf8')
  return page.slice(page.indexOf('class="standing')).replace(/<[^>]*>/g, '')
}

async function setContext(max_position_embeddings: number): Promise<void> {
  const path = join(world.model, 'config.json')
  const json = JSON.parse(await readFile(path, 'utf8'))
  await writeFile(path, JSON.stringify({ ...json, max_position_embeddings }))
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
      'inputs.json',
      'metrics.jsonl',
      'report.html',
      'tensorboard',
      'train.json',
    ])
    expect((await readdir(join(settings.output, 'checkpoints'))).sort()).toEqual(['step-6', 'step-8'])
    const rows = await repeatableRows(settings)
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

  it('writes neither page nor events where they are switched off', async () => {
    const settings = config('bare', { report: false, tensorboard: false })
    await run(settings)
    const names = await readdir(settings.output)
    expect(names).toContain('metrics.jsonl')
    expect(names.filter((name) => /report|tensorboard/.test(name))).toEqual([])
  })

  it('saves nothing when it is stopped before the first step', async () => {
    const settings = config('unstarted')
    expect(await run(settings, { stop: AbortSignal.abort() })).toMatchObject({
      ...{ step: 0, interrupted: true, checkpoint: null, adapter: null },
    })
    expect(await run(settings, { resume: true })).toMatchObject({ step: 8, resumedFrom: 0, interrupted: false })
  })

  it.each(['random', 'image'] as const)(
    'resumes bit-exactly after an interruption, wherever it fell: %s',
    async (order) => {
      const changes = { data: { train: world.pairs, order } }
      const whole = config('whole', changes)
      await run(whole)
      for (const stopAfter of [1, 3, 7]) {
        const parts = config(`parts-${stopAfter}`, changes)
        const stop = new AbortController()
        const interrupted = await run(parts, {
          stop: stop.signal,
          onProgress: ({ step }) => step === stopAfter && stop.abort(),
        })
        expect(interrupted).toMatchObject({ step: stopAfter, interrupted: true, adapter: null })
        expect(await standingOf(parts)).toContain(`Stopped; it goes on with --resume: step ${stopAfter} of 8`)
        expect(existsSync(join(parts.output, 'checkpoints', `step-${stopAfter}`, 'adapter'))).toBe(true)
        const left = `.tmp-step-99-${goneOwner()}.01234567`
        // What a kill after the checkpoint would leave: a half-written line and a half-written checkpoint.
        await appendFile(join(parts.output, 'metrics.jsonl'), '{"step": 99, "lo')
        await mkdir(join(parts.output, 'checkpoints', left))
        const resumed = await run(parts, { resume: true })
        expect(resumed).toMatchObject({ step: 8, resumedFrom: stopAfter, interrupted: false })
        expect(await repeatableRows(parts)).toEqual(await repeatableRows(whole))
        expect(await adapterOf(parts)).toBe(await adapterOf(whole))
        await expectSameEvents(parts)
        expect(await standingOf(parts)).toContain('Complete: step 8 of 8')
        expect(await readdir(join(parts.output, 'checkpoints'))).not.toContain(left)
      }
    },
  )

  it('has nothing to do when a complete run is resumed', async () => {
    const settings = config('done')
    await run(settings)
    const adapter = await adapterOf(settings)
    expect(await run(settings, { resume: true })).toMatchObject({ step: 8, resumedFrom: 8, last: null })
    expect(await adapterOf(settings)).toBe(adapter)
  })

  it.each(['random', 'image'] as const)('accumulates micro-batches to the same step: %s', async (order) => {
    const stepsOf = async (microBatchSize: number) => {
      const changes = { microBatchSize, maxSteps: 3, lora: { dropout: 0 }, data: { train: world.pairs, order } }
      const settings = config(`by-${microBatchSize}`, changes)
      await run(settings)
      const [first] = await repeatableRows(settings)
      return { first, parameters: JSON.parse(await adapterOf(settings)) as number[] }
    }
    const whole = await stepsOf(4)
    for (const microBatchSize of [3, 2, 1]) {
      const parts = await stepsOf(microBatchSize)
      // Losses are the same bits; gradients add up in another order.
      expect({ ...parts.first, grad_norm: 0 }).toEqual({ ...whole.first, grad_norm: 0 })
      for (const [index, value] of parts.parameters.entries()) expect(value).toBeCloseTo(whole.parameters[index], 10)
    }
  })

  it('takes the pairs in another order by image, and shows it in the metrics of the first step', async () => {
    const first = async (order: 'random' | 'image') => {
      const settings = config(order, { maxSteps: 1, data: { train: world.pairs, order } })
      await run(settings)
      return (await repeatableRows(settings))[0]
    }
    const [random, image] = [await first('random'), await first('image')]
    expect(image.num_tokens).not.toBe(random.num_tokens)
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
    await expect(
      run(config('used', { maxSteps: 3, data: { train: world.pairs, order: 'image' } }), { resume: true }),
    ).rejects.toThrow(/data\.order: "random" then, "image" now/)
    await run(config('used', { maxSteps: 3, threads: 1, logEvery: 5 }), { resume: true })
    await writeFile(join(settings.output, 'mine.txt'), 'kept')
    await run(config('used', { maxSteps: 3, seed: 7 }), { overwrite: true })
    expect(await readFile(join(settings.output, 'mine.txt'), 'utf8')).toBe('kept')
    await writePairs(world.pairs, world.records.slice(1))
    await expect(run(config('used', { maxSteps: 3, seed: 7 }), { resume: true })).rejects.toThrow(/has changed since/)
  })

  it('clears what a run left that was cut off before its first checkpoint, and refuses one of other settings', async () => {
    const changes = {
      ...{ data: { train: world.pairs, eval: world.pairs }, evalEvery: 2, evalSamples: 1 },
      checkpoint: { every: 0, best: 'eval_loss' },
    } as const
    const settings = config('cut-off', changes)
    const cut = new AbortController()
    const killed = run(settings, { signal: cut.signal, onProgress: ({ step }) => step === 5 && cut.abort() })
    await expect(killed).rejects.toThrow()
    await writeFile(join(settings.output, 'mine.txt'), 'kept')
    const left = async () => (await readdir(settings.output, { recursive: true })).sort()
    expect(await left()).toEqual(expect.arrayContaining(['best', join('samples', 'step-4.md')]))
    const before = await left()
    await expect(run(config('cut-off', { ...changes, seed: 7 }), { resume: true })).rejects.toThrow(
      /cut-off\/config\.resolved\.yaml:\n {2}seed: 42 then, 7 now/,
    )
    expect(await left()).toEqual(before)

    const lines: string[] = []
    const again = new AbortController()
    await run(settings, {
      ...{ resume: true, stop: again.signal, onLog: (line: string) => lines.push(line) },
      onProgress: ({ step }) => step === 1 && again.abort(),
    })
    expect((await left()).filter((name) => /^(best|samples|train\.json)/.test(name))).toEqual([])
    expect(lines).toContainEqual(expect.stringMatching(/^no checkpoint to resume from: .*best.*samples/))
    expect(await readFile(join(settings.output, 'mine.txt'), 'utf8')).toBe('kept')
    const whole = config('not-cut-off', changes)
    await run(whole)
    await run(settings, { resume: true })
    expect(await adapterOf(settings)).toBe(await adapterOf(whole))
    expect(existsSync(join(settings.output, 'best', 'adapter_model.safetensors'))).toBe(true)
  })

  it('does not take a finished run without a checkpoint for one that was cut off', async () => {
    const settings = config('uncheckpointed', { maxSteps: 2, checkpoint: { every: 0 } })
    await run(settings)
    const adapter = await adapterOf(settings)
    await expect(run(settings, { resume: true })).rejects.toThrow(
      /uncheckpointed holds a finished run, and no checkpoint to go on from/,
    )
    expect(await adapterOf(settings)).toBe(adapter)
    // Killed between the adapter and the report, or the disk was full: the adapter is what the run was for.
    await rename(join(settings.output, 'train.json'), join(world.root, 'train.json'))
    const started = vi.fn()
    const refused = await run(settings, { resume: true, onStart: started }).catch((error) => error)
    expect(refused).toBeInstanceOf(CheckpointError)
    expect(refused.hint).toContain('Its adapter is whole, only train.json is missing')
    expect(started).not.toHaveBeenCalled()
    expect(await adapterOf(settings)).toBe(adapter)
    // A pipeline that was killed before it had written the end down.
    expect(await run(settings, { resume: true, overwrite: true })).toMatchObject({ step: 2, resumedFrom: 0 })
    expect(await adapterOf(settings)).toBe(adapter)
  })

  it('knows its model by its content: one that moved is the same, another one at its place is refused', async () => {
    const model = join(world.root, 'first-model')
    await cp(world.model, model, { recursive: true })
    const at = (place: string) => config('models', { maxSteps: 3, model: place })
    await run(at(model))
    const moved = join(world.root, 'moved-model')
    await rename(model, moved)
    expect(await run(at(moved), { resume: true })).toMatchObject({ step: 3, resumedFrom: 3 })
    await cp(moved, model, { recursive: true })
    await writeFile(join(model, 'config.json'), '{"other": true}')
    await expect(run(at(model), { resume: true })).rejects.toThrow(/The model in .*first-model has changed since/)
  })

  it('knows the model of a run that was cut off before its first checkpoint in the same way', async () => {
    const model = join(world.root, 'cut-model')
    await cp(world.model, model, { recursive: true })
    const at = (place: string) => config('cut-models', { maxSteps: 3, model: place, checkpoint: { every: 0 } })
    const cut = new AbortController()
    const killed = run(at(model), { signal: cut.signal, onProgress: () => cut.abort() })
    await expect(killed).rejects.toThrow()
    const moved = join(world.root, 'moved-cut-model')
    await rename(model, moved)
    const other = join(world.root, 'other-model')
    await cp(moved, other, { recursive: true })
    await writeFile(join(other, 'config.json'), '{"other": true}')
    await expect(run(at(other), { resume: true })).rejects.toThrow(/cut-models\/config\.resolved\.yaml:\n {2}model: /)
    await rename(other, model)
    await expect(run(at(model), { resume: true })).rejects.toThrow(/The model in .*cut-model has changed since/)
    expect(await run(at(moved), { resume: true })).toMatchObject({ step: 3, resumedFrom: 0 })
  })

  it.each([
    ['a setting', () => train({ lrr: 1 } as never), /Unknown key lrr; did you mean 'optimizer\.lr'/],
    ['an option', () => train(config('none'), { resum: true } as never), /'resum' of train; did you mean 'resume'/],
  ])('refuses %s that it does not know', async (_, call, message) => {
    await expect(call()).rejects.toThrow(message)
  })

  it('keeps an earlier run when the one that should replace it cannot start', async () => {
    const settings = config('precious', { maxSteps: 1 })
    await run(settings)
    await writePairs(world.pairs, [{ ...world.records[0], chosen: 'too short' }])
    await expect(run(settings, { overwrite: true })).rejects.toThrow(DataError)
    expect(existsSync(join(settings.output, 'adapter', 'adapter_model.safetensors'))).toBe(true)
  })

  it('does not overwrite what the new run starts from', async () => {
    const settings = config('start', { maxSteps: 1 })
    await run(settings)
    const init = join(settings.output, 'adapter')
    const again = config('start', { maxSteps: 1, lora: { init } })
    await expect(run(again, { overwrite: true })).rejects.toThrow(
      /lora\.init is .*adapter, which would be deleted with .*adapter of an earlier run/,
    )
    expect(existsSync(join(init, 'adapter_model.safetensors'))).toBe(true)
  })

  it('says which folder of a run is the adapter', async () => {
    const settings = config('a-run', { maxSteps: 1 })
    await run(settings)
    const failure = await run(config('on', { lora: { init: settings.output } })).catch((error) => error)
    expect(failure).toBeInstanceOf(FileError)
    expect(failure.message).toBe(`${settings.output} is no adapter; it holds ${join(settings.output, 'adapter')}`)
    expect(failure.hint).toBe(`Name ${join(settings.output, 'adapter')}.`)
  })

  it('names step and pair of a loss that is not finite and saves nothing over the last checkpoint', async () => {
    const settings = config('nan', { checkpoint: { every: 1 } })
    const stop = new AbortController()
    await run(settings, { stop: stop.signal, onProgress: ({ step }) => step === 2 && stop.abort() })
    process.env.FIRE_FAKE_NAN = 'pair-6'
    const failure = await run(settings, { resume: true }).catch((error) => error)
    expect(failure).toBeInstanceOf(NumericError)
    expect(failure.message).toMatch(/^Step \d: the loss is not a finite number for pair\(s\) "pair-6"$/)
    expect(await standingOf(settings)).toMatch(/^[^:]*Failed: step \d[\s\S]*the loss is not a finite number/)
    const steps = await readdir(join(settings.output, 'checkpoints'))
    expect(steps).toContain(`step-${failure.detail.step - 1}`)
    expect(steps).not.toContain(`step-${failure.detail.step}`)
  })

  it('rejects with an error of its own at its signal and leaves the engine closed', async () => {
    const native = fakeNative()
    const controller = new AbortController()
    const reason = new Error('enough')
    const running = train(config('aborted'), {
      native,
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    })
    await expect(running).rejects.toMatchObject({ code: 'ERR_FIRE_ABORTED', cause: reason })
    expect(native.engines[0].closed).toBe(true)
  })

  it('does not wait for a step that takes long, and resumes bit-exactly', async () => {
    const whole = config('patient')
    await run(whole)
    const settings = config('impatient')
    const stop = new AbortController()
    const native = fakeNative()
    const running = train(settings, {
      native,
      stop: stop.signal,
      onProgress({ step }) {
        if (step !== 3) return
        process.env.FIRE_FAKE_DELAY_MS = '2500'
        setTimeout(() => stop.abort(), 100)
      },
    })
    const report = await running.finally(() => delete process.env.FIRE_FAKE_DELAY_MS)
    expect(report).toMatchObject({ step: 3, interrupted: true, checkpoint: expect.stringContaining('step-3') })
    // The fake's dropout counter is one of its state, which the native engine puts back itself.
    expect(await run(settings, { resume: true })).toMatchObject({ step: 8, resumedFrom: 3 })
    expect(await adapterOf(settings)).toBe(await adapterOf(whole))
  })

  it('leaves out a pair that cannot be used, names it, and goes on', async () => {
    const { images } = world.records[0]
    const thin = { ...images[0], path: 'gone.png' }
    const long = 'word '.repeat(5000)
    await writePairs(world.pairs, [
      { ...world.records[0], id: 'gone', images: [thin] },
      ...world.records,
      { ...world.records[0], id: 'long', prompt: long },
    ])
    await setContext(4096)
    const settings = config('some')
    const report = await run(settings)
    expect(report).toMatchObject({ interrupted: false, problem: null, pairs: { read: 15, kept: 13, failed: 2 } })
    expect(report.warnings.at(-1)).toMatch(
      /^2 pairs left out, they cannot be used; first: .*:1: record gone: .*gone\.png/,
    )
    const failed = (await readFile(join(settings.output, 'failed.jsonl'), 'utf8')).trimEnd().split('\n')
    expect(failed.map((line) => JSON.parse(line))).toMatchObject([
      { id: 'gone', code: 'ERR_FIRE_IO' },
      { id: 'long', code: 'ERR_FIRE_DATA', reason: expect.stringMatching(/record long: it takes \d+ tokens.*4096/) },
    ])
    // Told so, it takes the long one.
    expect(await run(config('told', { beyondContext: true }))).toMatchObject({ pairs: { kept: 14, failed: 1 } })
    await writePairs(world.pairs, [{ ...world.records[0], id: 'gone', images: [thin] }])
    await expect(run(config('none'))).rejects.toThrow(/no pair to train on \(1 read\); first failure: .*record gone/)
  })

  it('does not resume with other pairs than before', async () => {
    const settings = config('other-pairs')
    const stop = new AbortController()
    await run(settings, { stop: stop.signal, onProgress: ({ step }) => step === 2 && stop.abort() })
    const image = join(world.root, world.records[5].images[0].path)
    const bytes = await readFile(image)
    await writeFile(image, 'no image')
    await expect(run(settings, { resume: true })).rejects.toThrow(
      /Other pairs can be used than when .*step-2 was written/,
    )
    await writeFile(image, bytes)
    expect(await run(settings, { resume: true })).toMatchObject({ step: 8, interrupted: false })
  })

  it('trains with the weight of a pair, counts pairs of weight 0, and refuses nothing but those', async () => {
    const weighted = world.records.map((record, index) => ({ ...record, weight: [0.2, 0, 1][index % 3] }))
    await writePairs(world.pairs, weighted)
    const settings = config('weighted', {
      epochs: 1,
      batchSize: 13,
      microBatchSize: null,
      objective: { gamma: 0, alpha: 0 },
    })
    await run(settings)
    const [row] = await repeatableRows(settings)
    const mean = weighted.reduce((sum, { weight }) => sum + weight, 0) / 13
    expect(row.weight).toBeCloseTo(mean, 12)
    expect(row.loss).toBeCloseTo(mean * Math.LN2, 12)
    expect(row['loss/base']).toBeCloseTo(row.loss, 12)
    await writePairs(
      world.pairs,
      world.records.map((record) => ({ ...record, weight: 0 })),
    )
    await expect(run(config('weightless'))).rejects.toThrow(/no pair whose weight is above 0/)
  })

  it.each([
    ['the gradient is exactly 0 from step 1 to the end', { objective: { name: 'dpo', beta: 0 } }],
    ['the gradient is exactly 0 from step 1 to the end', { objective: { beta: 0, alpha: 0, gamma: 0 } }],
  ] as const)('says of a run that %s', async (problem, changes) => {
    const settings = config('problem', changes as Partial<TrainConfigInput>)
    const report = await run(settings)
    expect(report.problem).toContain(problem)
    const marked = JSON.parse(await readFile(join(settings.output, 'adapter', 'problem.json'), 'utf8'))
    expect(marked).toEqual({ problem: report.problem })
    expect(await repeatableRows(settings)).toHaveLength(8)
    const both = { model: settings.model, adapter: join(settings.output, 'adapter') }
    const merged = { ...both, output: join(settings.output, 'merged'), shardBytes: 1e9, rename: [] }
    for (const use of [() => openEngine(both, { native: fakeNative() }), () => mergeWeights(merged)]) {
      await expect(use()).rejects.toThrow(`is not to be used: ${report.problem}`)
    }
    // A resume of the finished run says so again.
    expect((await run(settings, { resume: true })).problem).toBe(report.problem)
  })

  it('checks the settings it is given', async () => {
    const settings = config('checked')
    const broken = { ...settings, optimizer: { ...settings.optimizer, lr: Number.NaN } }
    await expect(run(broken)).rejects.toThrow(ConfigError)
    await expect(run({ ...settings, batchsize: 3 } as TrainConfig)).rejects.toThrow(/batchsize/)
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
    const warnings = logged.filter((line) => line.startsWith('warning: '))
    expect(new Set(warnings).size).toBe(warnings.length)
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
