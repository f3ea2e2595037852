/**
 * The corruption stage: pairs in, the same pairs with corrupted twins out. Everything it writes is named by the hash of
 * what it was made from and appears whole or not at all, so a run that was killed goes on and ends with the same bytes.
 */
import { readFile } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { removeTemporaries, sha256, sha256File, writeFileAtomic, writeJson } from '../data/files.js'
import { checkReferenced, decodeReferenced, encodePng } from '../data/images.js'
import { placeOf, readJsonl, writeJsonl } from '../data/jsonl.js'
import { pairProblem } from '../data/pairs.js'
import { type ImageRef, type Pair, pair as pairSchema } from '../data/records.js'
import { AbortedError, ArgumentError, atPlace, DataError } from '../errors.js'
import { printable } from '../http/service.js'
import { checkOptions } from '../options.js'
import { area, type Mask, maskHash } from './masks/mask.js'
import type { NiftiOrientation } from './masks/nifti.js'
import { maskPng } from './masks/picture.js'
import { type CorruptionMethod, corruptImage, isTargeted } from './methods.js'
import { PUBLISHED_NOISE } from './noise.js'
import { recordSeed } from './seed.js'
import { Segmenter, type SegmenterOptions } from './segmenter.js'
import { renderSheet, type SheetRow } from './sheet.js'
import { type FoundMask, MaskSources, type Missing } from './sources.js'

/** What an image without a usable mask gets: noise everywhere, no twin, or an error. */
export type Fallback = 'image-noise' | 'skip' | 'error'

/** What is corrupted, how, and where masks come from. */
export interface CorruptOptions {
  /** File of pair records. */
  pairs: string
  /** What its image paths are relative to; default: its folder. */
  images?: string
  /** Folder that is filled: pairs.jsonl, report.json, corrupted/, masks/, cache/. */
  out: string
  /** A manifest (JSON Lines) or a folder of masks. */
  masks?: string
  /** Folder that masks named by records and manifests must lie in; default: that of the file which names them. */
  maskRoot?: string
  segmenter?: Omit<SegmenterOptions, 'cache' | 'signal' | 'onRetry'>
  method: CorruptionMethod
  /** Grey levels; default: what the published corpus was made with, 45 on the lesion and 12 on whole images. */
  sigma?: number
  /** Of the whole-image fallback; default 12. */
  fallbackSigma?: number
  /** What an image without a usable mask gets; `skip` leaves its pair without a twin. */
  fallback: Fallback
  /** Masks that cover more than this share of the image count as unusable. */
  maxCoverage: number
  seed: number
  resizeMasks: boolean
  niftiOrientation?: NiftiOrientation
  /** HTML file with clean image, twin and mask side by side. */
  sheet?: string
  /** At most so many pairs on the sheet, evenly spread over the file. */
  sheetRows: number
  signal?: AbortSignal
  onProgress?: (done: number, total: number) => void
  onLog?: (line: string) => void
}

const corruptOptions: Record<keyof CorruptOptions, true> = {
  pairs: true,
  images: true,
  out: true,
  masks: true,
  maskRoot: true,
  segmenter: true,
  method: true,
  sigma: true,
  fallbackSigma: true,
  fallback: true,
  maxCoverage: true,
  seed: true,
  resizeMasks: true,
  niftiOrientation: true,
  sheet: true,
  sheetRows: true,
  signal: true,
  onProgress: true,
  onLog: true,
}

interface Counted {
  count: number
  /** Where it happened first. */
  first: string
}

/** What report.json holds; it does not depend on how often the run was interrupted. */
export interface CorruptReport {
  pairs: number
  /** Twins by method. */
  methods: Record<string, number>
  /** Masks by source and form. */
  sources: Record<string, number>
  /** Masks by how the concept was known. */
  concepts: Record<string, number>
  /** Images without a usable mask, by reason. */
  missing: Partial<Record<Missing, Counted>>
  /** Pairs left without a twin. */
  skipped: number
  /** Pairs that came with a twin, which is gone. */
  replaced: number
  /** Share of the pixels inside, over the masks that were used. */
  coverage: { least: number; median: number; most: number } | null
  warnings: string[]
  settings: Record<string, unknown>
}

/** What a run did, beside what report.json says. */
export interface CorruptResult {
  report: CorruptReport
  /** Twins that an earlier run had made. */
  reused: number
  requests: number
}

/** What happened to one image of a pair. */
interface Part {
  image: ImageRef
  method: CorruptionMethod
  sigma: number
  mask: Mask | null
  maskPath: string | null
  found: FoundMask | null
  missing: Missing | null
}

interface Twin {
  image: ImageRef
  unchanged: boolean
}

/**
 * Corrupts every pair of a file. Pairs come out in their order; those that had a twin get a new one.
 * @throws {DataError} naming file, line and record for what cannot be read, masks that do not fit, or (with `fallback:
 * 'error'`) the first image without a mask.
 * @throws {SegmenterError} when the service fails for good. Running again goes on.
 */
export async function corruptPairs(options: CorruptOptions): Promise<CorruptResult> {
  checkOptions('corruptPairs', options, corruptOptions)
  const stage = await Stage.open(options)
  return await stage.run()
}

class Stage {
  readonly #options: CorruptOptions
  readonly #imageRoot: string
  readonly #records: { pair: Pair; place: string }[]
  readonly #sources: MaskSources
  readonly #segmenter: Segmenter | undefined
  readonly #tally = new Tally()
  readonly #writtenMasks = new Set<string>()
  #reused = 0

  private constructor(
    options: CorruptOptions,
    records: { pair: Pair; place: string }[],
    sources: MaskSources,
    segmenter: Segmenter | undefined,
  ) {
    this.#options = options
    this.#imageRoot = imageRootOf(options)
    this.#records = records
    this.#sources = sources
    this.#segmenter = segmenter
  }

  static async open(options: CorruptOptions): Promise<Stage> {
    const { pairs, out, segmenter, signal, onLog } = options
    if (resolve(out, 'pairs.jsonl') === resolve(pairs)) {
      throw new ArgumentError(`${pairs} would be overwritten by its own result`, {
        hint: 'Name another folder with --out.',
      })
    }
    const records = await readPairs(pairs)
    for (const folder of ['.', 'corrupted', 'masks', 'cache/twins', 'cache/segmenter']) {
      await removeTemporaries(join(out, folder))
    }
    const service =
      segmenter && new Segmenter({ ...segmenter, cache: join(out, 'cache/segmenter'), signal, onRetry: onLog })
    const images = records.flatMap(({ pair }) => pair.images)
    const sources = await MaskSources.open({ ...options, segmenter: service }, imageRootOf(options), images)
    return new Stage(options, records, sources, service)
  }

  async run(): Promise<CorruptResult> {
    const { out, signal, onProgress, sheet, sheetRows } = this.#options
    const done: Pair[] = []
    const rows: SheetRow[] = []
    const every = Math.max(1, this.#records.length / Math.max(1, sheetRows))
    onProgress?.(0, this.#records.length)
    for (const [index, { pair, place }] of this.#records.entries()) {
      if (signal?.aborted) throw new AbortedError()
      const parts = await this.#parts(pair, place)
      const twins = parts && (await this.#twins(pair, parts, place))
      done.push(this.#corrupted(pair, parts, twins))
      const onSheet = sheet !== undefined && Math.floor(index / every) === rows.length && rows.length < sheetRows
      if (onSheet) rows.push(this.#sheetRow(pair, parts, twins))
      onProgress?.(index + 1, this.#records.length)
    }
    const report = this.#tally.report(this.#records.length, this.#settings())
    // Masks that nothing asked for are misspelt where others are missing; else they are for other pairs.
    if (report.missing.noMask) report.warnings.push(...this.#sources.warnings())
    if (sheet !== undefined) {
      await writeFileAtomic(sheet, await renderSheet(rows, this.#records.length, this.#imageRoot, resolve(out)))
    }
    await writeJson(join(out, 'report.json'), report)
    await writeJsonl(join(out, 'pairs.jsonl'), done)
    return { report, reused: this.#reused, requests: this.#segmenter?.requests ?? 0 }
  }

  /** What each image gets; `null` when the pair is left without a twin. */
  async #parts(pair: Pair, place: string): Promise<Part[] | null> {
    const { method, fallback } = this.#options
    const parts: Part[] = []
    for (const [index, image] of pair.images.entries()) {
      const where = pair.images.length > 1 ? `${place}: image ${index}` : place
      const none = { image, mask: null, maskPath: null, found: null, missing: null }
      if (!isTargeted(method)) {
        parts.push({ ...none, method, sigma: this.#sigma })
        continue
      }
      const found = await this.#usableMask(pair, index, where)
      if (typeof found === 'object') {
        const { mask } = found
        parts.push({ ...none, method, sigma: this.#sigma, mask, maskPath: await this.#writeMask(mask), found })
        continue
      }
      if (fallback === 'error') {
        throw new DataError(`${where}: ${missingWords[found]}`, {
          detail: { id: pair.id, image: image.path, reason: found },
          hint: 'Give it a mask, or choose --fallback image-noise or skip.',
        })
      }
      this.#tally.missing(found, where)
      parts.push({ ...none, method: 'image-noise', sigma: this.#fallbackSigma, missing: found })
    }
    if (parts.length === 0 || (fallback === 'skip' && parts.some(({ missing }) => missing))) {
      this.#tally.skipped += 1
      return null
    }
    for (const part of parts) this.#tally.part(part)
    return parts
  }

  async #usableMask(pair: Pair, index: number, place: string): Promise<FoundMask | Missing> {
    const found = await this.#sources.find(pair, index, place)
    if (typeof found === 'string') return found
    return coverage(found.mask) > this.#options.maxCoverage ? 'tooLarge' : found
  }

  async #writeMask(mask: Mask): Promise<string> {
    const path = `masks/${maskHash(mask).slice(0, 24)}.png`
    if (!this.#writtenMasks.has(path)) {
      await writeFileAtomic(join(this.#options.out, path), await maskPng(mask))
      this.#writtenMasks.add(path)
    }
    return path
  }

  async #twins(pair: Pair, parts: Part[], place: string): Promise<ImageRef[]> {
    const images: ImageRef[] = []
    for (const [index, part] of parts.entries()) {
      const { image, unchanged } = await this.#twin(pair, part, index, place)
      if (unchanged) this.#tally.unchanged(place)
      images.push(image)
    }
    return images
  }

  async #twin(pair: Pair, part: Part, index: number, place: string): Promise<Twin> {
    const { image: clean, method, sigma, mask } = part
    const seed = imageSeed(pair.id, index, this.#options.seed)
    const made = { version: 1, image: clean.sha256, mask: mask && maskHash(mask), method, sigma, seed }
    const key = sha256(JSON.stringify(made))
    const note = join(this.#options.out, 'cache/twins', `${key}.json`)
    const located = atPlace(place, { id: pair.id, image: clean.path })
    const known = await this.#known(note)
    if (known) {
      await checkReferenced(clean, this.#imageRoot).catch(located)
      this.#reused += 1
      return known
    }
    const pixels = await decodeReferenced(clean, this.#imageRoot).catch(located)
    const { width, height, rgb } = await corruptImage(pixels, method, mask, sigma, seed)
    const png = await encodePng({ width, height, rgb }, { compressionLevel: 9 })
    const path = `corrupted/${slug(pair.id)}-${index}-${key.slice(0, 16)}.png`
    await writeFileAtomic(join(this.#options.out, path), png)
    const image = { path, sha256: sha256(png), width, height }
    const twin = { image, unchanged: Buffer.compare(rgb, pixels.rgb) === 0 }
    await writeFileAtomic(note, JSON.stringify(twin))
    return twin
  }

  /** A twin of an earlier run, when its file is still what was written. */
  async #known(note: string): Promise<Twin | undefined> {
    try {
      const twin = JSON.parse(await readFile(note, 'utf8')) as Twin
      const written = await sha256File(join(this.#options.out, twin.image.path))
      return written === twin.image.sha256 ? twin : undefined
    } catch {
      // Not there, or damaged: it is made again.
      return undefined
    }
  }

  #corrupted(pair: Pair, parts: Part[] | null, twins: ImageRef[] | null): Pair {
    const { corrupted: earlier, ...clean } = pair
    if (earlier) this.#tally.replaced += 1
    const images = pair.images.map((image) => ({ ...image, path: this.#fromOut(image.path) }))
    if (!parts || !twins) return { ...clean, images }
    const same = parts.every(({ method }) => method === parts[0].method)
    const corruption = parts.map(({ method, sigma, maskPath, found, missing, mask }) => ({
      method,
      sigma,
      mask: maskPath,
      source: found?.source ?? null,
      conceptBy: found?.conceptBy ?? null,
      coverage: mask ? coverage(mask) : null,
      fallback: missing,
    }))
    return {
      ...clean,
      images,
      corrupted: {
        images: twins,
        method: same ? parts[0].method : 'mixed',
        sigma: Math.max(...parts.map(({ sigma }) => sigma)),
        seed: imageSeed(pair.id, 0, this.#options.seed),
        masks: parts.flatMap(({ maskPath }) => maskPath ?? []),
      },
      provenance: { ...pair.provenance, corruption },
    }
  }

  /** The path of a clean image as seen from the new file. */
  #fromOut(path: string): string {
    return relative(resolve(this.#options.out), resolve(this.#imageRoot, path)).split(sep).join('/')
  }

  #sheetRow(pair: Pair, parts: Part[] | null, twins: ImageRef[] | null): SheetRow {
    const { id, prompt } = pair
    return {
      id,
      prompt,
      images: pair.images.map((clean, index) => {
        const part = parts?.[index]
        return {
          clean,
          corrupted: twins?.[index] ?? null,
          mask: part?.mask ?? null,
          caption: part ? `${part.method}${part.sigma > 0 ? `, σ ${part.sigma}` : ''}` : 'no twin',
          source: part?.found ? `${part.found.source}, concept by ${part.found.conceptBy}` : null,
          fallback: part?.missing ? missingWords[part.missing] : null,
        }
      }),
    }
  }

  /** Of the lesion, or of the whole image where the method is that; 0 for a method without noise. */
  get #sigma(): number {
    const { method, sigma } = this.#options
    if (method === 'lesion-noise') return sigma ?? PUBLISHED_NOISE.sigma
    return method === 'image-noise' ? (sigma ?? PUBLISHED_NOISE.fallbackSigma) : 0
  }

  get #fallbackSigma(): number {
    return this.#options.fallbackSigma ?? PUBLISHED_NOISE.fallbackSigma
  }

  #settings(): Record<string, unknown> {
    const { method, fallback, maxCoverage, seed, resizeMasks, niftiOrientation, segmenter } = this.#options
    const { url, threshold, nmsIou } = segmenter ?? {}
    return {
      method,
      sigma: this.#sigma,
      fallback,
      fallbackSigma: this.#fallbackSigma,
      maxCoverage,
      seed,
      resizeMasks,
      niftiOrientation,
      segmenter: url && { url: printable(url), threshold, nmsIou },
    }
  }
}

function imageRootOf({ images, pairs }: CorruptOptions): string {
  return images === undefined ? dirname(resolve(pairs)) : resolve(images)
}

async function readPairs(path: string): Promise<{ pair: Pair; place: string }[]> {
  const records: { pair: Pair; place: string }[] = []
  const seen = new Map<string, number>()
  for await (const { record, line } of readJsonl(path, pairSchema)) {
    const place = placeOf(path, line, record.id)
    const earlier = seen.get(record.id)
    const { corrupted: _, ...clean } = record
    const problem = earlier === undefined ? pairProblem(clean) : `the id is taken by line ${earlier}`
    if (problem) throw new DataError(`${place}: ${problem}`, { detail: { path, line, id: record.id } })
    seen.set(record.id, line)
    records.push({ pair: record, place })
  }
  return records
}

/** The first image has the seed of its pair; further ones have seeds of their own, or two views would share their noise. */
function imageSeed(id: string, index: number, seed: number): number {
  return recordSeed(index === 0 ? id : `${id}\n${index}`, seed)
}

/** Ids hold what file names must not: `#`, slashes, dots in front. The key after it keeps names apart. */
const slug = (id: string): string => id.replace(/[^A-Za-z0-9_-]+/g, '-').slice(0, 60)

const coverage = (mask: Mask): number => area(mask) / mask.inside.length

const missingWords: Record<Missing, string> = {
  noMask: 'no source has a mask of its concept',
  noConcept: 'it names no concept, and neither question nor edit mentions a label of the image',
  noDetection: 'the segmenter sees nothing of the concept',
  emptyMask: 'the mask is empty',
  tooLarge: 'the mask covers more of the image than --max-coverage allows',
}

class Tally {
  skipped = 0
  replaced = 0
  readonly #methods: Record<string, number> = {}
  readonly #sources: Record<string, number> = {}
  readonly #concepts: Record<string, number> = {}
  readonly #missing: Partial<Record<Missing, Counted>> = {}
  readonly #coverage: number[] = []
  #unchanged: Counted | undefined

  part({ method, found, mask }: Part): void {
    count(this.#methods, method)
    if (!found || !mask) return
    count(this.#sources, found.source)
    count(this.#concepts, found.conceptBy)
    this.#coverage.push(coverage(mask))
  }

  missing(reason: Missing, place: string): void {
    this.#missing[reason] = { first: place, ...this.#missing[reason], count: (this.#missing[reason]?.count ?? 0) + 1 }
  }

  unchanged(place: string): void {
    this.#unchanged = { first: place, ...this.#unchanged, count: (this.#unchanged?.count ?? 0) + 1 }
  }

  report(pairs: number, settings: Record<string, unknown>): CorruptReport {
    const shares = this.#coverage.sort((a, b) => a - b)
    const [least, median, most] = [0, Math.floor(shares.length / 2), shares.length - 1].map((index) => shares[index])
    const warnings = (Object.entries(this.#missing) as [Missing, Counted][]).map(
      ([reason, { count: times, first }]) => `${times} images: ${missingWords[reason]}; first: ${first}`,
    )
    if (this.#unchanged) {
      warnings.push(`${this.#unchanged.count} twins equal their clean image; first: ${this.#unchanged.first}`)
    }
    return {
      pairs,
      methods: this.#methods,
      sources: this.#sources,
      concepts: this.#concepts,
      missing: this.#missing,
      skipped: this.skipped,
      replaced: this.replaced,
      coverage: shares.length > 0 ? { least, median, most } : null,
      warnings,
      settings,
    }
  }
}

function count(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1
}
