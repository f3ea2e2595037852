import { compareSystems } from '../../src/evaluate/compare.js'
import { hiddenResults } from '../../src/evaluate/hidden.js'
import { resultsByGroup, type VerdictRecord } from '../../src/evaluate/index.js'
import { detectableWith } from '../../src/evaluate/results.js'
import type { Picture } from '../../src/page/picture.js'
import { emptyStatistics } from '../../src/pairs/statistics.js'
import type { ReportData } from '../../src/report/index.js'
import type { ComparedRounds } from '../../src/report/types.js'
import type { SampleSettings } from '../../src/sample/settings.js'

/** The parts of a page that has them all, in order. */
export const sectionTitles = [
  'Rounds',
  'The method',
  'Accuracy on the held-out questions',
  'Training',
  'With the lesion hidden',
  'From answers to pairs',
  'Pairs',
  'Attention over the image',
  'Answers that changed',
  'What was run',
]

/** A 1x1 WebP: the smallest image that a browser accepts. */
const PIXEL = Buffer.from('UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA', 'base64')

export const picture = (): Picture => ({
  width: 4,
  height: 4,
  webp: PIXEL,
  mask: Uint8Array.of(0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0),
})

export function answers(right: (i: number) => boolean, concept = 'effusion'): VerdictRecord[] {
  return Array.from({ length: 60 }, (_, i) => ({
    system: 'any',
    sampleId: `q${i}`,
    k: 0,
    sampled: false,
    imageId: `i${i % 30}`,
    dataset: 'test',
    answerType: i % 2 ? 'closed' : 'open',
    closedUnder: { answerType: i % 2 === 1, yesNoExact: i % 2 === 1, paperSubstring: i % 2 === 1 },
    seenImage: null,
    groups: { ask: i % 2 ? 'presence' : 'side', concept: i % 3 ? 'nodule' : concept },
    question: 'Where is it?',
    reference: 'left',
    text: 'It is on the left.',
    said: 'It is on the left.',
    verdict: right(i) ? 'correct' : i === 7 ? 'undecided' : 'incorrect',
    strength: 'strong',
    by: 'rule',
    reason: 'by rule',
    rule: null,
    judge: null,
    second: null,
    parity: null,
  }))
}

const greedy: SampleSettings = {
  ...{
    answers: 1,
    temperature: 0,
    topP: 1,
    topK: 0,
    maxNewTokens: 32,
    stop: [],
    seed: 0,
    promptSuffix: '',
    split: null,
    limit: null,
  },
}

/** What a page has of two rounds of answers. */
export function compared(before: VerdictRecord[], after: VerdictRecord[], margin = 0.03): ComparedRounds {
  const [comparison] = compareSystems(new Map(Object.entries({ before, after })), {
    baseline: 'before',
    margin,
    seed: 0,
  })
  const [detectable, asked] = [detectableWith(before.length), greedy]
  const groups = { before: resultsByGroup(before), after: resultsByGroup(after) }
  return { comparison, ...groups, questions: before.length, detectable, margin, asked }
}

const rounds = (before: (i: number) => boolean, after: (i: number) => boolean) => ({
  before: answers(before),
  after: answers(after),
})

const told = (text: string) => ({
  before: { text, correct: false, decided: true },
  after: { text, correct: true, decided: true },
})

/** A small report; `text` stands wherever a model or a file could put its own words. */
export function reportData(text = 'It is on the left.'): ReportData {
  const [start, end] = [0, Math.min(3, text.length)]
  return {
    title: `Report ${text}`,
    summary: [text],
    objective: {
      name: 'fire',
      scope: 'phrase',
      coefficients: { beta: 0.1, alpha: 0.01, gamma: 0.1, lambda: 0.5, klReduction: text },
    },
    judge: text,
    rounds: compared(
      answers((i) => i % 2 === 0, text),
      answers((i) => i % 2 === 0 || i < 30, text),
    ),
    metrics: Array.from({ length: 30 }, (_, i) => ({
      step: i + 1,
      epoch: (i + 1) / 30,
      loss: 0.76 - i / 100,
      'loss/base': 0.69 - i / 100,
      'rewards/margins': i / 10,
      'rewards/accuracies': i / 30,
      'rewards/visual/margins': Number.NaN,
      'kl/forward': i / 1000,
    })),
    trainedRounds: [
      {
        name: text,
        pairs: { answers: 10, pairs: 8, byOrigin: { repaired: 3, counterfactual: 5 } },
        training: { steps: 3, accuracy: 0.75 },
      },
      { name: 'round-2', pairs: null, training: null },
    ],
    pairs: {
      ...emptyStatistics(),
      answers: 10,
      pairs: 8,
      byOrigin: { repaired: 3, counterfactual: 5 },
      byCategory: { [text]: 5, laterality: 3 },
      byRejection: { undecided: 2 },
    },
    examples: [
      {
        question: text,
        origin: 'repaired',
        chosen: { text, spans: [[start, end]] },
        rejected: { text, spans: [[start, end]] },
        categories: [text],
        clean: picture(),
        corrupted: picture(),
        corruption: { method: text, sigma: 45 },
      },
    ],
    limits: {
      maxEditRatio: 0.35,
      looseWords: 2,
      maxWordsPerSentence: 3,
      lengthShare: 0.25,
      lengthWords: 3,
      pastedRun: 5,
    },
    hidden: {
      results: [
        hiddenResults(
          { method: 'lesion-blackout', sigma: 45 },
          rounds(
            (i) => i < 40,
            (i) => i < 56,
          ),
          rounds(
            (i) => i < 30,
            (i) => i < 8,
          ),
          { margin: 0.03, seed: 0 },
        ),
      ],
      examples: [
        {
          question: text,
          reference: text,
          visible: { picture: picture(), answers: told(text) },
          hidden: [{ method: text, sigma: 45, picture: picture(), answers: told(text) }],
        },
      ],
    },
    attention: [
      {
        question: text,
        answer: { text, span: [start, end] },
        picture: picture(),
        before: { rows: 2, columns: 2, values: Float32Array.of(0.1, 0.2, 0.3, 0.4) },
        after: { rows: 2, columns: 2, values: Float32Array.of(0.4, 0.3, 0.2, 0.1) },
        ratios: { before: 1.2, after: Number.NaN },
      },
    ],
    attentionNote: text,
    changed: [
      {
        question: text,
        reference: text,
        ...told(text),
      },
    ],
    facts: [
      ['Seed', '0'],
      ['Model', text],
    ],
    stages: [{ name: text, seconds: 75 }],
    config: text,
  }
}
