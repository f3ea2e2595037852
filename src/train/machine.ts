/** What a run was made on, as the operating system says it. */
import { cpus, totalmem } from 'node:os'

/** The machine of a run, for its report. */
export interface Machine {
  cpu: string
  /** Logical ones, used or not. */
  cores: number
  memoryBytes: number
  /** `linux-x64` */
  platform: string
}

export function describeMachine(): Machine {
  const [first] = cpus()
  return {
    cpu: first?.model.trim() || 'unknown processor',
    cores: cpus().length,
    memoryBytes: totalmem(),
    platform: `${process.platform}-${process.arch}`,
  }
}

/** Highest resident memory of this process so far, in bytes. */
export const peakHostBytes = (): number => process.resourceUsage().maxRSS * 1024
