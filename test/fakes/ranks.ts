/** Ranks of one process: what they say to each other goes through memory, as JSON. */
import { FireError, RankError, reasonOf } from '../../src/errors.js'
import { decode, encode } from '../../src/ranks/frames.js'
import type { Ranks } from '../../src/ranks/ranks.js'

interface Call {
  what: string
  /** By rank. */
  values: Map<number, string>
  waiting: { rank: number; resolve(values: string[]): void; reject(reason: unknown): void }[]
}

/** @param onGather is told of every call as it begins: to stop, fail or delay a rank at any point. */
export function ranksInMemory(size: number, onGather: (rank: number, what: string) => void = () => {}): Ranks[] {
  const controllers = Array.from({ length: size }, () => new AbortController())
  let call: Call | undefined
  let failed = false

  function fail(rank: number, error: unknown): void {
    if (failed) return
    failed = true
    const { code = undefined, hint = undefined } = error instanceof FireError ? error : {}
    const reason = new RankError(`Rank ${rank} (memory, pid ${rank}) failed: ${reasonOf(error)}`, {
      detail: { rank, code },
      hint,
    })
    for (const [other, controller] of controllers.entries()) if (other !== rank) controller.abort(reason)
    for (const waiter of call?.waiting ?? []) if (waiter.rank !== rank) waiter.reject(reason)
  }

  function gather(rank: number, what: string, value: unknown): Promise<string[]> {
    controllers[rank].signal.throwIfAborted()
    call ??= { what, values: new Map(), waiting: [] }
    const { values, waiting } = call
    if (call.what !== what || values.has(rank))
      throw new RankError(`Rank ${rank} came to ${what}, others to ${call.what}`)
    values.set(rank, encode(value ?? null))
    return new Promise((resolve, reject) => {
      waiting.push({ rank, resolve, reject })
      if (values.size < size) return
      call = undefined
      for (const waiter of waiting) waiter.resolve(controllers.map((_, each) => values.get(each) as string))
    })
  }

  return controllers.map(({ signal }, rank) => ({
    ...{ rank, size, signal },
    async gather<T>(what: string, value: T): Promise<T[]> {
      onGather(rank, what)
      return (await gather(rank, what, value)).map((text) => decode(text) as T)
    },
    fail: async (error) => fail(rank, error),
    close: async () => {},
  }))
}

/** Runs the same on every rank, as the command does: one that fails tells the others. What each came to, in their order. */
export function onRanks<T>(size: number, run: (ranks: Ranks) => Promise<T>): Promise<PromiseSettledResult<T>[]> {
  return Promise.allSettled(
    ranksInMemory(size).map(async (ranks) => {
      try {
        return await run(ranks)
      } catch (error) {
        await ranks.fail(error)
        throw error
      } finally {
        await ranks.close()
      }
    }),
  )
}

/** The same where none may fail. */
export async function allRanks<T>(size: number, run: (ranks: Ranks) => Promise<T>): Promise<T[]> {
  const settled = await onRanks(size, run)
  return settled.map((each) => {
    if (each.status === 'rejected') throw each.reason
    return each.value
  })
}
