/** What a variant says of its own process, and how. */
import { readFileSync } from 'node:fs'

/** VmHWM; getrusage would include the parent's peak before exec, and is used only where there is no /proc. */
export function peakResidentBytes(): number {
  try {
    const [, kilobytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
    if (kilobytes) return Number(kilobytes) * 1024
  } catch {}
  return process.resourceUsage().maxRSS * 1024
}

export function say(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}
