/** The ways to take the evidence out of an image: on the lesion, and the whole-image baselines of the ablation. */
// The image library of the whole project; here it only resizes a crop.
import sharp from 'sharp'
import { philox4x32 } from '../random/philox.js'
import { area, type Mask } from './masks/mask.js'
import { addLesionNoise, type NoiseAt, type PixelImage } from './noise.js'

/**
 * - `lesion-noise`: Gaussian noise inside the mask, every other pixel as it was (the published method).
 * - `lesion-noise-elsewhere`: the same noise on a place of the mask's shape that the mask does not touch (a control: as much is
 *   changed, and the lesion stays in view).
 * - `lesion-blackout`: black inside the mask.
 * - `image-noise`: Gaussian noise everywhere.
 * - `crop`: a random part of 1 to 20 % of the area, resized to the whole, as mDPO does.
 * - `blackout`: a black image.
 */
export const corruptionMethods = [
  'lesion-noise',
  'lesion-noise-elsewhere',
  'lesion-blackout',
  'image-noise',
  'crop',
  'blackout',
] as const
/** One of `corruptionMethods`. */
export type CorruptionMethod = (typeof corruptionMethods)[number]

/** Whether a method needs to know where the lesion is. */
export const isTargeted = (method: CorruptionMethod): boolean => method.startsWith('lesion-')

/**
 * The corrupted twin of an image, of the same size. A pure function: the same arguments give the same bytes.
 * @param mask for the methods that need one, of the image's size and not empty: what is changed, so for `lesion-noise-elsewhere`
 *   a mask that `moveMask` has moved.
 * @param sigma of the two kinds of noise, in grey levels of 0-255.
 * @param seed any safe integer.
 * @param noiseAt of the two kinds of noise; default: independent in every pixel.
 * @throws RangeError when sizes do not agree, a needed mask is missing or empty, or sigma is not a positive number.
 */
export async function corruptImage(
  image: PixelImage,
  method: CorruptionMethod,
  mask: Mask | null,
  sigma: number,
  seed: number,
  noiseAt?: NoiseAt,
): Promise<PixelImage> {
  if (isTargeted(method) && (!mask || area(mask) === 0))
    throw new RangeError(`${method} needs a mask that is not empty.`)
  const options = { sigma, fallbackSigma: sigma }
  switch (method) {
    case 'lesion-noise':
    case 'lesion-noise-elsewhere':
      return addLesionNoise(image, mask?.inside ?? null, options, seed, noiseAt)
    case 'image-noise':
      return addLesionNoise(image, null, options, seed, noiseAt)
    case 'lesion-blackout':
      return { ...image, rgb: image.rgb.map((value, at) => (mask?.inside[Math.floor(at / 3)] ? 0 : value)) }
    case 'blackout':
      return { ...image, rgb: new Uint8Array(image.rgb.length) }
    case 'crop':
      return await cropped(image, seed)
  }
}

/** Shares of the area that mDPO's crops keep, and the aspect ratios of torchvision's RandomResizedCrop. */
const keptArea = [0.01, 0.2] as const
const aspects = [3 / 4, 4 / 3] as const

async function cropped({ width, height, rgb }: PixelImage, seed: number): Promise<PixelImage> {
  const box = cropBox(width, height, seed)
  const { data } = await sharp(rgb, { raw: { width, height, channels: 3 } })
    .extract(box)
    .resize(width, height, { fit: 'fill', kernel: 'linear' })
    .raw()
    .toBuffer({ resolveWithObject: true })
  return { width, height, rgb: new Uint8Array(data) }
}

/** Area uniform, aspect log-uniform, place uniform; cut to the image and at least one pixel. */
function cropBox(
  width: number,
  height: number,
  seed: number,
): { left: number; top: number; width: number; height: number } {
  const words = philox4x32([0, 0, 0, 1], [seed >>> 0, Math.floor(seed / 0x100000000)])
  const [share, shape, x, y] = words.map((word) => word / 0x100000000)
  const pixels = width * height * (keptArea[0] + share * (keptArea[1] - keptArea[0]))
  const aspect = aspects[0] * (aspects[1] / aspects[0]) ** shape
  const inside = (length: number, most: number): number => Math.min(most, Math.max(1, Math.round(length)))
  const w = inside(Math.sqrt(pixels * aspect), width)
  const h = inside(Math.sqrt(pixels / aspect), height)
  return { left: Math.floor(x * (width - w + 1)), top: Math.floor(y * (height - h + 1)), width: w, height: h }
}
