export type { ManifestLine } from './manifest.js'
export { type Mask, maskHash } from './masks/mask.js'
export { type NiftiOrientation, niftiOrientations } from './masks/nifti.js'
export { maskPng } from './masks/picture.js'
export { encodeRle } from './masks/rle.js'
export { type CorruptionMethod, corruptImage, corruptionMethods } from './methods.js'
export {
  addLesionNoise,
  type CorruptedImage,
  type NoiseMethod,
  type NoiseOptions,
  type PixelImage,
  PUBLISHED_NOISE,
} from './noise.js'
export {
  type CorruptOptions,
  type CorruptReport,
  type CorruptResult,
  corruptPairs,
  type Fallback,
} from './run.js'
export { recordSeed } from './seed.js'
export { type FoundMask, MaskSources } from './sources.js'
