/** From answers to verdicts, by exact truth or by rule; a language model may look at them afterwards. */
import { z } from 'zod'
import { isClosed } from '../data/closed.js'
import type { Sample } from '../data/records.js'
import type { Judge } from './judge.js'
import { predictionOf } from './predictions.js'
import { finalAnswer } from './questions/final-answer.js'
import { parityOf } from './questions/parity.js'
import { judgeByRule } from './questions/rule.js'
import type { ClosedUnder, Prediction, VerdictRecord } from './records.js'

/** What a question is, whoever answers it: the part of a verdict that comes from the sample. */
export function questionOf(sample: Sample, trained: ReadonlySet<string> | null) {
  const { id, images, question, answer, answerType, dataset, meta, task } = sample
  const textOf = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined)
  return {
    sampleId: id,
    imageId: imageOf(sample),
    dataset,
    answerType,
    closedUnder: closedUnder(sample),
    seenImage: trained === null ? null : images.some(({ sha256 }) => trained.has(sha256)),
    groups: { ask: textOf(meta.ask) ?? task, concept: textOf(meta.concept) ?? dataset },
    question,
    reference: answer,
  }
}

const importedFrom = z.object({ importedFrom: z.object({ images: z.tuple([z.string()], z.string()) }) })

/** Names the first image: by its bytes, else as the source of an import without images calls it. */
function imageOf({ id, images, dataset, meta }: Sample): string {
  if (images.length > 0) return images[0].sha256
  const from = importedFrom.safeParse(meta)
  return from.success ? `${dataset}/${from.data.importedFrom.images[0]}` : id
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
  // Published scripts read the set's own field, whatever rule the import was told.
  const published = { answer: sample.answer, answerType: about.closedUnder.answerType ? 'closed' : 'open' } as const
  const parity = parityOf(published, text)
  const said = finalAnswer(text)
  if (truth && text.trim() !== '') {
    const { correct, decided, reason } = await truth.judge(sample, text)
    const verdict = !decided ? 'undecided' : correct ? 'correct' : 'incorrect'
    return { ...about, ...rest, said, verdict, strength: 'strong', by: 'truth', reason, rule: null, parity }
  }
  const rule = judgeByRule(sample, text)
  return { ...about, ...rest, said, ...rule, by: 'rule', rule, parity }
}

/**
 * Judges an answer to each sample, in their order. A sample without an answer stays in and counts as wrong, so that all systems
 * have the same questions.
 * @param said texts by sample id.
 * @param judge null for the rules.
 * @param system whose answers they are.
 */
export async function judgeAnswers(
  samples: AsyncIterable<Sample> | Iterable<Sample>,
  said: ReadonlyMap<string, string>,
  judge: Judge | null,
  system = 'answers',
): Promise<VerdictRecord[]> {
  const judged: VerdictRecord[] = []
  for await (const sample of samples) {
    const answer = predictionOf(system, sample.id, 0, said.get(sample.id) ?? null, null)
    judged.push(await verdictOf(sample, answer, { truth: judge, trained: null }))
  }
  return judged
}

/** As it was before a language model looked: answers that no model is asked about can be held against it. */
export function firstVerdict(record: VerdictRecord): VerdictRecord {
  if (record.by !== 'judge' || record.rule === null) return record
  return { ...record, ...record.rule, by: 'rule', judge: null, second: null }
}

/** Whether it counts as right. */
export const isRight = ({ verdict }: Pick<VerdictRecord, 'verdict'>): boolean => verdict === 'correct'

/** An answer and what became of it, for people. */
export interface ToldAnswer {
  text: string
  correct: boolean
  decided: boolean
}

/** In short. */
export function toldAnswer(record: VerdictRecord): ToldAnswer {
  const decided = record.verdict === 'correct' || record.verdict === 'incorrect'
  return { text: record.text ?? '', correct: isRight(record), decided }
}
