import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { runDemo } from '../../src/demo/index.js'
import { removeScratch, scratchFolder } from './talker.js'

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const ready = existsSync(at('build/Release/fire.node')) && existsSync(at('models/phantom/model.safetensors'))
const silent = { start() {}, update() {}, end() {}, log() {} }
const settings = { trainStudies: 6, testStudies: 6, attentionQuestions: 3 }

afterAll(removeScratch)

/** Everything real: the addon, the bundled model, training and report. */
describe.skipIf(!ready)('the demo on the real engine', () => {
  it('starts from a policy that equals its reference, learns, and does the same again', {
    timeout: 120_000,
  }, async () => {
    const runs = []
    for (const threads of [1, 2]) {
      const out = join(await scratchFolder(), 'demo')
      const { comparisons } = await runDemo({ out, seed: 5, threads, settings }, { progress: silent })
      const metrics = await readFile(join(out, 'training', 'metrics.jsonl'), 'utf8')
      const steps = metrics
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
      runs.push({
        comparisons,
        losses: steps.map((step) => step.loss),
        pairs: await readFile(join(out, 'pairs.jsonl'), 'utf8'),
      })
    }
    const [first, second] = runs
    // ln 2 of the text term and gamma ln 2 of the visual one: policy and reference are still the same.
    expect(first.losses[0]).toBeCloseTo(1.1 * Math.LN2, 5)
    expect(first.losses.at(-1)).not.toBe(first.losses[0])
    expect(second).toEqual(first)
  })
})
