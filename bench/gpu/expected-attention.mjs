/**
 * What attention on Hopper should take, by arithmetic alone: tiles and their order are those of cuda/attention_hopper.cuh and
 * native/ops/attention_tables.cpp. Nothing here was measured. A step of 64 keys takes the longest of
 *
 *   - its products, 2,048 multiplications a clock;
 *   - what they read of shared memory and what is copied there, 128 bytes a clock;
 *   - instructions, one a clock for each of four schedulers, counted in the compiled kernels: a scheduler has a warp of each
 *     consumer and one of the producer. A step that ends behind the last key of a row has a comparison for each score.
 *
 * A tile has its first weights and the writing of its rows on top, which hide behind nothing.
 */

const multiprocessors = 132
const clock = 1.755e9
const tableRows = 64
const packedRows = 128
const stepKeys = 64
const launch = 2e-6

/** Instructions of a warp for a step; `masked`: so many more where not every row sees every key. */
const instructions = {
  64: { consumer: 288, producer: 132 },
  80: { consumer: 305, producer: 262 },
  128: { consumer: 341, producer: 245 },
}
const masked = 67
const tileInstructions = { weights: 215, rows: 600 }

const along = (length, side) => Math.ceil(length / side)

/** Tiles of the table: `keys` that the last row sees, as many as all of them or one more each. */
function tableTiles(spans) {
  const tiles = spans.flatMap(({ rows, context, causal }, span) =>
    Array.from({ length: along(rows, tableRows) }, (_, i) => {
      const end = Math.min(rows, (i + 1) * tableRows)
      return { span, first: i * tableRows, end, rows, context, causal, keys: context + (causal ? end : rows) }
    }),
  )
  return tiles.sort((a, b) => b.keys - a.keys)
}

/** Items in the order in which blocks take them: rows and keys of each, none of which may be 0. */
function itemsOf(spans, group, kvHeads) {
  const tokens = Math.floor(packedRows / group)
  const parts = along(tableRows, tokens)
  return tableTiles(spans).flatMap((tile) => {
    const ranges = Array.from({ length: parts }, (_, part) => {
      if (tokens <= tableRows) {
        const first = tile.first + part * tokens
        return { first, end: Math.min(first + tokens, tile.end) }
      }
      const second = tile.first % tokens !== 0
      if (!second && tile.rows > tile.end) return { first: 0, end: 0 }
      return { first: second ? tile.first - tableRows : tile.first, end: tile.end }
    })
    return ranges.flatMap(({ first, end }) => {
      const rows = Math.max(0, end - first)
      const seen = rows === 0 ? 0 : tile.context + (tile.causal ? end : tile.rows)
      const everyRow = tile.causal ? tile.context + first + 1 : seen
      return Array.from({ length: kvHeads }, () => ({ rows, seen, everyRow }))
    })
  })
}

/** Clocks of a tile of forward. */
function tileClocks({ rows, seen, everyRow }, width) {
  if (rows === 0) return 0
  const padded = width <= 64 ? 64 : width <= 80 ? 80 : 128
  const { consumer, producer } = instructions[padded]
  const products = (2 * packedRows * stepKeys * padded) / 2048
  const box = stepKeys * 2 * padded
  const shared = (2 * 2 * box + 2 * box) / 128
  const step = (more) => Math.max(products, shared, 2 * (consumer + more) + producer)
  const steps = along(seen, stepKeys)
  const whole = Math.min(steps, Math.floor(everyRow / stepKeys))
  return whole * step(0) + (steps - whole) * step(masked) + 2 * (tileInstructions.weights + tileInstructions.rows)
}

/**
 * @param {{ rows: number, context: number, causal: boolean }[]} spans rows that see `context` keys before, and their own
 * @returns {{ seconds: number }[]} as expected.mjs takes launches
 */
export function attention(spans, heads, kvHeads, width) {
  const blocks = new Array(multiprocessors).fill(0)
  for (const [i, item] of itemsOf(spans, heads / kvHeads, kvHeads).entries())
    blocks[i % multiprocessors] += tileClocks(item, width)
  return [{ seconds: launch + Math.max(...blocks) / clock }]
}
