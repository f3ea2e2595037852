/**
 * Runs what a model folder brings along, a template or a pattern, for a limited time. Both are small programs: an endless
 * loop or a pattern that tries every split of a text would hold the process for good. V8 stops a script of `vm` wherever
 * it is, also inside a regular expression, which no check of ours could.
 */
import { createContext, Script } from 'node:vm'
import { guarded, type ModelError } from '../errors.js'

const context = createContext({ work: undefined as unknown })
const call = new Script('work()')

/** @throws what `refuse` makes of the reason when `work` throws or takes longer than `seconds`. */
export function bounded<T>(seconds: number, work: () => T, refuse: (reason: string, cause: unknown) => ModelError): T {
  return guarded(
    () => {
      context.work = work
      try {
        return call.runInContext(context, { timeout: seconds * 1000 }) as T
      } finally {
        context.work = undefined
      }
    },
    (reason, cause) => {
      const late = (cause as { code?: string }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
      return refuse(late ? `it takes longer than ${seconds} s` : reason, cause)
    },
  )
}
