/** What may be said of a comparison. "Gain" and "loss" are said only where the conclusion is one. */
import type { ServedBy } from '../../endpoint/serving.js'
import { percent, points, pValue } from '../../page/numbers.js'
import type { Interval } from '../../statistics/index.js'
import { counted } from '../../text/plural.js'
import type { Resolution, SystemComparison } from '../compare.js'
import type { EvaluationResults } from '../finished.js'
import type { AnswerGroup, GroupKind } from '../groups.js'

/** The sentence that a reader takes away. */
export function conclusionWords({ conclusion, system, baseline }: SystemComparison, margin: number): string {
  const sentences: Record<Resolution, string> = {
    gain: `${system} answers more questions correctly than ${baseline}`,
    loss: `${system} answers fewer questions correctly than ${baseline}`,
    equivalent: `${system} and ${baseline} are equivalent within ${percent(margin)} points`,
    not_resolved: `Not resolved: whether ${system} and ${baseline} differ`,
  }
  return sentences[conclusion]
}

/** The numbers that the sentence rests on. */
export function conclusionDetail(
  { groups: [all], conclusion, doubt }: SystemComparison,
  results: Pick<EvaluationResults, 'detectable' | 'questions'>,
): string {
  const { bootstrap, count } = all.clusters
  const interval = bootstrap
    ? `95 % cluster interval ${signedInterval(bootstrap)} over ${counted(count, 'image')}`
    : `no interval by image, since there are only ${counted(count, 'image')}, so that nothing is concluded`
  const { gained, lost } = all.counts
  const moved = `${gained} became right and ${lost} wrong of n = ${all.count}`
  const tested = `exact McNemar ${pWords(all.mcnemar.exact)}, Holm ${pWords(all.adjusted.holm)}, n = ${all.count}`
  const detail = `${points(all.difference.value)} points; ${interval}; ${moved} (${tested}).`
  if (doubt) return `${detail} ${doubtWords(doubt)}`
  return conclusion === 'not_resolved' ? `${detail} ${detectableWords(results)}` : detail
}

/** Why an interval is not believed. */
export const doubtWords = (worst: Interval): string =>
  `Too many answers have no verdict: with them the difference may be anything in ${signedInterval(worst)}.`

function detectableWords({ detectable, questions }: Pick<EvaluationResults, 'detectable' | 'questions'>): string {
  const usual = detectable.find(({ discordant }) => discordant === 0.2)?.difference
  if (usual == null) return `${questions} questions are too few to show any difference.`
  return `Neither a difference nor its absence was shown: ${questions} questions can show ${percent(usual)} points where a fifth of the answers change.`
}

/** A language model with the name that its server gave, where that is another one, and the day of its replies. */
export function servedWords({ model, servedAs, date }: { model: string } & ServedBy): string {
  const others = servedAs.filter((name) => name !== model)
  return `${model}${others.length > 0 ? `, served as ${others.join(', ')}` : ''}, ${date}`
}

/** `p = 0.012`; a dash where there is none. */
export const pWords = (p: number | null): string =>
  p === null ? 'p –' : p < 0.001 ? `p ${pValue(p)}` : `p = ${pValue(p)}`

/** Points with their sign. */
export const signedInterval = ({ low, high }: Interval): string => `[${points(low)}, ${points(high)}]`

/** A group in words: the closed rules stand under their names, so that a number is never "closed" without its rule. */
export function groupWords({ kind, name }: AnswerGroup): string {
  const words: Record<GroupKind, string> = {
    overall: 'All questions',
    answerType: `${name} by answer_type, as the data set says, else by the rule of the import`,
    yesNoExact: `${name} by yes_no_exact, the reference is ${name === 'closed' ? '' : 'not '}yes or no`,
    paperSubstring: `${name} by paper_substring, the reference contains ${name === 'closed' ? '' : 'no '}“yes” or “no”`,
    ask: `asked: ${name}`,
    concept: `concept: ${name}`,
    dataset: `data set: ${name}`,
    seen: name,
  }
  const text = words[kind]
  return text.charAt(0).toUpperCase() + text.slice(1)
}

/** Three decimals, or a dash. */
export const decimal = (value: number | null, digits = 3): string =>
  value !== null && Number.isFinite(value) ? value.toFixed(digits).replace('-', '−') : '–'

/** `[0.412, 0.533]`, or nothing to say. */
export const decimalInterval = (interval: Interval | null, digits = 3): string =>
  interval ? `[${decimal(interval.low, digits)}, ${decimal(interval.high, digits)}]` : '–'

/** With its sign. */
export const signed = (value: number | null): string =>
  value !== null && Number.isFinite(value) ? `${value > 0 ? '+' : ''}${decimal(value)}` : '–'

/** At most so many characters; what is left out is said. */
export function cut(text: string, limit = 400): string {
  const characters = [...text]
  const rest = characters.length - limit
  return rest > 0 ? `${characters.slice(0, limit).join('')} … (${rest} more characters)` : text
}
