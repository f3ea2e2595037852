import { existsSync } from 'node:fs'
import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { mergeWeights, openEngine } from '../../src/engine/engine.js'
import { ConfigError, NumericError } from '../../src/errors.js'
import { planTraining } from '../../src/train/plan.js'
import type { TrainConfig, TrainConfigInput } from '../../src/train/settings.js'
import { train } from '../../src/train/train.js'
import { goneOwner } from '../data/owners.js'
import { fakeNative, type World, writePairs, writeWorld } from '../fakes/world.js'
import { eventsOf } from './events.js'
import { adapterOf, configOf, run } from './fake-runs.js'
import { repeatableRows } from './rows.js'

let world: World

beforeEach(async () => {
  world = await writeWorld(13)
})

afterEach(() => {
  delete process.env.FIRE_FAKE_NAN
})

const config = (output: string, changes: Partial<TrainConfigInput> = {}) => configOf(world, output, changes)

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
        expect(await standingOf(parts)).toMatch(
          new RegExp(`Stopped: step ${stopAfter} of 8[^]*The same command with --resume goes on `),
        )
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
      const changes = { microBatchSize, maxSteps: 3, data: { train: world.pairs, order } }
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

  it.each([
    ['a setting', () => train({ lrr: 1 } as never), /Unknown key lrr; did you mean 'optimizer\.lr'/],
    ['an option', () => train(config('none'), { resum: true } as never), /'resum' of train; did you mean 'resume'/],
  ])('refuses %s that it does not know', async (_, call, message) => {
    await expect(call()).rejects.toThrow(message)
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
