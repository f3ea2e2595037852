/**
 * What attention on Hopper should take, by arithmetic alone: tiles and their order are those of cuda/attention_hopper.cuh and
 * native/ops/attention_tables.cpp. Nothing here was measured. A step of 64 keys, for dk and dv of 64 queries, takes the
 * longest of
 *
 *   - its products, 2,048 multiplications a clock;
 *   - what they read of shared memory and what is copied there, 128 bytes a clock;
 *   - instructions, one a clock for each of four schedulers, counted in the compiled kernels: a scheduler has a warp of each
 *     consumer and one of the producer. A step that ends behind the last key of a row has a comparison for each score.
 *
 * A tile has its first weights and the writing of its rows on top, which hide behind nothing. What is read before and
 * written beside them, for delta and the zeros of keys that nobody sees, takes as long as a copy.
 */

const multiprocessors = 132
const clock = 1.755e9
const tableRows = 64
const packedRows = 128
const stepKeys = 64
const launch = 2e-6

/**
 * Products of a step, and the boxes of 64 rows that it reads or writes in shared memory. Instructions of a warp for a
 * step; `masked`: so many more where not every row sees every key; `tile`: for a tile.
 */
const passes = {
  forward: { products: 2, boxes: 6, consumer: { 64: 288, 80: 305, 128: 341 }, masked: 67, tile: 215 + 600 },
  queries: { products: 3, boxes: 10, consumer: { 64: 239, 80: 251, 128: 281 }, masked: 69, tile: 600 },
}
const producer = { 64: 132, 80: 262, 128: 245 }
/** Of dk and dv, where each consumer may pass over a step: what it has of it, and what both have together. */
const keyPass = {
  products: 4,
  boxes: 6,
  brought: 2,
  consumer: { 64: 330, 80: 345, 128: 381 },
  producer: { 64: 330, 80: 405, 128: 436 },
  tile: 1000,
}
const runRows = 16

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

const paddedWidth = (width) => (width <= 64 ? 64 : width <= 80 ? 80 : 128)
const boxBytes = (width) => stepKeys * 2 * paddedWidth(width)

/** Clocks of a tile of packed rows. */
function tileClocks({ rows, seen, everyRow }, width, pass) {
  if (rows === 0) return 0
  const padded = paddedWidth(width)
  const products = (pass.products * packedRows * stepKeys * padded) / 2048
  const shared = (pass.boxes * boxBytes(width)) / 128
  const step = (more) => Math.max(products, shared, 2 * (pass.consumer[padded] + more) + producer[padded])
  const steps = along(seen, stepKeys)
  const whole = Math.min(steps, Math.floor(everyRow / stepKeys))
  return whole * step(0) + (steps - whole) * step(pass.masked) + 2 * pass.tile
}

/** Of spans behind one another those that share keys: a span without context, and all with a context behind it. */
function groupsOf(spans) {
  const groups = []
  for (const span of spans) {
    if (span.context === 0) groups.push([])
    const before = groups.at(-1).at(-1)
    groups.at(-1).push({ ...span, begin: before ? before.begin + before.rows : 0 })
  }
  return groups
}

/** Runs of 16 rows that see a key of [begin, end), and some that do not: those of each span from the first that does. */
function runsOf(group, begin, end) {
  return group.reduce((total, span) => {
    const ownEnd = span.begin + span.rows
    if (begin < span.context || (!span.causal && begin < ownEnd && end > span.begin)) {
      return total + along(span.rows, runRows)
    }
    if (begin >= ownEnd || end <= span.begin) return total
    const first = Math.max(0, begin - span.begin)
    return total + along(span.rows, runRows) - Math.floor(first / runRows)
  }, 0)
}

/** Pairs of key tiles in the order of the table, the rest behind them: runs that see a tile of both, and of each. */
function keyPairs(spans) {
  const pairs = groupsOf(spans).flatMap((group) => {
    const keys = group.reduce((sum, { rows }) => sum + rows, 0)
    return Array.from({ length: along(keys, packedRows) }, (_, i) => {
      const begin = i * packedRows
      const middle = Math.min(begin + tableRows, keys)
      const end = Math.min(begin + packedRows, keys)
      const each = [runsOf(group, begin, middle), middle < end ? runsOf(group, middle, end) : 0]
      return { both: runsOf(group, begin, end), each }
    })
  })
  return pairs.sort((a, b) => b.both - a.both)
}

/** Clocks of a pair of key tiles. */
function pairClocks({ both, each }, group, width) {
  const padded = paddedWidth(width)
  const stepsOf = (runs) => along(group * runs, stepKeys / runRows)
  const steps = stepsOf(both)
  const busy = stepsOf(each[0]) + stepsOf(each[1])
  const products = (busy * keyPass.products * tableRows * stepKeys * padded) / 2048
  const shared = ((busy * keyPass.boxes + steps * keyPass.brought) * boxBytes(width)) / 128
  const issued = busy * keyPass.consumer[padded] + steps * keyPass.producer[padded]
  return Math.max(products, shared, issued) + 2 * keyPass.tile
}

/** The launch of these tiles, each block taking one after the other. */
function launchOf(clocks) {
  const blocks = new Array(multiprocessors).fill(0)
  for (const [i, one] of clocks.entries()) blocks[i % multiprocessors] += one
  return { seconds: launch + Math.max(...blocks) / clock }
}

const ofRows = (spans, heads, kvHeads, width, pass) =>
  launchOf(itemsOf(spans, heads / kvHeads, kvHeads).map((item) => tileClocks(item, width, pass)))

/**
 * @param {{ rows: number, context: number, causal: boolean }[]} spans rows that see `context` keys before, and their own
 * @returns {{ seconds: number }[]} as expected.mjs takes launches
 */
export function attention(spans, heads, kvHeads, width) {
  return [ofRows(spans, heads, kvHeads, width, passes.forward)]
}

/** Backward: delta and zeros, dq, dk and dv; keys are those of the spans, one behind the other. */
export function attentionBackward(spans, heads, kvHeads, width) {
  const rows = spans.reduce((sum, span) => sum + span.rows, 0)
  const pairs = keyPairs(spans).flatMap((pair) => new Array(kvHeads).fill(pairClocks(pair, heads / kvHeads, width)))
  return [
    { seconds: launch, bytes: rows * heads * (4 * width + 4) },
    { seconds: launch, bytes: 4 * rows * kvHeads * width },
    ofRows(spans, heads, kvHeads, width, passes.queries),
    launchOf(pairs),
  ]
}
