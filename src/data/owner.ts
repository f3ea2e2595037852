/** Who writes a file: named so that a later process can tell whether the writer still runs. */
import { createHash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/** `unknown` is said of a process of another machine or container, which cannot be seen from here. */
export type Standing = 'alive' | 'gone' | 'unknown'

let known: string | undefined

/** This process, as `machine.boot.pid.start` in letters that file names may have. */
export function thisOwner(): string {
  known ??= [...placeOfProcess(), process.pid, stateOf(process.pid)?.start ?? 0].join('.')
  return known
}

/** What has become of the process that an owner names. */
export function standingOf(owner: string): Standing {
  const [machine, boot, pid, start] = owner.split('.')
  const [here, bootHere] = thisOwner().split('.')
  if (machine !== here) return 'unknown'
  return boot === bootHere && isRunning(Number(pid), start) ? 'alive' : 'gone'
}

/** Where a process number means the same: one machine and one table of processes, and how long that table lasts. */
function placeOfProcess(): [machine: string, boot: string] {
  const boot = readOr('', () => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim())
  const table = readOr('', () => readlinkSync('/proc/self/ns/pid'))
  // Without an id a machine that was started again cannot be told from another one of its name.
  const id = readOr('', () => readFileSync('/etc/machine-id', 'utf8').trim()) || boot
  return [short(`${id} ${table} ${hostname()}`), short(boot)]
}

/** A number that another process has by now does not count, nor does a process that has ended and was not waited for. */
function isRunning(pid: number, start: string): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  const state = stateOf(pid)
  return state === undefined || (state.start === start && !state.ended)
}

/** Undefined where there is no /proc, or it hides the process. `start` is in clock ticks since the machine started. */
function stateOf(pid: number): { start: string; ended: boolean } | undefined {
  const text = readOr('', () => readFileSync(`/proc/${pid}/stat`, 'utf8'))
  // The name before it, in parentheses, may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return text === '' ? undefined : { start: fields[19], ended: /^[ZX]/.test(fields[0]) }
}

function readOr(otherwise: string, read: () => string): string {
  try {
    return read()
  } catch {
    return otherwise
  }
}

const short = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 8)
