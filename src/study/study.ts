/** A study from its file to its pages. */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder, refuseOtherKind, writeFileAtomic, writeJson } from '../data/files.js'
import { ArgumentError, asFileError, DiskFullError, InternalError } from '../errors.js'
import { ContentHashes } from './contents.js'
import { type Estimate, estimate } from './estimate.js'
import { studyFiles } from './files.js'
import { planStudy } from './graph.js'
import { runWorkers } from './jobs.js'
import { formatStudy, loadStudy, type Study } from './load.js'
import { writePages } from './page/render.js'
import { collectResults, type StudyResults } from './results.js'
import { type WorkOptions, work } from './run.js'
import { forgetFailures } from './steps.js'

/** How a study is run; nothing of it changes a number. */
export interface RunOptions extends WorkOptions {
  /** Processes that share the work. */
  jobs?: number
}

/** What came of a run. */
export interface StudyOutcome {
  results: StudyResults
  interrupted: boolean
}

/**
 * Runs what is missing of a study and writes its pages. The same call goes on after a stop of any kind.
 * @param root its folder; other processes may work in it at the same time.
 * @throws {DiskFullError} when there is no room; what is complete stays.
 */
export async function runStudy(study: Study, root: string, options: RunOptions = {}): Promise<StudyOutcome> {
  const { jobs = 1, signal } = options
  await refuseOccupied(root)
  // Settings that a stage refuses are found before anything is run or written.
  const contents = await ContentHashes.open(root, signal)
  await planStudy(study, root, contents, { assume: true })
  await makeFolder(root).catch(asFileError('Making', root))
  await writeFileAtomic(join(root, studyFiles.study), formatStudy(study))
  await contents.save()
  await forgetFailures(root)
  if (jobs === 1) await work(study, root, options)
  else throwFirst(await runWorkers(root, jobs, options))
  return { results: await report(study, root), interrupted: signal?.aborted ?? false }
}

/** A folder of somebody's work would fill with steps among their files. */
async function refuseOccupied(root: string): Promise<void> {
  await refuseOtherKind(root, 'folder')
  const names = existsSync(root) ? await readdir(root).catch(asFileError('Reading', root)) : []
  const others = names.filter((name) => !name.startsWith('.'))
  if (others.length === 0 || others.includes(studyFiles.study)) return
  throw new ArgumentError(`${root} holds something else than a study: ${others.slice(0, 3).join(', ')}`, {
    detail: { path: root },
    hint: 'Name an empty folder, one that does not exist yet, or the folder of a study.',
  })
}

function throwFirst([error]: Awaited<ReturnType<typeof runWorkers>>): void {
  if (!error) return
  throw error.code === DiskFullError.code ? new DiskFullError(error.message) : new InternalError(error.message)
}

/**
 * Writes study.json, the tables and the pages from whatever is finished.
 * @throws {FileError} when the folder holds no study.
 */
export async function reportStudy(root: string): Promise<StudyResults> {
  return await report(await loadStudy(join(root, studyFiles.study)), root)
}

async function report(study: Study, root: string): Promise<StudyResults> {
  const graph = await planStudy(study, root, await ContentHashes.open(root))
  const results = await collectResults(study, root, graph)
  await writeJson(join(root, studyFiles.results), results)
  await writePages(root, results)
  return results
}

/** Says what a run would do, and writes nothing. */
export async function planFor(study: Study, root: string): Promise<Estimate> {
  const graph = await planStudy(study, root, await ContentHashes.open(root), { assume: true })
  return estimate(study, root, graph)
}
