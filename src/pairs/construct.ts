/**
 * From one answer to one pair: judge, edit, apply, verify. Providers propose, nothing here believes them: edits are
 * applied by our own code, cut down to the words that differ, and the result must pass verify.ts.
 */
import type { Pair, Response, Sample } from '../data/records.js'
import { checkOptions } from '../options.js'
import { type Origin, orientPair, type PairOutcome, type Rejection } from './build.js'
import { choose, hashNumber } from './choice.js'
import { refineProposals } from './diff.js'
import { applyEdits, EditError, type EditProposal } from './edits.js'
import { forms } from './forms.js'
import type { PairMode } from './mode.js'
import {
  type BlindJudge,
  type Goal,
  isRefusal,
  type Judgement,
  type Proposal,
  type Provider,
  type Refusal,
  type Unit,
} from './provider.js'
import { readAnswer } from './rules/judge.js'
import { readQuestion } from './rules/question.js'
import { readReportSentence } from './rules/report.js'
import { defaultVerifyLimits, type VerifyLimits, verifyPair } from './verify.js'
import { splitSentences } from './words.js'

/** Who judges and edits, and what a pair must pass. */
export interface ConstructContext {
  provider: Provider
  blindJudge: BlindJudge | null
  mode: PairMode
  seed: number
  limits?: VerifyLimits
  /** Reports with a sentence that may be wrong and would stand on both sides: left out, or kept with a count; default `out`. */
  wrongSentences?: 'out' | 'keep'
}

export const constructKeys: Record<keyof ConstructContext, true> = {
  provider: true,
  blindJudge: true,
  mode: true,
  seed: true,
  limits: true,
  wrongSentences: true,
}

/** Everything about one answer that its pair keeps. */
export interface Task {
  id: string
  sample: Sample
  response: Response
}

type Step<T> = T | Refusal

const refuse = (rejection: Rejection, detail: string): Refusal => ({ rejection, detail })

/** Builds and verifies the pair of one answer. What is wrong with an answer comes back as a rejection, never as an exception. */
export async function constructPair(task: Task, context: ConstructContext): Promise<PairOutcome> {
  checkOptions('constructPair', context, constructKeys)
  const { sample, response } = task
  if (sample.answer.trim() === '') return reject(refuse('no_reference', 'the sample has no reference answer'))
  const text = context.mode === 'reference-style' ? sample.answer : response.text
  if (text.trim() === '') return reject(refuse('empty_answer', 'the model said nothing'))
  const unit = unitOf(task, text, context.seed)
  const plan = unit.task === 'report' ? await planReport(unit, context) : await planAnswer(unit, context)
  if (isRefusal(plan)) return reject(plan)
  const pair = makePair(task, text, plan, context)
  if (isRefusal(pair)) return reject(pair)
  const { question, answer: reference } = sample
  const finding = verifyPair(
    {
      task: sample.task,
      question,
      reference,
      chosen: pair.chosen,
      rejected: pair.rejected,
      edited: plan.goal === 'repair' ? 'chosen' : 'rejected',
    },
    context.limits ?? defaultVerifyLimits,
  )
  const vouched = finding?.vouchable && context.blindJudge
  if (finding && !vouched && !(finding.fault === 'unread' && (await isTrue(pair, unit, context.provider)))) {
    return reject(refuse(finding.fault, finding.detail))
  }
  const formed = forms[context.mode]?.(pair, reference) ?? pair
  if (isRefusal(formed)) return reject(formed)
  if (!context.blindJudge) return { pair: formed, rejection: null }
  const blind = await judgeBlindly(pair, unit, context.blindJudge)
  if (isRefusal(blind)) return reject(blind)
  const provenance = { ...pair.provenance, blindJudge: context.blindJudge.name, blindRequests: blind.requests }
  return { pair: { ...formed, provenance }, rejection: null }
}

/** What the rules cannot read is left out, unless the provider knows the truth and both sides hold against it. */
async function isTrue({ chosen, rejected }: Pair, unit: Unit, provider: Provider): Promise<boolean> {
  if (!provider.isExact) return false
  const verdicts = await Promise.all([chosen, rejected].map((text) => provider.judge({ ...unit, text })))
  const [right, wrong] = verdicts.map((verdict) => !isRefusal(verdict) && verdict.decided && verdict.correct)
  return right && !wrong && verdicts.every((verdict) => !isRefusal(verdict) && verdict.decided)
}

const reject = ({ rejection, detail }: Refusal): PairOutcome => ({ pair: null, rejection, detail })

const unitOf = ({ id, sample }: Task, text: string, seed: number): Unit => ({
  id: `${id}\n${seed}`,
  task: sample.task,
  question: sample.question,
  reference: sample.answer,
  text,
  meta: sample.meta,
})

/** Applies what was planned. */
function makePair({ id, sample, response }: Task, text: string, plan: Plan, context: ConstructContext): Step<Pair> {
  const { model, adapter, seed, sampling } = response
  const origin: Origin = plan.goal === 'repair' ? 'repaired' : 'counterfactual'
  const provenance = {
    model,
    adapter,
    seed,
    sampling,
    mode: context.mode,
    provider: context.provider.name,
    verdict: plan.verdict,
    choiceSeed: context.seed,
    requests: plan.requests,
    ...(plan.doubtful.length > 0 && { mayBeWrongOnBothSides: plan.doubtful }),
    // What the corruption chooses a mask by.
    ...(sample.meta.concept !== undefined && { concept: sample.meta.concept }),
  }
  const record = { id, sampleId: sample.id, images: sample.images, prompt: sample.question, origin, provenance }
  try {
    const applied = applyEdits(text, refineProposals(text, plan.edits))
    return orientPair(record, text, applied, origin === 'repaired' ? 'rejected' : 'chosen')
  } catch (error) {
    if (error instanceof EditError) return refuse(error.problem, error.message)
    throw error
  }
}

interface Plan {
  goal: Goal
  edits: EditProposal[]
  verdict: string
  requests: string[]
  /** Sentences of a report that may be wrong and stand on both sides. */
  doubtful: string[]
}

async function planAnswer(unit: Unit, context: ConstructContext): Promise<Step<Plan>> {
  const judgement = await judgeUnit(unit, context)
  if (isRefusal(judgement)) return judgement
  if (!judgement.decided) return refuse('undecided', judgement.reason)
  const goal: Goal = judgement.correct ? 'counterfactual' : 'repair'
  const proposal = await editUnit(unit, goal, judgement, context.provider)
  if (isRefusal(proposal)) return proposal
  const requests = [...judgement.requests, ...proposal.requests]
  return { goal, edits: proposal.edits, verdict: judgement.reason, requests, doubtful: [] }
}

/** The judge's verdict, unless the word rules read the text otherwise: then nobody is believed. */
async function judgeUnit(unit: Unit, { mode, provider }: ConstructContext): Promise<Step<Judgement>> {
  if (mode === 'reference-style') {
    return { correct: true, decided: true, reason: 'the reference itself', span: null, requests: [] }
  }
  const judgement = await provider.judge(unit)
  if (isRefusal(judgement) || !judgement.decided) return judgement
  const read = readAnswer(unit)
  if (read.decided && read.correct !== judgement.correct) {
    const said = judgement.correct ? 'correct' : 'incorrect'
    return refuse('judges_disagree', `${provider.name} says ${said}, the word rules say: ${read.reason}`)
  }
  // What is asked with yes or no must be answered so: a text that only talks about being right is no answer.
  if (!read.decided && unit.task === 'vqa' && readQuestion(unit.question).kind === 'polar') {
    return refuse('undecided', `no plain yes or no: ${read.reason}`)
  }
  return judgement
}

/** Proposals that miss the place where the question is answered would leave the answer as right or wrong as it was. */
async function editUnit(unit: Unit, goal: Goal, judgement: Judgement, provider: Provider): Promise<Step<Proposal>> {
  const proposal = await provider.edit(unit, goal, judgement)
  if (isRefusal(proposal)) return proposal
  if (proposal.edits.length === 0) return refuse('no_edit_found', `${provider.name} proposes nothing`)
  const { span } = judgement
  const near = splitSentences(unit.text).filter(({ start, end }) => span && start < span[1] && end > span[0])
  const touches = (edit: EditProposal) => near.some(({ start, end }) => edit.start <= end && edit.end >= start)
  if (span && !proposal.edits.some(touches)) {
    return refuse('edit_outside_answer', 'no edit is in the sentence that answers')
  }
  return proposal
}

/**
 * A report, sentence by sentence. Wrong sentences are mended, all of them, or the chosen side would still be wrong; in a
 * report without a wrong one, one right sentence is falsified.
 */
async function planReport(unit: Unit, context: ConstructContext): Promise<Step<Plan>> {
  const sentences = splitSentences(unit.text)
  const judged: { unit: Unit; start: number; judgement: Judgement }[] = []
  const requests: string[] = []
  for (const [index, { text, start }] of sentences.entries()) {
    const part = { ...unit, id: `${unit.id}\n${index}`, text }
    const judgement = await judgeUnit(part, context)
    if (isRefusal(judgement)) return judgement
    requests.push(...judgement.requests)
    if (judgement.decided) judged.push({ unit: part, start, judgement })
  }
  if (judged.length === 0) return refuse('undecided', 'no sentence could be judged')
  const doubtful =
    context.mode !== 'reference-style'
      ? sentences.map(({ text }) => text).filter((text) => readReportSentence({ ...unit, text }).mayBeWrong)
      : []
  if (doubtful.length > 0 && context.wrongSentences !== 'keep') {
    return refuse('wrong_sentence_kept', `may be wrong, and would stand on both sides: ${doubtful[0]}`)
  }
  const wrong = judged.filter(({ judgement }) => !judgement.correct)
  const goal: Goal = wrong.length > 0 ? 'repair' : 'counterfactual'
  const edits: EditProposal[] = []
  let last: Refusal = refuse('no_edit_found', 'no sentence could be falsified')
  for (const part of wrong.length > 0 ? wrong : inSomeOrder(judged, unit.id)) {
    const verdict = part.judgement.reason
    const proposal = await editUnit(part.unit, goal, part.judgement, context.provider)
    if (isRefusal(proposal)) {
      if (goal === 'repair') return proposal
      last = proposal
      continue
    }
    requests.push(...proposal.requests)
    edits.push(
      ...proposal.edits.map((edit) => ({ ...edit, start: edit.start + part.start, end: edit.end + part.start })),
    )
    if (goal === 'counterfactual') return { goal, edits, verdict, requests, doubtful }
  }
  if (edits.length === 0) return last
  return { goal, edits, verdict: wrong.map(({ judgement }) => judgement.reason).join('; '), requests, doubtful }
}

/** An order that depends on the texts and the seed alone. */
function inSomeOrder<T extends { unit: Unit }>(parts: readonly T[], key: string): T[] {
  const rank = ({ unit }: T) => hashNumber(key, unit.text)
  return [...parts].sort((a, b) => rank(a) - rank(b))
}

async function judgeBlindly(pair: Pair, unit: Unit, judge: BlindJudge): Promise<Step<{ requests: string[] }>> {
  const requests: string[] = []
  // In both orders: a judge that leans to one place is found out.
  for (const chosenFirst of choose(
    [
      [true, false],
      [false, true],
    ],
    unit.id,
    'blind',
  )) {
    const [first, second] = chosenFirst ? [pair.chosen, pair.rejected] : [pair.rejected, pair.chosen]
    const said = await judge.compare(unit, first, second)
    if (isRefusal(said)) return said
    requests.push(...said.requests)
    const [chosen, other] = chosenFirst ? [said.first, said.second] : [said.second, said.first]
    if (chosen && !other) continue
    const call = (agrees: boolean) => (agrees ? 'right' : 'wrong')
    return refuse(
      'blind_judge',
      `${judge.name} finds the chosen text ${call(chosen)} and the rejected one ${call(other)}`,
    )
  }
  return { requests }
}
