/** What must not differ between ranks: settings, versions, data. */
import { createHash } from 'node:crypto'
import { RankError } from '../errors.js'
import type { Ranks } from './ranks.js'

/** Of many differences the first ones. */
const mostNamed = 8

/** Longer values are cut: a difference is seen by its key. */
const longestValue = 80

/**
 * Refuses ranks whose facts differ; every rank must call it, and every rank gets the same error.
 * @param what the facts, as a message begins: `the settings`.
 * @param facts by name; values are JSON. Paths of one machine do not belong here.
 * @throws {RankError} with each name that differs, its values and the ranks that have them; in `detail.different` as well.
 */
export async function requireSame(ranks: Ranks, what: string, facts: Readonly<Record<string, unknown>>): Promise<void> {
  if (ranks.size === 1) return
  const names = Object.keys(facts).sort()
  const mine = Object.fromEntries(names.map((name) => [name, JSON.stringify(facts[name]) ?? 'not set']))
  const hashes = await ranks.gather(`${what}: hash`, createHash('sha256').update(JSON.stringify(mine)).digest('hex'))
  if (new Set(hashes).size === 1) return
  const different = differences(await ranks.gather(what, mine))
  const shown = different.slice(0, mostNamed).map(({ name, values }) => {
    const said = values.map(({ value, ranks }) => `${cut(value)} on ${rankWords(ranks)}`)
    return `${name} is ${said.join(', ')}`
  })
  const more = different.length > mostNamed ? `; and ${different.length - mostNamed} more` : ''
  throw new RankError(`The ranks differ in ${what}: ${shown.join('; ')}${more}`, {
    detail: { different, onAllRanks: true },
    hint: 'All ranks must run the same version with the same settings on the same data.',
  })
}

interface Difference {
  name: string
  values: { value: string; ranks: number[] }[]
}

function differences(all: readonly Record<string, string>[]): Difference[] {
  const names = [...new Set(all.flatMap((each) => Object.keys(each)))]
  return names.flatMap((name) => {
    const values = groups(all, name)
    return values.length > 1 ? [{ name, values }] : []
  })
}

function groups(all: readonly Record<string, string>[], name: string): Difference['values'] {
  const found = new Map<string, number[]>()
  for (const [rank, facts] of all.entries()) {
    const value = facts[name] ?? 'not set'
    found.set(value, [...(found.get(value) ?? []), rank])
  }
  return [...found].map(([value, ranks]) => ({ value, ranks }))
}

const cut = (text: string): string => (text.length > longestValue ? `${text.slice(0, longestValue - 1)}…` : text)

/** `rank 3`, `ranks 0 to 6`, `ranks 0, 2 and 5` */
export function rankWords(ranks: readonly number[]): string {
  const runs: [number, number][] = []
  for (const rank of ranks) {
    const last = runs.at(-1)
    if (last && last[1] === rank - 1) last[1] = rank
    else runs.push([rank, rank])
  }
  const words = runs.flatMap(([from, to]) =>
    to - from >= 2 ? [`${from} to ${to}`] : from === to ? [String(from)] : [String(from), String(to)],
  )
  const list = words.length === 1 ? words[0] : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`
  return `${ranks.length === 1 ? 'rank' : 'ranks'} ${list}`
}
