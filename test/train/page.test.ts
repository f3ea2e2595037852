import { parseHTML } from 'linkedom'
import { describe, expect, it } from 'vitest'
import { resolveTrainConfig } from '../../src/train/config.js'
import type { MetricsRow } from '../../src/train/metrics.js'
import { curveOf } from '../../src/train/page/curves.js'
import { type RunPageData, renderRunPage, type Standing } from '../../src/train/page/run-page.js'
import { figuresOf } from '../../src/train/page/training-section.js'

const config = resolveTrainConfig({ model: '/m', data: { train: '/p.jsonl' }, output: '/<b>out', objective: {} })

const on = {
  model: {
    ...{ parameters: 1e6, weightDTypes: ['f32'], dtype: 'f32', family: 'qwen3_vl', threads: 2, isa: 'avx2' },
    ...{ device: 'cpu', gemm: 'native' },
  },
  machine: { cpu: 'a processor', cores: 4, memoryBytes: 2 ** 33, platform: 'linux-x64' },
  peakHostBytes: 2 ** 29,
} as unknown as RunPageData['on']

const row = (step: number, more: Record<string, number> = {}): MetricsRow => ({
  ...{ step, epoch: step / 10, loss: 1 / step, engine_time: 1.5, data_time: 0.5, ...more },
})

function pageOf(
  standing: Partial<Standing>,
  rows: MetricsRow[],
): { page: string; document: ReturnType<typeof parseHTML>['document'] } {
  const page = renderRunPage({ config, on, rows, standing: { state: 'running', step: 0, totalSteps: 40, ...standing } })
  return { page, document: parseHTML(page).document }
}

const textOf = (document: ReturnType<typeof parseHTML>['document'], selector: string) =>
  document.querySelector(selector)?.textContent

describe('the page of a run', () => {
  it('says where the run stands, and is read again by the browser only while it goes on', () => {
    const { page, document } = pageOf({ step: 10 }, [row(9), row(10)])
    expect(textOf(document, '.standing p')).toMatch(
      /^Running: step 10 of 40 · 2\.0 s per step · 1 min 00 s left · last written 20/,
    )
    expect(document.querySelector('.bar i')?.getAttribute('style')).toBe('width: 25.00%')
    expect(page).toContain('http-equiv="refresh" content="5"')
    expect(textOf(document, '.alive')).toMatch(/at least every minute.* more than 3 minutes ago, the run has .* ended/)
    for (const state of ['complete', 'stopped', 'failed'] as const) {
      const ended = pageOf({ state, step: 10, problem: 'the <loss> diverged' }, [row(10)])
      expect(ended.page).not.toContain('http-equiv="refresh"')
      expect(textOf(ended.document, '.alive')).toBeUndefined()
      expect(textOf(ended.document, '.standing p')).not.toContain('left')
      expect(textOf(ended.document, '.problem')).toBe('the <loss> diverged')
    }
  })

  it('says which kernels a GPU takes, and which instructions a CPU', () => {
    const facts = (model: Partial<RunPageData['on']['model']>) => {
      const data = { config, on: { ...on, model: { ...on.model, ...model } }, rows: [] }
      return renderRunPage({ ...data, standing: { state: 'running', step: 0, totalSteps: 40 } })
    }
    expect(facts({ device: 'cuda:0 NVIDIA H100', isa: 'sm_90a' })).toContain('cuda:0 NVIDIA H100, kernels for sm_90a')
    expect(facts({ device: 'cpu', isa: 'avx2' })).toContain('2 threads of 4, avx2')
  })

  it('says what goes on with the run after a stop, in the words of whoever started it', () => {
    for (const state of ['running', 'stopped'] as const) {
      const data = { config, on, rows: [row(3)], standing: { state, step: 3, totalSteps: 40 } }
      const said = (again?: string) => textOf(parseHTML(renderRunPage({ ...data, again })).document, '.standing')
      const how = 'goes on from the newest checkpoint; without one it starts anew.'
      expect(said()).toContain(`The same command with --resume ${how}`)
      expect(said('The same command')).toContain(`The same command ${how}`)
    }
  })

  it('says what to know of its data, and which step best/ is of', () => {
    const settings = resolveTrainConfig({
      ...{ model: '/m', data: { train: '/p.jsonl', evalShare: 0.2 }, output: '/out', objective: {} },
      ...{ evalEvery: 8, checkpoint: { best: 'eval_loss' } },
    })
    const rows = [{ ...row(8), eval_loss: 0.61237 }, row(9), { ...row(16), eval_loss: 0.7 }]
    const warnings = ['6 of 20 pairs <left out>']
    const standing = { state: 'running', step: 16, totalSteps: 40, warnings } as const
    const { document } = parseHTML(renderRunPage({ config: settings, on, rows, standing }))
    expect(textOf(document, '.warning')).toBe('Warning: 6 of 20 pairs <left out>')
    expect(textOf(document, 'dl')).toContain('Best adapterbest/, of step 8: eval_loss 0.6124')
    expect(textOf(pageOf({}, rows).document, 'dl')).not.toContain('Best adapter')
  })

  it('has nothing to draw before the first step', () => {
    const { page, document } = pageOf({}, [])
    expect(document.querySelector('svg')).toBeNull()
    expect(page).not.toMatch(/NaN|undefined|Infinity/)
    expect(page).not.toContain('<b>out')
  })

  it('shows held-out metrics by charts of their own, those it has never heard of too', () => {
    const rows = [
      row(1),
      { ...row(2), eval_loss: 0.5, 'eval_rewards/accuracies': 0.7, eval_bleu: 0.3, eval_runtime: 9 },
    ]
    expect(figuresOf(rows).map(({ title }) => title)).toEqual([
      ...['Loss', 'Time of a step', 'Held-out pairs: loss', 'Held-out pairs: reward accuracy', 'Held-out pairs: bleu'],
    ])
    const { document } = pageOf({}, rows)
    expect([...document.querySelectorAll('h3')].map((title) => title.textContent)).toContain('Held-out pairs: bleu')
  })

  it('draws a long run by means of its steps', () => {
    const rows = Array.from({ length: 10_000 }, (_, index) => row(index + 1, { loss: index % 2 }))
    const points = curveOf(rows, 'loss')
    expect(points).toHaveLength(500)
    expect(points[0]).toEqual({ step: 20, value: 0.5 })
    expect(points.at(-1)).toEqual({ step: 10_000, value: 0.5 })
    expect(pageOf({}, rows).page.length).toBeLessThan(700_000)
  })
})
