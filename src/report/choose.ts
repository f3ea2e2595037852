/** Which examples a page shows: drawn from all over the set, by rules that look at no result but the one named. */
import type { Pair } from '../data/records.js'
import type { ProbedQuestion } from '../evaluate/grounding.js'
import type { VerdictRecord } from '../evaluate/index.js'
import { isRight, toldAnswer } from '../evaluate/verdicts.js'
import { spread } from '../page/spread.js'
import type { ChangedAnswer } from './types.js'

/** Pairs of every origin and category in turn, taken from all over the set, so that those shown are not all of a kind. */
export function choosePairs(pairs: readonly Pair[], limit: number): Pair[] {
  const kinds = new Map<string, Pair[]>()
  for (const pair of pairs) {
    const kind = `${pair.origin} ${pair.edits[0]?.category}`
    const queue = kinds.get(kind)
    if (queue) queue.push(pair)
    else kinds.set(kind, [pair])
  }
  const queues = [...kinds.values()].map((queue, i) => rotate(queue, Math.floor((i * queue.length) / kinds.size)))
  const rounds = Math.max(0, ...queues.map((queue) => queue.length))
  const inTurn = Array.from({ length: Math.min(rounds, limit) }, (_, round) =>
    queues.flatMap((queue) => queue.slice(round, round + 1)),
  )
  return inTurn.flat().slice(0, limit)
}

const rotate = <T>(items: readonly T[], by: number): T[] => [...items.slice(by), ...items.slice(0, by)]

/** Half of them answers that training mended, when there are as many. */
export function chooseProbes(probed: readonly ProbedQuestion[], limit: number): ProbedQuestion[] {
  const mended = spread(
    probed.filter((probe) => probe.mended),
    limit / 2,
  )
  const others = probed.filter((probe) => !probe.mended)
  return [...mended, ...spread(others, limit - mended.length)]
}

/** Gains and losses in the proportion in which they occurred, evenly spaced over the questions. */
export function chooseChanged(
  before: readonly VerdictRecord[],
  after: readonly VerdictRecord[],
  limit: number,
): ChangedAnswer[] {
  const all = before.flatMap((was, i) => {
    const { question, reference } = was
    if (isRight(was) === isRight(after[i])) return []
    return [{ question, reference, before: toldAnswer(was), after: toldAnswer(after[i]) }]
  })
  const gains = all.filter((change) => change.after.correct)
  const losses = all.filter((change) => !change.after.correct)
  const shownGains = Math.round((limit * gains.length) / Math.max(1, all.length))
  return [...spread(gains, shownGains), ...spread(losses, limit - shownGains)]
}
