// The kernel of gemm.h: a block computes a BM x BN tile of Y. Slices of A and B, BK wide in k, travel through a ring of
// shared memory; the warps multiply slice t (mma.cuh) while slice t + stages - 1 is on its way. A slice lies in shared
// memory as it lies in global memory, whatever the form; mma.cuh reads it either way round.
//
// A factor takes one of two roads. `direct`: stored as the activation type with 16-byte aligned rows, copied by
// cp.async. Otherwise through registers, where it is widened, masked and rounded: f32 factors of a bf16 product,
// dropped inputs, and rows that are not aligned. The kernel that knows both its factors to be direct needs fewer
// registers and has its own instance; the other decides factor by factor.
#pragma once

#include <algorithm>
#include <string>

#include "cuda/dropout.cuh"
#include "cuda/gemm.h"
#include "cuda/gpu.h"
#include "cuda/mma.cuh"
#include "cuda/vector.cuh"
#include "tensor/error.h"

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
using LargeTile = GemmTile<128, 128, 64, 32, 64, 4, 2, 1>;
using MediumTile = GemmTile<64, 64, 32, 32, 64, 4, 4, 3>;
using SmallTile = GemmTile<32, 32, 16, 16, 128, 6, 4, 4>;

/// A factor as it lies in memory: [rows, cols], row-major.
struct StoredMatrix {
  const void* data;
  int rows, cols;
  bool f32;     ///< f32, or else the activation type
  bool direct;  ///< of the activation type, rows 16-byte aligned, not dropped
  bool vector;  ///< four columns are one aligned access
  bool dropped;
};

struct GemmArguments {
  int m, n, k, rank;
  StoredMatrix a, b, low_a, low_b;
  float alpha, low_scale;
  bool low_masked;
  DropoutMask mask;
  const float* bias;
  const void* residual;
  bool residual_f32, residual_vector;
  void* y;
  bool y_f32, y_vector;
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
  static constexpr int copies = Rows / copy_step, groups = Rows / group_step;
  static_assert(copy_step * (Cols / copy_width) == Threads && group_step * (Cols / 4) == Threads, "whole rows a step");
  static_assert(copies * copy_step == Rows && groups * group_step == Rows, "every thread carries the same share");

  /// This thread's first piece of the next slice.
  struct Cursor {
    const unsigned char* from;
    int row, col;  ///< in the factor
    int to;        ///< in the slice
  };

  __device__ static Cursor begin(const StoredMatrix& factor, int row0, int col0) {
    const int per_row = Cols / (factor.direct ? copy_width : 4), thread = static_cast<int>(threadIdx.x);
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
    for (int i = 0; i < groups; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) values[i][j] = 0;
      const int count = cursor.row + i * group_step < factor.rows ? factor.cols - cursor.col : 0;
      if (count <= 0) continue;
      const unsigned char* const from = cursor.from + int64_t{factor.cols} * (i * group_step * element(factor));
      if (sizeof(T) == sizeof(float) || factor.f32)
        load_four(values[i], reinterpret_cast<const float*>(from), factor.vector, count);
      else
        load_four(values[i], reinterpret_cast<const T*>(from), factor.vector, count);
    }
  }

  __device__ static void store(T* slice, Registers& values, const StoredMatrix& factor, const DropoutMask& mask,
                               const Cursor& cursor) {
#pragma unroll
    for (int i = 0; i < groups; ++i) {
      if (factor.dropped) {
        const unsigned bits =
            kept(mask, static_cast<uint32_t>(cursor.row + i * group_step), static_cast<uint32_t>(cursor.col / 4));
#pragma unroll
        for (int j = 0; j < 4; ++j) values[i][j] = bits >> j & 1 ? values[i][j] * mask.keep : 0.0f;
      }
      T* const to = slice + cursor.to + i * group_step * stride;
      if constexpr (sizeof(T) == sizeof(float))
        *reinterpret_cast<float4*>(to) = make_float4(values[i][0], values[i][1], values[i][2], values[i][3]);
      else
        *reinterpret_cast<uint2*>(to) =
            make_uint2(ptx::pack_bf16x2(values[i][0], values[i][1]), ptx::pack_bf16x2(values[i][2], values[i][3]));
    }
  }

 private:
  __device__ static int element(const StoredMatrix& factor) {
    return factor.f32 ? static_cast<int>(sizeof(float)) : static_cast<int>(sizeof(T));
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

/// acc *= mask, of the warp's part of Y at (row0, col0). A lane holds two rows and half of a group of four columns; it
/// draws the whole group of one row and trades with its neighbour.
template <int MT, int NT>
__device__ inline void mask_accumulators(float (&acc)[MT][NT][4], const DropoutMask& mask, int row0, int col0) {
  const int lane = static_cast<int>(threadIdx.x % 32), odd = lane % 2, group = lane % 4 / 2;
#pragma unroll
  for (int i = 0; i < MT; ++i)
#pragma unroll
    for (int j = 0; j < NT; ++j) {
      const unsigned own = kept(mask, static_cast<uint32_t>(row0 + 16 * i + lane / 4 + 8 * odd),
                                static_cast<uint32_t>((col0 + 8 * j) / 4 + group));
      const unsigned other = __shfl_xor_sync(0xffffffffu, own, 1);
      const unsigned upper = (odd ? other : own) >> 2 * odd, lower = (odd ? own : other) >> 2 * odd;
      acc[i][j][0] = upper & 1 ? acc[i][j][0] * mask.keep : 0.0f;
      acc[i][j][1] = upper & 2 ? acc[i][j][1] * mask.keep : 0.0f;
      acc[i][j][2] = lower & 1 ? acc[i][j][2] * mask.keep : 0.0f;
      acc[i][j][3] = lower & 2 ? acc[i][j][3] * mask.keep : 0.0f;
    }
}

/// Adds the eight elements at `from`, of which `count` exist.
template <class E>
__device__ inline void add_eight(float (&values)[8], const E* from, bool vector, int count) {
  const Chunk<E, 8> chunk = vector ? load_chunk<true, 8>(from, count) : load_chunk<false, 8>(from, count);
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] += chunk[i];
}

__device__ inline void store_eight(float* to, const float (&values)[8], bool vector, int count) {
  if (vector && count >= 8) {
    reinterpret_cast<float4*>(to)[0] = make_float4(values[0], values[1], values[2], values[3]);
    reinterpret_cast<float4*>(to)[1] = make_float4(values[4], values[5], values[6], values[7]);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < count) to[i] = values[i];
  }
}
__device__ inline void store_eight(bf16* to, const float (&values)[8], bool vector, int count) {
  if (vector && count >= 8) {
    *reinterpret_cast<uint4*>(to) =
        make_uint4(ptx::pack_bf16x2(values[0], values[1]), ptx::pack_bf16x2(values[2], values[3]),
                   ptx::pack_bf16x2(values[4], values[5]), ptx::pack_bf16x2(values[6], values[7]));
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < count) to[i] = from_f32<bf16>(values[i]);
  }
}

template <class T, class Tile, GemmForm Form, bool Direct>
__global__ void __launch_bounds__(Tile::threads, Direct ? Tile::blocks : Tile::mixed_blocks)
    gemm_kernel(GemmArguments args) {
  using Shape = GemmShape<T, Tile, Form>;
  using SliceA = typename Shape::SliceA;
  using SliceB = typename Shape::SliceB;
  constexpr int BK = Shape::BK, stages = Tile::stages, MT = Tile::WM / 16, NT = Tile::WN / 8;
  DYNAMIC_SHARED(shared);
  T* const ring = reinterpret_cast<T*>(shared);

  // Blocks that run together share rows of A and of B: eight tiles down, then one to the right.
  const int tiles_m = (args.m + Tile::BM - 1) / Tile::BM, tiles_n = (args.n + Tile::BN - 1) / Tile::BN;
  const int block = static_cast<int>(blockIdx.x), band = block / (8 * tiles_n), within = block % (8 * tiles_n);
  const int height = min(8, tiles_m - 8 * band);
  const int m0 = (8 * band + within % height) * Tile::BM, n0 = within / height * Tile::BN;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_m = warp / Tile::warp_columns * Tile::WM, warp_n = warp % Tile::warp_columns * Tile::WN;

  const auto slice_a = [&](int slot) { return ring + slot * Shape::slot; };
  const auto slice_b = [&](int slot) { return ring + slot * Shape::slot + SliceA::size; };
  const auto begin_a = [&](const StoredMatrix& a, int k0) {
    return SliceA::begin(a, Shape::a_transposed ? k0 : m0, Shape::a_transposed ? m0 : k0);
  };
  const auto begin_b = [&](const StoredMatrix& b, int k0) {
    return SliceB::begin(b, Shape::b_transposed ? k0 : n0, Shape::b_transposed ? n0 : k0);
  };

  float acc[MT][NT][4] = {};
  const auto multiply = [&](int slot) {
    warp_multiply<T, Shape::a_transposed, Shape::b_transposed>(
        acc, slice_a(slot) + warp_m * (Shape::a_transposed ? 1 : SliceA::stride), SliceA::stride,
        slice_b(slot) + warp_n * (Shape::b_transposed ? 1 : SliceB::stride), SliceB::stride, BK);
  };

  // Fetching the next slice: copies start and loads are issued before the product that hides them, stores follow it.
  typename SliceA::Cursor cursor_a = begin_a(args.a, 0);
  typename SliceB::Cursor cursor_b = begin_b(args.b, 0);
  typename SliceA::Registers held_a = {};
  typename SliceB::Registers held_b = {};
  const bool direct_a = Direct || args.a.direct, direct_b = Direct || args.b.direct;
  const auto begin_fetch = [&](int slot) {
    if (direct_a)
      SliceA::copy(slice_a(slot), args.a, cursor_a);
    else
      SliceA::load(held_a, args.a, cursor_a);
    if (direct_b)
      SliceB::copy(slice_b(slot), args.b, cursor_b);
    else
      SliceB::load(held_b, args.b, cursor_b);
  };
  const auto end_fetch = [&](int slot) {
    if (!direct_a) SliceA::store(slice_a(slot), held_a, args.a, args.mask, cursor_a);
    if (!direct_b) SliceB::store(slice_b(slot), held_b, args.b, args.mask, cursor_b);
    SliceA::advance(cursor_a, args.a, Shape::a_transposed ? BK : 0, Shape::a_transposed ? 0 : BK);
    SliceB::advance(cursor_b, args.b, Shape::b_transposed ? BK : 0, Shape::b_transposed ? 0 : BK);
  };

#pragma unroll 1
  for (int slot = 0; slot < stages - 1; ++slot) {
    if (slot * BK < args.k) {
      begin_fetch(slot);
      end_fetch(slot);
    }
    ptx::cp_async_commit();
  }

  // The low-rank product passes through the one slot that is still free while the first slices are on their way.
  if (Form != GemmForm::tn && args.rank > 0) {
#pragma unroll 1
    for (int k0 = 0; k0 < args.rank; k0 += BK) {
      const typename SliceA::Cursor low_a = begin_a(args.low_a, k0);
      SliceA::load(held_a, args.low_a, low_a);
      SliceA::store(slice_a(stages - 1), held_a, args.low_a, args.mask, low_a);
      const typename SliceB::Cursor low_b = begin_b(args.low_b, k0);
      SliceB::load(held_b, args.low_b, low_b);
      SliceB::store(slice_b(stages - 1), held_b, args.low_b, args.mask, low_b);
      __syncthreads();
      multiply(stages - 1);
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < MT; ++i)
#pragma unroll
      for (int j = 0; j < NT; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[i][j][e] *= args.low_scale;
    if (args.low_masked) mask_accumulators(acc, args.mask, m0 + warp_m, n0 + warp_n);
  }

  int slot = 0;
#pragma unroll 1
  for (int k0 = 0; k0 < args.k; k0 += BK) {
    ptx::cp_async_wait<stages - 2>();
    __syncthreads();  // slice k0 is there for all, and the slot before it has been read by all
    const int next = slot == 0 ? stages - 1 : slot - 1, next_k = k0 + (stages - 1) * BK;
    if (next_k < args.k) begin_fetch(next);
    ptx::cp_async_commit();
    multiply(slot);
    if (next_k < args.k) end_fetch(next);
    slot = slot == stages - 1 ? 0 : slot + 1;
  }

  // By way of shared memory the tile is written in rows of 16-byte accesses.
  __syncthreads();
  float* const out = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int i = 0; i < MT; ++i)
#pragma unroll
    for (int j = 0; j < NT; ++j)
#pragma unroll
      for (int e = 0; e < 4; e += 2)
        *reinterpret_cast<float2*>(out + (warp_m + 16 * i + tile_row(lane, e)) * Shape::out_stride + warp_n + 8 * j +
                                   tile_column(lane, e)) =
            make_float2(args.alpha * acc[i][j][e], args.alpha * acc[i][j][e + 1]);
  __syncthreads();

  constexpr int per_row = Tile::BN / 8, row_step = Tile::threads / per_row;
  static_assert(Tile::threads % per_row == 0 && Tile::BM % row_step == 0, "a thread stays in its columns");
  const int c = static_cast<int>(threadIdx.x) % per_row * 8, col = n0 + c, count = args.n - col;
  if (count <= 0) return;
  float bias[8] = {};
  if (args.bias != nullptr)
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < count) bias[i] = args.bias[col + i];
#pragma unroll 2
  for (int r = static_cast<int>(threadIdx.x) / per_row; r < Tile::BM && m0 + r < args.m; r += row_step) {
    const int64_t at = int64_t{m0 + r} * args.n + col;
    const float4 low = *reinterpret_cast<const float4*>(out + r * Shape::out_stride + c);
    const float4 high = *reinterpret_cast<const float4*>(out + r * Shape::out_stride + c + 4);
    float values[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    if (args.bias != nullptr)
#pragma unroll
      for (int i = 0; i < 8; ++i) values[i] += bias[i];
    if (args.residual != nullptr) {
      if (sizeof(T) == sizeof(float) || args.residual_f32)
        add_eight(values, static_cast<const float*>(args.residual) + at, args.residual_vector, count);
      else
        add_eight(values, static_cast<const T*>(args.residual) + at, args.residual_vector, count);
    }
    if (sizeof(T) == sizeof(float) || args.y_f32)
      store_eight(static_cast<float*>(args.y) + at, values, args.y_vector, count);
    else
      store_eight(static_cast<T*>(args.y) + at, values, args.y_vector, count);
  }
}

template <class T, class Tile, GemmForm Form, bool Direct>
void launch_gemm_instance(Stream stream, const GemmArguments& args) {
  const int64_t tiles = ((int64_t{args.m} + Tile::BM - 1) / Tile::BM) * ((int64_t{args.n} + Tile::BN - 1) / Tile::BN);
  gpu::launch("gemm", dim3(static_cast<unsigned>(tiles)), dim3(Tile::threads), GemmShape<T, Tile, Form>::shared_bytes,
              stream, gemm_kernel<T, Tile, Form, Direct>, args);
}

template <class T, class Tile, GemmForm Form>
void launch_gemm_tile(Stream stream, const GemmArguments& args) {
  args.a.direct&& args.b.direct ? launch_gemm_instance<T, Tile, Form, true>(stream, args)
                                : launch_gemm_instance<T, Tile, Form, false>(stream, args);
}

/// The largest tile that still gives a GPU enough blocks. Weight gradients of adapters have one short side.
template <class T, GemmForm Form>
void launch_gemm_form(Stream stream, const GemmArguments& args) {
  constexpr int64_t enough = 96;
  const auto blocks = [&](int side) {
    return ((int64_t{args.m} + side - 1) / side) * ((int64_t{args.n} + side - 1) / side);
  };
  const int shorter = std::min(args.m, args.n);
  if constexpr (Form != GemmForm::tn)
    if (shorter > 64 && blocks(128) >= enough) return launch_gemm_tile<T, LargeTile, Form>(stream, args);
  if (shorter > 32 && blocks(64) >= enough) return launch_gemm_tile<T, MediumTile, Form>(stream, args);
  launch_gemm_tile<T, SmallTile, Form>(stream, args);
}

inline int gemm_dimension(int64_t value) {
  if (value < 0 || value > int64_t{1} << 30)
    throw Error(Code::internal, "a matrix product with a side of " + std::to_string(value));
  return static_cast<int>(value);
}

inline bool aligned_rows(const void* data, int64_t cols, size_t element, size_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0 && static_cast<size_t>(cols) * element % bytes == 0;
}

template <class T>
StoredMatrix stored(const GemmFactor& factor, int64_t rows, int64_t cols) {
  const size_t element = size_of(factor.type);
  return {factor.data,
          gemm_dimension(rows),
          gemm_dimension(cols),
          factor.type == DType::f32,
          element == sizeof(T) && !factor.dropped && aligned_rows(factor.data, cols, element, 16),
          aligned_rows(factor.data, cols, element, 4 * element),
          factor.dropped};
}

template <class T>
GemmArguments gemm_arguments(const Gemm& gemm) {
  const bool a_transposed = gemm.form == GemmForm::tn, b_transposed = gemm.form != GemmForm::nt;
  const auto a = [&](const GemmFactor& f, int64_t k) {
    return a_transposed ? stored<T>(f, k, gemm.m) : stored<T>(f, gemm.m, k);
  };
  const auto b = [&](const GemmFactor& f, int64_t k) {
    return b_transposed ? stored<T>(f, k, gemm.n) : stored<T>(f, gemm.n, k);
  };
  GemmArguments args{};
  args.m = gemm_dimension(gemm.m), args.n = gemm_dimension(gemm.n);
  args.k = gemm_dimension(gemm.k), args.rank = gemm_dimension(gemm.rank);
  args.a = a(gemm.a, gemm.k), args.b = b(gemm.b, gemm.k);
  args.low_a = a(gemm.low_a, gemm.rank), args.low_b = b(gemm.low_b, gemm.rank);
  args.low_a.direct = args.low_b.direct = false;
  args.alpha = gemm.alpha, args.low_scale = gemm.low_scale;
  args.low_masked = gemm.low_masked;
  args.mask = gemm.mask;
  args.bias = gemm.bias;
  args.residual = gemm.residual;
  args.residual_f32 = gemm.residual_type == DType::f32;
  args.residual_vector = aligned_rows(gemm.residual, gemm.n, size_of(gemm.residual_type), 16);
  args.y = gemm.y;
  args.y_f32 = gemm.y_type == DType::f32;
  args.y_vector = aligned_rows(gemm.y, gemm.n, size_of(gemm.y_type), 16);
  return args;
}

}  // namespace fire::cuda::detail

namespace fire::cuda {

template <class T>
void launch_gemm(Stream stream, const Gemm& gemm) {
  if (gemm.m == 0 || gemm.n == 0) return;
  const detail::GemmArguments args = detail::gemm_arguments<T>(gemm);
  switch (gemm.form) {
    case GemmForm::nt:
      return detail::launch_gemm_form<T, GemmForm::nt>(stream, args);
    case GemmForm::nn:
      return detail::launch_gemm_form<T, GemmForm::nn>(stream, args);
    case GemmForm::tn:
      return detail::launch_gemm_form<T, GemmForm::tn>(stream, args);
  }
}

}  // namespace fire::cuda
