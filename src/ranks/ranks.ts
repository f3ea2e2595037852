/**
 * Several processes that do one piece of work: each is a rank, from 0. Words are those of torchrun and MPI. What the ranks say to each
 * other here is small and goes over TCP; gradients go another way (native/dist).
 */

/** Where this process stands among those that started together. */
export interface World {
  /** From 0. Rank 0 writes what all of them made. */
  rank: number
  /** Number of ranks. */
  size: number
}

/** What a rank says of where it runs, as JSON. */
export interface Place {
  host: string
  /** Processors that it may use, as Linux writes them. */
  processors: string
  gpus: { uuid: string; isUsable: boolean }[]
}

/** The ranks of one machine, in their order. */
export interface Neighbours {
  places: readonly Place[]
  /** Which of them this one is. */
  index: number
}

/** The ranks of one run, as one of them sees them. */
export interface Ranks extends World {
  /** Who shares the machine, where a rank does some work alone beside others; else they ask each other. */
  readonly neighbours?: Neighbours
  /**
   * Aborts as soon as the work cannot be finished together: a rank failed, died, fell silent or left. The reason is a `RankError` that
   * names the rank and its cause.
   */
  readonly signal: AbortSignal
  /** All ranks were asked to stop: one that gives its work up for that has not failed. */
  readonly isStopping?: boolean
  /**
   * Waits until every rank has come to the same call. @param what names the call, in error messages too; ranks that come with another
   * name have lost step, which is an error. @returns the value of every rank, in order of ranks. Values are JSON, in which
   * numbers may also be NaN or infinite, and of at most 64 MiB.
   * @throws {RankError} when the work cannot be finished together. @throws {AbortedError} when another rank has given its work up for a stop
   * of all: nothing but the end is waited for then.
   */
  gather<T>(what: string, value: T): Promise<T[]>
  /** Tells all others why this rank cannot go on. They stop. Never rejects. */
  fail(error: unknown): Promise<void>
  /** Leaves in good order. The others may still be at work; whoever waits for this rank from now on gets an error. */
  close(): Promise<void>
}

/** What ranks gather when their work is done. */
export const theEnd = 'the end'

/** One process alone. */
export const alone: Ranks = {
  rank: 0,
  size: 1,
  signal: new AbortController().signal,
  gather: async (_what, value) => [value],
  fail: async () => {},
  close: async () => {},
}
