/** What metrics say of a run that came to its end. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { writeJsonl } from '../../src/data/jsonl.js'
import type { ObjectiveName } from '../../src/engine/engine.js'
import { readVerdict } from '../../src/train/verdict.js'
import { temporaryFolder } from '../fakes/world.js'

const steps = <T>(count: number, value: (step: number) => T): T[] =>
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
  return (await readVerdict(path, objective)).problem
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

/** Of preference losses on held-out pairs, after a training that says nothing. */
async function onHeldOut(
  losses: number[],
  { error = 0.05, objective = 'fire' as ObjectiveName, startsAtReference = true } = {},
) {
  const path = join(await temporaryFolder(), 'metrics.jsonl')
  const trained = steps(8, (step) => ({ step, loss: 0.6, 'loss/base': 0.6, grad_norm: 1 }))
  const evaluated = losses.map((loss, index) => {
    const values = { eval_loss: loss + 0.1, 'eval_loss/base': 2 * loss, 'eval_loss/base_error': error, eval_weight: 2 }
    return { step: 10 * (index + 1), ...values }
  })
  await writeJsonl(path, [...trained, ...evaluated])
  return readVerdict(path, objective, startsAtReference)
}

describe('the verdict on held-out pairs', () => {
  it('is a problem, of the best adapter too, when they only became worse', async () => {
    const { problem, concernsBest, warnings } = await onHeldOut([0.85, 0.9, 0.95])
    expect(problem).toBe(
      'training made the held-out pairs worse: their preference loss is 0.950 ± 0.050 after step 30, and ln 2 = 0.693 of an untrained model',
    )
    expect([concernsBest, warnings]).toEqual([true, []])
  })

  it('is a warning when nothing was gained, or the last adapter lost what an earlier one had', async () => {
    const within = await onHeldOut([0.85, 0.95], { error: 0.2 })
    expect(within).toMatchObject({
      problem: null,
      warnings: [expect.stringMatching(/^no evaluation .* is better than/)],
    })
    const late = await onHeldOut([0.6, 0.95])
    expect(late).toMatchObject({
      problem: null,
      warnings: [expect.stringMatching(/^the last adapter is worse on the held-out/)],
    })
  })

  it('is none when they became better, or where ln 2 is not where training began', async () => {
    const silent = { problem: null, warnings: [] }
    expect(await onHeldOut([0.8, 0.68])).toMatchObject(silent)
    expect(await onHeldOut([])).toMatchObject(silent)
    expect(await onHeldOut([0.9], { objective: 'sft' })).toMatchObject(silent)
    expect(await onHeldOut([0.9], { startsAtReference: false })).toMatchObject(silent)
  })
})
