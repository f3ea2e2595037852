/**
 * The least that each operation of native/ops/ops.h can do: every input read once, every output written once, and the
 * arithmetic of matrix products and attention. The same formulas as bench/gpu/cases.cpp; a results file whose numbers
 * differ from these is refused by the sheet.
 *
 * `a` is the width of the activation type in bytes.
 */

const times = (...dims) => dims.reduce((product, extent) => product * extent, 1)

export const costs = (a) => ({
  /** y[m, n] = x[m, k] W[n, k]^T. `x`, `y`: widths where they are not activations. */
  linear: (m, n, k, { bias = false, residual = false, accumulate = false, x = a, y = a } = {}) => ({
    bytes:
      x * times(m, k) +
      a * times(n, k) +
      y * times(m, n) * (accumulate ? 2 : 1) +
      a * (residual ? times(m, n) : 0) +
      4 * (bias ? n : 0),
    flops: 2 * times(m, n, k),
  }),
  /** `dropped`: with a mask, a bit an element of x, and the keys of rows that it is drawn from. */
  lora: (m, n, k, r, { residual = false, dropped = false } = {}) => ({
    bytes:
      a * (times(m, k) + times(n, k) + times(m, r) + times(m, n) * (residual ? 2 : 1) + times(r, k) + times(n, r)) +
      (dropped ? 4 * times(m, Math.ceil(k / 32)) + 8 * m : 0),
    flops: 2 * (times(m, n, k) + times(m, k, r) + times(m, n, r)),
  }),
  /** dx [m, k] may be absent: below the first layer nothing trains. */
  loraBackward: (m, n, k, r, { dx = true, accumulate = false } = {}) => ({
    bytes:
      a * (times(m, n) + times(m, k) + times(2, m, r) + (dx ? times(n, k) + times(m, k) * (accumulate ? 2 : 1) : 0)) +
      (8 + a) * (times(r, k) + times(n, r)),
    flops: 2 * (times(m, k, r) + times(2, m, n, r) + (dx ? times(m, n, k) + times(m, k, r) : 0)),
  }),
  embedding: (t, h) => ({ bytes: a * times(2, t, h) + 4 * t, flops: 0 }),
  gatherRows: (rows, h, width = a) => ({ bytes: width * times(2, rows, h) + 4 * rows, flops: 0 }),
  scatterRows: (rows, h) => ({ bytes: a * times(2, rows, h) + 4 * rows, flops: 0 }),
  scatterAddRows: (rows, h) => ({ bytes: a * times(3, rows, h) + 4 * rows, flops: 0 }),
  add: (t, h) => ({ bytes: a * times(3, t, h), flops: 0 }),
  rmsNorm: (t, h, { rstd = true } = {}) => ({ bytes: a * times(2, t, h) + 4 * h + (rstd ? 4 * t : 0), flops: 0 }),
  rmsNormBackward: (t, h, { dy = a, residual = true } = {}) => ({
    bytes: dy * times(t, h) + a * times(residual ? 3 : 2, t, h) + 4 * h + 4 * t,
    flops: 0,
  }),
  layerNorm: (t, h) => ({ bytes: a * times(2, t, h) + 8 * h, flops: 0 }),
  rotaryTable: (t, d, axes) => ({ bytes: 8 * times(t, d) + 4 * axes * t, flops: 0 }),
  rope: (t, n, d) => ({ bytes: a * times(2, t, n, d) + 8 * times(t, d), flops: 0 }),
  normRope: (t, n, d, { rstd = true } = {}) => ({
    bytes: a * times(2, t, n, d) + 4 * (times(2, t, d) + (rstd ? times(t, n) : 0) + d),
    flops: 0,
  }),
  normRopeBackward: (t, n, d) => ({
    bytes: a * times(3, t, n, d) + 4 * (times(2, t, d) + times(t, n) + d),
    flops: 0,
  }),
  swiglu: (t, i) => ({ bytes: a * times(3, t, i), flops: 0 }),
  swigluBackward: (t, i) => ({ bytes: a * times(5, t, i), flops: 0 }),
  gelu: (t, i) => ({ bytes: a * times(2, t, i), flops: 0 }),
  /** `seen`: query-key pairs that see each other, of one head. */
  attention: (q, k, n, kv, d, seen, { lse = true } = {}) => ({
    bytes: a * (times(2, q, n, d) + times(2, k, kv, d)) + (lse ? 4 * times(q, n) : 0),
    flops: 4 * times(seen, n, d),
  }),
  attentionBackward: (q, k, n, kv, d, seen) => ({
    bytes: a * (times(4, q, n, d) + times(4, k, kv, d)) + 8 * times(q, n),
    flops: 10 * times(seen, n, d),
  }),
  preferenceStatistics: (p, v, targets) => ({
    bytes: 8 * times(p, v) + 48 * times(p, Math.ceil(v / vocabularySlice)) + 16 * targets,
    flops: 0,
  }),
  preferenceBackward: (p, v, targets) => ({ bytes: 12 * times(p, v) + 24 * p + 12 * targets, flops: 0 }),
  /** Gradients are read twice: the update needs their norm. In bf16 the parameters are written in both types. */
  adamw: (count) => ({ bytes: (32 + (a < 4 ? a : 0)) * count, flops: 0 }),
  zero: (count) => ({ bytes: 4 * count, flops: 0 }),
  sample: (rows, v) => ({ bytes: 4 * times(rows, v), flops: 0 }),
})

/** Linears of one x as one operation: the `shared` bytes, x and on the way back dx, count once. */
export function branches(parts, shared) {
  const sum = (key) => parts.reduce((total, part) => total + part[key], 0)
  return { bytes: sum('bytes') - (parts.length - 1) * shared, flops: sum('flops') }
}

/** Gate and up (`parts`, of the same x) with SwiGLU; `size`: bytes of one of the three. Not kept, only the product is written. */
export function gated(parts, shared, size, keeps) {
  const { bytes, flops } = branches(parts, shared)
  return { bytes: bytes + (keeps ? size : -size), flops }
}

/** Back through down (`part`) and SwiGLU: in the place of x and dx gate and up are read and their gradients written. */
export function gatedBackward({ bytes, flops }, size) {
  return { bytes: bytes + 2 * size, flops }
}

/** native/ops/ops.h, vocabulary_slice. */
export const vocabularySlice = 8192
