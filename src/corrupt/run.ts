/**
 * The corruption stage: pairs in, the same pairs with corrupted twins out. Everything it writes is named by the hash of
 * what it was made from and appears whole or not at all, so a run that was killed goes on and ends with the same bytes.
 */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join, relative, resolve, sep } from 'node:path'
import { markFolder, writeFileAtomic, writeJson } from '../data/files.js'
import { checkReferenced } from '../data/images.js'
import { placeOf, readJsonl, writeJsonl } from '../data/jsonl.js'
import { type PairFailure, pairProblem } from '../data/pairs.js'
import { type Pair, pair as pairSchema } from '../data/records.js'
import { ArgumentError, asFileError, atPlace, DataError, FireError, throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import type { Html } from '../page/html.js'
import { alone } from '../ranks/ranks.js'
import { byFirst, lockByFirst, splitWork } from '../stage/split.js'
import { LeftOut, leaveOut } from './left-out.js'
import { coverage, type Mask, maskHash } from './masks/mask.js'
import { moveMask } from './masks/move.js'
import { maskPng } from './masks/picture.js'
import { isTargeted } from './methods.js'
import {
  type CorruptOptions,
  corruptOptions,
  fallbackSigmaOf,
  imageRootOf,
  inputsOf,
  madeOf,
  settingsOf,
  sigmaOf,
} from './options.js'
import { closeOutput, corruptFiles, corruptFolders, maskPathOf, openOutput } from './output.js'
import { type CorruptReport, missingWords, seenWords, Tally, targetedWords } from './report.js'
import { Segmenter } from './segmenter.js'
import { drawRow, renderSheet } from './sheet.js'
import { type FoundMask, MaskSources, type Missing } from './sources.js'
import { type Part, type PartAbout, type Twin, Twins } from './twins.js'
import { ModelView } from './view.js'

/** What a run did, beside what report.json says. */
export interface CorruptResult {
  report: CorruptReport
  /** Twins that an earlier run had made. */
  reused: number
  requests: number
}

/**
 * Corrupts every pair of a file. Pairs come out in their order; those that had a twin get a new one. A pair whose image or mask
 * cannot be used is left out.
 * @throws {DataError} naming file, line and record for what cannot be read, when no pair is left, or (with `fallback: 'error'`)
 * for the first image without a mask.
 * @throws {SegmenterError} when the service fails for good. Running again goes on.
 * @throws {FileError} when `out` holds other twins and `overwrite` is not set, or files that this did not write.
 * @throws {ArgumentError} when an input lies among the twins.
 * @throws {LockedError} when another run writes to `out`.
 */
export async function corruptPairs(options: CorruptOptions): Promise<CorruptResult> {
  checkOptions('corruptPairs', options, corruptOptions)
  if (options.grain === 'model' && options.model === undefined) {
    throw new ArgumentError('The grain of a model needs the model', { hint: 'Name its folder with --model.' })
  }
  const { out, ranks = alone } = options
  await using _lock = await lockByFirst(ranks, out, 'folder')
  const view = await openView(options)
  try {
    const stage = await Stage.open(options, view)
    return await stage.run()
  } finally {
    await view?.close()
  }
}

/** Without a model that can be opened the noise is the same, and how strong it is for the model is not known. */
async function openView({ model, grain, onLog }: CorruptOptions): Promise<ModelView | undefined> {
  if (model === undefined) return undefined
  return ModelView.open(model).catch((error) => {
    if (grain === 'model' || !(error instanceof FireError)) throw error
    onLog?.(`warning: the noise is not measured in the view of ${model}: ${error.message}`)
    return undefined
  })
}

interface PairAt {
  pair: Pair
  place: string
}

/** What became of a pair, as ranks keep it; without twins where it stays without, `failure` where it is left out. */
type Made = { parts: PartAbout[]; twins: Twin[] | null; seed: number } | { failure: PairFailure; advice?: string }

/** What this run did beside what it found. */
interface Work {
  reused: number
  requests: number
}

class Stage {
  readonly #options: CorruptOptions
  readonly #imageRoot: string
  readonly #records: PairAt[]
  readonly #sources: MaskSources
  readonly #segmenter: Segmenter | undefined
  readonly #tally = new Tally()
  readonly #twins: Twins
  readonly #made: OutputAbout
  /** Pairs that were made here. */
  #asked = 0
  readonly #writtenMasks = new Set<string>()
  readonly #failures: PairFailure[] = []
  /** What to do about the first of them. */
  #advice: string | undefined

  private constructor(
    options: CorruptOptions,
    records: PairAt[],
    sources: MaskSources,
    segmenter: Segmenter | undefined,
    view: ModelView | undefined,
    made: OutputAbout,
  ) {
    const { out, seed, seedBy = 'pair', grain = 'image' } = options
    this.#options = options
    this.#imageRoot = imageRootOf(options)
    this.#records = records
    this.#sources = sources
    this.#segmenter = segmenter
    this.#made = made
    this.#twins = new Twins({ out, imageRoot: this.#imageRoot, seed, seedBy, grain, view })
  }

  static async open(options: CorruptOptions, view: ModelView | undefined): Promise<Stage> {
    const { pairs, out, segmenter, signal, onLog, model, overwrite = false, ranks = alone } = options
    if (resolve(out, corruptFiles.pairs) === resolve(pairs)) {
      throw new ArgumentError(`${pairs} would be overwritten by its own result`, {
        hint: 'Name another folder with --out.',
      })
    }
    const records = await readPairs(pairs)
    const service =
      segmenter && new Segmenter({ ...segmenter, cache: join(out, corruptFolders.replies), signal, onRetry: onLog })
    const images = records.flatMap(({ pair }) => pair.images)
    const sources = await MaskSources.open({ ...options, segmenter: service }, imageRootOf(options), images)
    const made = await byFirst(ranks, `${out} opened`, signal, async () => {
      const made = await madeOf(options)
      await openOutput(out, made, await inputsOf(options, images), overwrite)
      return { made, view: view === undefined || model === undefined ? null : await markFolder(model) }
    })
    return new Stage(options, records, sources, service, view, made)
  }

  async run(): Promise<CorruptResult> {
    const { out, signal, onProgress, ranks = alone } = this.#options
    return splitWork<PairAt, Made, CorruptResult>(ranks, {
      ...{ what: 'twins', output: join(out, corruptFiles.pairs), signal, onProgress },
      items: () => this.#records,
      keyOf: ({ pair }) => [this.#made, pair],
      groupOf: ({ pair }) => pair.images.map(({ sha256 }) => sha256).join(),
      work: (records, stop) => this.#makeAll(records, stop),
      // What could not be used may be mended since; that is soon found out.
      holds: (made) => 'parts' in made && filesOf(made).every((path) => existsSync(join(out, path))),
      finish: (made, told) => this.#write(made, told as Work[]),
      tell: () => this.#work,
    })
  }

  get #work(): Work {
    return { reused: this.#twins.reused, requests: this.#segmenter?.requests ?? 0 }
  }

  async *#makeAll(records: AsyncIterable<PairAt>, signal?: AbortSignal): AsyncGenerator<Made> {
    for await (const { pair, place } of records) {
      throwIfAborted(signal)
      this.#asked += 1
      yield await this.#make(pair, place).catch(leftOut(pair))
    }
  }

  async #write(all: AsyncIterable<Made>, told: readonly Work[]): Promise<CorruptResult> {
    const { out, sheet, sheetRows, ranks = alone, onProgress } = this.#options
    const done: Pair[] = []
    const rows: Html[] = []
    const every = Math.max(1, this.#records.length / Math.max(1, sheetRows))
    const tell = ranks.size === 1 ? onProgress : undefined
    let index = 0
    tell?.(0, this.#records.length)
    for await (const made of all) {
      const { pair, place } = this.#records[index]
      if ('failure' in made) {
        this.#failures.push(made.failure)
        this.#advice ??= made.advice
      } else {
        this.#count(pair, place, made)
        done.push(this.#corrupted(pair, made))
        const onSheet = sheet !== undefined && Math.floor(index / every) >= rows.length && rows.length < sheetRows
        if (onSheet) rows.push(await this.#sheetRow(pair, place, made))
      }
      index += 1
      tell?.(index, this.#records.length)
    }
    await this.#writeFailures()
    const report = this.#tally.report(this.#records.length, this.#failures, settingsOf(this.#options))
    const sources = await this.#sourcesOfAll()
    report.warnings.push(...sources.warnings(report.missing.noMask !== undefined))
    if (sheet !== undefined) {
      await writeFileAtomic(
        sheet,
        renderSheet(rows, this.#records.length, [...targetedWords(report), ...seenWords(report)]),
      )
    }
    await writeJson(join(out, corruptFiles.report), report)
    await writeJsonl(join(out, corruptFiles.pairs), done)
    const kept = done.flatMap(({ corrupted }) => [
      ...(corrupted?.images.map(({ path }) => path) ?? []),
      ...(corrupted?.masks ?? []),
    ])
    await closeOutput(out, this.#made.made, new Set(kept))
    const work = told.length > 0 ? told : [this.#work]
    const sum = (of: keyof Work): number => work.reduce((total, each) => total + each[of], 0)
    return { report, reused: sum('reused'), requests: sum('requests') }
  }

  /**
   * The twins of a pair; none where it stays without.
   * @throws {LeftOut} where it cannot be used.
   */
  async #make(pair: Pair, place: string): Promise<Made> {
    const parts = await this.#parts(pair, place)
    const skip =
      parts.length === 0 || (this.#options.fallback === 'skip' && parts.some(({ missing }) => missing !== null))
    const twins: Twin[] = []
    for (const [index, part] of parts.entries()) {
      if (!skip) twins.push(await this.#twins.make(pair, part, index, place))
      else
        await checkReferenced(part.image, this.#imageRoot)
          .catch(atPlace(place, { id: pair.id }))
          .catch(leaveOut)
    }
    return {
      parts: parts.map(({ image: _, mask: __, ...about }) => about),
      twins: skip ? null : twins,
      seed: skip ? 0 : this.#twins.seedOf(pair, 0, parts[0].mask),
    }
  }

  /** Sources that every image was asked of, in order, though other ranks or runs have found the masks. */
  async #sourcesOfAll(): Promise<MaskSources> {
    const { ranks = alone, method } = this.#options
    if (!isTargeted(method) || (ranks.size === 1 && this.#asked === this.#records.length)) return this.#sources
    const images = this.#records.flatMap(({ pair }) => pair.images)
    const sources = await MaskSources.open({ ...this.#options, segmenter: undefined }, this.#imageRoot, images)
    for (const { pair, place } of this.#records) {
      for (const index of pair.images.keys())
        await sources.look(pair, index, place).catch(leaveOut).catch(leftOut(pair))
    }
    return sources
  }

  #count(pair: Pair, place: string, { parts, twins }: Extract<Made, { parts: unknown }>): void {
    for (const [index, part] of parts.entries()) {
      if (part.missing !== null) this.#tally.missing(part.missing, placeOfImage(pair, index, place))
      if (twins) this.#tally.twin(part, twins[index], place)
    }
    if (twins) this.#tally.pair(parts)
    else this.#tally.skipped += 1
  }

  /** What each image gets. */
  async #parts(pair: Pair, place: string): Promise<Part[]> {
    const { method, fallback } = this.#options
    const parts: Part[] = []
    for (const [index, image] of pair.images.entries()) {
      const where = placeOfImage(pair, index, place)
      const none = { image, mask: null, maskPath: null, coverage: null, found: null, missing: null }
      if (!isTargeted(method)) {
        parts.push({ ...none, method, sigma: sigmaOf(this.#options) })
        continue
      }
      const found = await this.#usableMask(pair, index, where)
      if (typeof found === 'object') {
        const { mask, ...about } = found
        const maskPath = await this.#writeMask(mask)
        parts.push({
          ...none,
          method,
          sigma: sigmaOf(this.#options),
          mask,
          maskPath,
          coverage: coverage(mask),
          found: about,
        })
        continue
      }
      if (fallback === 'error') {
        throw new DataError(`${where}: ${missingWords[found]}`, {
          detail: { id: pair.id, image: image.path, reason: found },
          hint: 'Give it a mask, or choose --fallback image-noise or skip.',
        })
      }
      parts.push({ ...none, method: 'image-noise', sigma: fallbackSigmaOf(this.#options), missing: found })
    }
    return parts
  }

  /** @throws {DataError} when no pair is left. */
  async #writeFailures(): Promise<void> {
    const path = join(this.#options.out, corruptFiles.failed)
    if (this.#failures.length === 0) return await rm(path, { force: true }).catch(asFileError('Deleting', path))
    await writeJsonl(path, this.#failures)
    if (this.#failures.length < this.#records.length) return
    throw new DataError(`No pair of ${this.#options.pairs} can be used; first: ${this.#failures[0].reason}`, {
      detail: { path: this.#options.pairs },
      hint: `${this.#advice ?? ''} ${path} has all reasons.`.trim(),
    })
  }

  async #usableMask(pair: Pair, index: number, place: string): Promise<FoundMask | Missing> {
    const found = await this.#sources.find(pair, index, place).catch(leaveOut)
    if (typeof found === 'string') return found
    if (coverage(found.mask) > this.#options.maxCoverage) return 'tooLarge'
    if (this.#options.method !== 'lesion-noise-elsewhere') return found
    const mask = moveMask(found.mask, this.#twins.seedOf(pair, index, found.mask))
    return mask === null ? 'noRoom' : { ...found, mask }
  }

  async #writeMask(mask: Mask): Promise<string> {
    const path = maskPathOf(maskHash(mask))
    if (!this.#writtenMasks.has(path)) {
      await writeFileAtomic(join(this.#options.out, path), await maskPng(mask))
      this.#writtenMasks.add(path)
    }
    return path
  }

  #corrupted(pair: Pair, { parts, twins, seed }: Extract<Made, { parts: unknown }>): Pair {
    const { corrupted: earlier, ...clean } = pair
    if (earlier) this.#tally.replaced += 1
    const images = pair.images.map((image) => ({ ...image, path: this.#fromOut(image.path) }))
    if (!twins) return { ...clean, images }
    const same = parts.every(({ method }) => method === parts[0].method)
    const corruption = parts.map(({ method, sigma, maskPath, found, missing, coverage }, index) => ({
      method,
      sigma,
      grain: twins[index].grain,
      seenSigma: twins[index].seenSigma,
      mask: maskPath,
      source: found?.source ?? null,
      conceptBy: found?.conceptBy ?? null,
      coverage,
      fallback: missing,
    }))
    return {
      ...clean,
      images,
      corrupted: {
        images: twins.map(({ image }) => image),
        method: same ? parts[0].method : 'mixed',
        sigma: Math.max(...parts.map(({ sigma }) => sigma)),
        seed,
        masks: parts.flatMap(({ maskPath }) => maskPath ?? []),
      },
      provenance: { ...pair.provenance, corruption },
    }
  }

  /** The path of a clean image as seen from the new file. */
  #fromOut(path: string): string {
    return relative(resolve(this.#options.out), resolve(this.#imageRoot, path)).split(sep).join('/')
  }

  /** With its masks, which are found once more. */
  async #sheetRow(pair: Pair, place: string, { twins }: Extract<Made, { parts: unknown }>): Promise<Html> {
    const parts = twins && (await this.#parts(pair, place))
    const images = pair.images.map((clean, index) => {
      const [part, twin] = [parts?.[index], twins?.[index]]
      return {
        clean,
        corrupted: twin?.image ?? null,
        mask: part?.mask ?? null,
        caption: part && twin ? howMade(part, twin) : 'no twin',
        source: part?.found ? `${part.found.source}, concept by ${part.found.conceptBy}` : null,
        fallback: part?.missing ? missingWords[part.missing] : null,
      }
    })
    return drawRow(pair, images, this.#imageRoot, resolve(this.#options.out))
  }
}

/** For `promise.catch`: notes a pair that is left out. */
const leftOut =
  ({ id }: Pair) =>
  (error: unknown): Made => {
    if (!(error instanceof LeftOut)) throw error
    const { code, hint } = error.error
    return { failure: { id, code, reason: error.message }, ...(hint !== undefined && { advice: hint }) }
  }

/** Files that a pair rests on, from the output. */
const filesOf = ({ parts, twins }: Extract<Made, { parts: unknown }>): string[] => [
  ...(twins ?? []).map(({ image }) => image.path),
  ...parts.flatMap(({ maskPath }) => maskPath ?? []),
]

/** What the twins are made with, and a mark of the model that their noise is measured with. */
interface OutputAbout {
  made: Record<string, unknown>
  view: string | null
}

const placeOfImage = ({ images }: Pair, index: number, place: string): string =>
  images.length > 1 ? `${place}: image ${index}` : place

function howMade({ method, sigma }: Part, { seenSigma, grain }: Twin): string {
  if (sigma === 0) return method
  const seen = seenSigma === null ? '' : `, ${seenSigma.toFixed(1)} as the model sees it`
  return `${method}, σ ${sigma}${grain === 'model' ? ' in pixels of the model' : ''}${seen}`
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
