/** What a model sees of noise: its own resize, measured. */

import type { Size } from '../data/records.js'
import { type Engine, openEngine } from '../engine/engine.js'
import { coarseNoise, type ViewGrid } from './grain.js'
import type { Mask } from './masks/mask.js'
import { addLesionNoise, type NoiseAt, type PixelImage } from './noise.js'

/** Strength and seed of the noise that gains are measured with, on mid-grey, where it is not clipped. */
const probe = { grey: 128, sigma: 24, seed: 1 }

/** How a model's image processor shows images of one size. */
export interface ViewOfSize extends ViewGrid, Size {
  /** What the processor makes of black: its padding, where it pads. */
  black: Uint8Array
  /** What coarse noise is multiplied by, so that its standard deviation in the model's view is that of its draws. */
  gain(): Promise<number>
}

export class ModelView {
  readonly #engine: Engine
  readonly #sizes = new Map<string, Promise<ViewOfSize>>()

  private constructor(engine: Engine) {
    this.#engine = engine
  }

  /** @param model folder; only its configuration and the headers of its weights are read. */
  static async open(model: string): Promise<ModelView> {
    return new ModelView(await openEngine({ model, planOnly: true }))
  }

  close(): Promise<void> {
    return this.#engine.close()
  }

  /** @throws {UnsupportedError} for a size that the model's processor refuses. */
  of({ width, height }: Size): Promise<ViewOfSize> {
    const key = `${width}x${height}`
    const known = this.#sizes.get(key) ?? this.#ofSize(width, height)
    this.#sizes.set(key, known)
    return known
  }

  /** Noise as coarse as the model's pixels, of standard deviation 1 in its view. */
  async noise(size: Size, seed: number): Promise<NoiseAt> {
    const view = await this.of(size)
    return coarseNoise(view, size.width, seed, await view.gain())
  }

  /**
   * Standard deviation, in the model's view, of what a twin changes inside the mask, in grey levels of 0-255: over pixels of
   * the view that lie in the mask by half or more. `null` where the model sees nothing of the mask.
   */
  async sigma(clean: PixelImage, twin: PixelImage, mask: Mask | null): Promise<number | null> {
    const { black } = await this.of(clean)
    const covered = await this.#view({ ...clean, rgb: whiteInside(clean, mask) })
    const coverage = covered.rgb.map((value, at) => Math.abs(value - black[at]))
    // A lesion of less than half a pixel of the view is where it covers most.
    const half = Math.min(
      128,
      coverage.reduce((most, value) => Math.max(most, value), 0),
    )
    const [before, after] = [await this.#view(clean), await this.#view(twin)]
    let [count, sum, squares] = [0, 0, 0]
    for (let at = 0; at < coverage.length; at += 1) {
      if (half === 0 || coverage[at] < half) continue
      const change = after.rgb[at] - before.rgb[at]
      count += 1
      sum += change
      squares += change * change
    }
    return count === 0 ? null : Math.sqrt(Math.max(0, squares / count - (sum / count) ** 2))
  }

  async #ofSize(width: number, height: number): Promise<ViewOfSize> {
    const black = await this.#view({ width, height, rgb: new Uint8Array(width * height * 3) })
    let gain: Promise<number> | undefined
    return { ...black, black: black.rgb, gain: () => (gain ??= this.#gain({ width, height }, black)) }
  }

  async #gain(size: Size, view: ViewGrid): Promise<number> {
    const grey = { ...size, rgb: new Uint8Array(size.width * size.height * 3).fill(probe.grey) }
    const options = { sigma: probe.sigma, fallbackSigma: probe.sigma }
    const noisy = addLesionNoise(grey, null, options, probe.seed, coarseNoise(view, size.width, probe.seed))
    const seen = await this.sigma(grey, noisy, null)
    return seen === null || seen === 0 ? 1 : probe.sigma / seen
  }

  #view({ width, height, rgb }: PixelImage) {
    return this.#engine.viewImage({ id: 'view', width, height, rgb })
  }
}

function whiteInside({ width, height }: Size, mask: Mask | null): Uint8Array {
  const rgb = new Uint8Array(width * height * 3)
  if (!mask) return rgb.fill(255)
  for (const [pixel, value] of mask.inside.entries()) if (value) rgb.fill(255, 3 * pixel, 3 * pixel + 3)
  return rgb
}
