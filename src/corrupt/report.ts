/** What is counted while pairs are corrupted. */
import type { PairFailure } from '../data/pairs.js'
import { counted } from '../text/plural.js'
import { type CorruptionMethod, isTargeted } from './methods.js'
import type { Missing } from './sources.js'
import type { PartAbout, Twin } from './twins.js'

interface Counted {
  count: number
  /** Where it happened first. */
  first: string
}

export interface Spread {
  least: number
  median: number
  most: number
}

/** What report.json holds; it does not depend on how often the run was interrupted. */
export interface CorruptReport {
  pairs: number
  /** Twins by method. */
  methods: Record<string, number>
  /** Twin files; fewer than twins where pairs share them. */
  files: number
  /**
   * Pairs whose every image was changed by its mask alone, and among them those whose masks are of something that is not in the
   * image. The other pairs with twins had the whole image changed.
   */
  targeted: { pairs: number; absent: number }
  /** Masks by source and form. */
  sources: Record<string, number>
  /** Masks by how the concept was known. */
  concepts: Record<string, number>
  /** Images without a usable mask, by reason. */
  missing: Partial<Record<Missing, Counted>>
  /** Pairs left without a twin. */
  skipped: number
  /** Pairs left out, as their image or mask cannot be used. */
  failed: number
  /** Pairs that came with a twin, which is gone. */
  replaced: number
  /** Share of the pixels inside, over the masks that were used. */
  coverage: Spread | null
  /**
   * Standard deviation of the noise as the model sees it, in grey levels, by method; `null` where no model was given or none
   * of its twins has noise.
   */
  seenSigma: Record<string, Spread> | null
  warnings: string[]
  settings: Record<string, unknown>
}

export const missingWords: Record<Missing, string> = {
  noMask: 'no source has a mask of its concept',
  noConcept: 'it names no concept, and neither question nor edit mentions a label of the image',
  noDetection: 'the segmenter sees nothing of the concept',
  emptyMask: 'the mask is empty',
  tooLarge: 'the mask covers more of the image than is allowed',
  noRoom: 'the image has no other place for its mask',
}

export class Tally {
  skipped = 0
  replaced = 0
  readonly #targeted = { pairs: 0, absent: 0 }
  readonly #methods: Record<string, number> = {}
  readonly #sources: Record<string, number> = {}
  readonly #concepts: Record<string, number> = {}
  readonly #missing: Partial<Record<Missing, Counted>> = {}
  readonly #coverage: number[] = []
  readonly #seen = new Map<string, number[]>()
  /** What was asked for of noise that the model's resize may weaken. */
  readonly #asked = new Map<string, number>()
  readonly #files = new Set<string>()
  #unchanged: Counted | undefined

  twin(
    { method, sigma, found, coverage }: PartAbout,
    { image, unchanged, seenSigma, grain }: Twin,
    place: string,
  ): void {
    count(this.#methods, method)
    this.#files.add(image.path)
    if (unchanged) this.#unchanged = { first: place, ...this.#unchanged, count: (this.#unchanged?.count ?? 0) + 1 }
    if (seenSigma !== null) {
      this.#seen.set(method, [...(this.#seen.get(method) ?? []), seenSigma])
      if (grain === 'image') this.#asked.set(method, sigma)
    }
    if (!found || coverage === null) return
    count(this.#sources, found.source)
    count(this.#concepts, found.conceptBy)
    this.#coverage.push(coverage)
  }

  /** @param parts of a pair with twins. */
  pair(parts: readonly PartAbout[]): void {
    if (parts.some(({ found }) => found === null)) return
    this.#targeted.pairs += 1
    if (parts.every(({ found }) => found?.absent)) this.#targeted.absent += 1
  }

  missing(reason: Missing, place: string): void {
    this.#missing[reason] = { first: place, ...this.#missing[reason], count: (this.#missing[reason]?.count ?? 0) + 1 }
  }

  report(pairs: number, failures: readonly PairFailure[], settings: Record<string, unknown>): CorruptReport {
    const seen = [...this.#seen].map(([method, sigmas]): [string, Spread] => [method, spreadOf(sigmas)])
    const warnings = (Object.entries(this.#missing) as [Missing, Counted][]).map(
      ([reason, { count: times, first }]) => `${counted(times, 'image')}: ${missingWords[reason]}; first: ${first}`,
    )
    if (failures.length > 0) {
      const left = counted(failures.length, 'pair')
      warnings.unshift(`${left} left out, see failed.jsonl; first: ${failures[0].reason}`)
    }
    if (this.#unchanged) {
      warnings.push(
        `${counted(this.#unchanged.count, 'twin equals its', 'twins equal their')} clean image; first: ${this.#unchanged.first}`,
      )
    }
    for (const [method, { median }] of seen) {
      const asked = this.#asked.get(method)
      // A twin of half the strength asks the model for less than the method means.
      if (asked !== undefined && median < asked / 2) {
        warnings.push(
          `${method}: σ ${asked} is ${median.toFixed(1)} as the model sees it (median); a grain of the model keeps it`,
        )
      }
    }
    return {
      pairs,
      methods: this.#methods,
      files: this.#files.size,
      targeted: this.#targeted,
      sources: this.#sources,
      concepts: this.#concepts,
      missing: this.#missing,
      skipped: this.skipped,
      failed: failures.length,
      replaced: this.replaced,
      coverage: this.#coverage.length > 0 ? spreadOf(this.#coverage) : null,
      seenSigma: seen.length > 0 ? Object.fromEntries(seen) : null,
      warnings,
      settings,
    }
  }
}

function count(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  return { least: sorted[0], median: sorted[Math.floor(sorted.length / 2)], most: sorted[sorted.length - 1] }
}

/** What share of the pairs with twins had their masks changed and nothing else. */
export function targetedWords({ targeted, pairs, skipped, failed, settings }: CorruptReport): string[] {
  const made = pairs - skipped - failed
  if (made === 0 || !isTargeted(settings.method as CorruptionMethod)) return []
  const share = ((100 * targeted.pairs) / made).toFixed(1)
  const absent = targeted.absent > 0 ? `, ${targeted.absent} of them where the finding would be` : ''
  return [`Changed by their masks alone: ${targeted.pairs} of ${counted(made, 'pair')} (${share} %)${absent}.`]
}

/** How strong the noise is for the model, a sentence a method. */
export function seenWords({ seenSigma, methods, settings }: CorruptReport): string[] {
  if (seenSigma === null) {
    const noise = Object.keys(methods).some((method) => method.includes('noise'))
    const how = settings.model === undefined ? ': no model was given' : ''
    return noise ? [`How strong the noise is for a model is not known${how}.`] : []
  }
  return Object.entries(seenSigma).map(
    ([method, { least, median, most }]) =>
      `σ of ${method} as the model sees it: ${median.toFixed(1)} (${least.toFixed(1)} to ${most.toFixed(1)}).`,
  )
}
