/** What must be the same on every rank. */
import { RankError } from '../errors.js'
import type { Ranks } from './ranks.js'

/**
 * Holds the facts of the ranks against those of rank 0. Every rank gets the same error.
 * @param what of, in words: `settings`. @param facts JSON, by name.
 * @throws {RankError} naming each fact that differs, with its values and ranks.
 */
export async function requireSame(ranks: Ranks, what: string, facts: Record<string, unknown>): Promise<void> {
  const all = (await ranks.gather(`compare ${what}`, facts)).map(textsOf)
  const [first] = all
  for (const [rank, texts] of all.entries()) {
    const names = [...new Set([...first.keys(), ...texts.keys()])].filter((name) => first.get(name) !== texts.get(name))
    if (names.length === 0) continue
    const lines = names.map(
      (name) => `  ${name}: ${first.get(name) ?? 'nothing'} on rank 0, ${texts.get(name) ?? 'nothing'} on rank ${rank}`,
    )
    throw new RankError(`The ${what} of the ranks differ:\n${lines.join('\n')}`, {
      detail: { rank, names },
      hint: 'Start every rank with the same command, the same package and the same files.',
    })
  }
}

const textsOf = (facts: Record<string, unknown>): Map<string, string> =>
  new Map(Object.entries(facts).map(([name, value]) => [name, JSON.stringify(value)]))
