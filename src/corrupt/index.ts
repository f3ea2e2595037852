export {
  addLesionNoise,
  type CorruptedImage,
  type NoiseMethod,
  type NoiseOptions,
  type PixelImage,
  PUBLISHED_NOISE,
} from './noise.js'
export { recordSeed } from './seed.js'
