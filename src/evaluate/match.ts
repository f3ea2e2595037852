/** A judge by rule for questions with a short reference answer; what it cannot decide is wrong, and says so. */
import type { Sample } from '../data/records.js'
import type { JudgedAnswer } from './accuracy.js'

/** How open answers are held against their reference: as a whole, or the reference must occur in them. */
export type OpenMatch = 'exact' | 'phrase'

export interface Match {
  correct: boolean
  decided: boolean
  reason: string
}

/**
 * Closed questions: where the reference is yes or no, the first of these words in the answer decides (a word, so that
 * `normal` holds no `no`); any other reference must occur as a phrase. Open questions as `open` says. Case, punctuation
 * and articles do not count.
 */
export function matchAnswer(sample: Pick<Sample, 'answer' | 'answerType'>, text: string, open: OpenMatch): Match {
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

/** The answer of one sample with its verdict; `null` is a question that got none. */
export function judgeByRule(sample: Sample, text: string | null, open: OpenMatch): JudgedAnswer {
  const match =
    text === null ? { correct: false, decided: false, reason: 'no answer' } : matchAnswer(sample, text, open)
  const { id, images, task, answerType, dataset, meta } = sample
  return {
    questionId: id,
    imageId: images[0]?.sha256 ?? id,
    task,
    answerType,
    ask: textOf(meta.ask) ?? task,
    concept: textOf(meta.concept) ?? dataset,
    text: text ?? '',
    ...match,
  }
}

const isVerdict = (word: string): boolean => word === 'yes' || word === 'no'

const textOf = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined)

const articles = new Set(['a', 'an', 'the'])

/** Lower-case words without punctuation and articles; a point between digits stays. */
function plainWords(text: string): string[] {
  const spaced = text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/(?<!\d)\.|\.(?!\d)|[^\p{L}\p{N}\p{M}.%]+/gu, ' ')
  return spaced.split(' ').filter((word) => word !== '' && !articles.has(word))
}
