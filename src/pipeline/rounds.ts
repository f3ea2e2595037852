/** `rounds: N` of a pipeline: sampling, pairs, twins and training N times, each time from the adapter of the time before. */
import type { Artifacts, Stage } from '../stage/stage.js'

/** A stage where it stands in a run. */
export interface Turn {
  stage: Stage
  /** From 1; undefined for stages that run once. */
  round: number | undefined
  /** `train`, or `round-2/train`; also its folder below the output. */
  name: string
}

/** How far apart the seeds of two rounds are: further than seeds that somebody counts up. */
export const seedStep = 1000

/** What a round makes anew: one path for all rounds would undo them. */
export const madeAnew: ReadonlySet<keyof Artifacts> = new Set(['responses', 'pairs'])

/** What a round hands to the next: it goes before what the file says, which is for the first. */
export const handedOn: ReadonlySet<keyof Artifacts> = new Set(['adapter'])

/** Stages in the order they run; those of a round stand together. */
export function turnsOf(stages: readonly Stage[], rounds: number | undefined): Turn[] {
  const once = (stage: Stage): Turn => ({ stage, round: undefined, name: stage.name })
  if (rounds === undefined) return stages.map(once)
  const repeated = stages.filter(({ eachRound }) => eachRound)
  const others = stages.filter(({ eachRound }) => !eachRound).map(once)
  const before = repeated.length === 0 ? others.length : stages.indexOf(repeated[0])
  const turns = Array.from({ length: rounds }, (_, i) =>
    repeated.map((stage) => ({ stage, round: i + 1, name: `${roundName(i + 1)}/${stage.name}` })),
  )
  return [...others.slice(0, before), ...turns.flat(), ...others.slice(before)]
}

/** Name of a round and of its folder. */
export const roundName = (round: number): string => `round-${round}`

/** Adds what a stage makes: lists grow, anything else is that of the last stage that makes it. */
export function addArtifacts(artifacts: Artifacts, makes: Artifacts): void {
  const { trainedOn = [], ...rest } = makes
  Object.assign(artifacts, rest, { trainedOn: [...(artifacts.trainedOn ?? []), ...trainedOn] })
}
