import { gemm } from '../bench/gemm.js'
import { generate } from '../bench/generate.js'
import { step } from '../bench/step.js'
import { type Command, defineGroup } from '../command.js'

/** A benchmark is a command of its own in src/cli/bench/. */
const benches: readonly Command[] = [gemm, step, generate]

export const bench = defineGroup('bench', 'Measure speed and memory on this machine', benches)
