/** Runs stages one after the other, those that need it: the others' inputs, settings and outputs are as they were. */
import { join, relative } from 'node:path'
import { isWithin, sha256 } from '../data/files.js'
import { lockOutput } from '../data/lock.js'
import { isAbort, reasonOf, throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import { type Announced, silent, titled, titleOf } from '../stage/progress.js'
import { runStage, type StageContext } from '../stage/stage.js'
import { version } from '../version.js'
import { Ahead, inStage } from './ahead.js'
import type { Pipeline, PlannedStage } from './config.js'
import { setAside } from './earlier.js'
import { Hashes } from './hashes.js'
import { type Manifest, readManifest, type StageState, writeManifest } from './manifest.js'
import { PipelinePage } from './page.js'

/** The signal asks for an orderly stop; the same call goes on later. Without `progress` nothing is shown. */
export type PipelineContext = Partial<Pick<StageContext, 'signal' | 'progress' | 'native'>>

/** What became of one stage. */
export interface StageOutcome {
  name: string
  /** Why it ran; null when it did not need to. */
  reason: string | null
  summary: string
}

/** What became of a run. */
export interface PipelineReport {
  /** Of finished stages, skipped ones included. */
  stages: StageOutcome[]
  /** The stage that the signal stopped. */
  interrupted: string | null
}

/**
 * Runs the stages that need it, in order, and skips those whose inputs, settings and outputs are as they were.
 * What a stage made before is moved to `earlier/` when it runs anew.
 * @throws {ConfigError} before anything runs, naming every path that is not there and that no stage makes.
 * @throws {LockedError} when another run writes to the output.
 * @throws whatever a stage throws, its name put before the message; stages before it are done and will be skipped.
 */
export async function runPipeline(pipeline: Pipeline, options: PipelineContext = {}): Promise<PipelineReport> {
  checkOptions('runPipeline', options, { signal: true, progress: true, native: true })
  const { output, stages } = pipeline
  const { signal, native } = options
  await using _lock = await lockOutput(output, 'folder')
  const manifest = await readManifest(output)
  const hashes = new Hashes(manifest.hashes, signal)
  const page = new PipelinePage(pipeline, manifest)
  const progress = page.watching(options.progress ?? silent)
  const context = { signal, progress, native }
  const report: PipelineReport = { stages: [], interrupted: null }
  const ahead = new Ahead()
  for (const [index, stage] of stages.entries()) {
    await ahead.check(stages.slice(index)).catch(async (error) => {
      await page.close()
      throw error
    })
    const place = { stage: stage.name, number: index + 1, count: stages.length }
    try {
      const outcome = await runPlanned(
        stage,
        place,
        stages.slice(0, index),
        { manifest, hashes, output, page },
        context,
      )
      if (!outcome) {
        report.interrupted = stage.name
        break
      }
      report.stages.push(outcome)
    } catch (error) {
      progress.end('failed')
      const stopped = isAbort(error, signal)
      page.end(stopped ? 'stopped' : 'failed', stopped ? '' : reasonOf(error))
      if (!stopped) {
        await page.close()
        throw inStage(error, stage.name)
      }
      report.interrupted = stage.name
      break
    }
  }
  await page.close()
  return report
}

/**
 * Says which stages would run and why, as far as that is known before they do: what a stage that runs leaves may turn out
 * unchanged. Writes nothing.
 * @throws {ConfigError} naming every path that is not there and that no stage makes.
 */
export async function planPipeline({ output, stages }: Pipeline, signal?: AbortSignal): Promise<string[]> {
  const manifest = await readManifest(output)
  const hashes = new Hashes(manifest.hashes, signal)
  const made: { path: string; by: string }[] = []
  const ahead = new Ahead()
  await ahead.check(stages)
  const running = new Set<PlannedStage>()
  const lines: string[] = []
  for (const stage of stages) {
    const maker = made.find(({ path }) => stage.inputs.some((input) => isWithin(input.path, path)))?.by
    const before = manifest.stages[stage.name]
    let reason: string | null
    if (!before) reason = neverRan.reason
    else if (maker) reason = `${maker} runs`
    else
      reason = (await changed(before, await present(stage, hashes, output), stage, { hashes, output }))?.reason ?? null
    if (reason !== null) {
      running.add(stage)
      for (const path of stage.outputs) made.push({ path, by: stage.name })
    }
    const verb = maker && before ? 'may run' : 'runs'
    lines.push(`${stage.name}: ${reason === null ? 'unchanged' : `${verb}, because ${reason}`}`)
  }
  await ahead.check(stages, (stage) => running.has(stage))
  return lines
}

type Present = Pick<StageState, 'version' | 'settings' | 'inputs' | 'named'>

/** What decides the result of a stage, as it is now. */
async function present(stage: PlannedStage, hashes: Hashes, output: string): Promise<Present> {
  const inputs = await hashAll(
    hashes,
    stage.inputs.map(({ path }) => path),
  )
  return {
    version,
    // The same file under another setting is another input.
    settings: sha256(JSON.stringify([stage.identity, stage.inputs.map(({ setting }) => setting)])),
    inputs,
    named: await hashNamed(stage, hashes, output),
  }
}

/** By path below the output, so that a project may move. */
async function hashNamed(stage: PlannedStage, hashes: Hashes, output: string): Promise<StageState['named']> {
  const named: StageState['named'] = {}
  for (const { files } of stage.reads) {
    for (const path of await files()) named[relative(output, path)] = await hashes.ofAny(path)
  }
  return named
}

interface Books {
  output: string
  page: PipelinePage
  manifest: Manifest
  hashes: Hashes
}

/** Resolves with what became of the stage; undefined when it was stopped. */
async function runPlanned(
  stage: PlannedStage,
  place: Announced,
  others: readonly PlannedStage[],
  { output, manifest, hashes, page }: Books,
  { signal, progress, native }: StageContext,
): Promise<StageOutcome | undefined> {
  const write = async (state: StageState): Promise<void> => {
    manifest.stages[stage.name] = state
    manifest.hashes = { ...hashes.used }
    await writeManifest(output, manifest)
  }
  const title = titleOf(place)
  const now = await present(stage, hashes, output)
  const before = manifest.stages[stage.name]
  const why = before ? await changed(before, now, stage, { hashes, output }) : neverRan
  if (before && why === null) {
    progress.log(`${title}: unchanged, skipped (${before.summary})`)
    page.skip(stage, before.summary)
    return { name: stage.name, reason: null, summary: before.summary }
  }
  const { reason, resume } = why ?? neverRan
  progress.log(`${title}: runs, because ${reason}`)
  const running = { ...now, state: 'running' as const, outputs: [], summary: '', finished: '' }
  const earlier = resume ? (before?.seconds ?? 0) : 0
  // Before the stage counts as begun: what is found after a crash is then always of these settings.
  await page.begin(stage)
  const kept = resume ? undefined : await setAside(output, stage, before)
  if (kept !== undefined) progress.log(`${title}: what it made before is kept in ${kept}`)
  await write({ ...running, seconds: earlier })
  throwIfAborted(signal)
  const started = performance.now()
  const result = await runStage(stage, {
    signal,
    progress: titled(progress, place),
    native,
    resume,
    // The folder is the pipeline's own.
    overwrite: true,
    again: 'The same command',
    finished: others.map(({ name }) => ({ name, seconds: manifest.stages[name].seconds })),
  })
  const seconds = earlier + (performance.now() - started) / 1000
  const { interrupted, summary, problem } = result
  progress.end(interrupted ? 'stopped' : summary)
  if (interrupted) {
    await write({ ...running, seconds })
    page.end('stopped', summary)
    return undefined
  }
  if (problem) throw problem
  const outputs = await hashAll(hashes, stage.outputs)
  const named = await hashNamed(stage, hashes, output)
  await write({ ...now, named, state: 'done', outputs, summary, seconds, finished: new Date().toISOString() })
  page.end('done', summary)
  return { name: stage.name, reason, summary }
}

/** Why a stage runs, and whether it goes on with what it left. */
interface Why {
  reason: string
  resume: boolean
}

const neverRan: Why = { reason: 'it never ran', resume: false }

/** Why a stage must run again; null when nothing speaks for it. */
async function changed(
  before: StageState,
  now: Present,
  stage: PlannedStage,
  { hashes, output }: Pick<Books, 'hashes' | 'output'>,
): Promise<Why | null> {
  const difference = inputsChanged(before, now, stage, output)
  if (difference !== undefined) return { reason: difference, resume: false }
  if (before.state === 'running') return { reason: 'it was cut off', resume: true }
  for (const [index, path] of stage.outputs.entries()) {
    // An output that cannot be read is one that is not as it was.
    const hash = await hashes.ofAny(path)
    const what = hash === null ? 'is gone' : hash === before.outputs[index] ? undefined : 'was changed'
    if (what !== undefined) return { reason: `${path} ${what}`, resume: false }
  }
  const left = await stage.unfinished?.()
  return left === undefined ? null : { reason: left, resume: true }
}

function inputsChanged(before: StageState, now: Present, { inputs }: PlannedStage, output: string): string | undefined {
  if (before.version !== now.version) return `fire-train ${before.version} made it`
  if (before.settings !== now.settings) return 'its settings changed'
  if (before.inputs.length !== now.inputs.length) return 'it has other inputs'
  const input = now.inputs.findIndex((hash, index) => hash !== before.inputs[index])
  if (input >= 0) return `${inputs[input].path} changed`
  for (const [path, hash] of Object.entries(before.named)) {
    // One that is not named any more lies elsewhere now: the records that named it are an input, and the same.
    if (now.named[path] !== undefined && now.named[path] !== hash) return `${join(output, path)} changed`
  }
  return undefined
}

/** One after the other: they share the disk. */
async function hashAll(hashes: Hashes, paths: readonly string[]): Promise<string[]> {
  const found: string[] = []
  for (const path of paths) found.push(await hashes.of(path))
  return found
}
