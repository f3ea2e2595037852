/** A page with many arms in a real browser: wide and narrow, light and dark. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { writePages } from '../../src/study/page/render.js'
import { temporaryFolder } from '../fakes/world.js'
import { hasBrowser, useBrowser } from '../page/browser.js'
import { armOf, inputOf, pairOf, writeStep } from './page-world.js'

describe.skipIf(!hasBrowser)('in a browser', () => {
  const faults = useBrowser()

  it('the page of a table with twelve arms', { timeout: 60_000 }, async () => {
    const root = await temporaryFolder()
    const arms = [armOf('base', { set: { train: null }, row: 'main/base' })]
    for (let i = 0; i < 11; i += 1) {
      const metrics = Array.from({ length: 40 }, (_, at) => ({
        ...{ step: at + 1, grad_norm: 10 ** (-at / 8), 'loss/base': 1 / (at + i + 1) },
        ...{ 'rewards/accuracies': at / 40, 'rewards/margins': at * i },
      }))
      const lambda = i / 10
      await writeStep(root, `train-${i}`, { 'objective.lambda': lambda }, { 'metrics.jsonl': metrics })
      await writeStep(
        root,
        `pairs-${i % 3}`,
        { mode: `mode-${i % 3}` },
        {
          'pairs.jsonl': [
            pairOf('a', 'a nodule on the left', 'no nodule'),
            pairOf('b', 'yes', 'no '.repeat(60).trim()),
          ],
        },
      )
      const steps = [0, 1].map(() => [`pairs-${i % 3}`, `train-${i}`])
      const row = ['main/fire; kl/fire', 'pairs/gt-style', 'corruption/crop'][i % 3]
      const name = i === 4 ? 'an-arm-whose-name-is-longer-than-most-of-them' : `lambda-${lambda}`
      arms.push(armOf(name, { set: { 'train.objective.lambda': lambda }, row, steps }))
    }
    const { results } = inputOf(root, arms, {
      lines: [{ label: 'λ, some', arms: { 'lambda-0': 0, 'lambda-0.1': 0.1 } }],
    })
    await writePages(root, results)
    expect(await faults.ofFile(join(root, 'mine.html'))).toEqual([])
  })
})
