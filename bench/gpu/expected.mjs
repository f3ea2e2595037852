/**
 * What matrix products on Hopper should take, by arithmetic alone: tiles and their choice are those of
 * cuda/gemm_hopper.cu, the parts of gradients those of gemm_chunk in cuda/gemm.h. Nothing here was measured but the two
 * ceilings of a card (roofline.mjs). A measurement far from it says that one of these assumptions is wrong:
 *
 *   - multiplying, a multiprocessor does its share of the measured rate of a large product;
 *   - a slice takes longer where tensor cores and TMA want more than 128 bytes of shared memory a clock;
 *   - tiles take whole rounds over the multiprocessors, or half of one (the tile is then half as wide);
 *   - writing a tile, thirteen instructions for each of a thread's sums (counted in the compiled kernel), hides behind
 *     nothing; waiting for a residual comes on top and is not in it;
 *   - a launch and its first slices take 2 microseconds;
 *   - nothing is faster than reading inputs once and writing the output once.
 */

const multiprocessors = 132
const clock = 1.755e9
const slice = 64
const launch = 2e-6

const wide = { rows: 128, columns: 256, halves: true }
const square = { rows: 128, columns: 128 }
const narrow = { rows: 64, columns: 128 }
const small = { rows: 64, columns: 32 }

const along = (length, side) => Math.ceil(length / side)
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0)

/** Products of one launch. `n` and `k`: of each product; `terms`: they are one sum, of as many columns as the first. */
const beside = (form, m, n, k, rank = 0) => ({ form, m, n, k, rank })

export const linear = (m, outs, k) => [
  beside(
    'nt',
    m,
    outs,
    outs.map(() => k),
  ),
]

export const lora = (m, outs, k, rank) => [
  ...linear(
    m,
    outs.map(() => rank),
    k,
  ),
  ...linear(m, outs, k).map((product) => ({ ...product, rank })),
]

export const loraBackward = (m, outs, k, rank) => [
  beside(
    'nn',
    m,
    outs.map(() => rank),
    outs,
  ),
  ...outs.flatMap((out) => [beside('tn', out, [rank], [m]), beside('tn', rank, [k], [m])]),
  beside('nn', m, [k], [sum(outs)], rank * outs.length),
]

const tilesOf = ({ m, n }, tile) => along(m, tile.rows) * sum(n.map((width) => along(width, tile.columns)))

/** launch_form of cuda/gemm_hopper.cu. */
export function tileOf(product) {
  const { form, m, n } = product
  if (form === 'tn') return square
  const enough = (tile) => 4 * tilesOf(product, tile) >= 3 * multiprocessors
  if (m > 64 && Math.max(...n) > 128 && enough(wide)) return wide
  if (m > 64 && enough(square)) return square
  return form === 'nn' || enough(narrow) ? narrow : small
}

/** gemm_chunk of cuda/gemm.h, for gradients of weights. */
function partsOf({ form, m, n, k }) {
  if (form !== 'tn') return 1
  const parts = Math.floor(Math.min(264 / (along(m, 128) * along(n[0], 128)), k[0] / 512))
  return parts <= 1 ? 1 : along(k[0], along(along(k[0], parts), slice) * slice)
}

/** Bytes of shared memory that a slice of a tile takes, read by its consumers and written by TMA, over 128 a clock. */
function slowness({ rows, columns }) {
  const clocks = (rows * columns * slice) / 2048
  const read = (rows / 64) * (slice / 16) * (64 + columns) * 32
  return Math.max(1, (read + (rows + columns) * 2 * slice) / (128 * clocks))
}

/** Rounds of all blocks, in times of a whole tile. */
function rounds(count, tile) {
  const left = count % multiprocessors
  if (left === 0) return count / multiprocessors
  if (!tile.halves || 2 * left > multiprocessors) return along(count, multiprocessors)
  return Math.floor(count / multiprocessors) + slowness(square) / slowness(wide) / 2
}

function launchSeconds(product, card) {
  const { n, k, rank } = product
  const tile = tileOf(product)
  const parts = partsOf(product)
  // Side by side products of other lengths share the blocks as evenly as one of their mean length.
  const weight = n.map((width) => along(width, tile.columns))
  const mean = sum(k.map((length, i) => along(length, slice) * weight[i])) / sum(weight) / parts
  const slices = mean + along(rank, slice)
  const rate = card.flops / multiprocessors / slowness(tile)
  const multiply = (slices * 2 * tile.rows * tile.columns * slice) / rate
  const write = (13 * tile.rows * tile.columns) / 32 / 4 / clock
  return launch * (parts > 1 ? 2 : 1) + rounds(tilesOf(product, tile) * parts, tile) * (multiply + write)
}

/**
 * Milliseconds of an operation that is these launches, products or others of so many `seconds` and `bytes` to copy, and
 * moves so many bytes.
 */
export function expected(launches, bytes, card) {
  const copied = ({ bytes: some = 0 }) => some / card.bytes
  const seconds = (one) => (one.seconds === undefined ? launchSeconds(one, card) : one.seconds + copied(one))
  return 1e3 * Math.max(sum(launches.map(seconds)), bytes / card.bytes)
}
