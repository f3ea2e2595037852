/** What metrics say of a run that came to its end. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { writeJsonl } from '../../src/data/jsonl.js'
import type { ObjectiveName } from '../../src/engine/engine.js'
import { readVerdict } from '../../src/train/verdict.js'
import { temporaryFolder } from '../fakes/world.js'

const steps = (count: number, value: (step: number) => number) =>
  Array.from({ length: count }, (_, step) => value(step))

/** Of losses, and of norms and weights that are 1 where they are not given. */
async function verdict(
  losses: number[],
  { norms = losses.map(() => 1), weights = losses.map(() => 1), objective = 'fire' as ObjectiveName } = {},
) {
  const path = join(await temporaryFolder(), 'metrics.jsonl')
  await writeJsonl(
    path,
    losses.map((loss, index) => {
      const weight = weights[index]
      return { step: index + 1, loss: loss * weight, 'loss/base': loss * weight, grad_norm: norms[index], weight }
    }),
  )
  return readVerdict(path, objective)
}

describe('readVerdict', () => {
  it('has nothing to say of a run that learns, that swings, or that hardly moves', async () => {
    expect(await verdict(steps(50, (step) => 0.69 * 0.95 ** step))).toBeNull()
    expect(await verdict(steps(50, (step) => (step % 7 === 6 ? 2 : 0.4)))).toBeNull()
    expect(await verdict(steps(50, (step) => 0.6932 + 1e-4 * (step % 3)))).toBeNull()
    expect(await verdict([0.69])).toBeNull()
    expect(await verdict([0.69, 0.9, 1.1])).toBeNull()
    expect(
      await verdict(
        steps(40, (step) => 2 + (step % 5)),
        { objective: 'sft' },
      ),
    ).toBeNull()
  })

  it('names the step from which the gradient is 0, unless those steps weigh nothing', async () => {
    const losses = steps(10, () => 0.5)
    const norms = steps(10, (step) => (step < 6 ? 1 : 0))
    expect(await verdict(losses, { norms })).toMatch(/exactly 0 from step 7 to the end/)
    expect(await verdict(losses, { norms: steps(10, (step) => (step === 4 ? 0 : 1)) })).toBeNull()
    expect(await verdict(losses, { norms, weights: norms })).toBeNull()
    expect(await verdict(losses, { norms: steps(10, () => 0) })).toMatch(/from step 1 to the end/)
  })

  it('tells a loss that diverged, with both numbers, whatever the weights', async () => {
    const rising = steps(40, (step) => 0.76 + step * 0.3)
    expect(await verdict(rising)).toMatch(/^the loss diverged: 0\.760 in the first step, 11\.\d at the end$/)
    const weights = steps(40, (step) => 0.1 + (step % 4))
    expect(await verdict(rising, { weights })).toMatch(/^the loss diverged: 0\.760/)
    expect(
      await verdict(
        steps(40, () => 0.5),
        { weights: steps(40, (step) => 1 + step) },
      ),
    ).toBeNull()
    expect(await verdict([0.2, ...steps(30, () => 3.4)], { objective: 'sft' })).toMatch(/diverged: 0\.200 .* 3\.40/)
  })

  it('tells a preference that ends worse than it began', async () => {
    const worse = [Math.LN2, ...steps(33, (step) => 0.8 + 0.15 * Math.sin(step))]
    expect(await verdict(worse)).toMatch(/^the preference loss diverged: 0\.787 ± 0\.02\d in the second half/)
    expect(await verdict(worse, { objective: 'sft' })).toBeNull()
  })
})
