/**
 * Systems without the image: the question alone, and with another image of the data set. What they get right so is not seen; a gain
 * that is there without the image is no visual gain.
 */
import { join } from 'node:path'
import { recordSeed } from '../corrupt/index.js'
import { writeJsonl } from '../data/jsonl.js'
import type { ImageRef, Sample } from '../data/records.js'
import { hashNumber } from '../pairs/choice.js'
import { alone } from '../ranks/ranks.js'
import { writtenByFirst } from '../stage/split.js'
import type { StageContext } from '../stage/stage.js'
import {
  type Bootstrap,
  type ClusteredItem,
  clusterBootstrap,
  countClusters,
  fewestClusters,
} from '../statistics/index.js'
import { type ComparedGroup, compareGroups, compareSystems, type SystemComparison } from './compare.js'
import { type GroupResult, resultsByGroup } from './groups.js'
import type { Models } from './models.js'
import { type Prediction, type PriorKind, type PriorRecord, priorKinds, type VerdictRecord } from './records.js'
import { type AnsweringSystem, type Asking, answersOf } from './systems.js'

/** An answer without the image that belongs to the question. */
export interface PriorAnswer {
  prior: PriorKind
  /** SHA-256 of the image that was shown; null for none. */
  shown: string | null
  prediction: Prediction
}

/** The question with what is shown instead; undefined where it has no image, or its data set no other one. */
function blinded(sample: Sample, kind: PriorKind, others: readonly ImageRef[], seed: number): Sample | undefined {
  if (sample.images.length === 0) return undefined
  if (kind === 'question') return { ...sample, images: [] }
  const own = new Set(sample.images.map(({ sha256 }) => sha256))
  const choice = others.filter(({ sha256 }) => !own.has(sha256))
  if (choice.length === 0) return undefined
  const images = sample.images.map((_, i) => {
    return choice[hashNumber('swapped', String(seed), sample.id, String(i)) % choice.length]
  })
  return { ...sample, images }
}

/** The questions about images as they are asked without them, in their order. */
export function blindSamples(samples: readonly Sample[], kind: PriorKind, seed: number): Sample[] {
  const images = new Map<string, Map<string, ImageRef>>()
  for (const { dataset, images: own } of samples) {
    const known = images.get(dataset) ?? new Map<string, ImageRef>()
    images.set(dataset, known)
    for (const image of own) known.set(image.sha256, image)
  }
  const ofSet = new Map(
    [...images].map(([dataset, refs]) => [dataset, [...refs.values()].sort((a, b) => (a.sha256 < b.sha256 ? -1 : 1))]),
  )
  return samples
    .filter(({ task }) => task === 'vqa')
    .flatMap((sample) => blinded(sample, kind, ofSet.get(sample.dataset) ?? [], seed) ?? [])
}

/**
 * Asks every system that can be asked, one answer to a question; files of answers have none.
 * @returns undefined when the signal stopped it; what is done is kept.
 */
export async function askPriors(
  kinds: readonly PriorKind[],
  systems: readonly AnsweringSystem[],
  samples: readonly Sample[],
  asking: Asking,
  models: Models,
  context: StageContext,
): Promise<PriorAnswer[] | undefined> {
  const { ranks = alone } = context
  const answers: PriorAnswer[] = []
  for (const prior of kinds) {
    const blind = blindSamples(samples, prior, asking.settings.seed)
    if (blind.length === 0) {
      context.progress.log(
        `${prior}: no question has an image that could be ${prior === 'question' ? 'left out' : prior}`,
      )
      continue
    }
    const folder = join(asking.folder, prior)
    const path = join(folder, 'samples.jsonl')
    await writtenByFirst(ranks, path, context.signal, () => writeJsonl(path, blind))
    const shown = blind.map(({ images }) => images[0]?.sha256 ?? null)
    // Answers to other images must not be taken over; seeds are what tells, for greedy answers do not depend on them.
    const seed = recordSeed(shown.join(), asking.settings.seed)
    const settings = { ...asking.settings, split: null, limit: null, answers: 1, seed }
    for (const system of systems) {
      if (system.kind === 'file') continue
      const predictions = await answersOf(
        system,
        blind,
        { ...asking, samples: path, folder, settings },
        models,
        context,
      )
      if (!predictions) return undefined
      answers.push(...predictions.map((prediction, i) => ({ prior, shown: shown[i], prediction })))
    }
  }
  return answers
}

/** The answer of a line of priors.jsonl, to be judged again. */
export function priorAnswerOf(
  { prior, shown, system, sampleId, k, sampled, text, reason }: PriorRecord,
  words: number,
): PriorAnswer {
  const failure = text === null ? reason : null
  return { prior, shown, prediction: { system, sampleId, k, sampled, text, failure, words } }
}

/** A system without the image. */
export interface BlindResults {
  system: string
  prior: PriorKind
  groups: GroupResult[]
  /** The system with the image against itself without, on the same questions: `with - without`. */
  image: ComparedGroup
}

/** A system against the baseline, both without the image. */
export interface BlindComparison extends Pick<SystemComparison, 'baseline' | 'system' | 'conclusion'> {
  prior: PriorKind
  all: ComparedGroup
  /** How much of the difference needs the image: the difference with it minus that without, by image; no interval with fewer than 20. */
  beyond: { value: number; interval: Bootstrap | null }
}

/** What is right without the image. */
export interface BlindSummary {
  systems: BlindResults[]
  comparisons: BlindComparison[]
}

const scoreOf = ({ verdict }: VerdictRecord): number => Number(verdict === 'correct')

/** @param verdicts with the image, by system. */
export function blindSummary(
  verdicts: ReadonlyMap<string, readonly VerdictRecord[]>,
  priors: readonly PriorRecord[],
  { baseline, margin, seed, primary }: { baseline: string; margin: number; seed: number; primary: string | null },
): BlindSummary {
  const summary: BlindSummary = { systems: [], comparisons: [] }
  for (const prior of priorKinds) {
    const bySystem = new Map<string, PriorRecord[]>()
    for (const record of priors) {
      if (record.prior === prior) bySystem.set(record.system, [...(bySystem.get(record.system) ?? []), record])
    }
    const seen = new Map<string, VerdictRecord[]>()
    for (const [system, blind] of bySystem) {
      const byId = new Map((verdicts.get(system) ?? []).filter(({ k }) => k === 0).map((each) => [each.sampleId, each]))
      const sighted = blind.flatMap(({ sampleId }) => byId.get(sampleId) ?? [])
      seen.set(system, sighted)
      const [image] = compareGroups(blind, sighted, seed)
      summary.systems.push({ system, prior, groups: resultsByGroup(blind), image })
    }
    if (!bySystem.has(baseline)) continue
    const compared = compareSystems(bySystem, {
      baseline,
      margin,
      seed,
      primary: bySystem.has(primary ?? '') ? primary : null,
    })
    for (const { system, conclusion, groups } of compared) {
      const rows = [seen.get(system), seen.get(baseline), bySystem.get(system), bySystem.get(baseline)]
      const items = (rows[0] ?? []).map(({ imageId }, i): ClusteredItem => {
        const [own, first, blind, blindFirst] = rows.map((row) => scoreOf((row ?? [])[i]))
        return { cluster: imageId, value: own - first - (blind - blindFirst) }
      })
      const value = items.reduce((sum, item) => sum + item.value, 0) / items.length
      const interval = countClusters(items) >= fewestClusters ? clusterBootstrap(items, { seed }) : null
      summary.comparisons.push({ baseline, system, conclusion, prior, all: groups[0], beyond: { value, interval } })
    }
  }
  return summary
}
