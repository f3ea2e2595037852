/** The bundled model's folder as transformers' AutoProcessor opens it: its tokens and pixel values are ours, bit for bit. */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Engine, openEngine } from '../../src/engine/engine.js'
import { Chat } from '../../src/text/chat.js'

const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const model = at('models/phantom')
const cases: { seeds: number[]; question: string; ids: number[]; pixelsSha256: string | null }[] = JSON.parse(
  readFileSync(at('test/phantom/processor.json'), 'utf8'),
)
const size = 96

/** The pictures of generate_processor.py. */
function picture(seed: number): Uint8Array {
  return Uint8Array.from({ length: 3 * size * size }, (_, i) => {
    const [x, y] = [Math.floor(i / 3) % size, Math.floor(i / 3 / size)]
    return (7 * x + 13 * y + seed * x * y) % 256
  })
}

/** Normalised to -1…1, cut into patches of 8, twice for the two frames, in the order in which 2 x 2 of them are merged. */
function patchesOf(rgb: Uint8Array): Float32Array {
  const [patch, merge, frames] = [8, 2, 2]
  const cells = size / (patch * merge)
  const values: number[] = []
  const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i)
  for (const row of range(cells))
    for (const column of range(cells))
      for (const down of range(merge))
        for (const right of range(merge))
          for (const channel of range(3))
            for (const _ of range(frames))
              for (const y of range(patch))
                for (const x of range(patch)) {
                  const at = [row, column].map((cell, i) => (cell * merge + [down, right][i]) * patch + [y, x][i])
                  values.push((rgb[3 * (at[0] * size + at[1]) + channel] / 255 - 0.5) / 0.5)
                }
  return Float32Array.from(values)
}

const ready = existsSync(at('build/Release/fire.node')) && existsSync(at('models/phantom/model.safetensors'))

describe.skipIf(!ready)('AutoProcessor of transformers on the bundled model', () => {
  let engine: Engine
  let chat: Chat
  beforeAll(async () => {
    engine = await openEngine({ model, adapter: null, device: 'cpu' })
    chat = await Chat.load(model, engine.info)
  })
  afterAll(() => engine.close())

  it.each(cases)('reads $question as we do', async ({ seeds, question, ids, pixelsSha256 }) => {
    const tokens = seeds.map(() => engine.imageTokens(size, size))
    expect([...chat.promptIds(question, tokens)]).toEqual(ids)
    const hash = createHash('sha256')
    for (const seed of seeds) {
      const view = await engine.viewImage({ id: String(seed), width: size, height: size, rgb: picture(seed) })
      hash.update(patchesOf(view.rgb))
    }
    expect(seeds.length === 0 ? null : hash.digest('hex')).toBe(pixelsSha256)
  })
})
