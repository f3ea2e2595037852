/**
 * The corruption stage: pairs in, the same pairs with corrupted twins out. Everything it writes is named by the hash of
 * what it was made from and appears whole or not at all, so a run that was killed goes on and ends with the same bytes.
 */
import { rm } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { markFolder, sha256File, writeFileAtomic, writeJson } from '../data/files.js'
import { checkReferenced } from '../data/images.js'
import { placeOf, readJsonl, writeJsonl } from '../data/jsonl.js'
import { lockOutput } from '../data/lock.js'
import { type PairFailure, pairProblem } from '../data/pairs.js'
import { type ImageRef, type Pair, pair as pairSchema } from '../data/records.js'
import { ArgumentError, asFileError, atPlace, DataError, FireError, throwIfAborted } from '../errors.js'
import { printable } from '../http/service.js'
import { checkOptions } from '../options.js'
import type { Html } from '../page/html.js'
import { LeftOut, leaveOut } from './left-out.js'
import { hashMasks, maskFiles } from './manifest.js'
import { coverage, type Mask, maskHash } from './masks/mask.js'
import { moveMask } from './masks/move.js'
import type { NiftiOrientation } from './masks/nifti.js'
import { maskPng } from './masks/picture.js'
import { type CorruptionMethod, isTargeted } from './methods.js'
import { PUBLISHED_NOISE } from './noise.js'
import { closeOutput, corruptFiles, corruptFolders, maskPathOf, openOutput } from './output.js'
import { type CorruptReport, missingWords, seenWords, Tally, targetedWords } from './report.js'
import type { SeedBy } from './seed.js'
import { Segmenter, type SegmenterOptions } from './segmenter.js'
import { drawRow, renderSheet } from './sheet.js'
import { type FoundMask, MaskSources, type Missing } from './sources.js'
import { type Grain, type Part, type Twin, Twins } from './twins.js'
import { ModelView } from './view.js'

/** What an image without a usable mask gets: noise everywhere, no twin, or an error. */
export type Fallback = 'image-noise' | 'skip' | 'error'

/** What is corrupted, how, and where masks come from. */
export interface CorruptOptions {
  /** File of pair records. */
  pairs: string
  /** What its image paths are relative to; default: its folder. */
  images?: string
  /** Folder that is filled: pairs.jsonl, report.json, failed.jsonl where pairs are left out, corrupted/, masks/, cache/. */
  out: string
  /** A manifest (JSON Lines) or a folder of masks. */
  masks?: string
  /** Folder that masks named by records and manifests must lie in; default: that of the file which names them. */
  maskRoot?: string
  segmenter?: Omit<SegmenterOptions, 'cache' | 'signal' | 'onRetry'>
  method: CorruptionMethod
  /** Grey levels; default: what the published corpus was made with, 45 with a mask and 12 on whole images. */
  sigma?: number
  /** Of the whole-image fallback; default 12. */
  fallbackSigma?: number
  /** What an image without a usable mask gets; `skip` leaves its pair without a twin. */
  fallback: Fallback
  /** Masks that cover more than this share of the image count as unusable. */
  maxCoverage: number
  seed: number
  /** Whose the noise is; default: each pair's own. */
  seedBy?: SeedBy
  /** Whose pixels the noise is independent in; default: those of the image. `model` needs `model`. */
  grain?: Grain
  /** Folder of the model that the pairs are for: how strong the noise is in its view is measured. */
  model?: string
  resizeMasks: boolean
  niftiOrientation?: NiftiOrientation
  /** HTML file with clean image, twin and mask side by side. */
  sheet?: string
  /** At most so many pairs on the sheet, evenly spread over the file. */
  sheetRows: number
  /** Replace other twins in `out`, once the new ones are whole; without it they are in the way. */
  overwrite?: boolean
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
  seedBy: true,
  resizeMasks: true,
  niftiOrientation: true,
  sheet: true,
  sheetRows: true,
  overwrite: true,
  signal: true,
  onProgress: true,
  onLog: true,
  model: true,
  grain: true,
}

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
  await using _lock = await lockOutput(options.out, 'folder')
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

/** Without parts where the pair stays without a twin. */
type Made = { parts: Part[]; twins: Twin[] } | { parts: null; twins: null }

class Stage {
  readonly #options: CorruptOptions
  readonly #imageRoot: string
  readonly #records: { pair: Pair; place: string }[]
  readonly #sources: MaskSources
  readonly #segmenter: Segmenter | undefined
  readonly #tally = new Tally()
  readonly #twins: Twins
  readonly #made: Record<string, unknown>
  readonly #writtenMasks = new Set<string>()
  readonly #failures: PairFailure[] = []
  /** What to do about the first of them. */
  #advice: string | undefined

  private constructor(
    options: CorruptOptions,
    records: { pair: Pair; place: string }[],
    sources: MaskSources,
    segmenter: Segmenter | undefined,
    view: ModelView | undefined,
    made: Record<string, unknown>,
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
    const { pairs, out, segmenter, signal, onLog } = options
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
    const made = await madeOf(options)
    await openOutput(out, made, await inputsOf(options, images), options.overwrite ?? false)
    return new Stage(options, records, sources, service, view, made)
  }

  async run(): Promise<CorruptResult> {
    const { out, signal, onProgress, sheet, sheetRows } = this.#options
    const done: Pair[] = []
    const rows: Html[] = []
    const every = Math.max(1, this.#records.length / Math.max(1, sheetRows))
    onProgress?.(0, this.#records.length)
    for (const [index, { pair, place }] of this.#records.entries()) {
      throwIfAborted(signal)
      const made = await this.#make(pair, place).catch(this.#leftOut(pair))
      if (made) {
        done.push(this.#corrupted(pair, made))
        const onSheet = sheet !== undefined && Math.floor(index / every) >= rows.length && rows.length < sheetRows
        if (onSheet) rows.push(await this.#sheetRow(pair, made))
      }
      onProgress?.(index + 1, this.#records.length)
    }
    await this.#writeFailures()
    const report = this.#tally.report(this.#records.length, this.#failures, settingsOf(this.#options))
    report.warnings.push(...this.#sources.warnings(report.missing.noMask !== undefined))
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
    await closeOutput(out, this.#made, new Set(kept))
    return { report, reused: this.#twins.reused, requests: this.#segmenter?.requests ?? 0 }
  }

  /**
   * The twins of a pair; none where it stays without.
   * @throws {LeftOut} before anything is counted.
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
    for (const [index, part] of parts.entries()) {
      if (part.missing !== null) this.#tally.missing(part.missing, placeOfImage(pair, index, place))
      if (!skip) this.#tally.twin(part, twins[index], place)
    }
    if (skip) this.#tally.skipped += 1
    else this.#tally.pair(parts)
    return skip ? { parts: null, twins: null } : { parts, twins }
  }

  /** What each image gets. */
  async #parts(pair: Pair, place: string): Promise<Part[]> {
    const { method, fallback } = this.#options
    const parts: Part[] = []
    for (const [index, image] of pair.images.entries()) {
      const where = placeOfImage(pair, index, place)
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
      parts.push({ ...none, method: 'image-noise', sigma: this.#fallbackSigma, missing: found })
    }
    return parts
  }

  /** For `promise.catch`: notes a pair that is left out. */
  #leftOut({ id }: Pair): (error: unknown) => undefined {
    return (error) => {
      if (!(error instanceof LeftOut)) throw error
      this.#failures.push({ id, code: error.error.code, reason: error.message })
      this.#advice ??= error.error.hint
    }
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

  #corrupted(pair: Pair, { parts, twins }: Made): Pair {
    const { corrupted: earlier, ...clean } = pair
    if (earlier) this.#tally.replaced += 1
    const images = pair.images.map((image) => ({ ...image, path: this.#fromOut(image.path) }))
    if (!parts) return { ...clean, images }
    const same = parts.every(({ method }) => method === parts[0].method)
    const corruption = parts.map(({ method, sigma, maskPath, found, missing, mask }, index) => ({
      method,
      sigma,
      grain: twins[index].grain,
      seenSigma: twins[index].seenSigma,
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
        images: twins.map(({ image }) => image),
        method: same ? parts[0].method : 'mixed',
        sigma: Math.max(...parts.map(({ sigma }) => sigma)),
        seed: this.#twins.seedOf(pair, 0, parts[0].mask),
        masks: parts.flatMap(({ maskPath }) => maskPath ?? []),
      },
      provenance: { ...pair.provenance, corruption },
    }
  }

  /** The path of a clean image as seen from the new file. */
  #fromOut(path: string): string {
    return relative(resolve(this.#options.out), resolve(this.#imageRoot, path)).split(sep).join('/')
  }

  #sheetRow(pair: Pair, { parts, twins }: Made): Promise<Html> {
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

  /** Of the lesion, or of the whole image where the method is that; 0 for a method without noise. */
  get #sigma(): number {
    return sigmaOf(this.#options)
  }

  get #fallbackSigma(): number {
    return fallbackSigmaOf(this.#options)
  }
}

function sigmaOf({ method, sigma }: CorruptOptions): number {
  if (method === 'image-noise') return sigma ?? PUBLISHED_NOISE.fallbackSigma
  return method.startsWith('lesion-noise') ? (sigma ?? PUBLISHED_NOISE.sigma) : 0
}

const fallbackSigmaOf = ({ fallbackSigma }: CorruptOptions): number => fallbackSigma ?? PUBLISHED_NOISE.fallbackSigma

/** For the report: what the twins were made with. */
function settingsOf(options: CorruptOptions) {
  const { method, fallback, maxCoverage, seed, seedBy, grain, model, resizeMasks, niftiOrientation, segmenter } =
    options
  const { url, threshold, nmsIou } = segmenter ?? {}
  return {
    method,
    sigma: sigmaOf(options),
    fallback,
    fallbackSigma: fallbackSigmaOf(options),
    maxCoverage,
    seed,
    seedBy: seedBy ?? 'pair',
    grain: grain ?? 'image',
    model,
    resizeMasks,
    niftiOrientation,
    segmenter: url && { url: printable(url), threshold, nmsIou },
  }
}

/** What decides the twins: not where a service listens, nor a model that the noise is only measured with. */
async function madeOf(options: CorruptOptions): Promise<Record<string, unknown>> {
  const { segmenter, model, ...settings } = settingsOf(options)
  const { threshold, nmsIou } = options.segmenter ?? {}
  return {
    ...settings,
    model: settings.grain === 'model' && model !== undefined ? await markFolder(model) : undefined,
    segmenter: segmenter && { threshold, nmsIou },
    pairs: await sha256File(options.pairs),
    masks: options.masks && (await hashMasks(options.masks, options.out)),
  }
}

async function inputsOf(options: CorruptOptions, images: readonly ImageRef[]): Promise<string[]> {
  const { pairs, masks } = options
  const root = imageRootOf(options)
  const shown = new Set(images.map(({ path }) => resolve(root, path)))
  return [pairs, ...shown, ...(masks === undefined ? [] : [masks, ...(await maskFiles(masks))])]
}

const placeOfImage = ({ images }: Pair, index: number, place: string): string =>
  images.length > 1 ? `${place}: image ${index}` : place

function howMade({ method, sigma }: Part, { seenSigma, grain }: Twin): string {
  if (sigma === 0) return method
  const seen = seenSigma === null ? '' : `, ${seenSigma.toFixed(1)} as the model sees it`
  return `${method}, σ ${sigma}${grain === 'model' ? ' in pixels of the model' : ''}${seen}`
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
