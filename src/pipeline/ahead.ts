/** What a stage is given and no earlier one makes is looked at before anything runs: a name misspelt is told now, not hours later. */
import { existsSync } from 'node:fs'
import { isWithin } from '../data/files.js'
import { ConfigError } from '../errors.js'
import type { Expectation } from '../stage/stage.js'
import type { GivenPath, PlannedStage } from './config.js'

/** Asked again whenever a stage has ended: what it made can be looked at before the next one runs. */
export class Ahead {
  readonly #met = new Set<Expectation>()

  /**
   * @param stages those that are left, in their order. @param runs whether a stage may still change what it leaves.
   * @throws {ConfigError} listing every path that is not there. @throws what an expectation throws, with the name of the stage.
   */
  async check(stages: readonly PlannedStage[], runs: (stage: PlannedStage) => boolean = () => true): Promise<void> {
    const missing = new Map<string, string>()
    const met: { stage: PlannedStage; expectation: Expectation }[] = []
    for (const [index, stage] of stages.entries()) {
      const makers = stages.slice(0, index).filter(runs)
      for (const { setting, path, place } of stage.given) {
        if (missing.has(path) || isMade(path, makers) || existsSync(path)) continue
        missing.set(path, `${place ? `${place}: ` : ''}${stage.name}.${setting} is ${path}, which is not there`)
      }
      for (const expectation of stage.expects) {
        const { input } = expectation
        if (!this.#met.has(expectation) && existsSync(input) && !isMade(input, makers)) met.push({ stage, expectation })
      }
    }
    if (missing.size > 0) {
      const detail = { paths: [...missing.keys()] }
      throw new ConfigError([...missing.values()].join('\n'), {
        detail,
        hint: 'Correct these paths; no stage makes them.',
      })
    }
    for (const { stage, expectation } of met) {
      await expectation.check().catch((error) => {
        throw inStage(error, stage.name)
      })
      this.#met.add(expectation)
    }
  }
}

/** Whether an earlier stage writes it, or writes into it: the folder of a round holds those of its stages. */
const isMade = (path: GivenPath['path'], makers: readonly PlannedStage[]): boolean =>
  makers.some(({ folder, outputs }) =>
    [folder, ...outputs].some((made) => isWithin(path, made) || isWithin(made, path)),
  )

/** The same error, naming the stage it is of. */
export function inStage(error: unknown, stage: string): unknown {
  if (error instanceof Error) error.message = `Stage ${stage}: ${error.message}`
  return error
}
