import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { sha256 } from '../../src/data/files.js'
import { finalAnswer } from '../../src/evaluate/questions/final-answer.js'
import { normalizeWord, openAccuracy, parityOf } from '../../src/evaluate/questions/parity.js'
import { judgeByRule, rulesVersion } from '../../src/evaluate/questions/rule.js'
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

describe('published rules on odd texts', () => {
  const published = (answer: string, text: string, answerType: 'closed' | 'open' = 'closed') =>
    parityOf({ answer, answerType }, text)

  it.each([
    ['no', 'So \\boxed{No}', true],
    ['yes', '\\boxed{\\text{yes}}', true],
    ['no', '\\boxed{never closed', false],
    ['yes', '<answer>it is</answer> no <answer>yes</answer>', true],
    ['yes', '<answer> </answer> no', false],
    ['no', 'It is normal', true],
    ['yes', 'yes and no', false],
  ])('MedEvalKit: %j, %j', (answer, text, right) => expect(published(answer, text).medEvalKit).toBe(right))

  it.each([
    ['yes', 'Yeah!', true],
    ['no', 'nope (surely)', true],
    ['x-ray', 'X RAY', true],
    ['yes', '\u2028yes\x1c', true],
    // A byte-order mark is no white space to Python.
    ['yes', '\ufeffyes', false],
  ])('lmms-eval: %j, %j', (answer, text, right) => expect(published(answer, text).lmmsEval).toBe(right))

  it.each([
    ['yes', 'Perhaps. No, yes.', false],
    ['yes', 'noyes', null],
    ['yes', 'ja', null],
    ['left', 'yes', null],
    ['No', '<ANSWER>no</ANSWER> yes', true],
  ])('FiRe-MPO: %j, %j', (answer, text, right) => expect(published(answer, text).companion).toBe(right))

  it.each([
    // All punctuation vanishes with one comma between digits, of any script.
    ['1,200 x-ray', '1200 xray'],
    ['\u0661,\u0662 x-ray', '\u0661\u0662 xray'],
    ['x-ray', 'x ray'],
    ['dont say none', "don't say 0"],
    ['a the an ten', '10'],
  ])('LLaVA-Med normalises %j', (text, plain) => expect(normalizeWord(text)).toBe(plain))
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
    [closed('Is there a nodule?', 'yes'), 'Yes/No', 'undecided', 'both'],
    [closed('Is there a nodule?', 'no'), '**No / yes**', 'undecided', 'both'],
    [closed('Is there a nodule?', 'yes'), 'Yes, no effusion either', 'correct', 'opens_with'],
    [closed('Is there a mass?', 'Yes'), 'Yes, with unclear margins', 'correct', 'opens_with'],
    [closed('Is there a mass?', 'Yes'), 'No, and it is unclear why you ask', 'incorrect', 'opens_with'],
    [closed('Is there a mass?', 'Yes'), 'Yes, but I am not sure', 'undecided', 'declines'],
    [closed('Is there a mass?', 'Yes'), 'Unclear.', 'undecided', 'declines'],
    [closed('Is there a mass?', 'Yes'), 'Yeah', 'correct', 'opens_with'],
    [closed('Is it axial or coronal?', 'Coronal'), 'Neither axial nor sagittal', 'undecided', 'neither'],
    [closed('Is the lesion on the left or the right?', 'Right'), 'Right-sided', 'correct', 'option'],
    [open('bilateral'), 'left and right', 'correct', 'phrase'],
    [open('bilateral'), 'On the right and the left', 'correct', 'phrase'],
    [open('bilateral lungs'), 'The left and right lungs.', 'correct', 'phrase'],
    [open('left and right lungs'), 'bilateral lungs', 'correct', 'phrase'],
    [open('left and right'), 'left', 'incorrect', 'absent'],
    [open('bilateral'), 'left', 'incorrect', 'other_side'],
    [open('left'), 'bilaterally', 'incorrect', 'other_side'],
    [open('50%'), 'About 50 %', 'correct', 'phrase'],
    [open('50 %'), '50 percent', 'correct', 'equal'],
    [open('50%'), '60 %', 'incorrect', 'other_number'],
    [open('3'), 'three lesions', 'correct', 'phrase'],
    [open('1.5 cm'), '1.5 cm', 'correct', 'equal'],
    [open('1.5 cm'), '15 cm', 'incorrect', 'other_number'],
    [open('3 cm'), '4 cm', 'incorrect', 'other_number'],
    [open('left lung'), 'both sides', 'incorrect', 'other_side'],
    [open('liver, spleen'), 'The spleen and the liver.', 'correct', 'phrase'],
    [open('pneumonia'), 'It cannot be determined.', 'undecided', 'declines'],
    [open('pneumonia'), 'not effusion but pneumonia', 'correct', 'phrase'],
    [open('pneumonia'), '<think>pneumonia</think>edema', 'incorrect', 'absent'],
  ])('%j answered with %j', (question, text, verdict, reason) => {
    expect(judgeByRule(question, text)).toMatchObject({ verdict, reason })
  })

  it('has another version when a verdict changes', () => {
    const texts = [...cases.map(({ prediction }) => prediction), 'Yes/No', 'left and right', '50 %', 'Yes, unclear']
    const asked = [...cases.map(questionOf), open('bilateral'), open('50%'), closed('Is there a mass?', 'yes')]
    const verdicts = asked.flatMap((question) => texts.map((text) => judgeByRule(question, text)))
    const found = [rulesVersion, sha256(JSON.stringify(verdicts)).slice(0, 12)]
    // Another hash here: raise `rulesVersion`, and write down both.
    expect(found).toEqual([2, '14eb975cd19c'])
  })

  it('leaves a yes with one doubtful word to the judge', () => {
    const question = closed('Is there a mass?', 'Yes')
    expect(judgeByRule(question, 'Yes, but unclear')).toMatchObject({ verdict: 'correct', strength: 'weak' })
    expect(judgeByRule(question, 'Yes, clearly')).toMatchObject({ verdict: 'correct', strength: 'strong' })
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
