/** What metrics say of a run that came to its end. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { writeJsonl } from '../../src/data/jsonl.js'
import { readVerdict } from '../../src/train/verdict.js'
import { temporaryFolder } from '../fakes/world.js'

/** Rows of losses and gradient norms. */
async function verdict(losses: number[], norms = losses.map(() => 1), weights = losses.map(() => 1)) {
  const path = join(await temporaryFolder(), 'metrics.jsonl')
  const rows = losses.map((loss, index) => ({ step: index + 1, loss, grad_norm: norms[index], weight: weights[index] }))
  await writeJsonl(path, rows)
  return readVerdict(path)
}

const steps = (count: number, value: (step: number) => number) =>
  Array.from({ length: count }, (_, step) => value(step))

describe('readVerdict', () => {
  it('has nothing to say of a run that learns, or that merely swings', async () => {
    expect(await verdict(steps(50, (step) => 0.76 * 0.95 ** step))).toBeNull()
    expect(await verdict(steps(50, (step) => (step % 7 === 6 ? 8 : 0.7)))).toBeNull()
    expect(await verdict([0.69])).toBeNull()
    // Overfitted to nearly 0, and a hard batch at the end.
    expect(await verdict([...steps(19, () => 0.001), 0.9])).toBeNull()
  })

  it('names the step from which the gradient is 0, unless those steps weigh nothing', async () => {
    const losses = steps(10, () => 0.5)
    const norms = steps(10, (step) => (step < 6 ? 1 : 0))
    expect(await verdict(losses, norms)).toMatch(/exactly 0 from step 7 to the end/)
    expect(
      await verdict(
        losses,
        steps(10, (step) => (step === 4 ? 0 : 1)),
      ),
    ).toBeNull()
    expect(
      await verdict(
        losses,
        norms,
        steps(10, (step) => (step < 6 ? 1 : 0)),
      ),
    ).toBeNull()
    expect(
      await verdict(
        losses,
        steps(10, () => 0),
      ),
    ).toMatch(/from step 1 to the end/)
  })

  it('tells a loss that diverged, with both numbers', async () => {
    expect(await verdict(steps(40, (step) => 0.76 + step * 0.3))).toMatch(/diverged: 1\.21 .* 12\.0 in the last/)
    expect(await verdict([0.76, 5])).toMatch(/diverged: 0\.760 .* 5\.00/)
  })
})
