/** Attention before and after on a few held-out questions: pictures for the eye, a mean ratio for the mind. */
import {
  type AttentionMap,
  attentionRatio,
  type JudgedAnswer,
  type ProbedModel,
  probeAttention,
} from '../evaluate/index.js'
import { applyEdits } from '../pairs/index.js'
import { conceptMask, counterfactual, Rng } from '../phantom/index.js'
import type { DemoItem } from './dataset.js'
import type { Update } from './stages.js'

export interface ProbedQuestion {
  item: DemoItem
  answer: string
  span: [number, number]
  mask: Uint8Array
  before: AttentionMap
  after: AttentionMap
  ratioBefore: number
  ratioAfter: number
  /** The answer was wrong before training. */
  mended: boolean
}

/**
 * Probes questions that the trained model answers rightly and whose finding is there, so that there is a lesion to look
 * at. The decisive phrase is the one that a counterfactual would change. Both models are probed on the same tokens: the
 * adapter of one engine on and off.
 */
export async function probeQuestions(
  model: ProbedModel,
  items: readonly DemoItem[],
  rounds: { before: readonly JudgedAnswer[]; after: readonly JudgedAnswer[] },
  options: { seed: number; limit: number },
  update: Update,
): Promise<ProbedQuestion[]> {
  const candidates = items.flatMap((item, i) => {
    const span = decisiveSpan(item, rounds.after[i], options.seed)
    return span ? [{ item, span, answer: rounds.after[i].text, mended: !rounds.before[i].correct }] : []
  })
  const probed: ProbedQuestion[] = []
  for (const candidate of spread(candidates, options.limit)) {
    const { item, span, answer } = candidate
    const request = { question: item.sample.question, image: item.sample.images[0], answer, span }
    const { before, after } = await probeAttention(model, request)
    const mask = conceptMask(item.study, item.question)
    const ratio = (map: AttentionMap) => attentionRatio(map, mask, item.study.width, item.study.height)
    probed.push({ ...candidate, mask, before, after, ratioBefore: ratio(before), ratioAfter: ratio(after) })
    update(probed.length)
  }
  return probed
}

function decisiveSpan({ study, question }: DemoItem, answer: JudgedAnswer, seed: number): [number, number] | null {
  const shown = study.findings.some((finding) => finding.type === question.concept)
  if (!shown || !answer.correct || question.task === 'report') return null
  const edits = counterfactual(study, question, answer.text, new Rng('attention', seed, question.id))
  return edits ? applyEdits(answer.text, edits).edits[0].original : null
}

/** At most `limit` of the items, evenly spaced. */
export function spread<T>(items: readonly T[], limit: number): T[] {
  if (items.length <= limit) return [...items]
  return Array.from({ length: limit }, (_, i) => items[Math.floor((i * items.length) / limit)])
}
