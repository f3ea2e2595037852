/** One optimizer step. The ranks take it together or not at all. */
import { hostname } from 'node:os'
import { averagedTokens, type PairStats, type StepOptions, type UpdateStats } from '../engine/engine.js'
import type { ImageCache } from '../engine/image-cache.js'
import { NumericError, RankError } from '../errors.js'
import type { Ranks } from '../ranks/ranks.js'
import type { Example } from './collate.js'
import { peakHostBytes } from './machine.js'
import type { Computed, RankRow } from './metrics.js'
import { microBatches } from './micro-batches.js'
import type { Patience } from './patience.js'
import { checkPlaceholders, checkReference, isExact } from './self-check.js'
import type { TrainConfig } from './settings.js'
import { gatherPairs, shares } from './share.js'
import { heardOf } from './together.js'
import type { Prepared } from './types.js'

/** A step that was taken. */
export interface TakenStep extends Computed {
  /** Of the sum over all ranks. */
  gradNorm: number
  seconds: number
  /** Of these, what the rank that waited longest for images waited. */
  secondsWaited: number
  /** In order of ranks. */
  byRank: RankRow[]
  /** Some rank was asked to stop. */
  isLast: boolean
}

/** What a rank says of a step when its update is done. */
interface Said {
  gradNorm: number
  isStopping: boolean
  row: RankRow
}

const imagesOf = (examples: readonly Example[]): Example['images'] => examples.flatMap(({ images }) => images)

/** The optimizer steps of a run, as one of its ranks takes them. */
export class Steps {
  readonly #config: TrainConfig
  readonly #prepared: Prepared
  readonly #images: ImageCache
  readonly #ranks: Ranks
  readonly #patience: Patience

  constructor(config: TrainConfig, prepared: Prepared, images: ImageCache, ranks: Ranks, patience: Patience) {
    this.#config = config
    this.#prepared = prepared
    this.#images = images
    this.#ranks = ranks
    this.#patience = patience
  }

  /**
   * A rank that gives a step up says so where the others say what they computed. Their sums cannot have ended then, since the sum of
   * its last gradients has not begun; they are ended, and every rank has the state of the step before.
   *
   * @param index of the step, from 0. @param lr of AdamW. @returns `null` for a step that was given up.
   * @throws {NumericError} when a loss or the gradient is not finite; {RankError} when ranks have come to other parameters.
   */
  async take(index: number, lr: number): Promise<TakenStep | null> {
    const { engine, order } = this.#prepared
    const started = performance.now()
    const waited = this.#images.secondsWaited
    const batch = order.of(index)
    const split = shares(batch, this.#ranks.size)
    const own = await this.#patience.orGiveUp(() => this.#accumulate(index, batch, split[this.#ranks.rank]))
    const updating = own && this.#located(index, batch, () => engine.update({ ...this.#config.optimizer, lr }))
    updating?.catch(() => {})
    const gathered = await gatherPairs(this.#ranks, `step ${index + 1}`, batch, split, own)
    if (!gathered) return this.#giveUp(index, updating)
    const { gradNorm, secondsWaited } = (await updating) as UpdateStats
    const seconds = (performance.now() - started) / 1000
    const dataTime = this.#images.secondsWaited - waited
    const said = await this.#ranks.gather<Said>(`update of step ${index + 1}`, {
      gradNorm,
      isStopping: this.#patience.isStopping,
      row: {
        step: index + 1,
        rank: this.#ranks.rank,
        host: hostname(),
        pairs: split[this.#ranks.rank].length,
        rows: own?.tokens ?? 0,
        seconds,
        engine_time: seconds - dataTime - secondsWaited,
        data_time: dataTime,
        ranks_time: secondsWaited,
        peak_host_bytes: peakHostBytes(),
      },
    })
    requireOneGradient(index, said)
    return {
      ...gathered,
      gradNorm,
      seconds: (performance.now() - started) / 1000,
      secondsWaited: Math.max(...said.map(({ row }) => row.data_time)),
      byRank: said.map(({ row }) => row),
      isLast: said.some(({ isStopping }) => isStopping),
    }
  }

  async #giveUp(index: number, updating: Promise<UpdateStats> | null): Promise<null> {
    const { engine } = this.#prepared
    engine.abortGroup(`step ${index + 1} was given up`)
    const updated = await updating?.catch((error: unknown) => {
      if (!(error instanceof RankError)) throw error
    })
    if (updated) throw drifted(index, 'took it, and another one gave it up', { rank: this.#ranks.rank })
    await engine.zeroGrad()
    return null
  }

  /** The micro-batches of a share. The normalizer and what is averaged are of the whole step, so that the sums over the ranks are its own. */
  async #accumulate(index: number, batch: Example[], share: Example[]): Promise<Computed> {
    const { objective, order, totalSteps } = this.#prepared
    const chosenTokens = averagedTokens(
      batch.map((example) => example.input),
      objective,
    )
    const whole: Computed = { pairs: [], tokens: 0 }
    if (share.length === 0) return whole
    // The host makes their images ready meanwhile.
    const following = index + 1 < totalSteps ? shares(order.of(index + 1), this.#ranks.size)[this.#ranks.rank] : []
    const parts = microBatches(share, this.#config.microBatchSize)
    for (const [place, part] of parts.entries()) {
      const features = await this.#images.hold(imagesOf(part), { signal: this.#patience.signal })
      this.#images.prepare(imagesOf([...parts.slice(place + 1).flat(), ...following]))
      if (index === 0 && place === 0 && this.#config.selfCheck) await this.#check(part, features)
      const last = place === parts.length - 1
      const step: StepOptions = { normalizer: batch.length, layout: 'packed', chosenTokens, last }
      const { pairs, tokens } = await this.#located(index, batch, () => this.#compute(part, step))
      for (const [at, example] of part.entries()) whole.pairs[share.indexOf(example)] = pairs[at]
      whole.tokens += tokens
    }
    return whole
  }

  #compute(part: Example[], step: StepOptions): Promise<{ pairs: PairStats[]; tokens: number }> {
    const { engine, objective } = this.#prepared
    const inputs = part.map((example) => example.input)
    return engine.accumulate(inputs, objective, step, { signal: this.#patience.signal })
  }

  async #check(part: Example[], features: Awaited<ReturnType<ImageCache['hold']>>): Promise<void> {
    const { engine, objective } = this.#prepared
    checkPlaceholders(engine, part, features)
    if (isExact(this.#config, engine)) {
      await checkReference(engine, part, objective, { signal: this.#patience.signal })
    }
  }

  /** The engine refuses a loss or gradient that is not finite; this adds where it happened. */
  async #located<T>(index: number, batch: readonly Example[], work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      // Gradients that do not arrive are mostly those of a rank that ended, which the ranks hear a moment later.
      if (error instanceof RankError) await heardOf(this.#ranks)
      if (!(error instanceof NumericError)) throw error
      const step = index + 1
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
}

/** Ranks that add up the same numbers have the same norm, bit for bit; another one means that their adapters are no longer one. */
function requireOneGradient(index: number, said: readonly Said[]): void {
  const rank = said.findIndex(({ gradNorm }) => gradNorm !== said[0].gradNorm)
  if (rank < 0) return
  throw drifted(index, `has gradient norm ${said[rank].gradNorm}, rank 0 has ${said[0].gradNorm}`, {
    rank,
    onAllRanks: true,
  })
}

/** @param found which rank it is; `onAllRanks` where every rank finds it out. */
function drifted(index: number, how: string, found: { rank: number; onAllRanks?: true }): RankError {
  return new RankError(`Step ${index + 1}: the ranks drifted apart: rank ${found.rank} ${how}`, {
    detail: { step: index + 1, ...found },
    hint: 'Go on from the last checkpoint with --resume; if it comes again, look at the memory and the network of that rank.',
  })
}
