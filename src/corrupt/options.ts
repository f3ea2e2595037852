/** What is corrupted, how, and what decides the result. */
import { dirname, resolve } from 'node:path'
import { markFolder, sha256File } from '../data/files.js'
import type { ImageRef } from '../data/records.js'
import { printable } from '../http/service.js'
import type { Ranks } from '../ranks/ranks.js'
import { hashMasks, maskFiles } from './manifest.js'
import type { NiftiOrientation } from './masks/nifti.js'
import type { CorruptionMethod } from './methods.js'
import { PUBLISHED_NOISE } from './noise.js'
import type { SeedBy } from './seed.js'
import type { SegmenterOptions } from './segmenter.js'
import type { Grain } from './twins.js'

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
  /** The processes that corrupt together; progress is then that of this one's share. All of them make the same call. */
  ranks?: Ranks
}

export const corruptOptions: Record<keyof CorruptOptions, true> = {
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
  ranks: true,
}

/** Of the lesion, or of the whole image where the method is that; 0 for a method without noise. */
export function sigmaOf({ method, sigma }: CorruptOptions): number {
  if (method === 'image-noise') return sigma ?? PUBLISHED_NOISE.fallbackSigma
  return method.startsWith('lesion-noise') ? (sigma ?? PUBLISHED_NOISE.sigma) : 0
}

export const fallbackSigmaOf = ({ fallbackSigma }: CorruptOptions): number =>
  fallbackSigma ?? PUBLISHED_NOISE.fallbackSigma

/** For the report: what the twins were made with. */
export function settingsOf(options: CorruptOptions) {
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
export async function madeOf(options: CorruptOptions): Promise<Record<string, unknown>> {
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

export async function inputsOf(options: CorruptOptions, images: readonly ImageRef[]): Promise<string[]> {
  const { pairs, masks } = options
  const root = imageRootOf(options)
  const shown = new Set(images.map(({ path }) => resolve(root, path)))
  return [pairs, ...shown, ...(masks === undefined ? [] : [masks, ...(await maskFiles(masks))])]
}

export function imageRootOf({ images, pairs }: CorruptOptions): string {
  return images === undefined ? dirname(resolve(pairs)) : resolve(images)
}
