/** A judge by rule for questions with a short reference answer; what it cannot decide is wrong, and says so. */
import type { Sample, Verdict } from '../data/records.js'
import type { Judge } from './judge.js'

/** How open answers are held against their reference: as a whole, or the reference must occur in them. */
export type OpenMatch = 'exact' | 'phrase'

/**
 * Closed questions: where the reference is yes or no, the first of these words in the answer decides (a word, so that
 * `normal` holds no `no`); any other reference must occur as a phrase. Open questions as `open` says. Case, punctuation
 * and articles do not count.
 */
export function matchAnswer(sample: Pick<Sample, 'answer' | 'answerType'>, text: string, open: OpenMatch): Verdict {
  const reference = plainWords(sample.answer)
  const said = plainWords(text)
  if (said.length === 0) return { correct: false, decided: false, reason: 'the answer is empty' }
  if (reference.length === 0) return { correct: false, decided: false, reason: 'the reference is empty' }
  if (sample.answerType === 'closed' && reference.length === 1 && isVerdict(reference[0])) {
    const verdict = said.find(isVerdict)
    if (verdict === undefined) return { correct: false, decided: false, reason: 'neither yes nor no' }
    return { correct: verdict === reference[0], decided: true, reason: `says ${verdict}, expected ${reference[0]}` }
  }
  const [short, long] = [` ${reference.join(' ')} `, ` ${said.join(' ')} `]
  const whole = sample.answerType === 'open' && open === 'exact'
  const correct = whole ? short === long : long.includes(short)
  return { correct, decided: true, reason: whole ? 'compared as a whole' : 'looked for as a phrase' }
}

/** The judge of `matchAnswer`. */
export const rulesJudge = (openMatch: OpenMatch): Judge => ({
  about: { kind: 'rules', description: 'by rule against the reference answer', openMatch },
  judge: async (sample, text) => matchAnswer(sample, text, openMatch),
})

const isVerdict = (word: string): boolean => word === 'yes' || word === 'no'

const articles = new Set(['a', 'an', 'the'])

/** Lower-case words without punctuation and articles; a point between digits stays. */
function plainWords(text: string): string[] {
  const spaced = text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/(?<!\d)\.|\.(?!\d)|[^\p{L}\p{N}\p{M}.%]+/gu, ' ')
  return spaced.split(' ').filter((word) => word !== '' && !articles.has(word))
}
