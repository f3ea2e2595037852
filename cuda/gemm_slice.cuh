// The tiles of the matrix product and their slices: pieces of a factor, BK wide in k, on their way from global to
// shared memory. A slice lies in shared memory as it lies in global memory, whatever the form; mma.cuh reads it either
// way round.
//
// A factor takes one of two roads. `direct`: stored as the activation type with 16-byte aligned rows, copied by
// cp.async. Otherwise through registers, where it is widened, masked and rounded: f32 factors of a bf16 product,
// dropped inputs, and rows that are not aligned.
#pragma once

#include <algorithm>

#include "cuda/dropout.cuh"
#include "cuda/gemm.h"
#include "cuda/gpu.h"
#include "cuda/vector.cuh"

namespace fire::cuda::detail {

/// BM x BN by warps of WM x WN each, slices of `Bytes` of k, a ring of `Stages`. Registers are held down to those of
/// `Blocks` blocks on a multiprocessor when both factors are direct, else of `MixedBlocks`.
template <int BM_, int BN_, int WM_, int WN_, int Bytes, int Stages_, int Blocks, int MixedBlocks>
struct GemmTile {
  static constexpr int BM = BM_, BN = BN_, WM = WM_, WN = WN_, stages = Stages_;
  static constexpr int blocks = Blocks, mixed_blocks = MixedBlocks;
  static constexpr int warp_columns = BN / WN, threads = BM / WM * warp_columns * 32;
  template <class T>
  static constexpr int BK = Bytes / static_cast<int>(sizeof(T));
};

// 128 x 128 for throughput; 32 x 32 with long slices where there are few rows or columns and memory is the limit.
// Warps of 64 x 64 read two thirds of the shared memory that warps of 64 x 32 read, but leave a thread no registers for
// the second road, and two blocks of their ring need more shared memory than an A100 or a GeForce has.
using WideTile = GemmTile<128, 128, 64, 64, 128, 3, 2, 1>;
using LargeTile = GemmTile<128, 128, 64, 32, 64, 4, 2, 1>;
using MediumTile = GemmTile<64, 64, 32, 32, 64, 4, 5, 3>;
using SmallTile = GemmTile<32, 32, 16, 16, 128, 6, 4, 4>;

/// Shared memory that CUDA itself takes of every block.
constexpr size_t block_overhead = 1024;

/// How a factor is read; where a launch has several, what all of them allow.
struct FactorRoad {
  bool f32;     ///< f32, or else the activation type
  bool direct;  ///< of the activation type, rows 16-byte aligned, not dropped
  bool vector;  ///< four columns are one aligned access
  bool dropped;
};

/// A factor as it lies in memory: [rows, cols], row-major.
struct StoredMatrix {
  const void* data;
  int rows, cols;
  FactorRoad road;
};

/// A slice of a factor in shared memory and the two roads into it. What lies outside the factor becomes zero. Rows are
/// padded by 16 bytes against bank conflicts.
template <class T, int Rows, int Cols, int Threads>
struct Slice {
  static constexpr int stride = Cols + static_cast<int>(16 / sizeof(T)), size = Rows * stride;
  /// A thread carries pieces of one width, one below the other: 16 bytes on the direct road, four elements on the
  /// other.
  static constexpr int copy_width = static_cast<int>(16 / sizeof(T)), copy_step = Threads / (Cols / copy_width);
  static constexpr int group_step = Threads / (Cols / 4);
  static constexpr int copies = Rows / copy_step, groups = Rows / group_step, together = std::clamp(groups / 2, 1, 4);
  static_assert(copy_step * (Cols / copy_width) == Threads && group_step * (Cols / 4) == Threads, "whole rows a step");
  static_assert(copies * copy_step == Rows && groups * group_step == Rows, "every thread carries the same share");

  /// This thread's first piece of the next slice.
  struct Cursor {
    const unsigned char* from;
    int row, col;  ///< in the factor
    int to;        ///< in the slice
  };

  __device__ static Cursor begin(const StoredMatrix& factor, int row0, int col0) {
    const int per_row = Cols / (factor.road.direct ? copy_width : 4), thread = static_cast<int>(threadIdx.x);
    const int r = thread / per_row, c = thread % per_row * (Cols / per_row);
    return {static_cast<const unsigned char*>(factor.data) +
                (int64_t{row0 + r} * factor.cols + (col0 + c)) * element(factor),
            row0 + r, col0 + c, r * stride + c};
  }
  /// To the slice `rows` below or `cols` to the right.
  __device__ static void advance(Cursor& cursor, const StoredMatrix& factor, int rows, int cols) {
    cursor.from += (int64_t{rows} * factor.cols + cols) * element(factor);
    cursor.row += rows;
    cursor.col += cols;
  }

  __device__ static void copy(T* slice, const StoredMatrix& factor, const Cursor& cursor) {
#pragma unroll
    for (int i = 0; i < copies; ++i)
      ptx::cp_async_16(slice + cursor.to + i * copy_step * stride,
                       cursor.from + int64_t{factor.cols} * (i * copy_step * static_cast<int>(sizeof(T))),
                       cursor.row + i * copy_step < factor.rows && cursor.col < factor.cols);
  }

  using Registers = float[groups][4];

  __device__ static void load(Registers& values, const StoredMatrix& factor, const Cursor& cursor) {
#pragma unroll
    for (int i = 0; i < groups; ++i) load_group(values[i], factor, cursor, i);
  }
  __device__ static void store(T* slice, Registers& values, const StoredMatrix& factor, const DropoutMask& mask,
                               const Cursor& cursor) {
#pragma unroll
    for (int i = 0; i < groups; ++i) store_group(slice, values[i], factor, mask, cursor, i);
  }

  /// The whole way at once, with registers for a few groups only.
  __device__ static void pass(T* slice, const StoredMatrix& factor, const DropoutMask& mask, const Cursor& cursor) {
    if (factor.road.direct) return copy(slice, factor, cursor);
#pragma unroll 1
    for (int first = 0; first < groups; first += together) {
      float values[together][4];
#pragma unroll
      for (int i = 0; i < together; ++i) load_group(values[i], factor, cursor, first + i);
#pragma unroll
      for (int i = 0; i < together; ++i) store_group(slice, values[i], factor, mask, cursor, first + i);
    }
  }

 private:
  /// Four elements, `i` steps below the first.
  __device__ static void load_group(float (&values)[4], const StoredMatrix& factor, const Cursor& cursor, int i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) values[j] = 0;
    const int count = cursor.row + i * group_step < factor.rows ? factor.cols - cursor.col : 0;
    if (count <= 0) return;
    const unsigned char* const from = cursor.from + int64_t{factor.cols} * (i * group_step * element(factor));
    if (sizeof(T) == sizeof(float) || factor.road.f32)
      load_four(values, reinterpret_cast<const float*>(from), factor.road.vector, count);
    else
      load_four(values, reinterpret_cast<const T*>(from), factor.road.vector, count);
  }
  __device__ static void store_group(T* slice, float (&values)[4], const StoredMatrix& factor, const DropoutMask& mask,
                                     const Cursor& cursor, int i) {
    if (factor.road.dropped) {
      const unsigned bits =
          kept(mask, static_cast<uint32_t>(cursor.row + i * group_step), static_cast<uint32_t>(cursor.col / 4));
#pragma unroll
      for (int j = 0; j < 4; ++j) values[j] = bits >> j & 1 ? values[j] * mask.keep : 0.0f;
    }
    T* const to = slice + cursor.to + i * group_step * stride;
    if constexpr (sizeof(T) == sizeof(float))
      *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
    else
      *reinterpret_cast<uint2*>(to) =
          make_uint2(ptx::pack_bf16x2(values[0], values[1]), ptx::pack_bf16x2(values[2], values[3]));
  }
  __device__ static int element(const StoredMatrix& factor) {
    return factor.road.f32 ? static_cast<int>(sizeof(float)) : static_cast<int>(sizeof(T));
  }
  __device__ static void load_four(float (&values)[4], const float* from, bool vector, int count) {
    if (vector) {
      const float4 four = *reinterpret_cast<const float4*>(from);
      values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (j < count) values[j] = from[j];
    }
  }
  __device__ static void load_four(float (&values)[4], const bf16* from, bool vector, int count) {
    if (vector) {
      const uint2 four = *reinterpret_cast<const uint2*>(from);
      values[0] = low_f32(four.x), values[1] = high_f32(four.x), values[2] = low_f32(four.y),
      values[3] = high_f32(four.y);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (j < count) values[j] = to_f32(from[j]);
    }
  }
};

/// The slices of a form, and where the block's `step`-th slice begins in each factor.
template <class T, class Tile, GemmForm Form>
struct GemmShape {
  static constexpr int BK = Tile::template BK<T>;
  static constexpr bool a_transposed = Form == GemmForm::tn, b_transposed = Form != GemmForm::nt;
  using SliceA = Slice<T, a_transposed ? BK : Tile::BM, a_transposed ? Tile::BM : BK, Tile::threads>;
  using SliceB = Slice<T, b_transposed ? BK : Tile::BN, b_transposed ? Tile::BN : BK, Tile::threads>;
  static constexpr int slot = SliceA::size + SliceB::size;
  /// The finished tile reuses the ring, as f32; 8 floats of padding keep the 8-byte stores of its layout apart.
  static constexpr int out_stride = Tile::BN + 8;
  static constexpr size_t shared_bytes =
      std::max(size_t{Tile::stages} * slot * sizeof(T), size_t{Tile::BM} * out_stride * sizeof(float));
};

}  // namespace fire::cuda::detail
