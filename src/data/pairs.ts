/** Preference pairs from disk: read, checked against their invariants, counted. Nothing is dropped without a count. */
import { dirname, resolve } from 'node:path'
import { atPlace, DataError, type ErrorCode, isOfRecord, throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import { decodeReferenced } from './images.js'
import { placeOf, readJsonl } from './jsonl.js'
import { type ImageRef, type Pair, pair as pairSchema } from './records.js'

/** What is checked, and what is done with pairs that cannot teach. */
export interface LoadPairsOptions {
  /** What image paths are relative to; default: the folder of the records. */
  images?: string | null
  /** What to do with a pair that has no phrase on one side; `keep` also when phrases do not matter. */
  emptyPhrase: 'skip' | 'error' | 'keep'
  /** Both answers are needed (false for supervised fine-tuning, which reads the chosen one only). */
  preference?: boolean
  /** Hash and decode every image file; true unless told otherwise. */
  checkImages?: boolean
  /** Takes a pair whose images cannot be used, which is then left out; without it the first one throws. */
  onFailure?: (failure: PairFailure) => void
  signal?: AbortSignal
}

/** A pair that cannot be used as it is, and why. */
export interface PairFailure {
  id: string
  code: ErrorCode
  reason: string
}

/** Pairs of a file: read, kept, and why the others are left out or worth a warning. */
export interface PairCounts {
  read: number
  kept: number
  /** Chosen and rejected are the same text: there is no preference to learn. */
  identical: number
  /** Left out because one side has no phrase. */
  emptyPhrase: number
  /** Left out because an image or the length of the texts makes them impossible to use. */
  failed: number
  /** No corrupted image: trained without the visual term. */
  withoutCorrupted: number
  /** The corrupted image has the bytes of the clean one: the visual term then fights the text term. */
  corruptedSameAsClean: number
}

/** The pairs of a file that are kept, in its order. */
export interface LoadedPairs {
  pairs: Pair[]
  counts: PairCounts
  /** One sentence per kind of trouble, with its count and first place. */
  warnings: string[]
  /** Folder that image paths are relative to. */
  imageRoot: string
}

/**
 * Reads a file of pair records.
 * @throws {DataError} naming file, line and record at the first one that breaks an invariant.
 */
export async function loadPairs(path: string, options: LoadPairsOptions): Promise<LoadedPairs> {
  checkOptions('loadPairs', options, {
    images: true,
    emptyPhrase: true,
    preference: true,
    checkImages: true,
    signal: true,
    onFailure: true,
  })
  const imageRoot = options.images ? resolve(options.images) : dirname(resolve(path))
  const pairs: Pair[] = []
  const tally = new Tally()
  const seen = new Map<string, number>()
  const checked = new Set<string>()

  for await (const { record, line } of readJsonl(path, pairSchema)) {
    throwIfAborted(options.signal)
    const place = placeOf(path, line, record.id)
    tally.counts.read += 1
    const fail = (problem: string): never => {
      throw new DataError(`${place}: ${problem}`, { detail: { path, line, id: record.id } })
    }
    const earlier = seen.get(record.id)
    if (earlier !== undefined) fail(`the id is taken by line ${earlier}`)
    seen.set(record.id, line)
    const chosenOnly = options.preference === false && record.rejected === ''
    const problem = chosenOnly ? undefined : pairProblem(record)
    if (problem) fail(problem)

    if (options.preference !== false && record.chosen === record.rejected) {
      tally.add('identical', place)
      continue
    }
    const empty = emptySide(record)
    if (empty && options.emptyPhrase !== 'keep') {
      if (options.emptyPhrase === 'error') fail(`the ${empty} answer has no phrase (objective.emptyPhrase is error)`)
      tally.add('emptyPhrase', place)
      continue
    }
    if (options.checkImages !== false) {
      const failure = await checkAllImages(record, imageRoot, checked, place, options)
      if (failure) {
        tally.counts.failed += 1
        continue
      }
    }
    if (!record.corrupted) tally.counts.withoutCorrupted += 1
    else if (sameImages(record.corrupted.images, record.images)) tally.add('corruptedSameAsClean', place)
    pairs.push(record)
  }
  tally.counts.kept = pairs.length
  return { pairs, counts: tally.counts, warnings: tally.warnings(), imageRoot }
}

/**
 * The first invariant that a pair breaks, in words; `undefined` when it is sound. Spans lie in their text, in order and
 * apart, between characters; every edit says something on one side; text outside the edits is equal on both sides.
 */
export function pairProblem(pair: Pair): string | undefined {
  let chosenEnd = 0
  let rejectedEnd = 0
  for (const [index, { chosen, rejected }] of pair.edits.entries()) {
    const problem =
      spanProblem(chosen, pair.chosen, chosenEnd, `edits.${index}.chosen`) ??
      spanProblem(rejected, pair.rejected, rejectedEnd, `edits.${index}.rejected`)
    if (problem) return problem
    if (chosen[0] === chosen[1] && rejected[0] === rejected[1]) return `edits.${index} is empty on both sides`
    const gap = gapProblem(pair, [chosenEnd, chosen[0]], [rejectedEnd, rejected[0]])
    if (gap) return gap
    chosenEnd = chosen[1]
    rejectedEnd = rejected[1]
  }
  if (pair.corrupted && pair.corrupted.images.length !== pair.images.length) {
    return `corrupted.images has ${pair.corrupted.images.length} entries, images has ${pair.images.length}`
  }
  return gapProblem(pair, [chosenEnd, pair.chosen.length], [rejectedEnd, pair.rejected.length])
}

/** The side of a pair on which no edit has any text. */
export function emptySide(pair: Pair): 'chosen' | 'rejected' | undefined {
  return (['chosen', 'rejected'] as const).find((side) => pair.edits.every((edit) => edit[side][0] === edit[side][1]))
}

type Span = readonly [number, number]

function spanProblem([start, end]: Span, text: string, after: number, where: string): string | undefined {
  const span = `${where} [${start}, ${end})`
  if (start > end) return `${span} ends before it starts`
  if (end > text.length) return `${span} reaches past the text of ${text.length} characters`
  if (start < after) return `${span} overlaps or precedes the edit before it`
  if (splitsCharacter(text, start) || splitsCharacter(text, end)) return `${span} splits a surrogate pair`
  return undefined
}

function splitsCharacter(text: string, index: number): boolean {
  return /^[\uD800-\uDBFF][\uDC00-\uDFFF]$/.test(text.slice(index - 1, index + 1)) && index > 0
}

function gapProblem(pair: Pair, chosen: Span, rejected: Span): string | undefined {
  const left = pair.chosen.slice(...chosen)
  const right = pair.rejected.slice(...rejected)
  if (left === right) return undefined
  return `text outside the edits differs: chosen has ${quote(left)}, rejected has ${quote(right)}`
}

function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text)
}

function sameImages(left: ImageRef[], right: ImageRef[]): boolean {
  return left.length > 0 && left.every((image, index) => image.sha256 === right[index]?.sha256)
}

/** Decodes each image once: damage behind the header would be met in the middle of a run. True when the pair is left out. */
async function checkAllImages(
  pair: Pair,
  root: string,
  checked: Set<string>,
  place: string,
  { onFailure }: LoadPairsOptions,
): Promise<boolean> {
  for (const ref of [...pair.images, ...(pair.corrupted?.images ?? [])]) {
    const key = `${ref.path}\0${ref.sha256}\0${ref.width}\0${ref.height}`
    if (checked.has(key)) continue
    try {
      await decodeReferenced(ref, root).catch(atPlace(place, { id: pair.id, image: ref.path }))
    } catch (error) {
      if (!onFailure || !isOfRecord(error)) throw error
      onFailure({ id: pair.id, code: error.code, reason: error.message })
      return true
    }
    checked.add(key)
  }
  return false
}

type Warned = 'identical' | 'emptyPhrase' | 'corruptedSameAsClean'

const sentences: Record<Warned, string> = {
  identical: 'left out, chosen and rejected are the same text',
  emptyPhrase: 'left out, one side has no phrase (objective.emptyPhrase decides)',
  corruptedSameAsClean: 'kept, although the corrupted image has the same bytes as the clean one',
}

class Tally {
  readonly counts: PairCounts = {
    read: 0,
    kept: 0,
    identical: 0,
    emptyPhrase: 0,
    failed: 0,
    withoutCorrupted: 0,
    corruptedSameAsClean: 0,
  }
  readonly #first = new Map<Warned, string>()

  add(kind: Warned, place: string): void {
    this.counts[kind] += 1
    if (!this.#first.has(kind)) this.#first.set(kind, place)
  }

  warnings(): string[] {
    return [...this.#first].map(([kind, place]) => {
      const count = this.counts[kind]
      return `${count} ${count === 1 ? 'pair' : 'pairs'} ${sentences[kind]}; first: ${place}`
    })
  }
}
