/**
 * What training does step by step: the checkpoints of one run (`run` of an evaluation; `checkpoint.every` and `checkpoint.keep` of
 * the training say which there are), as its systems.
 */
import type { Proportion } from '../statistics/index.js'
import { countWords } from './groups.js'
import type { VerdictRecord } from './records.js'
import type { SystemResults } from './results.js'
import type { RewardResults } from './rewards/summary.js'

/** One step of the run. */
export interface TrainingPoint {
  /** Optimizer steps done; 0: the model alone. */
  step: number
  system: string
  /** Of all questions. */
  accuracy: Proportion
  /** Mean length of the answers, in words; null where there are none. */
  words: number | null
  /** How often the chosen side has the higher reward, for each file of pairs; none at step 0, where all rewards are 0. */
  rewards: { pairs: string; accuracy: RewardResults['accuracy'] }[]
}

/** A run along its steps. */
export interface AlongTraining {
  /** Mean length of the reference answers, in words: what the answers shrink to where their style is learnt. */
  referenceWords: number
  points: TrainingPoint[]
}

/** Null where no system is a checkpoint. @param records verdicts of all systems. */
export function alongTraining(
  { systems, rewards }: { systems: readonly SystemResults[]; rewards: readonly RewardResults[] },
  records: readonly VerdictRecord[],
): AlongTraining | null {
  const points = systems
    .flatMap(({ name, about, groups }): TrainingPoint[] => {
      const step = about.adapter === null ? 0 : about.step
      if (about.kind !== 'model' || typeof step !== 'number' || !groups[0]) return []
      const { accuracy, words } = groups[0]
      const own = rewards.filter(({ system }) => system === name)
      return [{ step, system: name, accuracy, words, rewards: own.map(({ pairs, accuracy }) => ({ pairs, accuracy })) }]
    })
    .sort((a, b) => a.step - b.step)
  if (!points.some(({ step }) => step > 0)) return null
  const references = new Map(records.map(({ sampleId, reference }) => [sampleId, countWords(reference)]))
  const referenceWords = [...references.values()].reduce((sum, words) => sum + words, 0) / references.size
  return { referenceWords, points }
}
