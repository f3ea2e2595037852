/** A study from its file to its pages. */
import { join } from 'node:path'
import { makeFolder, writeFileAtomic, writeJson } from '../data/files.js'
import { asFileError, DiskFullError, InternalError } from '../errors.js'
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
  await makeFolder(root).catch(asFileError('Making', root))
  // Settings that a stage refuses are found before anything is run.
  const contents = await ContentHashes.open(root, signal)
  await planStudy(study, root, contents, { assume: true })
  await contents.save()
  await writeFileAtomic(join(root, studyFiles.study), formatStudy(study))
  await forgetFailures(root)
  if (jobs === 1) await work(study, root, options)
  else throwFirst(await runWorkers(root, jobs, options))
  return { results: await reportStudy(root), interrupted: signal?.aborted ?? false }
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
  const study = await loadStudy(join(root, studyFiles.study))
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
