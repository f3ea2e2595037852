/** Training runs as a comparison needs them, finished or not: what their folders hold. */
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join, resolve, sep } from 'node:path'
import { parse } from 'yaml'
import { ignoreMissing } from '../../data/files.js'
import { asFileError, DataError, FileError, guarded } from '../../errors.js'
import { isTree } from '../../settings/source.js'
import type { LogRow } from '../../train/metrics.js'
import { runFiles } from '../../train/run-folder.js'
import { readMetrics } from '../../train/run-log.js'
import { roundFiles } from '../round-files.js'

export interface TrainingRun {
  /** What tells it from the others: the end of its path. */
  name: string
  /** Settings by their dotted keys, values as text; those of runs of other versions too. */
  settings: ReadonlyMap<string, string>
  rows: readonly LogRow[]
  /** train.json is written when a run has come to its end. */
  isComplete: boolean
}

/**
 * @param folders each the output of `train`, or of a pipeline with that stage; with rounds it is one run a round.
 * @throws {FileError} for one that is neither.
 * @throws {DataError} for files that are not those of a run.
 */
export async function readRuns(folders: readonly string[]): Promise<TrainingRun[]> {
  const found = (await Promise.all(folders.map(roundsIn))).flat()
  const names = namesOf(found)
  return await Promise.all(found.map((folder, index) => readRun(folder, names[index])))
}

/** The folders of the rounds that have trained, where a pipeline has some; else the folder itself. */
async function roundsIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder).catch(ignoreMissing).catch(asFileError('Reading', folder))
  const numbers = (entries ?? []).flatMap((name) => /^round-(\d+)$/.exec(name)?.[1] ?? []).map(Number)
  const rounds = numbers.sort((a, b) => a - b).map((number) => join(folder, `round-${number}`))
  const trained = rounds.filter((round) => existsSync(roundFiles(round)[1]))
  return trained.length > 0 ? trained : [folder]
}

async function readRun(folder: string, name: string): Promise<TrainingRun> {
  const inPipeline = join(folder, 'train')
  const isRun = existsSync(join(folder, runFiles.metrics)) || !existsSync(join(inPipeline, runFiles.metrics))
  const run = isRun ? folder : inPipeline
  if (!existsSync(join(run, runFiles.metrics))) {
    throw new FileError(`${folder} is no training run: it has no ${runFiles.metrics}`, {
      detail: { path: folder },
      hint: 'Name the folder that `fire-train train` or `fire-train run` wrote.',
    })
  }
  const rows = await readMetrics(join(run, runFiles.metrics))
  const path = join(run, runFiles.config)
  const text = await readFile(path, 'utf8').catch(asFileError('Reading', path))
  const tree = guarded(
    () => parse(text) as unknown,
    (reason, cause) => new DataError(`${path} is not YAML: ${reason}`, { cause }),
  )
  return {
    name,
    settings: new Map(isTree(tree) ? flatten(tree, '') : []),
    rows,
    isComplete: existsSync(join(run, runFiles.report)),
  }
}

function flatten(tree: Readonly<Record<string, unknown>>, prefix: string): [string, string][] {
  return Object.entries(tree).flatMap(([key, value]): [string, string][] =>
    isTree(value) ? flatten(value, `${prefix}${key}.`) : [[`${prefix}${key}`, wordsOf(value)]],
  )
}

const wordsOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))

/** The paths without the folders that all of them share. */
export function namesOf(folders: readonly string[]): string[] {
  const parts = folders.map((folder) => resolve(folder).split(sep))
  const shared = parts[0].findIndex(
    (part, index) => index === parts[0].length - 1 || parts.some((each) => each[index] !== part),
  )
  return parts.map((each) => each.slice(Math.min(shared, each.length - 1)).join('/'))
}
