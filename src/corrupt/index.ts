export { type NiftiOrientation, niftiOrientations } from './masks/nifti.js'
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
