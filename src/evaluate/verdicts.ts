/** From answers to verdicts, by exact truth or by rule; a language model may look at them afterwards. */
import { isClosed } from '../data/closed.js'
import type { Sample } from '../data/records.js'
import type { JudgedAnswer } from './accuracy.js'
import type { Judge } from './judge.js'
import { finalAnswer } from './questions/final-answer.js'
import { parityOf } from './questions/parity.js'
import { judgeByRule } from './questions/rule.js'
import type { ClosedUnder, Prediction, VerdictRecord } from './records.js'

/** What a question is, whoever answers it: the part of a verdict that comes from the sample. */
export function questionOf(sample: Sample, trained: ReadonlySet<string> | null) {
  const { id, images, question, answer, answerType, dataset, meta, task } = sample
  const imageId = images[0]?.sha256 ?? id
  const textOf = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined)
  return {
    sampleId: id,
    imageId,
    dataset,
    answerType,
    closedUnder: closedUnder(sample),
    seenImage: trained === null ? null : images.some(({ sha256 }) => trained.has(sha256)),
    groups: { ask: textOf(meta.ask) ?? task, concept: textOf(meta.concept) ?? dataset },
    question,
    reference: answer,
  }
}

/** The closed rules of published numbers; the source's own word is kept by `import` where another rule decided. */
function closedUnder({ answer, answerType, meta }: Sample): ClosedUnder {
  const said = typeof meta.answerType === 'string' ? meta.answerType : answerType
  return {
    answerType: said === 'closed',
    yesNoExact: isClosed('yes_no_exact', answer, undefined),
    paperSubstring: isClosed('paper_substring', answer, undefined),
  }
}

/** Who decides first: `truth` where the samples carry it, else the rules. */
export interface VerdictOptions {
  truth: Judge | null
  /** SHA-256 of the images that were trained on; null where they are not known. */
  trained: ReadonlySet<string> | null
}

/** The verdict on an answer, before any language model has looked. */
export async function verdictOf(
  sample: Sample,
  { system, k, sampled, text, failure }: Prediction,
  { truth, trained }: VerdictOptions,
): Promise<VerdictRecord> {
  const about = { system, k, sampled, ...questionOf(sample, trained), text }
  const rest = { judge: null, second: null }
  if (text === null) {
    const reason = failure ?? 'no_answer'
    return {
      ...about,
      ...rest,
      said: '',
      verdict: 'failed',
      strength: 'strong',
      by: 'rule',
      reason,
      rule: null,
      parity: null,
    }
  }
  const parity = parityOf(sample, text)
  const said = finalAnswer(text)
  if (truth && text.trim() !== '') {
    const { correct, decided, reason } = await truth.judge(sample, text)
    const verdict = !decided ? 'undecided' : correct ? 'correct' : 'incorrect'
    return { ...about, ...rest, said, verdict, strength: 'strong', by: 'truth', reason, rule: null, parity }
  }
  const rule = judgeByRule(sample, text)
  return { ...about, ...rest, said, ...rule, by: 'rule', rule, parity }
}

/** The verdict as a round of answers has it: what is neither correct nor incorrect is undecided. */
export function asJudged({ sampleId, verdict, groups, text, ...rest }: VerdictRecord): JudgedAnswer {
  const { imageId, answerType, question, reference, reason } = rest
  return {
    questionId: sampleId,
    imageId,
    answerType,
    ask: groups.ask ?? '',
    concept: groups.concept ?? '',
    question,
    reference,
    text: text ?? '',
    correct: verdict === 'correct',
    decided: verdict === 'correct' || verdict === 'incorrect',
    reason,
  }
}
