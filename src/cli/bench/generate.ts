import type { GenerateBenchResult } from '../../bench/generate.js'
import { generateBenchSettings } from '../../bench/settings.js'
import { formatShare, formatTable } from '../format.js'
import { benchCommand, withRange } from './variants.js'

export const generate = benchCommand({
  name: 'generate',
  summary: 'Answers to several questions about an image compared with transformers: time, memory, agreement',
  settings: generateBenchSettings,
  measure: async (settings, hooks) => (await import('../../bench/generate.js')).benchGenerate(settings, hooks),
  describe,
})

/** Speed and memory against the first baseline that ran, and whose answers are ours. */
function describe({ variants, ratios, agreement }: GenerateBenchResult): string {
  const [baseline, rows] = Object.entries(ratios)[0]
  const cells = variants.map(({ variant, seconds, tokens, peakBytes }, index) => [
    variant,
    withRange(seconds, (value) => value.toPrecision(3)),
    withRange(rows[index].speed, (value) => value.toFixed(2)),
    (tokens / seconds.median).toFixed(1),
    Math.round(peakBytes / 2 ** 20),
    `${agreement[index].same}/${agreement[index].answers}`,
    formatShare(agreement[index].leading),
  ])
  const headers = [
    ...['variant', 'seconds (min-max)', `speed-up over ${baseline}`, 'new tokens/s', 'peak MiB'],
    ...['same answers', 'tokens before a difference'],
  ]
  return `${formatTable(headers, cells)}\n`
}
