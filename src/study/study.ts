/** A study from its file to its pages. */
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder, refuseOtherKind, writeFileAtomic, writeJson } from '../data/files.js'
import { ArgumentError, asFileError, DiskFullError, FileError, InternalError } from '../errors.js'
import { alone, type Ranks } from '../ranks/ranks.js'
import { meetNeighbours } from '../ranks/seat.js'
import { byFirst, writtenByFirst } from '../stage/split.js'
import { ContentHashes } from './contents.js'
import { keepEarlier } from './earlier.js'
import { type Estimate, estimate } from './estimate.js'
import { studyFiles } from './files.js'
import { planStudy } from './graph.js'
import { runWorkers } from './jobs.js'
import { joinStudy } from './join.js'
import { formatStudy, loadStudy, type Study } from './load.js'
import { writePages } from './page/render.js'
import { asItStands, idOf, type Plan, readPlan, writePlan } from './plan.js'
import { collectResults, type StudyResults } from './results.js'
import { type WorkOptions, work } from './run.js'
import { forgetFailures, type StepFiles } from './steps.js'

/** How a study is run; nothing of it changes a number. */
export interface RunOptions extends WorkOptions {
  /** Processes that share the work. */
  jobs?: number
  /** Compute threads of each step; 0 = all, shared between the jobs. */
  threads?: number
  /** The processes that share the study. */
  ranks?: Ranks
}

/** What came of a run. */
export interface StudyOutcome {
  results: StudyResults
  interrupted: boolean
}

/**
 * Runs what is missing of a study and writes its pages. The same call goes on after a stop of any kind. Ranks make the same call.
 * @param root its folder; other processes may work in it at the same time.
 * @throws {DiskFullError} when there is no room; what is complete stays.
 */
export async function runStudy(study: Study, root: string, options: RunOptions = {}): Promise<StudyOutcome> {
  const { jobs = 1, threads, ranks = alone } = options
  const signal =
    ranks.size === 1 ? options.signal : AbortSignal.any([ranks.signal, ...(options.signal ? [options.signal] : [])])
  const planned = withThreads(study, threads)
  let plan: Plan | undefined
  let part: Awaited<ReturnType<typeof joinStudy>> | undefined
  try {
    await byFirst(ranks, `${root} begun`, signal, async () => {
      await refuseOccupied(root)
      const contents = await ContentHashes.open(root, signal)
      // Settings that a stage refuses are found before anything is run or written.
      plan = await planStudy(planned, root, contents)
      await makeFolder(root).catch(asFileError('Making', root))
      part = await joinStudy(root, idOf(study, plan))
      await writeFileAtomic(join(root, studyFiles.study), formatStudy(study))
      await writePlan(root, plan)
      await contents.save()
      // What another process found out just now it need not find out again.
      if (part.isFirst) await forgetFailures(root)
    })
    plan ??= await planStudy(planned, root, await ContentHashes.open(root, signal))
    // A step is one rank's, which asks nobody where to compute.
    const neighbours = ranks.size > 1 ? await meetNeighbours(ranks, true, options.native) : undefined
    const working = { ...options, signal, rank: { rank: ranks.rank, neighbours } }
    if (jobs === 1) await work(plan, root, working)
    else throwFirst(await runWorkers(study, root, { ...working, jobs }))
    const stopped = await ranks.gather(`${root} worked`, signal?.aborted ?? false)
    return { results: await resultsOf(study, root, plan, options), interrupted: stopped.includes(true) }
  } finally {
    await part?.[Symbol.asyncDispose]()
  }
}

/** The pages are rank 0's. */
async function resultsOf(study: Study, root: string, plan: Plan, { ranks = alone }: RunOptions): Promise<StudyResults> {
  const path = join(root, studyFiles.results)
  let results: StudyResults | undefined
  await writtenByFirst(ranks, path, undefined, async () => {
    results = await report(study, root, plan)
  })
  return results ?? (JSON.parse(await readFile(path, 'utf8')) as StudyResults)
}

const withThreads = (study: Study, threads: number | undefined): Study =>
  threads === undefined ? study : { ...study, base: { ...study.base, threads } }

/** A folder of somebody's work would fill with steps among their files. */
async function refuseOccupied(root: string): Promise<void> {
  await refuseOtherKind(root, 'folder')
  const names = existsSync(root) ? await readdir(root).catch(asFileError('Reading', root)) : []
  const others = names.filter((name) => !name.startsWith('.'))
  const isOurs = others.includes(studyFiles.study) || others.every((name) => name === studyFiles.claims)
  if (isOurs) return
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
 * Writes study.json, the tables and the pages from whatever is finished of the plan in the folder; model and data need not be there.
 * @throws {FileError} when the folder holds no study.
 */
export async function reportStudy(root: string): Promise<StudyResults> {
  if (!existsSync(join(root, studyFiles.study))) {
    throw new FileError(`${root} is not the folder of a study: it has no ${studyFiles.study}`, {
      detail: { path: root },
      hint: 'Name the folder that was given to study --out.',
    })
  }
  return await report(await loadStudy(join(root, studyFiles.study)), root, await readPlan(root))
}

async function report(study: Study, root: string, plan: Plan<StepFiles>): Promise<StudyResults> {
  const results = await collectResults(study, root, asItStands(plan))
  await keepEarlier(root, results)
  await writeJson(join(root, studyFiles.results), results)
  await writePages(root, results)
  return results
}

/** Says what a run would do, and writes nothing. */
export async function planFor(study: Study, root: string): Promise<Estimate> {
  const plan = await planStudy(study, root, await ContentHashes.open(root))
  return estimate(study, root, asItStands(plan, { assume: true }))
}
