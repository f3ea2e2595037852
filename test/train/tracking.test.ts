/** Which evaluation of a run is the best. */
import { describe, expect, it } from 'vitest'
import { resolveTrainConfig } from '../../src/train/config.js'
import { nothingTracked, track } from '../../src/train/tracking.js'

describe('the best evaluation', () => {
  it.each([
    ['the lower loss', [0.7, 0.6, 0.65], 20],
    ['the later step', [0.7, 0.6, 0.6], 30],
  ])('decides between equal values by %s', (_, losses, step) => {
    const data = { train: '/p.jsonl', eval: '/h.jsonl' }
    const settings = resolveTrainConfig({
      model: '/m',
      data,
      output: '/o',
      checkpoint: { best: 'eval_rewards/accuracies' },
    })
    const rows = losses.map((loss, index) => ({
      step: 10 * (index + 1),
      epoch: 1,
      eval_loss: loss,
      'eval_rewards/accuracies': 0.9,
    }))
    const { best } = rows.reduce((before, row) => track(before, row, settings), nothingTracked)
    expect(best).toEqual({ step, value: 0.9, loss: 0.6 })
  })
})
