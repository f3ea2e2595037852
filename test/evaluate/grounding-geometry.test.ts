/** Boxes through the geometry of a real family: LLaVA pads an image to a square, and the box must follow it. */
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { openEngine } from '../../src/engine/engine.js'
import { gridOf } from '../../src/evaluate/attention.js'
import { type Box, touchedTokens } from '../../src/evaluate/grounding/boxes.js'
import { frameOf } from '../../src/evaluate/grounding/measure.js'

const model = fileURLToPath(new URL('../golden/llava_qwen2', import.meta.url))

/** Where the token that holds the brightest pixel of the view is, counted on the view alone. */
function brightestToken(view: { width: number; height: number; rgb: Uint8Array }, rows: number, columns: number) {
  let [at, most] = [0, -1]
  for (let pixel = 0; pixel < view.width * view.height; pixel++) {
    const light = view.rgb[3 * pixel] + view.rgb[3 * pixel + 1] + view.rgb[3 * pixel + 2]
    if (light > most) [at, most] = [pixel, light]
  }
  const [row, column] = [Math.floor(at / view.width), at % view.width]
  return Math.floor((row * rows) / view.height) * columns + Math.floor((column * columns) / view.width)
}

// A grid of 4 x 4 tokens over a square of 28 pixels: 7 of them a token.
it.each([
  // Wide, 14 rows of padding, 7 above: the first row of the image is in the second row of tokens.
  ['wide', { width: 28, height: 14 }, [3, 3], 4],
  ['wide', { width: 28, height: 14 }, [24, 10], 11],
  // Tall, 7 columns of padding on the left.
  ['tall', { width: 14, height: 28 }, [3, 3], 1],
  ['tall', { width: 14, height: 28 }, [10, 24], 14],
] as const)('a box of one pixel of a %s image marks the token that sees the pixel (%j, %j)', async (...each) => {
  const [, { width, height }, [x, y], expected] = each
  await using engine = await openEngine({ model })
  const rgb = new Uint8Array(3 * width * height)
  rgb.fill(255, 3 * (y * width + x), 3 * (y * width + x) + 3)
  const image = { id: 'one', width, height, rgb }
  const view = await engine.viewImage(image)
  const [features] = await engine.encodeImages([image])
  const { rows, columns } = gridOf(features)
  expect([rows, columns, view.width, view.height]).toEqual([4, 4, 56, 56])
  const box: Box = [x, y, x + 1, y + 1]
  const marked = (frame: Parameters<typeof touchedTokens>[1]) => {
    const region = touchedTokens([box], frame, { rows, columns })
    return [...region.keys()].filter((token) => region[token] > 0)
  }
  expect(brightestToken(view, rows, columns)).toBe(expected)
  expect(marked(frameOf(view))).toEqual([expected])
  // As if the image had been stretched, which is what the published script does, the box lands elsewhere.
  expect(marked({ left: 0, top: 0, width, height })).not.toEqual([expected])
})
