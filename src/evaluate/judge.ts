/** Who says whether an answer is right, and what becomes of a round of answers that it has judged. */
import { type Sample, undecided, type Verdict } from '../data/records.js'
import type { JudgedAnswer } from './accuracy.js'
import { judgeByRule } from './questions/rule.js'

/** Decides whether an answer is right; own judges implement it. */
export interface Judge {
  /** What it is and how it is set, for evaluation.json; `description` says how it judges, as in "judged by rule". */
  readonly about: Readonly<Record<string, unknown>> & { kind: string; description: string }
  /** The verdict on an answer that is not empty. */
  judge(sample: Sample, text: string): Promise<Verdict>
}

/**
 * Judges an answer to each sample, in their order. A sample without an answer stays in and counts as wrong, so that all
 * rounds have the same questions.
 * @param said texts by sample id.
 */
export async function judgeAnswers(
  samples: AsyncIterable<Sample> | Iterable<Sample>,
  said: ReadonlyMap<string, string>,
  judge: Judge,
): Promise<JudgedAnswer[]> {
  const judged: JudgedAnswer[] = []
  for await (const sample of samples) {
    const text = said.get(sample.id)
    const verdict =
      text === undefined
        ? undecided('no answer')
        : text.trim() === ''
          ? undecided('the answer is empty')
          : await judge.judge(sample, text)
    judged.push({ ...questionOf(sample), text: text ?? '', ...verdict })
  }
  return judged
}

function questionOf({ id, images, task, question, answer, answerType, dataset, meta }: Sample) {
  return {
    questionId: id,
    imageId: images[0]?.sha256 ?? id,
    answerType,
    question,
    reference: answer,
    ask: textOf(meta.ask) ?? task,
    concept: textOf(meta.concept) ?? dataset,
  }
}

const textOf = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined)

/** The judge of `judgeByRule`. */
export const rulesJudge: Judge = {
  about: { kind: 'rules', description: 'by rule against the reference answer' },
  async judge(sample, text) {
    const { verdict, reason } = judgeByRule(sample, text)
    return { correct: verdict === 'correct', decided: verdict !== 'undecided', reason }
  },
}
