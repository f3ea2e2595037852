/** Names that people type, in options, flags and files: an unknown one is refused, with the one that was probably meant. */
import { closest, distance } from 'fastest-levenshtein'
import { ArgumentError, expected } from './errors.js'

/** Beyond this a name is no longer read, only scrolled past. */
export const longestName = 80

/**
 * Refuses options that a call does not know.
 * @param where the call, and which of its arguments where it takes several.
 * @param known every name that it takes; the compiler holds the list against the type.
 * @throws {ArgumentError} naming the option and the nearest known one.
 */
export function checkOptions<T extends object>(where: string, options: T, known: Record<keyof T, unknown>): void {
  if (typeof options !== 'object' || options === null) throw expected('an object of options', where, options)
  const names = Object.keys(known)
  const unknown = Object.keys(options).find((name) => !names.includes(name))
  if (unknown === undefined) return
  const near = nearest(unknown, names)
  const advice = near ? `did you mean '${near}'?` : `its options are ${names.join(', ')}`
  const name = unknown.length > longestName ? `${unknown.slice(0, longestName)}…` : unknown
  throw new ArgumentError(`Unknown option '${name}' of ${where}; ${advice}`, { detail: { option: unknown, near } })
}

/** The candidate that differs by case or punctuation only, else the one it begins, else the closest within a few edits. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (candidates.length === 0 || word.length > longestName) return undefined
  const plain = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]/g, '')
  const same = candidates.find((candidate) => plain(candidate) === plain(word))
  if (same) return same
  const best = closest(word, candidates as string[])
  const allowed = Math.min(word.length, best.length) < 4 ? 1 : Math.max(2, Math.floor(best.length / 3))
  if (distance(word, best) <= allowed) return best
  // `out` for `output`.
  const begun = candidates.filter(
    (each) => Math.min(word.length, each.length) >= 3 && (each.startsWith(word) || word.startsWith(each)),
  )
  return begun.length === 1 ? begun[0] : undefined
}
