/** What preparing a run asks for and gives. */
import type { LoadedPairs, PairFailure } from '../data/pairs.js'
import type { Engine, NativeModule, ObjectiveSpec } from '../engine/engine.js'
import type { Chat } from '../text/chat.js'
import type { Example } from './collate.js'
import type { HeldOut } from './held-out.js'
import type { PairOrder } from './order.js'

export interface Prepared {
  engine: Engine
  chat: Chat
  /** Those that are trained on. */
  examples: Example[]
  heldOut: HeldOut | null
  loaded: LoadedPairs
  /** Pairs that were left out because they cannot be used. */
  failures: PairFailure[]
  objective: ObjectiveSpec
  /** The pairs of each step. */
  order: PairOrder
  totalSteps: number
  /** What `checkpointing` came to. */
  checkpointing: boolean
  /** Copies of the weights in the form of matrix products (`packWeights`), as planned: bytes. */
  packedBytes: number
}

export type Plannable = Omit<Prepared, 'checkpointing' | 'packedBytes'>

/** What planning and training share. */
export interface PrepareOptions {
  signal?: AbortSignal
  /** One line per thing worth knowing: what is being done, what was left out. */
  onLog?: (line: string) => void
  /** Another implementation of the addon, for instance an in-memory one in tests. */
  native?: NativeModule
}
