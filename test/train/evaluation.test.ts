/** Held-out evaluation, early stopping, the best adapter, the self-check and `lora.init`, on the in-memory engine. */
import { existsSync } from 'node:fs'
import { cp, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Pair } from '../../src/data/records.js'
import { refuseUnfit } from '../../src/engine/unfit-adapter.js'
import { CheckpointError, ConfigError, DataError, SelfCheckError } from '../../src/errors.js'
import type { Example } from '../../src/train/collate.js'
import { formatConfig, resolveTrainConfig } from '../../src/train/config.js'
import { shareOf } from '../../src/train/held-out.js'
import type { EvaluationRow } from '../../src/train/metrics.js'
import { planTraining } from '../../src/train/plan.js'
import type { TrainConfig, TrainConfigInput } from '../../src/train/settings.js'
import { fakeNative, type World, writeImage, writePairs, writeWorld } from '../fakes/world.js'
import { configOf, run } from './fake-runs.js'
import { repeatableRows } from './rows.js'

let world: World
let heldOut: string

/** Pairs whose preference is the other way round: what is learned makes them worse, so an evaluation has a turning point. */
const reversed = ({ chosen, rejected, edits, ...rest }: Pair): Pair => ({
  ...rest,
  chosen: rejected,
  rejected: chosen,
  edits: edits.map(({ chosen: mine, rejected: other, category }) => ({ chosen: other, rejected: mine, category })),
})

beforeEach(async () => {
  world = await writeWorld(13)
  heldOut = join(world.root, 'held-out.jsonl')
  await writePairs(heldOut, world.records.slice(0, 5))
})

afterEach(() => {
  delete process.env.FIRE_FAKE_DRIFT
  delete process.env.FIRE_FAKE_DELAY_MS
})

const config = (output: string, changes: Partial<TrainConfigInput> = {}) =>
  configOf(world, output, { data: { train: world.pairs, eval: heldOut }, epochs: 3, evalEvery: 2, ...changes })

const evaluationsOf = async (settings: TrainConfig) =>
  (await repeatableRows(settings)).filter((row) => row.eval_loss !== undefined)

const weightsOf = (settings: TrainConfig, name = 'adapter') =>
  readFile(join(settings.output, name, 'adapter_model.safetensors'), 'utf8')

describe('evaluation while training', () => {
  it('writes rows under the names of TRL, every evalEvery steps and at the end, and changes nothing of the training', async () => {
    const settings = config('evaluated')
    const lines: string[] = []
    const told: EvaluationRow[] = []
    const onEvaluation = (row: EvaluationRow) => told.push(row)
    const report = await run(settings, { onLog: (line) => lines.push(line), onEvaluation })
    const rows = await evaluationsOf(settings)
    expect(told.map(({ step, eval_loss }) => [step, eval_loss])).toEqual(rows.map((row) => [row.step, row.eval_loss]))
    expect(rows.map(({ step }) => step)).toEqual([2, 4, 6, 8, 10, 12])
    for (const key of [
      'eval_loss/base',
      'eval_rewards/margins',
      'eval_rewards/chosen',
      'eval_logps/rejected',
      'eval_kl/mixed',
    ])
      expect(rows[0]).toHaveProperty([key])
    expect(rows[5].eval_loss).toBeLessThan(rows[0].eval_loss)
    expect(rows[5]['eval_rewards/accuracies']).toBe(1)
    expect(report).toMatchObject({ heldOut: 5, evaluation: { step: 12 }, stoppedEarly: null, best: null })
    expect(lines.filter((line) => line.startsWith('held-out pairs after step'))).toHaveLength(6)

    const plain = config('plain', { data: { train: world.pairs } })
    await run(plain)
    expect(await weightsOf(plain)).toBe(await weightsOf(settings))
    expect((await repeatableRows(settings)).filter(({ loss }) => loss !== undefined)).toEqual(
      await repeatableRows(plain),
    )
  })

  it('evaluates at the end only with evalEvery 0, and measures KL where the objective has none', async () => {
    const settings = config('dpo', { evalEvery: 0, objective: { name: 'dpo' } })
    await run(settings)
    const [row, ...others] = await evaluationsOf(settings)
    expect(others).toEqual([])
    expect(row).toMatchObject({
      step: 12,
      'eval_kl/forward': expect.any(Number),
      'eval_kl/reverse': expect.any(Number),
    })
    expect(row['eval_kl/forward']).toBeGreaterThan(0)
  })

  it('gives the same numbers in any micro-batch', async () => {
    const last = async (microBatchSize: number) => {
      const settings = config(`micro-${microBatchSize}`, { microBatchSize, maxSteps: 1 })
      await run(settings)
      return (await evaluationsOf(settings))[0]
    }
    const [one, four] = [await last(1), await last(4)]
    for (const [key, value] of Object.entries(four)) expect(one[key], key).toBeCloseTo(value, 10)
  })

  it('holds out whole images by their content, the same ones whatever the seed and the other pairs, and trains on none', async () => {
    const images = await Promise.all(
      [3, 4, 5, 6, 7].map((index) => writeImage(world.root, `clean${index}.png`, 20 + index)),
    )
    const records = world.records.map((record, index) => ({
      ...record,
      images: [images[index % 5]],
      corrupted: undefined,
    }))
    const places = images.map(({ sha256 }) => [shareOf([{ input: { images: [sha256] } } as Example]), sha256] as const)
    const [first, second, third] = places.sort(([a], [b]) => a - b)
    const held = [first[1], second[1]]
    const split = async (output: string, seed: number, of: typeof records) => {
      await writePairs(world.pairs, of)
      const data = { train: world.pairs, evalShare: (second[0] + third[0]) / 2 }
      const settings = config(output, { seed, data, evalSamples: 20, maxSteps: 4 })
      const report = await run(settings)
      const text = await readFile(join(settings.output, 'samples', 'step-4.md'), 'utf8')
      const ids = [...text.matchAll(/^## (.*)$/gm)].map(([, id]) => id)
      expect(ids).toEqual(of.filter(({ images: [image] }) => held.includes(image.sha256)).map(({ id }) => id))
      expect(report.heldOut).toBe(ids.length)
    }
    await split('split-1', 1, records)
    await split('split-1001', 1001, records)
    await split('split-fewer', 1, records.slice(4))
  })

  it('refuses a share that cannot be held out, and a metric without a value', async () => {
    const share = config('share', { data: { train: world.pairs, evalShare: 1e-9 } })
    await expect(run(share)).rejects.toThrow(/evalShare 1e-9 leaves 13 pairs to train on and 0 to evaluate/)
    const bare = world.records.slice(0, 3).map((record) => ({ ...record, corrupted: undefined }))
    await writePairs(heldOut, bare)
    const visual = config('visual', { checkpoint: { best: 'eval_rewards/visual/margins' } })
    await expect(run(visual)).rejects.toThrow(/has no value: no held-out pair has a corrupted image/)
    await writePairs(heldOut, [{ ...bare[0], images: [{ ...bare[0].images[0], path: 'gone.png' }] }])
    await expect(run(config('none'))).rejects.toThrow(DataError)
  })

  it('warns of held-out pairs about images that are trained on', async () => {
    expect((await run(config('shared'))).warnings.join('\n')).toMatch(
      /5 of 5 held-out pairs show images that are trained on/,
    )
  })

  it('writes answers that people can read, for every evaluation', async () => {
    const settings = config('answers', { evalSamples: 2, maxSteps: 4 })
    await run(settings)
    expect((await readdir(join(settings.output, 'samples'))).sort()).toEqual(['step-2.md', 'step-4.md'])
    const text = await readFile(join(settings.output, 'samples', 'step-4.md'), 'utf8')
    expect(text).toMatch(/^# Answers after step 4\n/)
    expect(text).toMatch(
      /## pair-0\n\n- \*\*Images\*\*: clean0\.png\n- \*\*Question\*\*: Where is the nodule\? \(0\)\n- \*\*Answer\*\*: /,
    )
    expect(text.match(/^## /gm)).toHaveLength(2)
  })

  it('is counted in the plan', async () => {
    const long = { ...world.records[0], id: 'long', prompt: 'Where is it? '.repeat(60) }
    await writePairs(heldOut, [long])
    const plan = await planTraining(config('plan'), { native: fakeNative() })
    const without = await planTraining(config('plan', { data: { train: world.pairs } }), { native: fakeNative() })
    expect(plan).toMatchObject({ heldOut: 1, tokens: without.tokens })
    expect(plan.memory.activations).toBeGreaterThan(without.memory.activations)
  })

  it.each([
    [{ evalSamples: 2 }, /evalSamples needs held-out pairs: give data\.eval/],
    [{ earlyStopping: {} }, /earlyStopping needs held-out pairs/],
    [{ checkpoint: { best: 'eval_loss' } }, /checkpoint\.best needs held-out pairs/],
    [{ data: { train: 'p', eval: 'e', evalShare: 0.1 } }, /data\.eval or data\.evalShare, not both/],
    [
      {
        data: { train: 'p', eval: 'e' },
        objective: { name: 'dpo' },
        earlyStopping: { metric: 'eval_rewards/visual/margins' },
      },
      /dpo has no eval_rewards\/visual\/margins: it does not look at corrupted images/,
    ],
    [
      {
        data: { train: 'p', eval: 'e' },
        objective: { name: 'sft' },
        checkpoint: { best: 'eval_rewards/accuracies' },
      },
      /sft has no eval_rewards\/accuracies: it compares no answers/,
    ],
  ] as [Partial<TrainConfigInput>, RegExp][])('refuses %j', (changes, message) => {
    expect(() => config('none', { data: { train: world.pairs }, ...changes })).toThrow(message)
  })
})

describe('early stopping and the best adapter', () => {
  /** A margin of pairs that training makes worse: the first evaluation is the best. */
  const stopping = (output: string, changes: Partial<TrainConfigInput> = {}) =>
    config(output, {
      earlyStopping: { metric: 'eval_loss', patience: 2 },
      checkpoint: { every: 3, keep: 2, best: 'eval_loss' },
      ...changes,
    })

  beforeEach(() => writePairs(heldOut, world.records.slice(0, 5).map(reversed)))

  it('stops after so many evaluations without a better value, and keeps the best adapter', async () => {
    const settings = stopping('stopped')
    const report = await run(settings)
    const rows = await evaluationsOf(settings)
    expect(rows.map(({ step }) => step)).toEqual([2, 4, 6])
    expect(report).toMatchObject({
      step: 6,
      totalSteps: 12,
      interrupted: false,
      stoppedEarly: expect.stringMatching(
        /^2 evaluations without a better eval_loss, whose best value is 0\.\d{1,3} of step 2$/,
      ),
      best: { step: 2, metric: 'eval_loss', value: rows[0].eval_loss, path: join(settings.output, 'best') },
    })
    expect(await readFile(join(settings.output, 'report.html'), 'utf8')).toContain(
      `Ended early: ${report.stoppedEarly}`,
    )
    expect(await weightsOf(settings, 'best')).not.toBe(await weightsOf(settings))
    const about = JSON.parse(await readFile(join(settings.output, 'best', 'evaluation.json'), 'utf8'))
    expect(about).toMatchObject({ metric: 'eval_loss', step: 2, value: rows[0].eval_loss })
    // It is the adapter that a checkpoint has there.
    const same = stopping('same')
    const stop = new AbortController()
    await run(same, { stop: stop.signal, onProgress: ({ step }) => step === 2 && stop.abort() })
    expect(await weightsOf({ ...same, output: join(same.output, 'checkpoints', 'step-2') })).toBe(
      await weightsOf(settings, 'best'),
    )
  })

  it('fails where no evaluation is better than the untrained model, and marks both adapters', async () => {
    const settings = stopping('worse', { earlyStopping: null, optimizer: { lr: 0.5 } })
    const report = await run(settings)
    expect(report.problem).toMatch(/^training made the held-out pairs worse: .* after step 12, and ln 2/)
    for (const name of ['adapter', 'best']) {
      await expect(refuseUnfit(join(settings.output, name))).rejects.toThrow(/is not to be used: training made/)
    }
    const { problem } = JSON.parse(await readFile(join(settings.output, 'train.json'), 'utf8'))
    expect(problem).toBe(report.problem)
    expect(await readFile(join(settings.output, 'report.html'), 'utf8')).toContain(report.problem)
  })

  it('warns in train.json and on the page where nothing was gained', async () => {
    const settings = stopping('nothing-gained', { earlyStopping: null, optimizer: { lr: 0 } })
    const { problem, warnings } = await run(settings)
    expect(problem).toBeNull()
    const said = warnings.filter((warning) => warning.startsWith('no evaluation of the held-out pairs is better'))
    expect(said).toHaveLength(1)
    expect(await readFile(join(settings.output, 'report.html'), 'utf8')).toContain(`Warning: ${said[0]}`)
  })

  it('knows for each metric which way is better', async () => {
    // Training makes the loss of these pairs larger and their margins smaller: both are best at first.
    for (const metric of ['eval_rewards/margins', 'eval_loss'] as const) {
      const settings = stopping(metric.replaceAll('/', '-'), {
        earlyStopping: { metric },
        checkpoint: { best: metric },
      })
      expect(await run(settings), metric).toMatchObject({ step: 8, best: { step: 2 } })
    }
    await writePairs(heldOut, world.records.slice(0, 5))
    for (const metric of ['eval_rewards/margins', 'eval_loss'] as const) {
      const settings = stopping(`up-${metric.replaceAll('/', '-')}`, {
        earlyStopping: { metric },
        checkpoint: { best: metric },
      })
      expect(await run(settings), metric).toMatchObject({ step: 12, stoppedEarly: null, best: { step: 12 } })
    }
  })

  it.each(['checkpoint.best', 'earlyStopping.metric'])(
    'ends at the first evaluation where %s has no value',
    async (key) => {
      const metric = 'eval_rewards/margins'
      const settings = stopping('no-value', {
        ...{ earlyStopping: undefined, checkpoint: {} },
        ...(key === 'checkpoint.best' ? { checkpoint: { best: metric } } : { earlyStopping: { metric } }),
      })
      const fake = fakeNative()
      const openEngine: typeof fake.openEngine = async (...given) => {
        const engine = await fake.openEngine(...given)
        const evaluate = engine.evaluate.bind(engine)
        engine.evaluate = async (...asked) => {
          const stats = await evaluate(...asked)
          return { ...stats, pairs: stats.pairs.map((pair) => ({ ...pair, margin: Number.POSITIVE_INFINITY })) }
        }
        return engine
      }
      await expect(run(settings, { native: { ...fake, openEngine } })).rejects.toMatchObject({
        code: 'ERR_FIRE_NONFINITE',
        message: `Held-out pairs after step 2: ${metric} (${key}) has no finite value`,
        hint: expect.stringContaining('another metric'),
      })
      expect(existsSync(join(settings.output, 'best'))).toBe(false)
    },
  )

  it('asks for more than minDelta', async () => {
    await writePairs(heldOut, world.records.slice(0, 5))
    const settings = stopping('delta', { earlyStopping: { metric: 'eval_loss', patience: 2, minDelta: 10 } })
    expect(await run(settings)).toMatchObject({ step: 6, best: { step: 6 } })
  })

  it('stops at the same step when it is repeated, and when it was killed or stopped anywhere', async () => {
    const whole = stopping('whole', { earlyStopping: { metric: 'eval_loss', patience: 3 } })
    const report = await run(whole)
    expect(report.step).toBe(8)
    const again = stopping('again', { earlyStopping: { metric: 'eval_loss', patience: 3 } })
    expect(await run(again)).toMatchObject({ step: 8, stoppedEarly: report.stoppedEarly, best: { step: 2 } })
    for (const stopAfter of [1, 2, 3, 4, 6, 7, 8]) {
      const parts = stopping(`parts-${stopAfter}`, { earlyStopping: { metric: 'eval_loss', patience: 3 } })
      const stop = new AbortController()
      // The stop comes between a step and its evaluation.
      const first = await run(parts, {
        stop: stop.signal,
        onProgress: ({ step }) => step === stopAfter && stop.abort(),
      })
      expect(first).toMatchObject({ step: stopAfter, interrupted: true })
      const before = new AbortController()
      const killed = run(parts, {
        resume: true,
        signal: before.signal,
        onLog: (line) => line.includes('after step 6') && before.abort(),
      })
      if (stopAfter <= 6) await expect(killed).rejects.toThrow()
      else await killed
      const resumed = await run(parts, { resume: true })
      expect(resumed).toMatchObject({
        step: 8,
        stoppedEarly: report.stoppedEarly,
        best: { value: report.best?.value, step: 2 },
      })
      expect(await repeatableRows(parts)).toEqual(await repeatableRows(whole))
      for (const name of ['adapter', 'best']) expect(await weightsOf(parts, name)).toBe(await weightsOf(whole, name))
    }
  }, 60_000)

  it('gives up an evaluation that takes long, and does it again', async () => {
    const whole = stopping('patient')
    await run(whole)
    const settings = stopping('impatient')
    const stop = new AbortController()
    const running = run(settings, {
      stop: stop.signal,
      onProgress({ step }) {
        if (step !== 4) return
        process.env.FIRE_FAKE_DELAY_MS = '2500'
        setTimeout(() => stop.abort(), 100)
      },
    })
    const report = await running.finally(() => delete process.env.FIRE_FAKE_DELAY_MS)
    expect(report).toMatchObject({ step: 4, interrupted: true, evaluation: { step: 2 } })
    expect(await run(settings, { resume: true })).toMatchObject({ step: 6, resumedFrom: 4 })
    expect(await repeatableRows(settings)).toEqual(await repeatableRows(whole))
  })

  it('has nothing to do when a run that stopped early is resumed, and refuses other held-out pairs', async () => {
    const settings = stopping('done')
    await run(settings)
    const adapter = await weightsOf(settings)
    expect(await run(settings, { resume: true })).toMatchObject({
      step: 6,
      resumedFrom: 6,
      interrupted: false,
      best: { step: 2 },
    })
    expect(await weightsOf(settings)).toBe(adapter)
    await writePairs(heldOut, world.records.slice(0, 4))
    await expect(run(settings, { resume: true })).rejects.toThrow(/held-out\.jsonl has changed since/)
  })
})

describe('the self-check', () => {
  it('stops before the first step when policy and reference differ, and names the pair', async () => {
    process.env.FIRE_FAKE_DRIFT = 'pair-7'
    const changes = { batchSize: 13, microBatchSize: null }
    const failure = await run(config('drift', changes)).catch((error) => error)
    expect(failure).toBeInstanceOf(SelfCheckError)
    expect(failure.message).toMatch(/^Pair pair-7: .* the log-ratio of chosen is 0\.5 before the first step, not 0$/)
    expect(failure.detail).toMatchObject({ id: 'pair-7' })
    expect(existsSync(join(world.root, 'drift', 'checkpoints'))).toBe(false)
    await run(config('unchecked', { ...changes, selfCheck: false }))
  })

  it('stops when an image gives other rows than its prompt has placeholders', async () => {
    const native = fakeNative()
    const open = native.openEngine.bind(native)
    const wrong = {
      ...native,
      async openEngine(...args: Parameters<typeof open>) {
        const engine = await open(...args)
        const encode = engine.encodeImages.bind(engine)
        engine.encodeImages = async (images, cancel) =>
          (await encode(images, cancel)).map((each) => ({ ...each, tokens: each.tokens + 1 }))
        return engine
      },
    }
    await expect(run(config('rows'), { native: wrong })).rejects.toThrow(
      /its images give \d+ rows of features, its prompt has \d+ placeholders/,
    )
  })
})

describe('lora.init', () => {
  const from = async (output: string, changes: Partial<TrainConfigInput> = {}, lora: TrainConfigInput['lora'] = {}) => {
    const first = config('first', { lora: { rank: 8, alpha: 16 } })
    if (!existsSync(join(first.output, 'train.json'))) await run(first)
    return config(output, { lora: { init: join(first.output, 'adapter'), ...lora }, ...changes })
  }

  it('starts from the adapter, with the adapter as its reference', async () => {
    const settings = await from('second')
    const lines: string[] = []
    const report = await run(settings, { onLog: (line) => lines.push(line) })
    const [row] = await repeatableRows(settings)
    expect(row).toMatchObject({ 'rewards/margins': 0, 'kl/mixed': 0 })
    expect(report).toMatchObject({
      init: settings.lora.init,
      reference: 'init',
      model: { lora: { rank: 8, alpha: 16 } },
    })
    expect(lines.join('\n')).toMatch(/goes on from the adapter .*first\/adapter; the reference is that adapter/)
  })

  it('with reference base the rewards are those of the adapter, and nothing is checked for 0', async () => {
    const settings = await from('base', {}, { reference: 'base' })
    const report = await run(settings)
    const [row] = await repeatableRows(settings)
    expect(row['rewards/margins']).toBeGreaterThan(0)
    expect(report).toMatchObject({ reference: 'base' })
    expect(await run(config('fresh'))).toMatchObject({ init: null, reference: 'base' })
  })

  it('takes the shape from the folder, over defaults and presets, and says where the file says otherwise', async () => {
    const settings = await from('shape', { preset: 'qwen3-vl-4b', data: { train: world.pairs } })
    expect(settings.lora).toEqual({ init: settings.lora.init, reference: 'init', dropout: 0.05 })
    expect(resolveTrainConfig(settings as TrainConfigInput)).toEqual(settings)
    expect(formatConfig(settings)).not.toContain('rank')
    await expect(run(await from('rank', {}, { rank: 16 }))).rejects.toThrow(
      /lora\.rank is 16, the adapter of lora\.init has 8/,
    )
    await expect(run(await from('targets', {}, { targets: ['q_proj'] }))).rejects.toBeInstanceOf(ConfigError)
    await run(
      await from(
        'agrees',
        { maxSteps: 1 },
        { rank: 8, targets: ['up_proj', 'q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'down_proj'] },
      ),
    )
  })

  it('resumes bit-exactly, and not from another adapter', async () => {
    const whole = await from('whole')
    await run(whole)
    const parts = await from('parts')
    const stop = new AbortController()
    await run(parts, { stop: stop.signal, onProgress: ({ step }) => step === 5 && stop.abort() })
    const moved = join(world.root, 'moved')
    await cp(parts.lora.init as string, moved, { recursive: true })
    const elsewhere = { ...parts, lora: { ...parts.lora, init: moved } }
    await run(elsewhere, { resume: true })
    expect(await weightsOf(parts)).toBe(await weightsOf(whole))
    expect(await repeatableRows(parts)).toEqual(await repeatableRows(whole))
    await writeFile(join(moved, 'adapter_model.safetensors'), '[1, 2, 3, 4]')
    await expect(run(elsewhere, { resume: true })).rejects.toBeInstanceOf(CheckpointError)
  })
})
