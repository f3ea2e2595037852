/** The folders that the steps of a run left. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { ArmResults, StudyResults, TableResults } from '../results.js'
import { stepsFolder } from '../steps.js'

type SeedResults = ArmResults['seeds'][number]

/** The arms of a table that are run, in the order of its rows. */
export const armsOfTable = (results: StudyResults, { arms }: TableResults): ArmResults[] =>
  arms.flatMap((name) => results.arms.filter((arm) => arm.name === name))

/** Accuracy of one seed on all questions; null while it is missing. */
export const shareOf = ({ groups }: SeedResults): number | null =>
  groups && groups.overall.count > 0 ? groups.overall.successes / groups.overall.count : null

/** Folders of the finished steps of a stage, in the order they were run. */
export const finishedFolders = (root: string, { steps }: SeedResults, stage: string): string[] =>
  steps
    .filter((name) => name.startsWith(`${stage}-`))
    .map((name) => join(stepsFolder(root), name))
    .filter((folder) => existsSync(join(folder, 'step.json')))
