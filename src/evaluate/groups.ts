/** The groups of questions that numbers are given for. */
import { type Proportion, wilson } from '../statistics/index.js'
import type { OutcomeOfAnswer, VerdictRecord } from './records.js'

export const groupKinds = [
  'overall',
  'answerType',
  'yesNoExact',
  'paperSubstring',
  'ask',
  'concept',
  'dataset',
  'seen',
] as const
/** What questions of a group share; `answerType`, `yesNoExact` and `paperSubstring` are the three published meanings of closed. */
export type GroupKind = (typeof groupKinds)[number]

/** All questions, or those that share something. */
export interface AnswerGroup {
  kind: GroupKind
  name: string
}

/** Worst cases. */
export interface Bounds {
  low: number
  high: number
}

/** Above this share of answers without a verdict a number is shown with its worst cases. */
export const mostLost = 0.02

/** Neither right nor wrong: missing, empty, undecided, unreadable, or never judged. */
export const isLost = ({ verdict }: VerdictRecord): boolean => verdict !== 'correct' && verdict !== 'incorrect'

/** How one system does in one group. Everything that is not correct stays in the denominator. */
export interface GroupResult extends AnswerGroup {
  accuracy: Proportion
  /** How often each outcome came. */
  outcomes: Record<OutcomeOfAnswer, number>
  /** Accuracy if all answers without a verdict were wrong, and if all were right; null where they are 2 % or fewer. */
  bounds: Bounds | null
  /** Verdicts of rules that a judge should look at. */
  weak: number
  /** Mean length of the answers, in words separated by white space; null for none. */
  words: number | null
}

type Slice = AnswerGroup & { holds: (record: VerdictRecord) => boolean }

const memberOf: Record<Exclude<GroupKind, 'overall'>, (record: VerdictRecord) => string | undefined> = {
  answerType: ({ closedUnder }) => (closedUnder.answerType ? 'closed' : 'open'),
  yesNoExact: ({ closedUnder }) => (closedUnder.yesNoExact ? 'closed' : 'open'),
  paperSubstring: ({ closedUnder }) => (closedUnder.paperSubstring ? 'closed' : 'open'),
  ask: ({ groups }) => groups.ask,
  concept: ({ groups }) => groups.concept,
  dataset: ({ dataset }) => dataset,
  seen: ({ seenImage }) => (seenImage === null ? undefined : seenImage ? 'image trained on' : 'image not trained on'),
}

/** The closed rules are always counted: papers differ in them, and so do their denominators. */
const always: ReadonlySet<GroupKind> = new Set(['answerType', 'yesNoExact', 'paperSubstring'])

/** All questions first, then the kinds in their order, each by name. */
export function groupsOf(records: readonly VerdictRecord[]): Slice[] {
  const kinds = groupKinds.filter((kind) => kind !== 'overall')
  const slices = kinds.flatMap((kind) => {
    const names = [...new Set(records.map(memberOf[kind]))].filter((name) => name !== undefined).sort()
    // One group of a kind says what all say together.
    if (names.length < 2 && !always.has(kind)) return []
    return names.map((name): Slice => ({ kind, name, holds: (record) => memberOf[kind](record) === name }))
  })
  return [{ kind: 'overall', name: 'overall', holds: () => true }, ...slices]
}

/** The numbers of every group. @param records verdicts on the first answer to each question of one system. */
export function resultsByGroup(records: readonly VerdictRecord[]): GroupResult[] {
  return groupsOf(records).map(({ kind, name, holds }) => {
    const members = records.filter(holds)
    const outcomes = { correct: 0, incorrect: 0, undecided: 0, unreadable: 0, failed: 0 }
    for (const { verdict } of members) outcomes[verdict] += 1
    const texts = members.flatMap(({ text }) => text ?? [])
    const words = texts.length > 0 ? texts.reduce((sum, text) => sum + countWords(text), 0) / texts.length : null
    const weak = members.filter(({ by, strength }) => by === 'rule' && strength === 'weak').length
    return {
      kind,
      name,
      accuracy: wilson(outcomes.correct, members.length),
      outcomes,
      bounds: boundsOf(members),
      weak,
      words,
    }
  })
}

function boundsOf(records: readonly VerdictRecord[]): Bounds | null {
  const lost = records.filter(isLost).length
  if (lost <= mostLost * records.length) return null
  const right = records.filter(({ verdict }) => verdict === 'correct').length
  return { low: right / records.length, high: (right + lost) / records.length }
}

/** Words separated by white space. */
export const countWords = (text: string): number => text.split(/\s+/).filter((word) => word !== '').length
