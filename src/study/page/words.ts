/** What a study may say. "Gain" and "loss" are said only where the conclusion is one. */
import { intervalOfPoints, intervalOfShares, percent, points, pValue } from '../../page/numbers.js'
import { counted } from '../../text/plural.js'
import type { ComparedArms, StudyConclusion } from '../compare.js'
import type { SeedMean } from '../means.js'
import { isMeasure } from '../metrics.js'
import type { StudyResults, TableResults } from '../results.js'
import type { Comparison, Measure, Metric } from '../settings.js'

export const metricWords: Record<Metric, string> = {
  overall: 'all questions',
  closed: 'closed questions',
  open: 'open questions',
}

/** What has a value, for `higher` and `lower`. */
const measureWords: Record<Measure, string> = {
  headroom: 'gain of several drawn answers over one (pass@k less pass@1)',
  uniqueShare: 'share of distinct answers among the drawn ones',
  contentOverStyle: 'share of held-out items where the right text is rewarded more in either style',
}

/** Heading of the comparisons by a metric. */
export const comparedWords = (metric: Comparison['metric']): string =>
  isMeasure(metric) ? measureWords[metric] : metricWords[metric]

/** In percent: `62.5 [58.1, 66.7]`; a dash where a seed is missing. */
export const withMean = (mean: SeedMean | null): string =>
  mean === null ? '–' : `${percent(mean.value)}${mean.interval ? ` ${intervalOfShares(mean.interval)}` : ''}`

/** What a reader takes away, and the numbers behind it. */
export interface Verdict {
  sentence: string
  detail: string
}

/** Of the comparison that a table was made for. */
export function primaryWords({ primary, arms }: TableResults, results: StudyResults): Verdict {
  if (primary) return conclusionWords(primary, results)
  const detail = `Its arms are not both among ${arms.join(', ')}.`
  return { sentence: 'The comparison that was fixed beforehand is not made', detail }
}

export function conclusionWords(compared: ComparedArms, { seeds, margin, small }: StudyResults): Verdict {
  const { arm, baseline, metric, conclusion } = compared
  const asked = isMeasure(metric) ? `the ${measureWords[metric]}` : metricWords[metric]
  const than = (more: string, higher: string): string =>
    isMeasure(metric)
      ? `${arm} has ${higher} ${measureWords[metric]} than ${baseline}`
      : `${arm} answers ${more} of ${asked} correctly than ${baseline}`
  const sentences: Record<StudyConclusion, string> = {
    gain: than('more', 'a higher'),
    loss: than('fewer', 'a lower'),
    equivalent: `${arm} and ${baseline} are equivalent within ${percent(margin)} points on ${asked}`,
    not_resolved: `Not resolved: whether ${arm} and ${baseline} differ on ${asked}`,
    other_questions: `Not comparable: ${arm} and ${baseline} did not answer the same questions on the same images`,
    missing: `Not known yet: whether ${arm} and ${baseline} differ on ${asked}`,
  }
  const size = small ? ' This run is too small to conclude anything.' : ''
  const detail = `${detailOf(compared, seeds.length)}.${seedWords(compared, seeds.length)}${size}`
  return { sentence: sentences[conclusion], detail }
}

function detailOf({ difference, p, holm, seeds, conclusion }: ComparedArms, wanted: number): string {
  if (conclusion === 'other_questions') return 'Nothing is compared'
  if (seeds.length < wanted) return `${seeds.length} of ${counted(wanted, 'seed')} so far`
  if (!difference) return 'There are fewer than 20 images, too few for an interval'
  const test = wanted === 1 ? 'sign-flip test over images' : 'test over seeds and images'
  const tested = p === null ? '' : `, ${test} p ${p < 0.001 ? '' : '= '}${pValue(p)}`
  const corrected = holm === null ? '' : `, Holm ${pValue(holm)}`
  return `${points(difference.value)} points ${intervalOfPoints(difference)}${tested}${corrected}, ${counted(wanted, 'seed')}`
}

/** How far the conclusion reaches. */
function seedWords({ conclusion, seeds: each }: ComparedArms, seeds: number): string {
  if (conclusion === 'missing' || conclusion === 'other_questions') return ''
  if (seeds === 1) return ' It holds for this one seed; how much seeds differ is not known.'
  if (each.every(({ difference }) => difference === each[0].difference)) {
    return ' All seeds came to the same: they count as one.'
  }
  return seeds < 5
    ? ` How much seeds differ cannot be told well from ${seeds} of them: where they differ much, the interval is too narrow.`
    : ''
}

/** A line for each arm that is not complete, with the reason at its first seed. */
export function missingLines(missing: StudyResults['missing']): string[] {
  const lines = new Map<string, StudyResults['missing']>()
  for (const each of missing) {
    const key = `${each.state} ${each.arm}`
    lines.set(key, [...(lines.get(key) ?? []), each])
  }
  return [...lines.values()].map((each) => {
    const [{ arm, state, why }] = each
    const seeds = `${each.length === 1 ? 'seed' : 'seeds'} ${each.map(({ seed }) => seed).join(', ')}`
    return `${state === 'failed' ? 'Failed' : 'Missing'}: ${arm}, ${seeds}: ${why}`
  })
}
