import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { finalAnswer } from '../../src/evaluate/questions/final-answer.js'
import { normalizeWord, openAccuracy, parityOf } from '../../src/evaluate/questions/parity.js'
import { judgeByRule } from '../../src/evaluate/questions/rule.js'
import { answerWords } from '../../src/evaluate/questions/words.js'

const golden = JSON.parse(readFileSync(new URL('golden/vqa-rules.json', import.meta.url), 'utf8'))
interface Case {
  id: string
  answerType: 'closed' | 'open'
  question: string
  reference: string
  prediction: string
  // biome-ignore lint/suspicious/noExplicitAny: closed and open questions have other published rules.
  parity: any
  fixed: object
  normalized: { llavaMed: Record<string, string>; fixed: Record<string, string[]> }
}
const cases: Case[] = golden.cases
const questionOf = ({ question, reference, answerType }: Case) => ({ question, answer: reference, answerType })

describe('values of the published rules', () => {
  it.each(cases.filter(({ answerType }) => answerType === 'closed'))('$id, closed', (each) => {
    const { parity, prediction, reference } = each
    const found = parityOf(questionOf(each), prediction)
    expect(found.llavaMed2023).toBe(parity.llavaMed2023)
    expect(found.llavaMed).toBe(parity.llavaMed)
    expect(found.companion).toBe(parity.companionWithoutJudge)
    expect(found.lmmsEval).toBe(parity.lmmsEval)
    const yesNo = /^(yes|no)$/i.test(reference)
    expect(found.medEvalKit).toBe(yesNo ? parity.medEvalKitYesNo : parity.medEvalKitExact)
  })

  it.each(cases.filter(({ answerType }) => answerType === 'open'))('$id, open', (each) => {
    const { parity, prediction, reference } = each
    const found = parityOf(questionOf(each), prediction)
    const { openAccuracy: accuracy, ...scores } = parity.llavaMed
    expect(found.scores).toEqual(scores)
    expect(openAccuracy(reference, prediction, golden.candidates)).toBe(accuracy)
    expect(found.lmmsEval).toBe(parity.lmmsEval)
    expect(found.medEvalKit).toBe(parity.medEvalKitExact)
  })

  it.each(cases)('$id, normalised', ({ reference, prediction, normalized }) => {
    expect(normalizeWord(reference.toLowerCase())).toBe(normalized.llavaMed.reference)
    expect(normalizeWord(prediction.toLowerCase())).toBe(normalized.llavaMed.prediction)
    expect(answerWords(reference)).toEqual(normalized.fixed.reference)
    expect(answerWords(finalAnswer(prediction))).toEqual(normalized.fixed.prediction)
  })
})

describe('our rule', () => {
  it.each(cases)('$id', (each) => expect(judgeByRule(questionOf(each), each.prediction)).toEqual(each.fixed))

  const closed = (question: string, answer: string) => ({ question, answer, answerType: 'closed' as const })
  const open = (answer: string) => ({ question: 'What is shown?', answer, answerType: 'open' as const })

  it.each([
    [closed('Is it a CT or an MRI?', 'MRI'), 'It is not a CT but an MRI.', 'correct', 'option'],
    [closed('Is it a CT or an MRI?', 'MRI'), 'This is not an MRI.', 'undecided', 'neither'],
    [
      closed('Is it left or right?', 'Left'),
      'On the left-hand side; nothing on the right',
      'undecided',
      'both_options',
    ],
    [closed('Is there a nodule?', 'No'), 'Yes. No doubt.', 'incorrect', 'opens_with'],
    [closed('Is there a nodule?', 'No'), 'Yes and no.', 'undecided', 'both'],
    [open('3 cm'), '4 cm', 'incorrect', 'other_number'],
    [open('left lung'), 'both sides', 'incorrect', 'other_side'],
    [open('liver, spleen'), 'The spleen and the liver.', 'correct', 'phrase'],
    [open('pneumonia'), 'It cannot be determined.', 'undecided', 'declines'],
    [open('pneumonia'), 'not effusion but pneumonia', 'correct', 'phrase'],
    [open('pneumonia'), '<think>pneumonia</think>edema', 'incorrect', 'absent'],
  ])('%j answered with %j', (question, text, verdict, reason) => {
    expect(judgeByRule(question, text)).toMatchObject({ verdict, reason })
  })
})

describe('the final answer', () => {
  it.each([
    ['<think>no</think>Yes', 'Yes'],
    ['no, wait</think>Yes', 'Yes'],
    ['<think>never ends', ''],
    ['So \\boxed{\\text{left lung}} it is', 'left lung'],
    ['The nodule is small.\n**Answer:** left', 'left'],
    ['Final answer: no', 'no'],
    ['<answer>a</answer> <answer>b</answer>', 'b'],
    ['Answer:', 'Answer:'],
    ['plain', 'plain'],
  ])('of %j', (text, answer) => expect(finalAnswer(text)).toBe(answer))
})
