import { gemm } from '../bench/gemm.js'
import { generate } from '../bench/generate.js'
import { step } from '../bench/step.js'
import type { Group } from '../command.js'

/** A benchmark is a command of its own in src/cli/bench/. */
export const bench: Group = {
  name: 'bench',
  summary: 'Measure speed and memory on this machine',
  commands: [gemm, step, generate],
}
