/** Seeded draws for benchmark inputs: a stream per name, so that adding a tensor changes no other. */

import { recordSeed } from '../corrupt/seed.js'
import { normals, philox4x32 } from '../random/philox.js'

export class Draws {
  readonly #key: [number, number]
  #counter = 0

  constructor(name: string, seed: number) {
    const mixed = recordSeed(name, seed)
    this.#key = [mixed >>> 0, Math.floor(mixed / 0x100000000)]
  }

  /** Uniform in [low, high). */
  uniform(low: number, high: number): number {
    const [word] = philox4x32([this.#counter++, 0, 0, 0], this.#key)
    return low + ((high - low) * word) / 0x100000000
  }

  /** Uniform integers in [low, high). */
  integers(count: number, low: number, high: number): number[] {
    return Array.from({ length: count }, () => Math.floor(this.uniform(low, high)))
  }

  uniforms(count: number, low: number, high: number): Float32Array {
    const values = new Float32Array(count)
    for (let i = 0; i < count; i += 4) {
      const words = philox4x32([this.#counter++, 0, 0, 0], this.#key)
      for (let j = 0; j < 4 && i + j < count; j++) values[i + j] = low + ((high - low) * words[j]) / 0x100000000
    }
    return values
  }

  normals(count: number, mean: number, deviation: number): Float32Array {
    const values = new Float32Array(count)
    for (let i = 0; i < count; i += 4) {
      const drawn = normals(this.#counter++, this.#key)
      for (let j = 0; j < 4 && i + j < count; j++) values[i + j] = mean + deviation * drawn[j]
    }
    return values
  }
}
