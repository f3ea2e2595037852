/**
 * What matrix products on Hopper should take, by arithmetic alone: tiles and their choice are those of
 * cuda/gemm_hopper_launch.cuh (both are held against test/cuda/hopper_tiles.json), the parts of gradients those of gemm_chunk in
 * cuda/gemm.h. Nothing here was measured but the two ceilings of a card (roofline.mjs). A measurement far from it says
 * that one of these assumptions is wrong:
 *
 *   - multiplying, a multiprocessor does its share of the measured rate of a large product;
 *   - a slice takes longer where tensor cores and TMA want more than 128 bytes of shared memory a clock;
 *   - tiles take whole rounds over the multiprocessors, or half of one (the tile is then half as wide);
 *   - writing a tile hides behind nothing, but behind the other block where a multiprocessor has two; it is so many
 *     instructions for each of a thread's sums (`instructions`);
 *   - a residual in bf16 arrives while the last slices are multiplied (TMA, a slot of the ring before it is wanted), and Y
 *     leaves while the next tile is: both take shared memory from the tensor cores, 2 bytes a sum each;
 *   - x under dropout takes shared memory twice more, read and written by the warps that drop, which have 610
 *     instructions for 128 lines of it (counted, as below);
 *   - a gradient in f32 is rounded at the rate of a copy, with nothing beside it;
 *   - a launch and its first slices take 2 microseconds;
 *   - nothing is faster than reading inputs once and writing the output once.
 */

const multiprocessors = 132
const clock = 1.755e9
const sharedBytes = 128
const slice = 64
const launch = 2e-6

/**
 * Of the code behind the last wgmma, for each of a thread's sums: counted with nvdisasm, nvcc 13.0, sm_90a, in the
 * kernels of 128 x 256 (436 and 823 for 128 sums, StagedEpilogue) and, for f32, 128 x 128 (520 for 64, PlainEpilogue). A
 * bias would be 3 more. With SwiGLU: 1004 (853 where gate and up are not kept, but one in eight goes through the special
 * function units, which take eight clocks for it: 1024) and 2830 for 128 sums.
 */
export const instructions = { staged: 3.4, residual: 6.4, plain: 8, gated: 8, gatedBackward: 22.1 }

/** Bytes of shared memory that pass to and from TMA for each sum. */
const passing = { staged: 2, residual: 4, plain: 0, gated: 3, gatedBackward: 10 }

const wide = { rows: 128, columns: 256, blocks: 1, halves: true }
const square = { rows: 128, columns: 128, blocks: 1 }
const narrow = { rows: 64, columns: 128, blocks: 2 }
const small = { rows: 64, columns: 32, blocks: 2 }

const along = (length, side) => Math.ceil(length / side)
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0)

/**
 * Products of one launch. `n` and `k`: of each product. `residual`: one is added, in bf16; `f32`: Y is; `dropped`: x is
 * under dropout; `parts` that are added afterwards, of A that was rounded before. `end`: what else becomes of the sums.
 */
const beside = (
  form,
  m,
  n,
  k,
  { rank = 0, residual = false, f32 = form === 'tn', dropped = false, parts, end } = {},
) => ({
  ...{ form, m, n, k, rank, residual, f32, dropped, parts, end },
})

export const linear = (m, outs, k, options) => [
  beside(
    'nt',
    m,
    outs,
    outs.map(() => k),
    options,
  ),
]

export const lora = (m, outs, k, rank, { dropped, ...options } = {}) => [
  ...linear(
    m,
    outs.map(() => rank),
    k,
    { dropped },
  ),
  ...linear(m, outs, k, { ...options, rank }),
]

export const loraBackward = (m, outs, k, rank, options) => [
  beside(
    'nn',
    m,
    outs.map(() => rank),
    outs,
  ),
  ...outs.flatMap((out) => [beside('tn', out, [rank], [m]), beside('tn', rank, [k], [m])]),
  beside('nn', m, [k], [sum(outs)], { ...options, rank: rank * outs.length }),
]

/** launch_gemm_rounded of cuda/gemm_launch.cuh: back through the head, as many parts at a time as the workspace holds. */
export function headBackward(m, n, k) {
  const [workspace, chunk] = [32 * 2 ** 20, 16384]
  const together = Math.floor((workspace / m - 4 * n) / (2 * chunk + 4 * n))
  return Array.from({ length: along(k, together * chunk) }, (_, i) => {
    const length = Math.min(together * chunk, k - i * together * chunk)
    return beside('nn', m, [n], [length], { f32: true, parts: along(length, chunk) })
  })
}

/** Gate and up with SwiGLU: tiles have as many columns of each, and their low-rank products half a tile's. */
export const gated = (m, out, k, rank) => {
  const low = rank > 0 ? linear(m, [rank, rank], k) : []
  return [...low, beside('nt', m, [2 * out], [k], { rank, end: 'gated' })]
}

export const gatedBackward = (m, out, k, rank) => {
  const launches = loraBackward(m, [out], k, rank)
  return launches.map((one, i) => (i + 1 < launches.length ? one : { ...one, end: 'gatedBackward' }))
}

const tilesOf = ({ m, n }, tile) => along(m, tile.rows) * sum(n.map((width) => along(width, tile.columns)))

/** with_tile of cuda/gemm_hopper_launch.cuh. */
export function tileOf(product) {
  const { form, m, n } = product
  if (form === 'tn') return square
  const enough = (tile) => 4 * tilesOf(product, tile) * (product.parts ?? 1) >= 3 * multiprocessors
  if (product.dropped) return enough(square) ? square : narrow
  if (m > 64 && Math.max(...n) > 128 && enough(wide)) return wide
  if (m > 64 && enough(square)) return square
  return form === 'nn' || enough(narrow) ? narrow : small
}

/** gemm_chunk of cuda/gemm.h, for gradients of weights. */
function partsOf({ form, m, n, k, parts: given }) {
  if (form !== 'tn') return given ?? 1
  const parts = Math.floor(Math.min(264 / (along(m, 128) * along(n[0], 128)), k[0] / 512))
  return parts <= 1 ? 1 : along(k[0], along(along(k[0], parts), slice) * slice)
}

/** What a slice of a tile takes, in times of its multiplications: shared memory, and dropping, of `lines` of it. */
function slowness({ rows, columns }, lines = 0) {
  const clocks = (rows * columns * slice) / 2048
  const read = (rows / 64) * (slice / 16) * (64 + columns) * 32
  const bytes = read + (rows + columns + 2 * lines) * 2 * slice
  return Math.max(1, bytes / (sharedBytes * clocks), (610 * lines) / 128 / clocks)
}

/** Tiles that a multiprocessor computes, one after the other or two at once, in times of a whole one. */
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
  const dropped = product.dropped ? (product.form === 'nt' ? tile.rows : tile.columns) : 0
  const rate = card.flops / multiprocessors / slowness(tile, dropped)
  const multiply = (slices * 2 * tile.rows * tile.columns * slice) / rate
  const sums = tile.rows * tile.columns
  const staged = !product.f32 && parts === 1 && tile !== small && !product.dropped
  const end = product.end ?? (!staged ? 'plain' : product.residual ? 'residual' : 'staged')
  const write = (instructions[end] * sums) / 32 / 4 / clock
  const pass = staged ? (passing[end] * sums) / sharedBytes / clock : 0
  const all = rounds(tilesOf(product, tile) * parts, tile)
  const round = product.parts ? launch + (6 * product.m * k[0]) / card.bytes : 0
  return (
    round + launch * (parts > 1 ? 2 : 1) + all * (multiply + pass) + (tile.blocks > 1 ? Math.min(all, 1) : all) * write
  )
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
