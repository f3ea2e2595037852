/**
 * A small seeded generator (xoshiro128**, seeded through splitmix32). Integer arithmetic only, so that every machine
 * draws the same numbers; streams that belong to different labels do not overlap in practice.
 */
export class Rng {
  private readonly s: Uint32Array

  constructor(...labels: (number | string)[]) {
    let h = 0x9e3779b9
    for (const label of labels) h = mixLabel(h, String(label))
    this.s = new Uint32Array(4)
    for (let i = 0; i < 4; i++) {
      h = (h + 0x9e3779b9) | 0
      this.s[i] = finalize(h)
    }
  }

  /** The next 32 random bits. */
  next(): number {
    const s = this.s as unknown as [number, number, number, number]
    const result = Math.imul(rotl(Math.imul(s[1], 5), 7), 9) >>> 0
    const t = s[1] << 9
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= t
    s[3] = rotl(s[3], 11)
    return result
  }

  /** Uniform in [0, 1). */
  float(): number {
    return this.next() / 4294967296
  }

  /** Uniform in [low, high). */
  between(low: number, high: number): number {
    return low + (high - low) * this.float()
  }

  /** Uniform integer in [0, n). */
  int(n: number): number {
    return Math.floor(this.float() * n)
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.float() < probability
  }

  /** One item, all equally likely. @throws RangeError when there is none. */
  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new RangeError('Rng.pick needs at least one item')
    return items[this.int(items.length)] as T
  }

  /** A copy in random order (Fisher-Yates). */
  shuffle<T>(items: readonly T[]): T[] {
    const out = [...items]
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.int(i + 1)
      const held = out[i] as T
      out[i] = out[j] as T
      out[j] = held
    }
    return out
  }

  /** Near-normal, mean 0 and variance 1: the sum of four uniforms. No logarithm, whose last bit may differ by machine. */
  gauss(): number {
    return (this.float() + this.float() + this.float() + this.float() - 2) * 1.7320508075688772
  }
}

function rotl(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k))
}

function finalize(x: number): number {
  let h = x
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** FNV-1a over the label's UTF-16 units and its length, so that ('ab', 'c') and ('a', 'bc') part ways. */
function mixLabel(seed: number, label: string): number {
  let h = seed
  for (let i = 0; i < label.length; i++) h = Math.imul(h ^ label.charCodeAt(i), 0x01000193)
  return finalize(h ^ label.length)
}
