import { gemm } from '../bench/gemm.js'
import { type Command, defineGroup } from '../command.js'

/** A benchmark is a command of its own in src/cli/bench/. */
const benches: readonly Command[] = [gemm]

export const bench = defineGroup('bench', 'Measure this machine', benches)
