/** Labelled answers of `fixtures/`: what a careful radiologist says who reads only question, reference and answer. */
import { readFileSync } from 'node:fs'
import { afterReasoning } from '../../src/endpoint/reasoning.js'

export interface Sentence {
  kind: string
  question: string
  reference: string
  label: 'correct' | 'incorrect' | 'undecided'
  text: string
}

const labels = { C: 'correct', I: 'incorrect', U: 'undecided' } as const

export function readSentences(name: 'sentences' | 'scopes'): Sentence[] {
  const lines = readFileSync(new URL(`fixtures/${name}.txt`, import.meta.url), 'utf8').split('\n')
  return lines
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [kind, question, reference, label, ...text] = line.split(' | ')
      const answer = text.join(' | ').replaceAll('\\n', '\n')
      return { kind, question, reference, label: labels[label as keyof typeof labels], text: answer }
    })
}

/** Whether a pair of this answer does harm: the false side is preferred, or anything where nothing is settled. */
export function isHarmful({ label, text }: Sentence, pair: { chosen: string }): boolean {
  return label === 'undecided' || (label === 'correct') !== (pair.chosen === afterReasoning(text).trim())
}
