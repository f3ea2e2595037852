/** What a run did and on what, in words that follow from its files alone. */
import type { Pair } from '../data/records.js'
import type { ProbedQuestion } from '../evaluate/grounding.js'
import type { HiddenAnswers } from '../evaluate/hidden.js'
import type { MeanRatios } from '../evaluate/index.js'
import type { PairReport } from '../pairs/index.js'
import { counted } from '../text/plural.js'
import type { LogRow } from '../train/metrics.js'
import { describeTraining } from '../train/page/facts.js'
import { objectiveName } from '../train/page/objective.js'
import type { TrainConfig } from '../train/settings.js'
import type { TrainReport } from '../train/train-report.js'
import { version } from '../version.js'
import { askedWords } from './accuracy-section.js'
import type { EvaluatedRounds } from './rounds.js'
import { corruptionWords } from './words.js'

/** A training run that is complete. */
export interface Training {
  config: TrainConfig
  /** The same as it stands on disk. */
  yaml: string
  report: TrainReport
  metrics: LogRow[]
}

/** Without those that were held out of the same file. */
export function trainedPairs({ config, report }: Training): number {
  return report.pairs.kept - (config.data.evalShare === null ? 0 : report.heldOut)
}

export interface Evaluation extends EvaluatedRounds {
  probed: ProbedQuestion[]
  hidden: HiddenAnswers[]
}

interface Found {
  pairs: readonly Pair[]
  made: PairReport | null
  training: Training | null
  evaluation: Evaluation | null
  /** Names of the rounds of a pipeline that has some. The pairs and the training are those of the last. */
  rounds: readonly string[]
}

/** Below this, an interval is wider than most effects. */
const fewQuestions = 200

/** A few sentences for a reader who has not met the method. */
export function summarise({ pairs, made, training, evaluation, rounds }: Found): string[] {
  const sentences: string[] = []
  const [last, before] = [rounds.at(-1), rounds.at(-2)]
  if (before !== undefined) {
    sentences.push(
      `Training went through ${rounds.length} rounds. What this page says of answers, pairs and training is of the last, ${last}; the table of rounds has the others.`,
    )
  }
  if (made) {
    const { answers, byOrigin } = made.statistics
    sentences.push(
      `${before === undefined ? 'The model’s own' : `With the adapter of ${before} the model gave`} ${counted(answers, 'answer')}${before === undefined ? ' were judged' : ', which were judged'}: ${byOrigin.repaired} wrong and repaired, ${byOrigin.counterfactual} right and falsified, each by the smallest edit of words.`,
    )
    const twins = twinCounts(pairs)
    if (twins.length > 0) sentences.push(`Corrupted twins of their images: ${twins.join(', ')}.`)
  }
  if (training) {
    const name = objectiveName(training.config.objective.name)
    sentences.push(
      `${before === undefined ? 'An adapter was trained on' : `In ${last} the adapter was trained further, on`} ${counted(trainedPairs(training), 'pair')} with the objective ${name}.`,
    )
  }
  if (evaluation) {
    const images = new Set(evaluation.after.map(({ imageId }) => imageId)).size
    const count = evaluation.after.length
    sentences.push(
      `The model before and after training answers the same ${counted(count, 'held-out question')} about ${counted(images, 'image')}; its answers are ${askedWords(evaluation.results.asked)}.`,
    )
    const seenImages = evaluation.results.leakage?.seen
    if (seenImages) sentences.push(`Images that were trained on: those of ${counted(seenImages, 'question')}.`)
    if (count < fewQuestions) sentences.push('On so few questions only a large effect can be told from chance.')
  }
  return sentences
}

/** `1117 by noise on the lesion, σ 90`, the most frequent way first. */
function twinCounts(pairs: readonly Pair[]): string[] {
  const counts = new Map<string, number>()
  for (const { corrupted } of pairs) {
    if (corrupted) counts.set(corruptionWords(corrupted), (counts.get(corruptionWords(corrupted)) ?? 0) + 1)
  }
  return [...counts].sort((a, b) => b[1] - a[1]).map(([way, count]) => `${count} by ${way}`)
}

/** Label and value. */
export function describeRun({ pairs, made, training, evaluation, rounds }: Found): [string, string][] {
  const now = `${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC`
  const facts: [string, string][] = [
    ['Version', `fire-train ${version}, Node ${process.versions.node}`],
    ['Written', now],
  ]
  const ofRound = (label: string): string =>
    rounds.length > 1 && label === 'Seed' ? `Seed of ${rounds.at(-1)}` : label
  if (training) {
    const described = describeTraining(training.config, training.report)
    facts.push(...described.map(([label, value]): [string, string] => [ofRound(label), value]))
  }
  const unlike = training ? differences(pairs, training.config) : []
  if (unlike.length > 0) facts.push(['Unlike published', unlike.join(', ')])
  if (made)
    facts.push([
      'Pairs',
      `${made.mode}, by ${made.provider}${made.blindJudge ? `, checked by ${made.blindJudge}` : ''}`,
    ])
  if (evaluation) facts.push(['Judge', evaluation.results.judging.description])
  return facts
}

/** The recipe of FiRe-MPO's publication, for what runs on small models and images change. */
const published = { sigma: 45, rank: 128, lr: 1e-6 }

/** `noise on the lesion, σ 90 (published 45)`; nothing for objectives of others. */
function differences(pairs: readonly Pair[], { objective, lora, optimizer }: TrainConfig): string[] {
  if (objectiveName(objective.name) === objective.name) return []
  const noise = pairs.find(({ corrupted }) => corrupted?.method === 'lesion-noise')?.corrupted
  return [
    ...(noise && noise.sigma !== published.sigma ? [`${corruptionWords(noise)} (published ${published.sigma})`] : []),
    ...(lora.rank === undefined || lora.rank === published.rank ? [] : [`LoRA rank ${lora.rank} (${published.rank})`]),
    ...(optimizer.lr === published.lr ? [] : [`learning rate ${optimizer.lr} (${published.lr})`]),
  ]
}

export function describeAttention(ratios: MeanRatios | null): string {
  const how =
    'Mean over all heads and layers, at the position that predicts the marked phrase; both models read the same tokens.'
  if (!ratios) return how
  const { count, before, after, change, standardError } = ratios
  const bound = (sign: number) => (change + sign * 1.96 * standardError).toFixed(2).replace('-', '−')
  const interval = `${bound(-1)} to ${bound(1)}`
  return `${how} Over ${counted(count, 'held-out question')} that the trained model answers rightly, the mean ratio was ${before.toFixed(2)} before and ${after.toFixed(2)} after (change ${interval}, normal 95 % interval over questions).`
}
