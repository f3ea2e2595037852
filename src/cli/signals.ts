/**
 * Ctrl-C, a closed terminal, `kill` and the notice of a batch system (Slurm's `--signal=USR1`): the first signal asks for an
 * orderly stop, the second leaves at once.
 */
import { closeSync } from 'node:fs'
import { constants } from 'node:os'

const handled = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const

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
}

/** @param onFirst tells the person what is going to happen. */
export function catchSignals(onFirst: (name: string) => void): StopRequest {
  const controller = new AbortController()
  let exitCode: number | undefined
  const listener = (name: NodeJS.Signals): void => {
    if (exitCode !== undefined) process.exit(exitCode)
    exitCode = 128 + constants.signals[name]
    if (name === 'SIGHUP') process.once('exit', closeTerminal)
    onFirst(name)
    controller.abort()
  }
  for (const name of handled) process.on(name, listener)
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode
    },
    [Symbol.dispose]() {
      for (const name of handled) process.off(name, listener)
    },
  }
}
