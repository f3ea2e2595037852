/** A provider that answers as a careless language model would, in every way at hand, on answers whose truth is known. */
import { describe, expect, it } from 'vitest'
import { constructPair, type EditProposal, type Provider, type Unit } from '../../src/pairs/index.js'
import { proposeEdits } from '../../src/pairs/rules/edit.js'
import { makeTask } from './records.js'
import { isHarmful, readSentences } from './sentences.js'

type Strategy = (unit: Unit) => EditProposal[][]

const at = (match: RegExpExecArray, replacement: string): EditProposal => ({
  ...{ start: match.index, end: match.index + match[0].length, replacement, category: 'finding' },
})
const each = (unit: Unit, pattern: RegExp, replacement: (found: string) => string): EditProposal[][] =>
  ([...unit.text.matchAll(pattern)] as RegExpExecArray[]).map((match) => [at(match, replacement(match[0]))])
const exchanged: [string, string][] = [
  ...([
    ['left', 'right'],
    ['yes', 'no'],
    ['Yes', 'No'],
    ['CT', 'MRI'],
    ['axial', 'coronal'],
  ] as [string, string][]),
  ...([
    ['present', 'absent'],
    ['large', 'small'],
    ['normal', 'enlarged'],
    ['liver', 'spleen'],
  ] as [string, string][]),
]

const strategies: Record<string, Strategy> = {
  'the reference in the place of any word': (unit) => each(unit, /[\p{L}\p{N}]+/gu, () => unit.reference),
  'the reference alone': (unit) => [
    [{ start: 0, end: unit.text.length, replacement: unit.reference, category: 'all' }],
  ],
  'a negation anywhere': (unit) => each(unit, /\b(?:is|are|has|can)\b/gi, (word) => `${word} not`),
  'a negation taken away': (unit) => each(unit, /\b(?:not|no) /gi, () => ''),
  'a denial for an article': (unit) => each(unit, /\ban? /gi, () => 'no '),
  'opposites exchanged': (unit) =>
    exchanged.map(([a, b]) =>
      each(unit, new RegExp(`\\b(?:${a}|${b})\\b`, 'g'), (word) => (word === a ? b : a)).flat(),
    ),
  'a word that says nothing': (unit) => each(unit, /\p{L}{3,}/gu, () => 'banana'),
  'a word left out': (unit) => each(unit, /\p{L}+\s/gu, () => ''),
  synonyms: (unit) => each(unit, /\b(?:shows|seen|There is)\b/g, (word) => `${word} clearly`),
  'marks that nobody sees': (unit) => each(unit, / /g, () => '\u200b\u202e '),
  'blanks and NUL': (unit) => each(unit, / /g, () => ' \u0000 '),
  'what the rules would say': (unit) =>
    ['repair', 'counterfactual'].flatMap((goal) => {
      const edits = proposeEdits(unit, goal as 'repair' | 'counterfactual')
      return edits ? [edits] : []
    }),
}

const sentences = [...readSentences('sentences'), ...readSentences('scopes')]

describe.each(Object.entries(strategies))('a careless provider that proposes %s', (_, strategy) => {
  it.each([true, false])('makes no harmful pair when it finds everything right: %s', async (correct) => {
    const harmful: unknown[] = []
    for (const sentence of sentences) {
      const task = makeTask(sentence.question, sentence.reference, sentence.text)
      const unit: Unit = { id: 'x', task: 'vqa', meta: {}, ...sentence }
      for (const edits of strategy(unit).filter((proposed) => proposed.length > 0)) {
        const provider: Provider = {
          name: 'careless',
          judge: async () => ({ correct, decided: true, reason: 'it is so', span: null, requests: [] }),
          edit: async () => ({ edits, requests: [] }),
        }
        const { pair } = await constructPair(task, { provider, blindJudge: null, mode: 'on-policy', seed: 1 })
        if (pair && isHarmful(sentence, pair)) harmful.push([sentence, pair.chosen, pair.rejected])
      }
    }
    expect(harmful).toEqual([])
  })
})
