/**
 * DPO as TRL's own trainer does it: the steps of test/golden/trl-dpo.json, taken by the engine from the same adapter on the
 * same pairs. test/golden/trl_dpo.py made the file.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { bundledModel, type TextPair, writeBundledAdapter, writeBundledPairs } from '../../src/bench/bundled.js'
import { dpoLimits } from '../../src/bench/dpo.js'
import { type BenchPairs, readPairs } from '../../src/bench/pairs.js'
import { type StepNumbers, stepNumbers, stepSpecs } from '../../src/bench/protocol.js'
import { difference } from '../../src/bench/summary.js'
import { openEngine } from '../../src/engine/engine.js'
import { built, temporaryFolder } from '../fakes/world.js'

const path = fileURLToPath(new URL('../golden/trl-dpo.json', import.meta.url))
const trl = JSON.parse(readFileSync(path, 'utf8'))
const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex')

let folder: string
let inputs: BenchPairs

describe.skipIf(!built)('DPO beside TRL', () => {
  beforeAll(async () => {
    const { pairs, images, seed } = trl.made_from
    folder = await temporaryFolder()
    await writeBundledAdapter(folder, seed)
    await writeBundledPairs(folder, pairs, images, seed)
    inputs = await readPairs(join(folder, 'pairs.safetensors'))
  })

  it('starts from the same adapter, images and tokens', async () => {
    const { pairs, images } = inputs
    expect(sha256(await readFile(join(folder, 'adapter', 'adapter_model.safetensors')))).toBe(trl.inputs.adapter)
    expect(images.map(({ rgb }) => sha256(rgb))).toEqual(trl.inputs.images)
    const tokens = pairs.map(({ prompt, chosen, rejected, images: shown }) => ({
      prompt: [...prompt],
      chosen: [...chosen],
      rejected: [...rejected],
      images: shown.map((id) => Number(id.replace('image', ''))),
    }))
    expect(tokens).toEqual(trl.inputs.pairs)
    expect(stepSpecs.dpo).toMatchObject({ objective: { beta: trl.beta }, optimizer: { lr: trl.lr } })
  })

  it('has pairs of a true and a false text that differ in little', async () => {
    const texts = JSON.parse(await readFile(join(folder, 'texts.json'), 'utf8')) as TextPair[]
    expect(new Set(texts.map(({ question, chosen }) => `${question} ${chosen}`)).size).toBe(texts.length)
    for (const { chosen, rejected } of texts) {
      const words = new Set(chosen.split(' '))
      const others = rejected.split(' ').filter((word) => !words.has(word))
      expect(chosen).not.toBe(rejected)
      expect(others.length).toBeLessThan(chosen.split(' ').length)
    }
  })

  it('is what the README shows', () => {
    const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8').replaceAll('−', '-')
    for (const [index, step] of (trl.steps as Required<StepNumbers>[]).entries()) {
      const shown = [step.loss.toFixed(7), step.grad_norm.toFixed(7), step['logps/chosen'].toFixed(6)]
      const more = [step['logps/rejected'].toFixed(6), step['rewards/margins'].toFixed(7)]
      const cells = [...shown, ...more].map((value) => String.raw`${value} / \S+`.replaceAll('.', '\\.'))
      expect(readme).toMatch(new RegExp(`^\\| ${[index + 1, ...cells].join(' \\| ')} \\|$`, 'm'))
    }
  })

  it.each([
    { layout: 'packed', batch: 8 },
    { layout: 'packed', batch: 3 },
    { layout: 'plain', batch: 8 },
  ] as const)('takes the same four steps: $layout, $batch pairs at a time', async ({ layout, batch }) => {
    const { objective, optimizer } = stepSpecs.dpo
    const { pairs, images } = inputs
    await using engine = await openEngine({ model: bundledModel, adapter: join(folder, 'adapter'), threads: 2 })
    await engine.encodeImages(images)
    const worst: Partial<Record<keyof StepNumbers, number>> = {}
    for (const expected of trl.steps as StepNumbers[]) {
      const stats = []
      for (let first = 0; first < pairs.length; first += batch) {
        const some = pairs.slice(first, first + batch)
        stats.push(...(await engine.accumulate(some, objective, { normalizer: pairs.length, layout })).pairs)
      }
      const found = stepNumbers(stats, (await engine.update(optimizer)).gradNorm)
      for (const [name, limit] of Object.entries(dpoLimits.f32)) {
        const key = name as keyof StepNumbers
        worst[key] = Math.max(worst[key] ?? 0, difference(found[key], expected[key], limit))
      }
    }
    for (const [name, limit] of Object.entries(dpoLimits.f32)) {
      expect(worst[name as keyof StepNumbers], name).toBeLessThanOrEqual(Object.values(limit)[0])
    }
  })
})
