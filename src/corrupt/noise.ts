/**
 * The corrupted twin of an image: Gaussian noise on the lesion, every other pixel left as it is.
 *
 * The visual term of the objective asks the model to lose its preference when the evidence is gone. Noise on the lesion
 * alone takes the evidence away and keeps the rest, so the term cannot be met by noticing that an image is noisy.
 */
import { checkOptions } from '../options.js'
import { normals } from '../random/philox.js'

/** How strong the noise is. */
export interface NoiseOptions {
  /** Standard deviation inside the mask, in grey levels of 0-255. */
  sigma: number
  /** Standard deviation over the whole image when the mask is empty. */
  fallbackSigma: number
}

/** What the published corpus was made with. */
export const PUBLISHED_NOISE: NoiseOptions = { sigma: 45, fallbackSigma: 12 }

/** An image in memory. */
export interface PixelImage {
  width: number
  height: number
  /** 8-bit RGB, row-major, `width * height * 3` bytes. */
  rgb: Uint8Array
}

/** Standard normal numbers of a pixel, by its index: one for each channel. What it returns may be used again. */
export type NoiseAt = (pixel: number) => Float64Array | readonly number[]

export function noiseKey(seed: number): [number, number] {
  return [seed >>> 0, Math.floor(seed / 0x100000000)]
}

/** Independent in every pixel, the published noise. */
function fineNoise(seed: number): NoiseAt {
  const key = noiseKey(seed)
  return (pixel) => normals(pixel, key)
}

/** Where noise was added: inside the mask, or everywhere. */
export type NoiseMethod = 'lesion-noise' | 'image-noise'

/** A noisy image with what decided it. */
export interface CorruptedImage extends PixelImage {
  method: NoiseMethod
  /** The one that was used, of the two options. */
  sigma: number
  seed: number
  /** Pixels under the mask; the whole image for the fallback. */
  pixels: number
}

/**
 * Adds noise to each channel of each pixel whose mask byte is not 0, clips to 0-255 and truncates to 8 bits.
 *
 * @param seed any safe integer; the same seed, size and mask give the same bytes.
 * @param mask one byte per pixel, row-major; all zero (or `null`) asks for the whole-image fallback.
 * @param noiseAt default: independent in every pixel.
 * @throws RangeError when sizes do not agree or a sigma is not a positive number.
 */
export function addLesionNoise(
  image: PixelImage,
  mask: Uint8Array | null,
  options: NoiseOptions,
  seed: number,
  noiseAt = fineNoise(seed),
): CorruptedImage {
  checkOptions('addLesionNoise', options, PUBLISHED_NOISE)
  const count = image.width * image.height
  if (image.rgb.length !== count * 3) {
    throw new RangeError(
      `An image of ${image.width}x${image.height} needs ${count * 3} bytes, not ${image.rgb.length}.`,
    )
  }
  if (mask && mask.length !== count) {
    throw new RangeError(`A mask for ${image.width}x${image.height} needs ${count} bytes, not ${mask.length}.`)
  }
  const area = mask ? mask.reduce((sum, value) => sum + (value ? 1 : 0), 0) : 0
  const targeted = area > 0
  const sigma = targeted ? options.sigma : options.fallbackSigma
  if (!(sigma > 0 && Number.isFinite(sigma))) throw new RangeError(`The noise needs a positive sigma, not ${sigma}.`)
  const rgb = Uint8Array.from(image.rgb)
  for (let pixel = 0; pixel < count; pixel++) {
    if (targeted && !mask?.[pixel]) continue
    const noise = noiseAt(pixel)
    for (let channel = 0; channel < 3; channel++) {
      const at = pixel * 3 + channel
      rgb[at] = Math.trunc(Math.min(255, Math.max(0, image.rgb[at] + sigma * noise[channel])))
    }
  }
  const { width, height } = image
  const method = targeted ? 'lesion-noise' : 'image-noise'
  return { width, height, rgb, method, sigma, seed, pixels: targeted ? area : count }
}
