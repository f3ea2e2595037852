/** What a demo found, as report data and as results.json. */
import { readFile } from 'node:fs/promises'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Pair } from '../data/records.js'
import type { ModelInfo } from '../engine/engine.js'
import { compareRounds, type GroupComparison, type JudgedAnswer } from '../evaluate/index.js'
import type { PairStatistics } from '../pairs/index.js'
import { conceptMask } from '../phantom/index.js'
import type { ChangedAnswer, ExamplePair, MetricsRow, Picture, ReportData } from '../report/index.js'
import { version } from '../version.js'
import type { DemoItem } from './dataset.js'
import type { DemoSettings } from './defaults.js'
import type { DemoFolder } from './folder.js'
import { type ProbedQuestion, spread } from './probe.js'

/** Everything the stages have left behind. */
export interface DemoFindings {
  folder: DemoFolder
  seed: number
  /** The run was made small on purpose. */
  quick: boolean
  objective: string
  settings: DemoSettings
  model: ModelInfo
  modelName: string
  started: Date
  stages: { name: string; seconds: number }[]
  test: readonly DemoItem[]
  train: readonly DemoItem[]
  before: readonly JudgedAnswer[]
  after: readonly JudgedAnswer[]
  pairs: readonly Pair[]
  statistics: PairStatistics
  metrics: MetricsRow[]
  probed: readonly ProbedQuestion[]
  /** Resolved training configuration, YAML. */
  config: string
}

const SHOWN = { pairs: 6, attention: 4, changed: 8 }

export async function reportData(findings: DemoFindings, comparisons: GroupComparison[]): Promise<ReportData> {
  return {
    title: `fire-train demo: ${findings.objective === 'fire' ? 'FiRe-MPO' : findings.objective} on the phantom world`,
    summary: describeMethod(findings),
    objective: findings.objective,
    comparisons,
    metrics: findings.metrics,
    pairs: findings.statistics,
    examples: await Promise.all(choosePairs(findings.pairs, SHOWN.pairs).map((pair) => examplePair(pair, findings))),
    attention: await Promise.all(
      chooseProbes(findings.probed, SHOWN.attention).map((probe) => attentionExample(probe, findings)),
    ),
    attentionNote: describeAttention(findings.probed),
    changed: chooseChanged(findings, SHOWN.changed),
    facts: describeRun(findings),
    stages: findings.stages,
    config: findings.config,
  }
}

/** results.json: the numbers of the report for programs. */
export function resultsJson(findings: DemoFindings, comparisons: GroupComparison[]): Record<string, unknown> {
  const { seed, objective, settings, statistics, stages, started, metrics } = findings
  return {
    version,
    seed,
    objective,
    settings,
    started: started.toISOString(),
    facts: Object.fromEntries(describeRun(findings)),
    accuracy: comparisons,
    pairs: statistics,
    training: { steps: metrics.length, first: metrics[0] ?? null, last: metrics.at(-1) ?? null },
    attentionRatio: meanRatios(findings.probed),
    stages,
    seconds: stages.reduce((sum, stage) => sum + stage.seconds, 0),
    peakMemoryBytes: peakMemory(),
  }
}

export const compareFindings = ({ before, after }: Pick<DemoFindings, 'before' | 'after'>): GroupComparison[] =>
  compareRounds(before, after)

function describeMethod({ statistics, objective, train, test, quick }: DemoFindings): string[] {
  const { repaired, counterfactual } = statistics.byOrigin
  const studies = (items: readonly DemoItem[]) => new Set(items.map((item) => item.study)).size
  return [
    `A small vision-language model was asked ${train.length} questions about ${studies(train)} synthetic radiographs whose truth is known. Its own answers were judged by rule: ${repaired} wrong ones were repaired and ${counterfactual} right ones falsified by the smallest edit of words, and noise was laid over the place that decides each question, for a second image without the evidence.`,
    `Training with the objective “${objective}” then taught an adapter to prefer the true phrases over the false ones. Both rounds below answer the same ${test.length} questions about ${studies(test)} other radiographs, greedily.`,
    ...(quick ? ['This was a quick run: it shows every stage, on far too few questions to conclude anything.'] : []),
  ]
}

function describeRun({ seed, objective, started, model, modelName, settings }: DemoFindings): [string, string][] {
  const cpu = cpus()[0]?.model.trim() ?? 'unknown processor'
  const millions = (count: number) => `${(count / 1e6).toFixed(2)} M`
  return [
    ['Version', `fire-train ${version}, Node ${process.versions.node}`],
    ['Seed', String(seed)],
    ['Started', `${started.toISOString().slice(0, 16).replace('T', ' ')} UTC`],
    ['Objective', objective],
    [
      'Model',
      `${modelName} (${model.family}), ${millions(model.parameters)} parameters, ${model.weightDTypes.join(' and ')} weights, ${model.dtype} arithmetic`,
    ],
    [
      'Adapter',
      `LoRA rank ${settings.loraRank}, alpha ${settings.loraAlpha}${settings.rslora ? ', rank-stabilised' : ''}; learning rate ${settings.learningRate}, ${settings.batchSize} pairs a step, ${settings.epochs} epoch${settings.epochs > 1 ? 's' : ''}`,
    ],
    [
      'Machine',
      `${cpu}, ${model.threads} thread${model.threads > 1 ? 's' : ''} of ${cpus().length}, ${model.isa}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, ${process.platform}-${process.arch}`,
    ],
    ['Device', model.device],
    ['Matrix products', model.gemm],
    ['Peak memory', `${(peakMemory() / 2 ** 20).toFixed(0)} MiB`],
  ]
}

/** Largest resident size of this process so far, bytes. */
const peakMemory = (): number => process.resourceUsage().maxRSS * 1024

/** Pairs of every origin and category in turn, taken from all over the set, so that those shown are not all of a kind. */
function choosePairs(pairs: readonly Pair[], count: number): Pair[] {
  const kinds = new Map<string, Pair[]>()
  for (const pair of pairs) {
    const kind = `${pair.origin} ${pair.edits[0].category}`
    kinds.set(kind, [...(kinds.get(kind) ?? []), pair])
  }
  const queues = [...kinds.values()].map((queue, i) => rotate(queue, Math.floor((i * queue.length) / kinds.size)))
  const rounds = Math.max(0, ...queues.map((queue) => queue.length))
  const inTurn = Array.from({ length: rounds }, (_, round) => queues.flatMap((queue) => queue.slice(round, round + 1)))
  return inTurn.flat().slice(0, count)
}

const rotate = <T>(items: readonly T[], by: number): T[] => [...items.slice(by), ...items.slice(0, by)]

async function examplePair(pair: Pair, { folder, train }: DemoFindings): Promise<ExamplePair> {
  const item = train.find(({ sample }) => sample.id === pair.sampleId)
  const mask = item ? conceptMask(item.study, item.question) : null
  const { corrupted } = pair
  const method = corrupted?.method === 'lesion-noise' ? 'noise on the lesion' : 'noise on the whole image'
  return {
    question: pair.prompt,
    origin: pair.origin,
    chosen: { text: pair.chosen, spans: pair.edits.map((edit) => edit.chosen) },
    rejected: { text: pair.rejected, spans: pair.edits.map((edit) => edit.rejected) },
    categories: [...new Set(pair.edits.map((edit) => edit.category))],
    clean: await readPicture(folder, pair.images[0], mask),
    corrupted: corrupted ? await readPicture(folder, corrupted.images[0], mask) : null,
    corruption: corrupted ? `${method}, σ ${corrupted.sigma}` : '',
  }
}

async function readPicture(
  folder: DemoFolder,
  image: Pair['images'][number],
  mask: Uint8Array | null,
): Promise<Picture> {
  return { width: image.width, height: image.height, png: await readFile(join(folder.root, image.path)), mask }
}

/** Half of them answers that training mended, when there are as many. */
function chooseProbes(probed: readonly ProbedQuestion[], count: number): ProbedQuestion[] {
  const mended = spread(
    probed.filter((probe) => probe.mended),
    count / 2,
  )
  return [
    ...mended,
    ...spread(
      probed.filter((probe) => !probe.mended),
      count - mended.length,
    ),
  ]
}

async function attentionExample(probe: ProbedQuestion, { folder }: DemoFindings) {
  const { sample } = probe.item
  return {
    question: sample.question,
    answer: { text: probe.answer, span: probe.span },
    picture: await readPicture(folder, sample.images[0], probe.mask),
    before: probe.before,
    after: probe.after,
    ratios: { before: probe.ratioBefore, after: probe.ratioAfter },
  }
}

function describeAttention(probed: readonly ProbedQuestion[]): string {
  const how =
    'Mean over all heads and layers, at the position that predicts the marked phrase; both models read the same tokens.'
  if (probed.length === 0) return how
  const { count, before, after, change, standardError } = meanRatios(probed)
  const interval = `${(change - 1.96 * standardError).toFixed(2)} to ${(change + 1.96 * standardError).toFixed(2)}`
  return `${how} Over ${count} held-out questions that the trained model answers rightly, the mean ratio was ${before.toFixed(2)} before and ${after.toFixed(2)} after (change ${interval}, normal 95 % interval over questions).`
}

interface MeanRatios {
  count: number
  before: number
  after: number
  /** Mean of after - before, and its standard error. */
  change: number
  standardError: number
}

function meanRatios(probed: readonly ProbedQuestion[]): MeanRatios {
  const count = probed.length
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / count
  const changes = probed.map((probe) => probe.ratioAfter - probe.ratioBefore)
  const change = mean(changes)
  const variance = changes.reduce((sum, value) => sum + (value - change) ** 2, 0) / Math.max(1, count - 1)
  return {
    count,
    before: mean(probed.map((probe) => probe.ratioBefore)),
    after: mean(probed.map((probe) => probe.ratioAfter)),
    change,
    standardError: Math.sqrt(variance / count),
  }
}

/** Gains and losses in the proportion in which they occurred, evenly spaced over the questions. */
function chooseChanged({ test, before, after }: DemoFindings, count: number): ChangedAnswer[] {
  const all = test.flatMap(({ sample }, i) =>
    before[i].correct === after[i].correct
      ? []
      : [{ question: sample.question, reference: sample.answer, before: before[i], after: after[i] }],
  )
  const gains = all.filter((change) => change.after.correct)
  const losses = all.filter((change) => !change.after.correct)
  const shownGains = Math.round((count * gains.length) / Math.max(1, all.length))
  return [...spread(gains, shownGains), ...spread(losses, count - shownGains)]
}
