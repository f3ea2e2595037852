/** What a policy makes of the held-out pairs: the numbers of an evaluation, and answers for people to read. */
import { join } from 'node:path'
import { writeFileAtomic } from '../data/files.js'
import type { Pair } from '../data/records.js'
import { averagedTokens, type ObjectiveSpec, type PairStats, type StepOptions } from '../engine/engine.js'
import type { ImageCache } from '../engine/image-cache.js'
import { objectives, type Scope } from '../engine/objectives.js'
import type { Ranks, World } from '../ranks/ranks.js'
import type { Example } from './collate.js'
import type { HeldOut } from './held-out.js'
import { type Computed, type EvaluationRow, evaluationRow } from './metrics.js'
import { evaluationBatches, evaluationOrder } from './micro-batches.js'
import type { Patience } from './patience.js'
import { runFiles } from './run-folder.js'
import type { TrainConfig } from './settings.js'
import { gatherPairs, shares } from './share.js'
import type { Prepared } from './types.js'

/** Reads every reward and both KLs of the scored tokens, whatever is trained with. Its loss is nobody's. */
export const reading = (scope: Scope | undefined): ObjectiveSpec => ({ name: 'fire', scope })

function readsKlApart({ name }: ObjectiveSpec): boolean {
  const { prefers, forwardKl, innerKl } = objectives[name]
  return forwardKl === null && !innerKl && prefers !== null
}

/** What an evaluation computes beside the losses of the objective, for memory plans. */
export function readings(
  { heldOut, objective }: Pick<Prepared, 'heldOut' | 'objective'>,
  { microBatchSize }: TrainConfig,
  { rank, size }: Pick<World, 'rank' | 'size'>,
): { batches: Example[][]; objective: ObjectiveSpec } {
  const examples = heldOut && readsKlApart(objective) ? evaluationOrder(heldOut.examples, microBatchSize) : []
  const share = shares(examples, size)[rank].map(withoutTwin)
  return { batches: evaluationBatches(share, microBatchSize), objective: reading(objective.scope) }
}

/**
 * Evaluates with the engine of a run, and changes nothing of its state: no gradient, no dropout, no random number.
 *
 * The reference cache keeps what the reference says of held-out pairs too, and drops nothing once it is full. Where an
 * evaluation comes before the end of the first epoch, held-out pairs may so take the room of pairs that are trained on. No
 * pass more is spent for it: there are then at least as many evaluations as epochs, so a byte saves as many passes or more.
 */
export class Evaluation {
  readonly #config: TrainConfig
  readonly #prepared: Prepared
  readonly #heldOut: HeldOut
  readonly #images: ImageCache
  readonly #ranks: Ranks
  readonly #patience: Patience

  constructor(
    config: TrainConfig,
    prepared: Prepared,
    heldOut: HeldOut,
    images: ImageCache,
    { ranks, patience }: { ranks: Ranks; patience: Patience },
  ) {
    this.#config = config
    this.#prepared = prepared
    this.#heldOut = heldOut
    this.#images = images
    this.#ranks = ranks
    this.#patience = patience
  }

  /**
   * All held-out pairs, each on one of the ranks: its numbers are the same on any.
   * @param at the optimizer step, and epochs so far. @returns `null` where a rank gave it up.
   */
  async measure(at: { step: number; epoch: number }): Promise<EvaluationRow | null> {
    const { objective } = this.#prepared
    const started = performance.now()
    // Sums over pairs are made in this order, however the ranks have shared them.
    const examples = evaluationOrder(this.#heldOut.examples, this.#config.microBatchSize)
    const split = shares(examples, this.#ranks.size)
    const own = await this.#patience.orGiveUp(() => this.#read(split[this.#ranks.rank]))
    const gather = (what: string, pairs: PairStats[] | undefined): Promise<Computed | null> =>
      gatherPairs(this.#ranks, `${what} after step ${at.step}`, examples, split, pairs ? { pairs, tokens: 0 } : null)
    const measured = await gather('evaluation', own?.pairs)
    const kl = this.#lacksKl ? await gather('divergences', own?.kl) : { pairs: [] }
    if (!measured || !kl) return null
    return evaluationRow(measured.pairs, kl.pairs, objective, { ...at, seconds: (performance.now() - started) / 1000 })
  }

  /** Objectives without a KL term are measured too, by another pass. */
  get #lacksKl(): boolean {
    return readsKlApart(this.#prepared.objective)
  }

  /** What the policy makes of the pairs of one rank, in their order. */
  async #read(share: Example[]): Promise<{ pairs: PairStats[]; kl: PairStats[] }> {
    const { objective } = this.#prepared
    const { examples } = this.#heldOut
    const inputs = examples.map(({ input }) => input)
    const step: StepOptions = {
      normalizer: examples.length,
      layout: 'packed',
      chosenTokens: averagedTokens(inputs, objective),
    }
    const read: { pairs: PairStats[]; kl: PairStats[] } = { pairs: [], kl: [] }
    const parts = evaluationBatches(share, this.#config.microBatchSize)
    for (const [index, part] of parts.entries()) {
      await this.#hold(part)
      this.#images.prepare((parts[index + 1] ?? []).flatMap(({ images }) => images))
      read.pairs.push(...(await this.#evaluate(part, objective, step)))
      if (this.#lacksKl) read.kl.push(...(await this.#evaluate(part.map(withoutTwin), reading(objective.scope), step)))
    }
    return read
  }

  /**
   * Answers `evalSamples` questions, spread over the held-out pairs, into a file, on rank 0.
   * @returns its path, empty where there are none to answer; `null` where it was given up.
   */
  async answer(step: number): Promise<string | null> {
    if (this.#config.evalSamples === 0) return ''
    const own = this.#ranks.rank === 0 ? await this.#patience.orGiveUp(() => this.#answer(step)) : ''
    const [path] = await this.#ranks.gather(`answers after step ${step}`, own)
    return path
  }

  async #answer(step: number): Promise<string> {
    const { engine, chat } = this.#prepared
    const { examples, records } = this.#heldOut
    const count = Math.min(this.#config.evalSamples, examples.length)
    const asked = Array.from({ length: count }, (_, index) => examples[Math.floor((index * examples.length) / count)])
    await this.#hold(asked)
    const answers = await engine.generate(
      asked.map(({ input }) => ({ ids: input.prompt, images: input.images, seed: this.#config.seed })),
      { stopTokens: [...new Set([chat.endTokenId, ...engine.info.eosTokenIds])] },
      { signal: this.#patience.signal },
    )
    const sections = asked.map(({ input }, index) => {
      const text = chat.tokenizer.decode(answers[index].tokens, { skipSpecial: true })
      return section(records.get(input.id) as Pair, answers[index].finish === 'stop' ? text : `${text} …`)
    })
    const path = join(this.#config.output, runFiles.samples, `step-${step}.md`)
    await writeFileAtomic(path, `# Answers after step ${step}\n\n${sections.join('\n')}`)
    return path
  }

  async #hold(part: readonly Example[]): Promise<void> {
    await this.#images.hold(
      part.flatMap(({ images }) => images),
      { signal: this.#patience.signal },
    )
  }

  async #evaluate(part: Example[], objective: ObjectiveSpec, step: StepOptions): Promise<PairStats[]> {
    const inputs = part.map(({ input }) => input)
    return (await this.#prepared.engine.evaluate(inputs, objective, step, { signal: this.#patience.signal })).pairs
  }
}

const withoutTwin = (example: Example): Example => ({ ...example, input: { ...example.input, corruptedImages: null } })

function section({ id, images, prompt, chosen, rejected }: Pair, answer: string): string {
  const shown = images.map(({ path }) => path).join(', ')
  const said = Object.entries({ Question: prompt, Answer: answer, Chosen: chosen, Rejected: rejected })
  const lines = said.map(([name, text]) => `- **${name}**: ${text.replaceAll('\n', '\n  ')}`)
  return [`## ${id}`, '', ...(shown === '' ? [] : [`- **Images**: ${shown}`]), ...lines, ''].join('\n')
}

/** An evaluation in a few words. */
export function describeEvaluation(row: EvaluationRow): string {
  const parts = [`loss ${row.eval_loss.toFixed(4)}`]
  if (row['eval_rewards/accuracies'] !== undefined) parts.push(`accuracy ${row['eval_rewards/accuracies'].toFixed(2)}`)
  if (row['eval_rewards/margins'] !== undefined) parts.push(`margin ${row['eval_rewards/margins'].toFixed(3)}`)
  if (row['eval_kl/forward'] !== undefined) parts.push(`KL ${row['eval_kl/forward'].toFixed(4)}`)
  return `held-out pairs after step ${row.step}: ${parts.join(', ')}`
}
