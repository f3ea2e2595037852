/** What a policy makes of the held-out pairs: the numbers of an evaluation, and answers for people to read. */
import { join } from 'node:path'
import { writeFileAtomic } from '../data/files.js'
import type { Pair } from '../data/records.js'
import { averagedTokens, type ObjectiveSpec, type PairStats, type StepOptions } from '../engine/engine.js'
import type { ImageCache } from '../engine/image-cache.js'
import { objectives, type Scope } from '../engine/objectives.js'
import type { Example } from './collate.js'
import type { HeldOut } from './held-out.js'
import { type EvaluationRow, evaluationRow } from './metrics.js'
import { evaluationBatches } from './micro-batches.js'
import { runFiles } from './run-folder.js'
import type { TrainConfig } from './settings.js'
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
): { batches: Example[][]; objective: ObjectiveSpec } {
  const examples = heldOut && readsKlApart(objective) ? heldOut.examples.map(withoutTwin) : []
  return { batches: evaluationBatches(examples, microBatchSize), objective: reading(objective.scope) }
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
  readonly #signal: AbortSignal

  constructor(config: TrainConfig, prepared: Prepared, heldOut: HeldOut, images: ImageCache, signal: AbortSignal) {
    this.#config = config
    this.#prepared = prepared
    this.#heldOut = heldOut
    this.#images = images
    this.#signal = signal
  }

  /** All held-out pairs. @param at the optimizer step, and epochs so far. */
  async measure(at: { step: number; epoch: number }): Promise<EvaluationRow> {
    const { objective } = this.#prepared
    const { examples } = this.#heldOut
    const started = performance.now()
    const inputs = examples.map(({ input }) => input)
    const step: StepOptions = {
      normalizer: examples.length,
      layout: 'packed',
      chosenTokens: averagedTokens(inputs, objective),
    }
    const lacksKl = readsKlApart(objective)
    const pairs: PairStats[] = []
    const kl: PairStats[] = []
    const parts = evaluationBatches(examples, this.#config.microBatchSize)
    for (const [index, part] of parts.entries()) {
      await this.#hold(part)
      this.#images.prepare((parts[index + 1] ?? []).flatMap(({ images }) => images))
      pairs.push(...(await this.#evaluate(part, objective, step)))
      if (lacksKl) kl.push(...(await this.#evaluate(part.map(withoutTwin), reading(objective.scope), step)))
    }
    return evaluationRow(pairs, kl, objective, { ...at, seconds: (performance.now() - started) / 1000 })
  }

  /** Answers `evalSamples` questions, spread over the held-out pairs, into a file. @returns its path. */
  async answer(step: number): Promise<string> {
    const { engine, chat } = this.#prepared
    const { examples, records } = this.#heldOut
    const count = Math.min(this.#config.evalSamples, examples.length)
    const asked = Array.from({ length: count }, (_, index) => examples[Math.floor((index * examples.length) / count)])
    await this.#hold(asked)
    const answers = await engine.generate(
      asked.map(({ input }) => ({ ids: input.prompt, images: input.images, seed: this.#config.seed })),
      { stopTokens: [...new Set([chat.endTokenId, ...engine.info.eosTokenIds])] },
      { signal: this.#signal },
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
      { signal: this.#signal },
    )
  }

  async #evaluate(part: Example[], objective: ObjectiveSpec, step: StepOptions): Promise<PairStats[]> {
    const inputs = part.map(({ input }) => input)
    return (await this.#prepared.engine.evaluate(inputs, objective, step, { signal: this.#signal })).pairs
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
