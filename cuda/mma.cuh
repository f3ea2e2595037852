// One warp's product of two tiles in shared memory: acc[16 MT x 8 NT] += A[16 MT x k] B[k x 8 NT], the common core of
// the matrix products and of attention.
//
// Where the elements lie (strides count elements; T = bf16 wants every row 16-byte aligned, that is, the pointer
// 16-byte aligned and the stride a multiple of 8):
//   A (m, k)   a[m * a_stride + k]   or   a[k * a_stride + m] when a_transposed
//   B (k, n)   b[n * b_stride + k]   or   b[k * b_stride + n] when b_transposed
// B without transposition is how weights lie: W[out, in] multiplies as x W^T. Without bank conflicts when the stride in
// bytes is 16 modulo 32.
//
// acc[i][j] is the 16 x 8 tile at (16 i, 8 j) in the register layout of C and D in ptx.cuh: with lane = 4 * g + t it
// holds (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). `tile_row` and `tile_column` say so in code.
//
// T = bf16 runs on the tensor cores, 16 of k a step. T = float is the exact path: one fused multiply-add an element of
// k, in rising order. In both, an element's sum depends on its row of A, its column of B and k alone, never on MT or
// NT.
//
// All 32 lanes must call. Blocks are one-dimensional (lane = threadIdx.x % 32).
#pragma once

#include "cuda/convert.cuh"
#include "cuda/gpu.h"
#include "cuda/ptx.cuh"

namespace fire::cuda {

/// Row within its 16 x 8 tile of register `i` of an accumulator, and the column.
__device__ inline int tile_row(int lane, int i) { return lane / 4 + 8 * (i / 2); }
__device__ inline int tile_column(int lane, int i) { return 2 * (lane % 4) + i % 2; }

/// A lane of a quad has columns 2 (lane % 4) and the next of four groups of eight; afterwards all eight columns of
/// group lane % 4, so that rows are read and written 16 bytes at a time.
__device__ inline void gather_row(float (&values)[8]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = lane & bit;
#pragma unroll
    for (int group = 0; group < 4; ++group) {
      if (group & bit) continue;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float &low = values[2 * group + e], &high = values[2 * (group + bit) + e];
        const float got = __shfl_xor_sync(0xffffffffu, upper ? low : high, bit);
        low = upper ? got : low;
        high = upper ? high : got;
      }
    }
  }
}

namespace detail {

/// The A fragments of rows [0, 16) and k [0, 16).
template <bool transposed>
__device__ inline void load_a(uint32_t (&fragment)[4], const bf16* a, int stride) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  if constexpr (transposed)
    ptx::ldmatrix_x4_trans(fragment, a + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
  else
    ptx::ldmatrix_x4(fragment, a + lane % 16 * stride + lane / 16 * 8);
}

/// The B fragments of k [0, 16) and columns [0, 16): registers 0 and 1 are those of columns [0, 8), 2 and 3 of [8, 16).
template <bool transposed>
__device__ inline void load_b(uint32_t (&fragment)[4], const bf16* b, int stride) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  if constexpr (transposed)
    ptx::ldmatrix_x4_trans(fragment, b + lane % 16 * stride + lane / 16 * 8);
  else
    ptx::ldmatrix_x4(fragment, b + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
}

template <bool b_transposed, int MT, int NT>
__device__ inline void multiply_fragments(float (&acc)[MT][NT][4], const uint32_t (&a)[MT][4], const bf16* b,
                                          int b_stride) {
  static_assert(NT % 2 == 0, "B is loaded two tiles at a time");
#pragma unroll
  for (int j = 0; j < NT; j += 2) {
    uint32_t fragment[4];
    load_b<b_transposed>(fragment, b + 8 * j * (b_transposed ? 1 : b_stride), b_stride);
#pragma unroll
    for (int i = 0; i < MT; ++i) {
      ptx::mma_bf16(acc[i][j], a[i], fragment[0], fragment[1]);
      ptx::mma_bf16(acc[i][j + 1], a[i], fragment[2], fragment[3]);
    }
  }
}

/// acc += a b of one k; a holds the rows g and g + 8 of each tile.
template <bool b_transposed, int MT, int NT>
__device__ inline void multiply_one(float (&acc)[MT][NT][4], const float (&a)[MT][2], const float* b, int b_stride) {
  const int column = tile_column(static_cast<int>(threadIdx.x % 32), 0);
#pragma unroll
  for (int j = 0; j < NT; ++j) {
    const float b0 = b[(8 * j + column) * (b_transposed ? 1 : b_stride)];
    const float b1 = b[(8 * j + column + 1) * (b_transposed ? 1 : b_stride)];
#pragma unroll
    for (int i = 0; i < MT; ++i) {
      acc[i][j][0] = fmaf(a[i][0], b0, acc[i][j][0]);
      acc[i][j][1] = fmaf(a[i][0], b1, acc[i][j][1]);
      acc[i][j][2] = fmaf(a[i][1], b0, acc[i][j][2]);
      acc[i][j][3] = fmaf(a[i][1], b1, acc[i][j][3]);
    }
  }
}

}  // namespace detail

/// acc += A B; k is a multiple of 16.
template <class T, bool a_transposed, bool b_transposed, int MT, int NT>
__device__ inline void warp_multiply(float (&acc)[MT][NT][4], const T* a, int a_stride, const T* b, int b_stride,
                                     int k) {
  if constexpr (sizeof(T) == sizeof(bf16)) {
#pragma unroll
    for (int step = 0; step < k; step += 16) {
      uint32_t fragments[MT][4];
#pragma unroll
      for (int i = 0; i < MT; ++i)
        detail::load_a<a_transposed>(
            fragments[i], a + (a_transposed ? step * a_stride + 16 * i : 16 * i * a_stride + step), a_stride);
      detail::multiply_fragments<b_transposed>(acc, fragments, b + step * (b_transposed ? b_stride : 1), b_stride);
    }
  } else {
    const int row = tile_row(static_cast<int>(threadIdx.x % 32), 0);
#pragma unroll 2
    for (int step = 0; step < k; ++step) {
      float values[MT][2];
#pragma unroll
      for (int i = 0; i < MT; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int m = 16 * i + 8 * half + row;
          values[i][half] = a_transposed ? a[step * a_stride + m] : a[m * a_stride + step];
        }
      detail::multiply_one<b_transposed>(acc, values, b + step * (b_transposed ? b_stride : 1), b_stride);
    }
  }
}

/// acc += P B with P[16 MT x 8 KT] in registers, laid out as an accumulator is (attention: the probabilities that a
/// product has just left there); KT is even. T = bf16 rounds P to bf16.
template <class T, bool b_transposed, int MT, int NT, int KT>
__device__ inline void warp_multiply_registers(float (&acc)[MT][NT][4], const float (&p)[MT][KT][4], const T* b,
                                               int b_stride) {
  static_assert(KT % 2 == 0, "k is a multiple of 16");
  if constexpr (sizeof(T) == sizeof(bf16)) {
#pragma unroll
    for (int step = 0; step < KT; step += 2) {
      uint32_t fragments[MT][4];
#pragma unroll
      for (int i = 0; i < MT; ++i) {
        fragments[i][0] = ptx::pack_bf16x2(p[i][step][0], p[i][step][1]);
        fragments[i][1] = ptx::pack_bf16x2(p[i][step][2], p[i][step][3]);
        fragments[i][2] = ptx::pack_bf16x2(p[i][step + 1][0], p[i][step + 1][1]);
        fragments[i][3] = ptx::pack_bf16x2(p[i][step + 1][2], p[i][step + 1][3]);
      }
      detail::multiply_fragments<b_transposed>(acc, fragments, b + 8 * step * (b_transposed ? b_stride : 1), b_stride);
    }
  } else {
    // Element (m, k) of a tile is register 2 * (m / 8) + k % 2 of lane 4 * (m % 8) + k / 2.
    const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
    for (int step = 0; step < 8 * KT; ++step) {
      float values[MT][2];
#pragma unroll
      for (int i = 0; i < MT; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          values[i][half] = __shfl_sync(0xffffffffu, p[i][step / 8][2 * half + step % 2], lane / 4 * 4 + step % 8 / 2);
      detail::multiply_one<b_transposed>(acc, values, b + step * (b_transposed ? b_stride : 1), b_stride);
    }
  }
}

}  // namespace fire::cuda
