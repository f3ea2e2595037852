/**
 * Work that ranks share. Each takes its part of the items and keeps what it finds in a file of its own beside the output; then rank 0
 * does the work of one process, which finds everything known. So the result has the bytes of one process, and any number of ranks,
 * one too, goes on with what any other number left.
 */
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { deleteAll, followLinks, ignoreMissing, JsonlAppender, sha256, sha256File } from '../data/files.js'
import { scanJsonl } from '../data/jsonl.js'
import { lockOutput, type OutputForm, tokenOf } from '../data/lock.js'
import { AbortedError, abortedBy, asFileError, FileError, isAbort, throwIfAborted } from '../errors.js'
import { decode, encode } from '../ranks/frames.js'
import type { Ranks } from '../ranks/ranks.js'
import { version } from '../version.js'
import type { Progress } from './progress.js'

/** Another rank was asked to stop: what is finished is kept, as if this one had been asked. */
export class StoppedElsewhere extends AbortedError {
  constructor() {
    super('Another rank was asked to stop')
  }
}

/** @typeParam I an item, @typeParam O what is found for it, as JSON; @typeParam R what comes of all, small and as JSON. */
export interface Split<I, O, R> {
  /** What is done, for messages. */
  what: string
  /** Path that files of ranks lie beside, and are named after. */
  output: string
  /** Always the same, in the same order. */
  items: () => AsyncIterable<I> | Iterable<I>
  /** Everything that decides what is found, as JSON. What was found under another key is not taken. */
  keyOf(item: I): unknown
  /** Neighbours of one group stay on one rank: questions about one image, above all. */
  groupOf(item: I): string
  /** One outcome an item, in their order. Not called where there is no item. */
  work(items: AsyncIterable<I>, signal?: AbortSignal): AsyncIterable<O>
  /**
   * The work of one process, on rank 0: writes the output from what was found, item by item.
   * @param told by the ranks; none where one process does all.
   */
  finish(found: AsyncIterable<O>, told: readonly unknown[]): Promise<R>
  /** Whether what was found before may be taken; default: it may. */
  holds?(found: O): boolean
  /** What was found stays on the disk until `forgetFound`: the output is not complete with `finish`. */
  lasting?: boolean
  /** Not divided: one client of a server keeps its budget, its rate and its concurrency. */
  whole?: boolean
  signal?: AbortSignal
  /** Of this rank's share. */
  onProgress?: (done: number, total: number) => void
  /** What `finish` is told of this rank's share, as JSON. */
  tell?: () => unknown
}

interface Shared {
  stopped: boolean
  bytes: number
  told: unknown
}

/**
 * Does the work, whatever the number of ranks; all of them call it.
 * @throws {RankError} when another rank fails. @throws {StoppedElsewhere} when another rank was stopped. What is finished is kept.
 */
export async function splitWork<I, O, R>(ranks: Ranks, split: Split<I, O, R>): Promise<R> {
  const output = await followLinks(resolve(split.output))
  const name = `${split.what} (${basename(output)})`
  let told: unknown[] = []
  if (ranks.size > 1 && !split.whole) {
    const all = await ranks.gather(`${name}: found`, await doShare(ranks, split, output))
    if (all.some(({ stopped }) => stopped))
      throw split.signal?.aborted ? abortedBy(split.signal) : new StoppedElsewhere()
    if (ranks.rank === 0)
      for (const [rank, { bytes }] of all.entries()) await untilSeen(partOf(output, rank), { bytes })
    told = all.map((each) => each.told)
  }
  return byFirst(ranks, `${name}: written`, split.signal, async () => {
    const known = await readParts(split, output)
    const keyOf = (item: I): string => nameOf(split.keyOf(item))
    const work = (items: AsyncIterable<I>): AsyncIterable<O> => split.work(items, split.signal)
    const result = await split.finish(
      complete(split.items(), (item) => known.get(keyOf(item)), work),
      told,
    )
    if (!split.lasting) await forgetFound(output)
    return result
  })
}

/**
 * What is known and what is found, in the items' order; `work` is given the unknown ones only, and not called where there are none.
 * @param knownOf undefined for what is not known.
 */
export async function* complete<I, O>(
  items: AsyncIterable<I> | Iterable<I>,
  knownOf: (item: I) => O | undefined,
  work: (unknown: AsyncIterable<I>) => AsyncIterable<O>,
): AsyncGenerator<O> {
  // What came in and is not out yet: undefined for an item that is at work.
  const pending: (O | undefined)[] = []
  async function* unknown(): AsyncGenerator<I> {
    for await (const item of items) {
      const known = knownOf(item)
      pending.push(known)
      if (known === undefined) yield item
    }
  }
  for await (const found of unlessEmpty(unknown(), work)) {
    for (let first = pending.shift(); first !== undefined; first = pending.shift()) yield first
    yield found
  }
  for (const last of pending) yield last as O
}

/**
 * Work of rank 0 alone, such as writing: the others wait for what it comes to, which is JSON.
 * @throws {StoppedElsewhere} on the others when rank 0 was stopped.
 */
export async function byFirst<T>(
  ranks: Ranks,
  what: string,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  if (ranks.rank > 0) {
    const [told] = await ranks.gather<{ stopped: true } | { value: T } | null>(what, null)
    if (!told || 'stopped' in told) throw new StoppedElsewhere()
    return told.value
  }
  const value = await work().catch(async (error) => {
    if (isAbort(error, signal)) await ranks.gather(what, { stopped: true })
    throw error
  })
  await ranks.gather(what, { value })
  return value
}

/** A file that rank 0 writes and all of them read from then on. */
export async function writtenByFirst(
  ranks: Ranks,
  path: string,
  signal: AbortSignal | undefined,
  write: () => Promise<unknown>,
): Promise<void> {
  const written = await byFirst(ranks, `${path} written`, signal, async () => {
    await write()
    return await contentOf(path)
  })
  if (ranks.rank > 0) await untilSeen(path, written)
}

/**
 * `lockOutput` of rank 0 holds for all of them: none goes on before it has it. Declare it with `await using`.
 * @throws {FileError} on a rank that does not see the output of rank 0, before any work is done.
 */
export async function lockByFirst(
  ranks: Ranks,
  path: string,
  form: OutputForm,
  inputs: readonly string[] = [],
): Promise<AsyncDisposable> {
  const held = ranks.rank === 0 ? await lockOutput(path, form, inputs) : undefined
  try {
    const [token] = await ranks.gather(`${path} locked`, held ? await tokenOf(path, form) : null)
    if (ranks.rank > 0) await untilLocked(path, form, token)
    await ranks.gather(`${path} seen`, null)
  } catch (error) {
    await held?.[Symbol.asyncDispose]()
    throw error
  }
  return held ?? { async [Symbol.asyncDispose]() {} }
}

/** Other machines see a new file of a shared disk some seconds later. */
async function untilLocked(path: string, form: OutputForm, token: string | null): Promise<void> {
  for (const until = Date.now() + visibleWithin; ; await setTimeout(100)) {
    if ((await tokenOf(path, form)) === token) return
    if (Date.now() < until) continue
    throw new FileError(`${path} is not what rank 0 sees under that name: the lock that rank 0 has made is not there`, {
      detail: { path },
      hint: notShared,
    })
  }
}

const notShared = 'All ranks must write to one folder: name an output on a disk that their machines share.'

/** Neighbours of one group together. */
export async function* neighbours<T>(items: AsyncIterable<T>, groupOf: (item: T) => string): AsyncGenerator<T[]> {
  let together: T[] = []
  for await (const item of items) {
    if (together.length > 0 && groupOf(item) !== groupOf(together[0])) {
      yield together
      together = []
    }
    together.push(item)
  }
  if (together.length > 0) yield together
}

/** Says what a bar is of. */
export function announceRanks({ ranks, progress }: { ranks?: Ranks; progress: Progress }): void {
  if (!ranks || ranks.size === 1 || ranks.rank > 0) return
  progress.log(`${ranks.size} ranks share the work; what is shown is the share of rank 0`)
}

/** What all ranks find out alike is said once. */
export const saidOnce = ({ rank }: Ranks, progress: Progress): Progress =>
  rank === 0
    ? progress
    : {
        start: (...stage) => progress.start(...stage),
        update: (...done) => progress.update(...done),
        end: (summary) => progress.end(summary),
        log() {},
      }

/** Longer groups are cut, or questions about a single image would all be one rank's. */
const longestGroup = 64

/** Groups of neighbours, dealt in turn: whatever is known of them already, each rank has about as many left. */
async function* dealt<I>(
  items: AsyncIterable<I> | Iterable<I>,
  { rank, size }: Pick<Ranks, 'rank' | 'size'>,
  groupOf: (item: I) => string,
): AsyncGenerator<I> {
  let [number, length] = [-1, 0]
  let group: string | undefined
  for await (const item of items) {
    const own = groupOf(item)
    if (own !== group || length === longestGroup) [number, length] = [number + 1, 0]
    group = own
    length += 1
    if (number % size === rank) yield item
  }
}

/** Finds what is not known of a rank's share. */
async function doShare<I, O, R>(ranks: Ranks, split: Split<I, O, R>, output: string): Promise<Shared> {
  const signal = AbortSignal.any([ranks.signal, ...(split.signal ? [split.signal] : [])])
  const path = partOf(output, ranks.rank)
  // Of a rank of an earlier run that has not noticed yet that its run is over.
  await using _lock = await lockOutput(path, 'file')
  const known = await readParts(split, output)
  const mine = (): AsyncGenerator<I> => dealt(split.items(), ranks, split.groupOf)
  const keyOf = (item: I): string => nameOf(split.keyOf(item))
  let [total, done] = [0, 0]
  for await (const item of mine()) {
    total += 1
    if (known.has(keyOf(item))) done += 1
  }
  split.onProgress?.(done, total)
  const asked: string[] = []
  async function* unknown(): AsyncGenerator<I> {
    for await (const item of mine()) {
      const key = keyOf(item)
      if (known.has(key)) continue
      asked.push(key)
      yield item
    }
  }
  await using part = await JsonlAppender.open(path, await soundBytes(path))
  let stopped = false
  try {
    for await (const found of unlessEmpty(unknown(), (items) => split.work(items, signal))) {
      await part.append(lineOf(asked.shift() as string, encode(found)))
      split.onProgress?.(++done, total)
      throwIfAborted(signal)
    }
  } catch (error) {
    if (!isAbort(error, signal)) throw error
    throwReason(ranks)
    stopped = true
  } finally {
    await part.sync()
  }
  return { stopped, bytes: part.bytes, told: split.tell?.() ?? null }
}

/** That the others cannot go on is more than a stop. */
function throwReason({ signal }: Ranks): void {
  if (signal.aborted) throw signal.reason
}

async function* unlessEmpty<I, O>(
  items: AsyncGenerator<I>,
  work: (items: AsyncIterable<I>) => AsyncIterable<O>,
): AsyncGenerator<O> {
  const { value: first, done } = await items.next()
  if (done) return
  async function* all(): AsyncGenerator<I> {
    yield first
    yield* items
  }
  yield* work(all())
}

const partOf = (output: string, rank: number): string => join(dirname(output), `.${basename(output)}.rank-${rank}`)

/** What ranks of any earlier number left beside an output. */
async function partsOf(output: string): Promise<string[]> {
  const folder = dirname(output)
  const names = (await readdir(folder).catch(ignoreMissing).catch(asFileError('Reading', folder))) ?? []
  const start = `.${basename(output)}.rank-`
  const parts = names.filter((name) => name.startsWith(start) && /^\d+$/.test(name.slice(start.length)))
  return parts.sort().map((name) => join(folder, name))
}

/** A file beside an output that rank 0 writes for the others, to be read before the output is there. */
export const beforehand = (output: string): string => join(dirname(output), `.${basename(output)}.built`)

/** Deletes what ranks left beside an output that is complete. */
export async function forgetFound(output: string): Promise<void> {
  const written = await followLinks(resolve(output))
  await deleteAll([...(await partsOf(written)), beforehand(written)])
}

/** What was found, by key. */
async function readParts<O>(
  { holds }: { holds?: (found: O) => boolean },
  output: string,
): Promise<ReadonlyMap<string, O>> {
  const known = new Map<string, O>()
  for (const path of await partsOf(output)) {
    for await (const line of soundLines(path)) {
      const found = decode(line.found) as O
      if (!holds || holds(found)) known.set(line.key, found)
    }
  }
  return known
}

interface PartLine {
  key: string
  /** As text: it may hold numbers that JSON does not have. */
  found: string
  /** Of both: no schema says what is found, so nothing is believed that a disk or a person has changed. */
  mark: string
  end: number
}

const lineOf = (key: string, found: string): Omit<PartLine, 'end'> => ({
  ...{ key, found },
  mark: sha256(JSON.stringify([key, found])).slice(0, 16),
})

/** A line that is torn or spoilt ends what counts of a part. */
async function* soundLines(path: string): AsyncGenerator<PartLine> {
  for await (const scanned of scanJsonl(path)) {
    if (scanned.problem !== undefined || !scanned.terminated) return
    const { key, found, mark } = (scanned.value ?? {}) as Partial<PartLine>
    if (typeof key !== 'string' || typeof found !== 'string' || mark !== lineOf(key, found).mark) return
    yield { key, found, mark, end: scanned.end }
  }
}

async function soundBytes(path: string): Promise<number> {
  if ((await stat(path).catch(ignoreMissing)) === undefined) return 0
  let bytes = 0
  for await (const { end } of soundLines(path)) bytes = end
  return bytes
}

/** How long a folder that machines share may take to show what another one wrote, in milliseconds. */
const visibleWithin = 60_000

/** What a file is known by on another machine. */
interface Content {
  bytes: number
  /** Missing where the file only grows: it was then seen once it is as long. One that is replaced may have been longer before. */
  sha256?: string
}

/** @throws {FileError} */
export const contentOf = async (path: string): Promise<Content> => ({
  bytes: (await stat(path).catch(asFileError('Reading', path))).size,
  sha256: await sha256File(path),
})

/** Waits for a file that another rank has written. @throws {FileError} when it cannot be seen here. */
export async function untilSeen(path: string, { bytes, sha256: content }: Content): Promise<void> {
  const until = Date.now() + visibleWithin
  for (;;) {
    const size = (await stat(path).catch(ignoreMissing).catch(asFileError('Reading', path)))?.size
    if (content === undefined ? (size ?? 0) >= bytes : size === bytes && (await sha256File(path)) === content) return
    if (Date.now() > until) {
      const here = size === undefined ? 'is not there' : size === bytes ? 'has other content' : `has ${size} bytes`
      throw new FileError(`${path} ${here} here; where it was written it has ${bytes} bytes`, {
        detail: { path, size, bytes },
        hint: notShared,
      })
    }
    await setTimeout(100)
  }
}

/** Found by one version, taken by no other. */
const nameOf = (key: unknown): string => sha256(JSON.stringify([version, key])).slice(0, 32)
