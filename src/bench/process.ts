/** A variant in a process of its own: how it is asked, and what it says. */
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import type { Measured, ReadyMessage } from './protocol.js'

/** The values of the flags that its parent gives it, each `--name VALUE`. */
export function workerArguments<Name extends string>(...names: Name[]): Record<Name, string> {
  const options = Object.fromEntries(names.map((name) => [name, { type: 'string', default: '' } as const]))
  return parseArgs({ options }).values as Record<Name, string>
}

/** Says that it is ready, then takes a step for each line "step" on standard input, until that is closed. */
export async function serve(ready: ReadyMessage, step: (index: number) => Promise<Measured>): Promise<void> {
  say(ready)
  let count = 0
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() === 'step') say(await step(++count))
  }
}

/** VmHWM; getrusage would include the parent's peak before exec, and is used only where there is no /proc. */
export function peakResidentBytes(): number {
  try {
    const [, kilobytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
    if (kilobytes) return Number(kilobytes) * 1024
  } catch {}
  return process.resourceUsage().maxRSS * 1024
}

function say(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}
