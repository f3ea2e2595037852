/**
 * Ctrl-C, a closed terminal, `kill` and the notice of a batch system (Slurm's `--signal=USR1`): the first signal asks for an
 * orderly stop, the second leaves at once.
 */
import { closeSync } from 'node:fs'
import { constants } from 'node:os'

/** The signals that ask a command to stop. */
export const handled = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const

/** Node resets the terminals it was started on when it ends, and aborts where one is gone. */
function closeTerminal(): void {
  for (const stream of [0, 1, 2]) {
    try {
      closeSync(stream)
    } catch {
      // It was closed before.
    }
  }
}

export interface StopRequest extends Disposable {
  /** Aborted by the first signal. */
  readonly signal: AbortSignal
  /** 128 and the number of the signal once one came, as shells report it. */
  readonly exitCode: number | undefined
  /** A signal that came to another process of the same work. The same one may come here too, and is no second one. */
  pass(name: NodeJS.Signals, isUrgent: boolean): void
}

/** @param onFirst tells the person what is going to happen. */
export function catchSignals(onFirst: (name: NodeJS.Signals) => void): StopRequest {
  const controller = new AbortController()
  let exitCode: number | undefined
  let isAsked = false
  const begin = (name: NodeJS.Signals): void => {
    exitCode = 128 + constants.signals[name]
    if (name === 'SIGHUP') process.once('exit', closeTerminal)
    onFirst(name)
    controller.abort()
  }
  const listener = (name: NodeJS.Signals): void => {
    if (isAsked) process.exit(exitCode)
    isAsked = true
    if (exitCode === undefined) begin(name)
  }
  for (const name of handled) process.on(name, listener)
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode
    },
    pass(name, isUrgent) {
      if (isUrgent) process.exit(exitCode ?? 128 + constants.signals[name])
      if (exitCode === undefined) begin(name)
    },
    [Symbol.dispose]() {
      for (const name of handled) process.off(name, listener)
    },
  }
}
