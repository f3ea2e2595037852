/** The training run: steps, metrics, checkpoints, and leaving well when told to. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { hashModel, writeFolderAtomic, writeJson } from '../data/files.js'
import { writeJsonl } from '../data/jsonl.js'
import { lockOutput } from '../data/lock.js'
import { readMergedFrom } from '../data/merged.js'
import type { PairCounts } from '../data/pairs.js'
import { averagedTokens, type ModelInfo, type StepOptions, type UpdateStats } from '../engine/engine.js'
import { ImageCache } from '../engine/image-cache.js'
import { problemFile } from '../engine/unfit-adapter.js'
import { AbortedError, isAbort, NumericError, reasonOf } from '../errors.js'
import { checkOptions } from '../options.js'
import { checkTree } from '../settings/file.js'
import { version } from '../version.js'
import { assertSamePairs, fingerprint, saveCheckpoint, type TrainerState } from './checkpoint.js'
import type { Example } from './collate.js'
import { checkTrainConfig } from './config.js'
import { describeEvaluation, Evaluation } from './evaluation.js'
import { describeMachine, type Machine, peakHostBytes } from './machine.js'
import { type Computed, type EvaluationMetric, type EvaluationRow, type MetricsRow, metricsRow } from './metrics.js'
import { microBatches } from './micro-batches.js'
import { prepare } from './prepare.js'
import { clearEarlierRun, openRunFolder, type RunFolder, runFiles, writeIdentity } from './run-folder.js'
import { RunLog } from './run-log.js'
import { learningRateFactor } from './schedule.js'
import { checkPlaceholders, checkReference, isExact, startsAtReference } from './self-check.js'
import { type TrainConfig, trainSettings } from './settings.js'
import { type Found, nothingTracked, reasonToStop, requireValues, type Tracking, track } from './tracking.js'
import type { Prepared, PrepareOptions } from './types.js'
import { readVerdict } from './verdict.js'

/** Where a run stands after an optimizer step. */
export interface TrainProgress {
  /** Optimizer steps done, this one included. */
  step: number
  totalSteps: number
  metrics: MetricsRow
}

/** How `train` is run; what it computes is in its configuration. */
export interface TrainOptions extends PrepareOptions {
  /** Aborts between layers; rejects with an `AbortedError` and saves nothing. */
  signal?: AbortSignal
  /**
   * Asks for a stop: the step under way is finished, or given up when that takes more than two seconds; a checkpoint is saved
   * and the report says `interrupted`. Before the first step it rejects with an `AbortedError`.
   */
  stop?: AbortSignal
  /** Once, when everything is ready for the first step. */
  onStart?: (start: { step: number; totalSteps: number }) => void
  /** After each optimizer step. */
  onProgress?: (progress: TrainProgress) => void
  /** After each evaluation of the held-out pairs. */
  onEvaluation?: (row: EvaluationRow) => void
  /**
   * Go on from the newest checkpoint of the output folder. When it has none, the run starts anew, and replaces what the same run
   * left before it was cut off; a finished run is left alone, unless `overwrite` is given too.
   */
  resume?: boolean
  /** Delete an earlier run in the output folder first. */
  overwrite?: boolean
  /** What goes on with the run after a stop, for its page; default: `The same command with --resume`. */
  again?: string
}

const trainKeys: Record<keyof TrainOptions, true> = {
  signal: true,
  stop: true,
  onLog: true,
  native: true,
  onStart: true,
  onProgress: true,
  onEvaluation: true,
  resume: true,
  overwrite: true,
  again: true,
}

/** What a run came to; also written as train.json when it is complete. */
export interface TrainReport {
  version: string
  /** Optimizer steps done since the start of the run, and how many it has. */
  step: number
  totalSteps: number
  /** Step this call started from: 0, or the checkpoint's. */
  resumedFrom: number
  interrupted: boolean
  /** Why a complete run took fewer than `totalSteps` (`earlyStopping`). */
  stoppedEarly: string | null
  output: string
  /** The adapter that training started from (`lora.init`); `null`: a fresh one. */
  init: string | null
  /** What tells that adapter from another one at its place. */
  initMark: string | null
  /** SHA-256 of the adapter that is merged into the model, where the model's folder says so. Reports of earlier builds do not have it. */
  mergedSha256?: string | null
  /** What the policy was compared with: the adapter of `init`, or the model without an adapter. */
  reference: 'init' | 'base'
  /** PEFT folder of the trained adapter, once the run is complete. */
  adapter: string | null
  /** What tells it from every other one, wherever it is: SHA-256 of the folder's files. Reports of earlier builds do not have it. */
  adapterSha256?: string | null
  /** PEFT folder of the adapter with the best value of `checkpoint.best`, that value, and `eval_loss` beside it. */
  best: { path: string; sha256?: string; metric: EvaluationMetric; step: number; value: number; loss?: number } | null
  /** Pairs that were evaluated and not trained on. */
  heldOut: number
  /** The last evaluation of the held-out pairs. */
  evaluation: EvaluationRow | null
  /** The checkpoint of exactly this step, when there is one. */
  checkpoint: string | null
  pairs: PairCounts
  /** The file with the pairs that could not be used, when there are any. */
  failures: string | null
  /** What speaks against a complete run: its gradient was 0, or its loss diverged (docs/training.md). */
  problem: string | null
  warnings: string[]
  model: ModelInfo
  machine: Machine
  /** Wall time of this call's steps. */
  seconds: number
  /** Layers were recomputed in backward (`checkpointing`). */
  checkpointing: boolean
  /** Copies of the weights in the form of matrix products (`packWeights`), in bytes: `packed` of the plan. */
  packedBytes: number
  /** Highest resident memory of this process so far, in bytes. */
  peakHostBytes: number
  /** The last step's metrics; `null` when this call had nothing left to do. */
  last: MetricsRow | null
}

/**
 * Trains a LoRA adapter on preference pairs. The run can be killed at any moment and resumed bit-exactly on the same
 * device from its newest checkpoint.
 *
 * @throws {CheckpointError} when the output folder holds another run.
 * @throws {LockedError} when another run writes to the output folder.
 * @throws {DataError} at the first record that breaks the format, before any compute is spent, or when no pair can be used. One
 *   whose images or length make it impossible to use is left out: see `failures` of the report.
 * @throws {NumericError} when a loss, a gradient or the adapter stops being finite; checkpoints are left as they were.
 */
export async function train(config: TrainConfig, options: TrainOptions = {}): Promise<TrainReport> {
  checkOptions('train', options, trainKeys)
  checkTree(trainSettings, config, () => undefined)
  const mode = { resume: options.resume ?? false, overwrite: options.overwrite ?? false }
  checkTrainConfig(config)
  await using _lock = await lockOutput(config.output, 'folder')
  const folder = await openRunFolder(config, mode)
  using patience = new Patience(options)
  const prepared = await prepare(config, { ...options, signal: patience.signal })
  try {
    const { failures } = prepared
    if (folder.checkpoint)
      assertSamePairs(
        folder.checkpoint,
        failures.map(({ id }) => id),
      )
    if (mode.resume && folder.replaced.length > 0) {
      options.onLog?.(`no checkpoint to resume from: starting again, in place of ${folder.replaced.join(', ')}`)
    }
    await clearEarlierRun(config, folder)
    await writeIdentity(config, folder)
    if (failures.length > 0) await writeJsonl(join(config.output, runFiles.failed), failures)
    return await new Run(config, options, folder, prepared, patience.signal).finish()
  } finally {
    await prepared.engine.close()
  }
}

const imagesOf = (examples: readonly Example[]): Example['images'] => examples.flatMap(({ images }) => images)

/** How long a stop waits for the step under way; then the step is given up, and done again by whoever resumes. */
const stopPatienceMs = 2000

/** A signal that ends native calls: the caller's own, or a stop that has waited long enough. */
class Patience {
  readonly signal: AbortSignal
  readonly #stop: AbortSignal | undefined
  readonly #over = new AbortController()
  #timer: NodeJS.Timeout | undefined

  constructor({ signal, stop }: TrainOptions) {
    this.#stop = stop
    this.signal = signal ? AbortSignal.any([signal, this.#over.signal]) : this.#over.signal
    if (stop?.aborted) this.#wait()
    else stop?.addEventListener('abort', this.#wait)
  }

  readonly #wait = (): void => {
    this.#timer = setTimeout(
      () => this.#over.abort(new AbortedError('The step under way was given up')),
      stopPatienceMs,
    )
  };

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    this.#stop?.removeEventListener('abort', this.#wait)
  }
}

class Run {
  readonly #config: TrainConfig
  readonly #options: TrainOptions
  readonly #folder: RunFolder
  readonly #prepared: Prepared
  readonly #images: ImageCache
  /** Ends native calls. */
  readonly #signal: AbortSignal
  /** Of the held-out pairs, where there are any. */
  readonly #evaluation: Evaluation | undefined
  #tracking: Tracking = nothingTracked
  #step = 0
  #numTokens = 0
  #last: MetricsRow | null = null
  #checkpoint: string | null = null

  constructor(config: TrainConfig, options: TrainOptions, folder: RunFolder, prepared: Prepared, signal: AbortSignal) {
    this.#signal = signal
    this.#config = config
    this.#options = options
    this.#folder = folder
    this.#prepared = prepared
    this.#images = new ImageCache(prepared.engine, config.imageCache)
    const { heldOut } = prepared
    if (heldOut) this.#evaluation = new Evaluation(config, prepared, heldOut, this.#images, signal)
  }

  /** Why training ends before its last step; `null` when it does not. */
  get #stopped(): string | null {
    return reasonToStop(this.#tracking, this.#config)
  }

  get #hasLastStep(): boolean {
    return this.#step >= this.#prepared.totalSteps || this.#stopped !== null
  }

  /** After every `evalEvery` steps and after the last one. A stop may have come between a step and its evaluation. */
  get #owesEvaluation(): boolean {
    if (!this.#evaluation || this.#step === 0 || this.#tracking.last?.step === this.#step) return false
    return this.#hasLastStep || (this.#config.evalEvery > 0 && this.#step % this.#config.evalEvery === 0)
  }

  get #isComplete(): boolean {
    return this.#hasLastStep && !this.#owesEvaluation
  }

  async finish(): Promise<TrainReport> {
    await using _images = this.#images
    const log = await this.#restore()
    try {
      return await this.#work(log)
    } catch (error) {
      // The error is what the caller must learn, not that the page could not be written.
      const state = isAbort(error, this.#signal) ? 'stopped' : 'failed'
      await log.show({ state, problem: state === 'failed' ? reasonOf(error) : null }).catch(() => {})
      throw error
    } finally {
      await log.close()
    }
  }

  /** The steps that are left, and what the run came to. */
  async #work(log: RunLog): Promise<TrainReport> {
    const { engine, loaded, failures, totalSteps } = this.#prepared
    const resumedFrom = this.#step
    const merged = await readMergedFrom(this.#config.model)
    this.#options.onStart?.({ step: resumedFrom, totalSteps })
    const started = performance.now()
    while (!this.#isComplete && !this.#options.stop?.aborted) {
      await this.#next(log).catch((error) => this.#giveUpStep(error))
    }
    await log.sync()
    // Before the first step there is no state to save: going on is starting anew.
    if (!this.#isComplete && this.#step > 0 && this.#checkpoint === null) await this.#save(log)
    const complete = this.#isComplete
    const { output, objective, lora } = this.#config
    const metricsPath = join(output, runFiles.metrics)
    const { problem, concernsBest, warnings } = complete
      ? await readVerdict(metricsPath, objective.name, startsAtReference(lora))
      : { problem: null, concernsBest: false, warnings: [] }
    for (const warning of warnings) this.#options.onLog?.(`warning: ${warning}`)
    const adapter = complete ? await this.#saveAdapter(problem) : null
    const report: TrainReport = {
      version,
      step: this.#step,
      totalSteps,
      resumedFrom,
      interrupted: !complete,
      stoppedEarly: this.#step < totalSteps ? this.#stopped : null,
      output,
      init: lora.init,
      initMark: this.#folder.made.initMark,
      mergedSha256: merged?.adapterSha256 ?? null,
      reference: lora.init === null ? 'base' : lora.reference,
      adapter,
      adapterSha256: adapter && (await hashModel(adapter)),
      best: await this.#best(concernsBest ? problem : null),
      heldOut: this.#prepared.heldOut?.examples.length ?? 0,
      evaluation: this.#tracking.last,
      checkpoint: this.#checkpoint,
      pairs: loaded.counts,
      failures: failures.length > 0 ? join(output, runFiles.failed) : null,
      problem,
      warnings: [...loaded.warnings, ...warnings],
      model: engine.info,
      machine: describeMachine(),
      seconds: (performance.now() - started) / 1000,
      checkpointing: this.#prepared.checkpointing,
      packedBytes: this.#prepared.packedBytes,
      peakHostBytes: peakHostBytes(),
      last: this.#last,
    }
    if (complete) await writeJson(join(output, runFiles.report), report)
    const { stoppedEarly } = report
    await log.show({ state: complete ? 'complete' : 'stopped', problem, stoppedEarly, warnings: report.warnings })
    return report
  }

  /** Opens metrics.jsonl, cut back to the checkpoint when there is one, and puts engine and counters to its state. */
  async #restore(): Promise<RunLog> {
    const { checkpoint } = this.#folder
    if (checkpoint) {
      await this.#prepared.engine.loadState(join(checkpoint.path, 'state'))
      this.#step = checkpoint.state.step
      this.#numTokens = checkpoint.state.numTokens
      this.#tracking = checkpoint.state.tracking
      this.#checkpoint = checkpoint.path
      this.#options.onLog?.(`resuming after step ${this.#step} from ${checkpoint.path}`)
    }
    const { engine, totalSteps } = this.#prepared
    const { again } = this.#options
    const { warnings } = this.#prepared.loaded
    const about = { config: this.#config, model: engine.info, totalSteps, again, warnings }
    return RunLog.open(about, checkpoint?.state.metricsBytes ?? 0)
  }

  /** One optimizer step or one evaluation, and the checkpoint behind it. */
  async #next(log: RunLog): Promise<void> {
    if (this.#evaluation && this.#owesEvaluation) await this.#evaluate(this.#evaluation, log)
    else await this.#train(log)
    const { every } = this.#config.checkpoint
    const isDue = every > 0 && (this.#step % every === 0 || this.#hasLastStep)
    if (isDue && !this.#owesEvaluation) await this.#save(log)
  }

  async #evaluate(evaluation: Evaluation, log: RunLog): Promise<void> {
    const row = await evaluation.measure({ step: this.#step, epoch: this.#step / this.#prepared.order.stepsPerEpoch })
    requireValues(this.#tracking, row, this.#config)
    const answers = this.#config.evalSamples > 0 ? await evaluation.answer(this.#step) : undefined
    const tracking = track(this.#tracking, row, this.#config)
    const isBest = tracking.best?.step === this.#step
    if (isBest) await this.#saveBest(tracking.best, row)
    await log.append(row)
    this.#tracking = tracking
    this.#checkpoint = null
    this.#options.onEvaluation?.(row)
    const say = this.#options.onLog ?? (() => {})
    say(`${describeEvaluation(row)}${isBest ? ', the best so far' : ''}${answers ? `; answers: ${answers}` : ''}`)
    if (this.#stopped !== null) say(`training ends after step ${this.#step}: ${this.#stopped}`)
  }

  async #train(log: RunLog): Promise<void> {
    const { objective, order, totalSteps } = this.#prepared
    const { optimizer, schedule } = this.#config
    const started = performance.now()
    const waited = this.#images.secondsWaited
    const batch = order.of(this.#step)
    const lr = optimizer.lr * learningRateFactor(schedule, this.#step, totalSteps)
    const [stats, { gradNorm }] = await this.#optimize(batch, lr)

    this.#step += 1
    this.#checkpoint = null
    this.#numTokens += stats.tokens
    const row = metricsRow(stats, objective, {
      step: this.#step,
      epoch: this.#step / order.stepsPerEpoch,
      lr,
      gradNorm,
      numTokens: this.#numTokens,
      seconds: (performance.now() - started) / 1000,
      secondsWaited: this.#images.secondsWaited - waited,
      peakHostBytes: peakHostBytes(),
    })
    await log.append(row)
    this.#last = row
    this.#options.onProgress?.({ step: this.#step, totalSteps, metrics: row })
  }

  /** A step that a stop did not wait for leaves no trace, so that the state to save is that of the step before. */
  async #giveUpStep(error: unknown): Promise<void> {
    if (this.#options.signal?.aborted || !isAbort(error, this.#signal)) throw error
    await this.#prepared.engine.zeroGrad()
  }

  /** One optimizer step. The engine refuses a loss or gradient that is not finite; this adds where it happened. */
  async #optimize(batch: Example[], lr: number): Promise<[Computed, UpdateStats]> {
    try {
      return [await this.#accumulate(batch), await this.#prepared.engine.update({ ...this.#config.optimizer, lr })]
    } catch (error) {
      if (!(error instanceof NumericError)) throw error
      const step = this.#step + 1
      const pairs = batch.map((example) => example.input.id)
      // A bad loss names its own pairs; a bad gradient is of the whole step.
      const where = error.detail.records ? '' : ` (pairs of the step: ${pairs.join(', ')})`
      throw new NumericError(`Step ${step}: ${error.message}${where}`, {
        detail: { ...error.detail, step, pairs },
        hint: 'Checkpoints are untouched. Check these records and the weights, lower optimizer.lr, or use dtype: f32.',
        cause: error,
      })
    }
  }

  /** All micro-batches; the pairs come back in the order of the step, so that their means do not depend on how it was cut. */
  async #accumulate(batch: Example[]): Promise<Computed> {
    const { engine, objective, order, totalSteps } = this.#prepared
    const call = { signal: this.#signal }
    const chosenTokens = averagedTokens(
      batch.map((example) => example.input),
      objective,
    )
    const step: StepOptions = { normalizer: batch.length, layout: 'packed', chosenTokens }
    // The host makes their images ready meanwhile.
    const following = this.#step + 1 < totalSteps ? order.of(this.#step + 1) : []
    const whole: Computed = { pairs: [], tokens: 0 }
    const parts = microBatches(batch, this.#config.microBatchSize)
    for (const [index, part] of parts.entries()) {
      const features = await this.#images.hold(imagesOf(part), call)
      this.#images.prepare(imagesOf([...parts.slice(index + 1).flat(), ...following]))
      if (this.#step === 0 && whole.tokens === 0 && this.#config.selfCheck) {
        checkPlaceholders(engine, part, features)
        if (isExact(this.#config, engine)) await checkReference(engine, part, objective, call)
      }
      const inputs = part.map((example) => example.input)
      const { pairs, tokens } = await engine.accumulate(inputs, objective, step, call)
      for (const [index, example] of part.entries()) whole.pairs[batch.indexOf(example)] = pairs[index]
      whole.tokens += tokens
    }
    return whole
  }

  async #save(log: RunLog): Promise<void> {
    await log.sync()
    const state: TrainerState = {
      format: 1,
      version,
      step: this.#step,
      totalSteps: this.#prepared.totalSteps,
      metricsBytes: log.bytes,
      numTokens: this.#numTokens,
      ...this.#folder.made,
      leftOut: this.#prepared.failures.map(({ id }) => id),
      tracking: this.#tracking,
      config: fingerprint(this.#config),
    }
    const { output, model, checkpoint } = this.#config
    this.#checkpoint = await saveCheckpoint(output, this.#prepared.engine, state, {
      keep: checkpoint.keep,
      baseModel: model,
    })
  }

  /** A run that is killed before its next checkpoint evaluates the same adapter again, and writes the same folder. */
  async #saveBest(found: Found | null, row: EvaluationRow): Promise<void> {
    await writeFolderAtomic(join(this.#config.output, runFiles.best), async (temporary) => {
      await this.#prepared.engine.saveAdapter(temporary, this.#config.model)
      await writeJson(join(temporary, 'evaluation.json'), { metric: this.#config.checkpoint.best, ...found, row })
    })
  }

  /** Marked with the problem where it concerns the best adapter too. */
  async #best(problem: string | null): Promise<TrainReport['best']> {
    const { best: metric } = this.#config.checkpoint
    const { best } = this.#tracking
    if (!metric || !best) return null
    const path = join(this.#config.output, runFiles.best)
    // A folder that somebody deleted meanwhile must not cost the run its report.
    if (!existsSync(path)) return { path, metric, ...best }
    if (problem !== null) await writeJson(join(path, problemFile), { problem })
    return { path, sha256: await hashModel(path), metric, ...best }
  }

  /** An adapter that is not to be used says so in its folder. */
  async #saveAdapter(problem: string | null): Promise<string> {
    const path = join(this.#config.output, runFiles.adapter)
    await writeFolderAtomic(path, async (temporary) => {
      await this.#prepared.engine.saveAdapter(temporary, this.#config.model)
      if (problem) await writeJson(join(temporary, problemFile), { problem })
    })
    return path
  }
}
