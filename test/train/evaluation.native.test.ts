/** Early stopping, the self-check and `lora.init` with the real engine; skipped where the addon has not been built. */
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { openEngine } from '../../src/engine/engine.js'
import { loadNative } from '../../src/engine/load.js'
import { objectiveNames, objectives } from '../../src/engine/objectives.js'
import { SelfCheckError } from '../../src/errors.js'
import { alone } from '../../src/ranks/ranks.js'
import { planTraining } from '../../src/train/plan.js'
import { prepare } from '../../src/train/prepare.js'
import type { TrainConfigInput } from '../../src/train/settings.js'
import { train } from '../../src/train/train.js'
import type { TrainReport } from '../../src/train/train-report.js'
import { built, writePairs } from '../fakes/world.js'
import { config, killTraining, weightsOf, world } from './native-world.js'
import { repeatableRows } from './rows.js'

/** Made by PEFT, with a B that is not 0. */
const peft = fileURLToPath(new URL('../golden/qwen3_vl/adapter', import.meta.url))

let heldOut: string

beforeAll(async () => {
  heldOut = join(world.root, 'held-out.jsonl')
  // The wrong answer is the chosen one: training makes these pairs worse.
  const turned = world.records.slice(0, 5).map(({ chosen, rejected, edits, ...rest }) => ({
    ...{ ...rest, chosen: rejected, rejected: chosen },
    edits: edits.map((edit) => ({ ...edit, chosen: edit.rejected, rejected: edit.chosen })),
  }))
  await writePairs(heldOut, turned)
})

describe.skipIf(!built)('evaluation with the native engine', () => {
  const stopping = {
    epochs: 12,
    evalEvery: 2,
    earlyStopping: { metric: 'eval_rewards/margins', patience: 3 },
    checkpoint: { every: 3, keep: 2, best: 'eval_loss' },
  } as const

  it('stops early at the same step whether killed or not, with the same rows, adapters and answers', async () => {
    const data = { train: world.pairs, eval: heldOut }
    const changes = { ...stopping, data, evalSamples: 1 }
    const whole = config('whole', changes)
    const report = await train(whole)
    expect(report.step).toBeLessThan(report.totalSteps)
    expect(report).toMatchObject({ stoppedEarly: expect.stringContaining('eval_rewards/margins'), heldOut: 5 })
    expect(report.evaluation?.['eval_rewards/margins']).toBeLessThan(0)

    expect(await killTraining('killed', changes, [5, 40, 90, 150])).toBeGreaterThan(0)
    const other = config('killed', changes)
    const resumed = await train(other, { resume: true })
    const { step, stoppedEarly, best } = report
    expect(resumed).toMatchObject({ step, stoppedEarly, best: { step: best?.step, value: best?.value } })
    expect(await repeatableRows(other)).toEqual(await repeatableRows(whole))
    for (const name of ['adapter', 'best'])
      expect((await weightsOf(other, name)).equals(await weightsOf(whole, name))).toBe(true)
    const answers = join('samples', `step-${report.evaluation?.step}.md`)
    expect(await readFile(join(other.output, answers), 'utf8')).toBe(
      await readFile(join(whole.output, answers), 'utf8'),
    )
  }, 120_000)

  it('does not change what is trained, and says the numbers of the adapter it leaves', async () => {
    const plain = config('plain')
    const evaluated = config('evaluated', { data: { train: world.pairs, eval: heldOut }, evalEvery: 1, evalSamples: 1 })
    await train(plain)
    const { evaluation } = await train(evaluated)
    expect((await weightsOf(evaluated, 'adapter')).equals(await weightsOf(plain, 'adapter'))).toBe(true)
    // It made the turned pairs worse, and is marked so.
    await rm(join(evaluated.output, 'adapter', 'problem.json'))
    // The same pairs, in another process's words: an engine with the saved adapter.
    const again = {
      ...evaluated,
      lora: { init: join(evaluated.output, 'adapter'), reference: 'base', dropout: 0 } as const,
    }
    const { engine, heldOut: held, objective } = await prepare(again, {}, alone)
    const { examples } = held as NonNullable<typeof held>
    for (const image of examples.flatMap(({ images }) => images)) await engine.encodeImages([await image.decode()])
    const { pairs } = await engine.evaluate(
      examples.map(({ input }) => input),
      objective,
      { normalizer: 5, layout: 'plain' },
    )
    await engine.close()
    const mean = pairs.reduce((sum, { loss }) => sum + loss, 0) / pairs.length
    expect(evaluation?.eval_loss).toBeCloseTo(mean, 6)
  })
})

describe.skipIf(!built)('lora.init with the native engine', () => {
  const init = (reference: 'init' | 'base') => ({ lora: { init: peft, reference }, maxSteps: 2 })

  it("starts from PEFT's adapter with that adapter as the reference: rewards and KL are 0 before the first step", async () => {
    const started = config('init', { ...init('init'), lora: { init: peft, dropout: 0 } })
    const report = await train(started)
    const [first, second] = await repeatableRows(started)
    expect(first).toMatchObject({ 'rewards/margins': 0, 'rewards/chosen': 0, 'kl/mixed': 0 })
    expect(first['loss/base']).toBeCloseTo(Math.LN2, 6)
    expect(second['kl/mixed']).toBeGreaterThan(0)
    expect(report.model.lora).toMatchObject({ dropout: 0, seed: 42 })
    const { lora_dropout } = JSON.parse(await readFile(join(started.output, 'adapter', 'adapter_config.json'), 'utf8'))
    expect(lora_dropout).toBe(0)
  })

  it('with reference base starts from the rewards of the adapter, and one store serves both', async () => {
    const featureStore = join(world.root, 'store')
    const rows = async (output: string, changes: Partial<TrainConfigInput>) => {
      const each = config(output, changes)
      await train(each)
      return repeatableRows(each)
    }
    const base = await rows('base', init('base'))
    expect(base[0]['rewards/margins']).not.toBe(0)
    expect(base[0]['kl/mixed']).toBeGreaterThan(0)
    const alone = await rows('alone', init('init'))
    for (const round of [1, 2]) {
      expect(await rows(`base-${round}`, { ...init('base'), featureStore })).toEqual(base)
      expect(await rows(`init-${round}`, { ...init('init'), featureStore })).toEqual(alone)
    }
  })

  it.each(objectiveNames)('passes its own check before the first step: %s', async (name) => {
    const report = await train(config(`check-${name}`, { ...init('init'), objective: { name }, maxSteps: 1 }))
    expect(report).toMatchObject({ step: 1, reference: 'init' })
    if (objectives[name].visual) expect(report.last?.['rewards/visual/margins']).toBeDefined()
  })

  it('is found out when the reference is another than is said', async () => {
    const native = loadNative()
    const deaf: typeof native = {
      ...native,
      openEngine: (spec, cancel) => native.openEngine({ ...spec, referenceAdapter: null }, cancel),
    }
    const started = train(config('deaf', init('init')), { native: deaf })
    await expect(started).rejects.toBeInstanceOf(SelfCheckError)
    await expect(started).rejects.toThrow(
      /^Pair pair-\d+: policy and reference are the same, and the log-ratio of chosen is/,
    )
  })

  it('resumes bit-exactly', async () => {
    const whole = config('resume-whole', { lora: { init: peft } })
    await train(whole)
    const parts = config('resume-parts', { lora: { init: peft } })
    const stop = new AbortController()
    await train(parts, { stop: stop.signal, onProgress: ({ step }) => step === 3 && stop.abort() })
    const resumed: TrainReport = await train(parts, { resume: true })
    expect(resumed).toMatchObject({ resumedFrom: 3, step: 6 })
    expect((await weightsOf(parts, 'adapter')).equals(await weightsOf(whole, 'adapter'))).toBe(true)
    expect(await repeatableRows(parts)).toEqual(await repeatableRows(whole))
  })

  it('plans the memory of both adapters', async () => {
    const adapterBytes = async (reference: 'init' | 'base') =>
      (await planTraining(config('planned', init(reference)))).memory.adapter
    expect(await adapterBytes('init')).toBe(2 * (await adapterBytes('base')))
  })

  it('refuses an adapter of another shape', async () => {
    await expect(train(config('other', { lora: { init: peft, rank: 3 } }))).rejects.toThrow(
      /lora\.rank is 3, the adapter of lora\.init has/,
    )
    await expect(openEngine({ model: world.model, referenceAdapter: join(world.root, 'none') })).rejects.toThrow(/none/)
  })
})
