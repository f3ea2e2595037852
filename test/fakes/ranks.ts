/** Ranks in one process, for tests of what they do together. */
import { FireError, RankError } from '../../src/errors.js'
import type { Ranks } from '../../src/ranks/ranks.js'

interface Meeting {
  what: string
  values: Map<number, string>
  waiting: ((values: unknown[]) => void)[]
}

/** So many ranks. What they gather goes through JSON; one that comes with another name is an error of all. */
export function memoryRanks(size: number): Ranks[] {
  const controllers = Array.from({ length: size }, () => new AbortController())
  const meetings: Meeting[] = []
  const failAll = (rank: number, said: string): void => {
    for (const [other, controller] of controllers.entries()) {
      if (other !== rank) controller.abort(new RankError(`Rank ${rank} failed: ${said}`, { detail: { rank } }))
    }
  }
  return controllers.map(({ signal }, rank) => {
    let number = 0
    return {
      ...{ rank, size, localRank: rank, signal },
      gather<T>(what: string, value: T): Promise<T[]> {
        const at = number++
        meetings[at] ??= { what, values: new Map(), waiting: [] }
        const { what: expected, values, waiting } = meetings[at]
        if (expected !== what) failAll(-1, `"${what}" where the others are at "${expected}"`)
        values.set(rank, JSON.stringify(value))
        return new Promise((resolve, reject) => {
          if (signal.aborted) return reject(signal.reason)
          const onAbort = (): void => reject(signal.reason)
          signal.addEventListener('abort', onAbort, { once: true })
          waiting.push((values) => {
            signal.removeEventListener('abort', onAbort)
            resolve(values as T[])
          })
          if (values.size < size) return
          const all = Array.from({ length: size }, (_, each) => values.get(each) as string)
          for (const tell of waiting) tell(all.map((text) => JSON.parse(text)))
        })
      },
      async fail(error: unknown): Promise<void> {
        failAll(rank, error instanceof FireError ? error.message : String(error))
      },
      async close(): Promise<void> {
        if (meetings.some(({ values }) => values.size < size && !values.has(rank))) failAll(rank, 'it left')
      },
    }
  })
}

/** Runs the same on every rank, as the command does: one that fails tells the others. What each came to, in their order. */
export function onRanks<T>(size: number, run: (ranks: Ranks) => Promise<T>): Promise<PromiseSettledResult<T>[]> {
  return Promise.allSettled(
    memoryRanks(size).map(async (ranks) => {
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
