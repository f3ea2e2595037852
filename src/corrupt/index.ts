/** `fire-train/corrupt`: corrupted twins of images: of one image in memory, or of every pair of a file with its masks. */

export type { ManifestLine } from './manifest.js'
export type { Mask } from './masks/mask.js'
export type { NiftiOrientation } from './masks/nifti.js'
export { encodeRle } from './masks/rle.js'
export { type CorruptionMethod, corruptImage, corruptionMethods } from './methods.js'
export {
  addLesionNoise,
  type CorruptedImage,
  type NoiseAt,
  type NoiseMethod,
  type NoiseOptions,
  type PixelImage,
  PUBLISHED_NOISE,
} from './noise.js'
export type { CorruptOptions, Fallback } from './options.js'
export type { CorruptReport } from './report.js'
export { type CorruptResult, corruptPairs } from './run.js'
export { recordSeed, type SeedBy, seedings } from './seed.js'
export { type Grain, grains } from './twins.js'
