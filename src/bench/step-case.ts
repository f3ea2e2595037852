/** What the objectives of `bench step` differ in. */
import type { Variant } from './measure.js'
import type { StepBenchSettings } from './settings.js'
import type { Limits } from './summary.js'

/** With every default that depends on the objective, and without what it does not read. */
type CompleteSettings = Omit<StepBenchSettings, 'size' | 'twins'> &
  Partial<Pick<StepBenchSettings, 'size' | 'twins'>> &
  Required<Pick<StepBenchSettings, 'peer' | 'pairs' | 'images'>>

/** What one objective is measured with. */
export interface StepCase {
  settings: CompleteSettings
  /** Of the files that are made first. */
  title: string
  model(folder: string): string
  /** Makes what the model does not bring: `adapter/` and `pairs.safetensors`, and what else the peer reads. */
  inputs(folder: string): Record<string, () => Promise<void>>
  peers(python: string, common: string[], folder: string): Variant[]
  /** How far a variant may be from the baseline. */
  limits: Limits
  /** Whether every step is held against the baseline's, or only the first. */
  everyStep: boolean
}
