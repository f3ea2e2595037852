/** The training run: steps, metrics, checkpoints, and leaving well when told to. */
import { join } from 'node:path'
import { lockOutput } from '../data/lock.js'
import { ImageCache } from '../engine/image-cache.js'
import { isAbort, RankError, reasonOf } from '../errors.js'
import { checkOptions } from '../options.js'
import { alone, type Ranks } from '../ranks/ranks.js'
import { checkTree } from '../settings/file.js'
import { counted } from '../text/plural.js'
import { assertSamePairs } from './checkpoint.js'
import { checkTrainConfig } from './config.js'
import { describeEvaluation, Evaluation } from './evaluation.js'
import { peakHostBytes } from './machine.js'
import { type EvaluationRow, type MetricsRow, metricsRow } from './metrics.js'
import { Patience } from './patience.js'
import { prepare } from './prepare.js'
import { agreeOnRunFolder, type RunFolder } from './run-folder.js'
import { nothingWritten, type RunOutput, WrittenRun } from './run-output.js'
import { learningRateFactor } from './schedule.js'
import { type TrainConfig, trainSettings } from './settings.js'
import { Steps } from './step.js'
import { endTogether, tie } from './together.js'
import { nothingTracked, reasonToStop, requireValues, type Tracking, track } from './tracking.js'
import type { TrainReport } from './train-report.js'
import type { Prepared, PrepareOptions } from './types.js'

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
   * and the report says `interrupted`. Before the first step it rejects with an `AbortedError`. A stop of one rank is one of all.
   */
  stop?: AbortSignal
  /**
   * The processes that train together, each with a call of its own and the same configuration; default: this one alone. Rank 0 writes,
   * and it alone calls back (`onLog`, `onStart`, …); all of them resolve with its report.
   */
  ranks?: Ranks
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
  ranks: true,
  onLog: true,
  native: true,
  onStart: true,
  onProgress: true,
  onEvaluation: true,
  resume: true,
  overwrite: true,
  again: true,
}

/**
 * Trains a LoRA adapter on preference pairs. The run can be killed at any moment and resumed bit-exactly from its newest checkpoint, on
 * the same device with the same number of ranks; another number adds the same gradients up in another order.
 *
 * @throws {CheckpointError} when the output folder holds another run.
 * @throws {LockedError} when another run writes to the output folder.
 * @throws {DataError} at the first record that breaks the format, before any compute is spent, or when no pair can be used. One
 *   whose images or length make it impossible to use is left out: see `failures` of the report.
 * @throws {NumericError} when a loss, a gradient or the adapter stops being finite; checkpoints are left as they were.
 * @throws {RankError} when the ranks were not started alike, or another one failed: what happened to it is the message.
 */
export async function train(config: TrainConfig, options: TrainOptions = {}): Promise<TrainReport> {
  checkOptions('train', options, trainKeys)
  checkTree(trainSettings, config, () => undefined)
  const { ranks = alone } = options
  using patience = new Patience(options, ranks)
  try {
    checkTrainConfig(config)
    await using _lock = ranks.rank === 0 ? await lockOutput(config.output, 'folder') : undefined
    return await trainLocked(config, ranks.rank === 0 ? options : quietly(options), ranks, patience)
  } catch (error) {
    throw await endTogether(ranks, error)
  }
}

const quietly = ({ native, resume, overwrite }: TrainOptions): TrainOptions => ({ native, resume, overwrite })

/** @param options of what only rank 0 does, what this rank does of it. */
async function trainLocked(
  config: TrainConfig,
  options: TrainOptions,
  ranks: Ranks,
  patience: Patience,
): Promise<TrainReport> {
  const { resume = false, overwrite = false, native, onLog, again } = options
  const folder = await agreeOnRunFolder(config, { resume, overwrite }, ranks)
  const prepared = await prepare(config, { native, onLog, signal: patience.signal }, ranks)
  using _tie = tie(ranks, prepared.engine)
  try {
    if (folder.checkpoint) {
      assertSamePairs(
        folder.checkpoint,
        prepared.failures.map(({ id }) => id),
      )
    }
    if (resume && folder.replaced.length > 0) {
      onLog?.(`no checkpoint to resume from: starting again, in place of ${folder.replaced.join(', ')}`)
    }
    const parts = { config, folder, prepared, ranks: ranks.size, again, onLog }
    const output = ranks.rank === 0 ? await WrittenRun.begin(parts) : nothingWritten
    return await new Run(config, options, { folder, prepared, output, ranks, patience }).finish()
  } catch (error) {
    // Sums that this rank has begun and will not end.
    prepared.engine.abortGroup(reasonOf(error))
    throw error
  } finally {
    await prepared.engine.close()
  }
}

/** What a run is made of. */
interface RunParts {
  folder: RunFolder
  prepared: Prepared
  output: RunOutput
  ranks: Ranks
  patience: Patience
}

class Run {
  readonly #config: TrainConfig
  readonly #options: TrainOptions
  readonly #folder: RunFolder
  readonly #prepared: Prepared
  readonly #output: RunOutput
  readonly #ranks: Ranks
  readonly #patience: Patience
  readonly #images: ImageCache
  readonly #steps: Steps
  /** Of the held-out pairs, where there are any. */
  readonly #evaluation: Evaluation | undefined
  #tracking: Tracking = nothingTracked
  #step = 0
  #numTokens = 0
  #last: MetricsRow | null = null
  #checkpoint: string | null = null
  /** All ranks stop here, because one of them was asked to. */
  #isStopping = false

  constructor(config: TrainConfig, options: TrainOptions, { folder, prepared, output, ranks, patience }: RunParts) {
    this.#config = config
    this.#options = options
    this.#folder = folder
    this.#prepared = prepared
    this.#output = output
    this.#ranks = ranks
    this.#patience = patience
    this.#images = new ImageCache(prepared.engine, config.imageCache)
    this.#steps = new Steps(config, prepared, this.#images, ranks, patience)
    const { heldOut } = prepared
    if (heldOut) this.#evaluation = new Evaluation(config, prepared, heldOut, this.#images, { ranks, patience })
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
    try {
      await this.#restore()
      return await this.#work()
    } catch (error) {
      // The error is what the caller must learn, not that the page could not be written.
      const ended = await endTogether(this.#ranks, error)
      const isStop = isAbort(ended, this.#patience.signal) && !(ended instanceof RankError)
      const state = isStop ? 'stopped' : 'failed'
      await this.#output.show({ state, problem: state === 'failed' ? reasonOf(ended) : null }).catch(() => {})
      throw ended
    } finally {
      await this.#output.close()
    }
  }

  /** The steps that are left, and what the run came to. */
  async #work(): Promise<TrainReport> {
    const resumedFrom = this.#step
    this.#options.onStart?.({ step: resumedFrom, totalSteps: this.#prepared.totalSteps })
    const started = performance.now()
    while (!this.#isComplete && !this.#isStopping) await this.#next()
    await this.#output.sync()
    // Before the first step there is no state to save: going on is starting anew.
    if (!this.#isComplete && this.#step > 0 && this.#checkpoint === null) await this.#save()
    const own = await this.#output.finish({
      step: this.#step,
      resumedFrom,
      complete: this.#isComplete,
      stopped: this.#stopped,
      tracking: this.#tracking,
      checkpoint: this.#checkpoint,
      last: this.#last,
      seconds: (performance.now() - started) / 1000,
    })
    const [report] = await this.#ranks.gather('report', own)
    return report as TrainReport
  }

  /** Puts engine and counters to the state of the checkpoint, when there is one. */
  async #restore(): Promise<void> {
    const { checkpoint } = this.#folder
    if (!checkpoint) return
    const { path, state } = checkpoint
    await this.#prepared.engine.loadState(join(path, 'state'))
    this.#step = state.step
    this.#numTokens = state.numTokens
    this.#tracking = state.tracking
    this.#checkpoint = path
    const { size } = this.#ranks
    const others =
      state.ranks === size
        ? ''
        : `; its steps were taken by ${counted(state.ranks, 'rank')}, the rest by ${size}: it equals theirs up to rounding, not bit for bit`
    this.#options.onLog?.(`resuming after step ${this.#step} from ${path}${others}`)
  }

  /** One optimizer step or one evaluation, and the checkpoint behind it. */
  async #next(): Promise<void> {
    const isDone =
      this.#evaluation && this.#owesEvaluation ? await this.#evaluate(this.#evaluation) : await this.#train()
    if (!isDone) {
      this.#isStopping = true
      return
    }
    const { every } = this.#config.checkpoint
    const isDue = every > 0 && (this.#step % every === 0 || this.#hasLastStep)
    if (isDue && !this.#owesEvaluation) await this.#save()
  }

  /** False when it was given up. */
  async #evaluate(evaluation: Evaluation): Promise<boolean> {
    const row = await evaluation.measure({ step: this.#step, epoch: this.#step / this.#prepared.order.stepsPerEpoch })
    if (!row) return false
    requireValues(this.#tracking, row, this.#config)
    const answers = await evaluation.answer(this.#step)
    if (answers === null) return false
    const tracking = track(this.#tracking, row, this.#config)
    const isBest = tracking.best?.step === this.#step
    if (isBest) await this.#output.saveBest(tracking.best, row)
    await this.#output.append(row)
    this.#tracking = tracking
    this.#checkpoint = null
    this.#options.onEvaluation?.(row)
    const say = this.#options.onLog ?? (() => {})
    say(`${describeEvaluation(row)}${isBest ? ', the best so far' : ''}${answers ? `; answers: ${answers}` : ''}`)
    if (this.#stopped !== null) say(`training ends after step ${this.#step}: ${this.#stopped}`)
    return true
  }

  /** False when it was given up. */
  async #train(): Promise<boolean> {
    const { objective, order, totalSteps } = this.#prepared
    const { optimizer, schedule } = this.#config
    const lr = optimizer.lr * learningRateFactor(schedule, this.#step, totalSteps)
    const taken = await this.#steps.take(this.#step, lr)
    if (!taken) return false

    this.#step += 1
    this.#checkpoint = null
    this.#numTokens += taken.tokens
    this.#isStopping = taken.isLast
    const row = metricsRow(taken, objective, {
      step: this.#step,
      epoch: this.#step / order.stepsPerEpoch,
      lr,
      gradNorm: taken.gradNorm,
      numTokens: this.#numTokens,
      seconds: taken.seconds,
      secondsWaited: taken.secondsWaited,
      peakHostBytes: peakHostBytes(),
    })
    await this.#output.append(row, taken.byRank)
    this.#last = row
    this.#options.onProgress?.({ step: this.#step, totalSteps, metrics: row })
    return true
  }

  async #save(): Promise<void> {
    this.#checkpoint = await this.#output.save({
      step: this.#step,
      numTokens: this.#numTokens,
      tracking: this.#tracking,
    })
  }
}
