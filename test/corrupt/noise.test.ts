import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { addLesionNoise, PUBLISHED_NOISE, recordSeed } from '../../src/corrupt/index.js'
import { normals, philox4x32 } from '../../src/random/philox.js'

const hex = (words: number[]) => words.map((word) => word.toString(16).padStart(8, '0')).join(' ')

function grey(width: number, height: number, level = 128) {
  return { width, height, rgb: new Uint8Array(width * height * 3).fill(level) }
}

function box(width: number, height: number, x: number, y: number, w: number, h: number): Uint8Array {
  return Uint8Array.from({ length: width * height }, (_, i) => {
    const [px, py] = [i % width, Math.floor(i / width)]
    return px >= x && px < x + w && py >= y && py < y + h ? 255 : 0
  })
}

describe('philox4x32', () => {
  it('gives the known answers of its authors', () => {
    expect(hex(philox4x32([0, 0, 0, 0], [0, 0]))).toBe('6627e8d5 e169c58d bc57ac4c 9b00dbd8')
    const ones = 0xffffffff
    expect(hex(philox4x32([ones, ones, ones, ones], [ones, ones]))).toBe('408f276d 41c83b0e a20bc7c6 6d5451fd')
    expect(hex(philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]))).toBe(
      'd16cfe09 94fdcceb 5001e420 24126ea1',
    )
  })
})

describe('normals', () => {
  it('has the moments of a standard normal', () => {
    const draws = Array.from({ length: 25_000 }, (_, i) => normals(i, [1, 2])).flat()
    const mean = (f: (x: number) => number) => draws.reduce((sum, x) => sum + f(x), 0) / draws.length
    expect(mean((x) => x)).toBeCloseTo(0, 1.5)
    expect(mean((x) => x * x)).toBeCloseTo(1, 1.5)
    expect(mean((x) => x ** 4)).toBeCloseTo(3, 0.5)
    expect(draws.every(Number.isFinite)).toBe(true)
  })
})

describe('addLesionNoise', () => {
  const image = grey(32, 24)
  const mask = box(32, 24, 5, 6, 10, 8)

  it('leaves every byte outside the mask as it was and changes what is inside', () => {
    const textured = { ...image, rgb: image.rgb.map((_, i) => (i * 37) % 256) }
    const result = addLesionNoise(textured, mask, PUBLISHED_NOISE, 11)
    let changed = 0
    for (let i = 0; i < textured.rgb.length; i++) {
      if (!mask[Math.floor(i / 3)]) expect(result.rgb[i]).toBe(textured.rgb[i])
      else if (result.rgb[i] !== textured.rgb[i]) changed++
    }
    expect(changed).toBeGreaterThan(0.8 * 80 * 3)
    expect(result).toMatchObject({ method: 'lesion-noise', sigma: 45, seed: 11, pixels: 80 })
  })

  it('is the same noise everywhere, every time', () => {
    const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
    const first = addLesionNoise(image, mask, PUBLISHED_NOISE, recordSeed('pair-1', 0))
    expect(digest(first.rgb)).toBe(digest(addLesionNoise(image, mask, PUBLISHED_NOISE, recordSeed('pair-1', 0)).rgb))
    expect(digest(first.rgb)).toBe('2ebea363c04d1dbde8a89758624a6a92a86c8f53bc2fe9f60d88363f0fff8c94')
    expect(digest(first.rgb)).not.toBe(
      digest(addLesionNoise(image, mask, PUBLISHED_NOISE, recordSeed('pair-2', 0)).rgb),
    )
  })

  it('draws the noise of a pixel from its place, not from the mask around it', () => {
    const [small, large] = [box(32, 24, 8, 8, 3, 3), box(32, 24, 2, 2, 20, 20)]
    const [a, b] = [small, large].map((m) => addLesionNoise(image, m, PUBLISHED_NOISE, 5).rgb)
    const at = (9 * 32 + 9) * 3
    expect([...a.slice(at, at + 3)]).toEqual([...b.slice(at, at + 3)])
    expect(new Set(a.slice(at, at + 3)).size).toBeGreaterThan(1) // Channels are independent.
  })

  it.each([null, new Uint8Array(32 * 24)])('falls back to faint noise on the whole image', (empty) => {
    const result = addLesionNoise(image, empty, PUBLISHED_NOISE, 5)
    expect(result).toMatchObject({ method: 'image-noise', sigma: 12, pixels: 32 * 24 })
    const deviation = Math.sqrt(result.rgb.reduce((sum, v) => sum + (v - 127.5) ** 2, 0) / result.rgb.length)
    expect(deviation).toBeGreaterThan(11)
    expect(deviation).toBeLessThan(13)
  })

  it('clips at black and white and truncates', () => {
    const [black, white] = [grey(16, 16, 0), grey(16, 16, 255)].map(
      (i) => addLesionNoise(i, null, { sigma: 1, fallbackSigma: 400 }, 1).rgb,
    )
    expect(black.filter((v) => v === 0).length).toBeGreaterThan(300)
    expect(white.filter((v) => v === 255).length).toBeGreaterThan(300)
    // Truncation moves a mean of 128 down by half a level; rounding would not.
    const mean =
      addLesionNoise(grey(64, 64), null, { sigma: 1, fallbackSigma: 20 }, 2).rgb.reduce((s, v) => s + v, 0) /
      (64 * 64 * 3)
    expect(mean).toBeGreaterThan(127)
    expect(mean).toBeLessThan(128)
  })

  it('refuses sizes and deviations that make no sense', () => {
    expect(() => addLesionNoise({ ...image, width: 31 }, null, PUBLISHED_NOISE, 0)).toThrow('bytes')
    expect(() => addLesionNoise(image, new Uint8Array(3), PUBLISHED_NOISE, 0)).toThrow('mask')
    expect(() => addLesionNoise(image, mask, { sigma: 0, fallbackSigma: 1 }, 0)).toThrow('sigma')
  })
})
