// The kernel of gemm.h: a block computes a BM x BN tile of Y. Slices of A and B (gemm_slice.cuh) travel through a ring
// of shared memory; the warps multiply slice t (mma.cuh) while slice t + stages - 1 is on its way. The kernel that
// knows both its factors to be direct needs fewer registers and has its own instance; the other decides factor by
// factor.
#pragma once

#include <string>
#include <type_traits>

#include "cuda/gemm_slice.cuh"
#include "cuda/mma.cuh"
#include "tensor/error.h"

namespace fire::cuda::detail {

/// Rows [m_begin, m) of Y; parts of k `chunk` long, a part a row of blocks.
struct GemmArguments {
  int m_begin, m, n, k, chunk, rank;
  StoredMatrix a, b, low_a, low_b;
  float alpha, low_scale;
  bool low_masked;
  DropoutMask mask;
  const float* bias;
  const void* residual;
  bool residual_f32, residual_vector;
  /// From row m_begin on. A product in parts has them one behind the other, `part_stride` elements apart.
  void* y;
  int64_t part_stride;
  bool y_f32, y_vector;
};

/// acc *= mask, of the warp's part of Y at (row0, col0). A lane holds two rows and half of a group of four columns; it
/// draws the whole group of one row and trades with its neighbour.
template <int MT, int NT>
__device__ inline void mask_accumulators(float (&acc)[MT][NT][4], const DropoutMask& mask, int row0, int col0) {
  static_assert(NT <= 8, "a row of tiles is 32 bits");
  const int lane = static_cast<int>(threadIdx.x % 32), odd = lane % 2, group = lane % 4 / 2;
#pragma unroll
  for (int i = 0; i < MT; ++i) {
    unsigned bits = 0;
#pragma unroll 1  // draws side by side would take the registers of the accumulators
    for (int j = 0; j < NT; ++j) {
      const unsigned own = kept(mask, static_cast<uint32_t>(row0 + 16 * i + lane / 4 + 8 * odd),
                                static_cast<uint32_t>((col0 + 8 * j) / 4 + group));
      const unsigned other = __shfl_xor_sync(0xffffffffu, own, 1);
      const unsigned upper = (odd ? other : own) >> 2 * odd, lower = (odd ? own : other) >> 2 * odd;
      bits |= ((upper & 3) | (lower & 3) << 2) << 4 * j;
    }
#pragma unroll
    for (int j = 0; j < NT; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[i][j][e] = bits >> (4 * j + e) & 1 ? acc[i][j][e] * mask.keep : 0.0f;
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

template <class Arguments>
__device__ inline void load_bias(float (&bias)[8], const Arguments& args, int col, int count) {
#pragma unroll
  for (int i = 0; i < 8; ++i) bias[i] = args.bias != nullptr && i < count ? args.bias[col + i] : 0.0f;
}

/// y[at ..] = values + bias + residual[at ..].
template <class T, class Arguments>
__device__ inline void finish_eight(const Arguments& args, float (&values)[8], const float (&bias)[8], int64_t at,
                                    int count) {
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
  const int tiles_m = (args.m - args.m_begin + Tile::BM - 1) / Tile::BM, tiles_n = (args.n + Tile::BN - 1) / Tile::BN;
  const int block = static_cast<int>(blockIdx.x), band = block / (8 * tiles_n), within = block % (8 * tiles_n);
  const int height = min(8, tiles_m - 8 * band);
  const int m0 = args.m_begin + (8 * band + within % height) * Tile::BM, n0 = within / height * Tile::BN;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int part = static_cast<int>(blockIdx.y), k_begin = part * args.chunk,
            k_end = min(args.k - k_begin, args.chunk) + k_begin;
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

  // The slices of the low-rank product come first, then those of A and B.
  const int low_slices = Form == GemmForm::tn || part > 0 ? 0 : (args.rank + BK - 1) / BK;
  const int slices = low_slices + (k_end - k_begin + BK - 1) / BK;

  // Fetching a slice: copies start and loads are issued before the product that hides them, stores follow it.
  typename SliceA::Cursor cursor_a = begin_a(args.a, k_begin);
  typename SliceB::Cursor cursor_b = begin_b(args.b, k_begin);
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
  const auto fetch_low = [&](int slot, int slice) {
    SliceA::pass(slice_a(slot), args.low_a, args.mask, begin_a(args.low_a, slice * BK));
    SliceB::pass(slice_b(slot), args.low_b, args.mask, begin_b(args.low_b, slice * BK));
  };

  int slot = 0, slice = 0;
  /// Multiplies the slices up to `end`; only where `low` may one that is fetched be of the low-rank product.
  const auto run = [&](auto low, int end) {
#pragma unroll 1
    for (; slice < end; ++slice) {
      ptx::cp_async_wait<stages - 2>();
      __syncthreads();  // this slice is there for all, and the slot before it has been read by all
      const int next = slot == 0 ? stages - 1 : slot - 1, ahead = slice + stages - 1;
      const bool ahead_low = decltype(low)::value && ahead < low_slices, fetches = ahead < slices && !ahead_low;
      if (ahead_low) fetch_low(next, ahead);
      if (fetches) begin_fetch(next);
      ptx::cp_async_commit();
      multiply(slot);
      if (fetches) end_fetch(next);
      slot = slot == stages - 1 ? 0 : slot + 1;
    }
  };

#pragma unroll 1
  for (int first = 0; first < stages - 1; ++first) {
    if (first < low_slices) {
      fetch_low(first, first);
    } else if (first < slices) {
      begin_fetch(first);
      end_fetch(first);
    }
    ptx::cp_async_commit();
  }
  if (low_slices > 0) {
    run(std::true_type(), low_slices);
#pragma unroll
    for (int i = 0; i < MT; ++i)
#pragma unroll
      for (int j = 0; j < NT; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[i][j][e] *= args.low_scale;
    if (args.low_masked) mask_accumulators(acc, args.mask, m0 + warp_m, n0 + warp_n);
  }
  run(std::false_type(), slices);

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
  float bias[8];
  load_bias(bias, args, col, count);
#pragma unroll 2
  for (int r = static_cast<int>(threadIdx.x) / per_row; r < Tile::BM && m0 + r < args.m; r += row_step) {
    const int64_t at = int64_t{m0 + r - args.m_begin} * args.n + part * args.part_stride + col;
    const float4 low = *reinterpret_cast<const float4*>(out + r * Shape::out_stride + c);
    const float4 high = *reinterpret_cast<const float4*>(out + r * Shape::out_stride + c + 4);
    float values[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    finish_eight<T>(args, values, bias, at, count);
  }
}

/// Y of a product in parts, rows of n elements: the parts, [rows, n] f32 each, in rising order, then as in a whole one.
struct PartsArguments {
  const float* parts;
  int count, n;
  int64_t rows;
  float alpha;
  const float* bias;
  const void* residual;
  void* y;
  bool parts_vector, residual_f32, residual_vector, y_f32, y_vector;
};

template <class T>
__global__ void __launch_bounds__(256) add_parts_kernel(PartsArguments args) {
  const int64_t item = int64_t{blockIdx.x} * 256 + threadIdx.x, per_row = (args.n + 7) / 8;
  if (item >= args.rows * per_row) return;
  const int col = static_cast<int>(item % per_row) * 8, count = args.n - col;
  const int64_t at = item / per_row * args.n + col, stride = args.rows * args.n;
  float values[8] = {};
#pragma unroll 4
  for (int part = 0; part < args.count; ++part)
    add_eight(values, args.parts + part * stride + at, args.parts_vector, count);
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] *= args.alpha;
  float bias[8];
  load_bias(bias, args, col, count);
  finish_eight<T>(args, values, bias, at, count);
}

template <class T, class Tile, GemmForm Form, bool Direct>
void launch_gemm_instance(Stream stream, const GemmArguments& args, int parts) {
  const int64_t tiles =
      ((int64_t{args.m - args.m_begin} + Tile::BM - 1) / Tile::BM) * ((int64_t{args.n} + Tile::BN - 1) / Tile::BN);
  gpu::launch("gemm", dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(parts)), dim3(Tile::threads),
              GemmShape<T, Tile, Form>::shared_bytes, stream, gemm_kernel<T, Tile, Form, Direct>, args);
}

template <class T, class Tile, GemmForm Form>
void launch_gemm_tile(Stream stream, const GemmArguments& args, int parts) {
  args.a.direct&& args.b.direct ? launch_gemm_instance<T, Tile, Form, true>(stream, args, parts)
                                : launch_gemm_instance<T, Tile, Form, false>(stream, args, parts);
}

/// The largest tile that still gives a GPU enough blocks.
template <class T, GemmForm Form>
void launch_gemm_form(Stream stream, const GemmDevice& device, const GemmArguments& args, int parts) {
  constexpr int64_t enough = 96;
  const int rows = args.m - args.m_begin, shorter = std::min(rows, args.n);
  const auto blocks = [&](int side) {
    return ((int64_t{rows} + side - 1) / side) * ((int64_t{args.n} + side - 1) / side) * parts;
  };
  if (shorter > 64 && blocks(128) >= enough) {
    if constexpr (sizeof(T) == sizeof(bf16))
      if (args.a.direct && args.b.direct &&
          device.shared_bytes >= WideTile::blocks * (GemmShape<T, WideTile, Form>::shared_bytes + block_overhead))
        return launch_gemm_instance<T, WideTile, Form, true>(stream, args, parts);
    return launch_gemm_tile<T, LargeTile, Form>(stream, args, parts);
  }
  if (shorter > 32 && blocks(64) >= enough) return launch_gemm_tile<T, MediumTile, Form>(stream, args, parts);
  launch_gemm_tile<T, SmallTile, Form>(stream, args, parts);
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
  args.chunk = gemm_dimension(gemm_chunk(gemm));
  args.a = a(gemm.a, gemm.k), args.b = b(gemm.b, gemm.k);
  args.low_a = a(gemm.low_a, gemm.rank), args.low_b = b(gemm.low_b, gemm.rank);
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

template <class T>
void launch_gemm_rows(Stream stream, const GemmDevice& device, GemmForm form, const GemmArguments& args, int parts) {
  switch (form) {
    case GemmForm::nt:
      return launch_gemm_form<T, GemmForm::nt>(stream, device, args, parts);
    case GemmForm::nn:
      return launch_gemm_form<T, GemmForm::nn>(stream, device, args, parts);
    case GemmForm::tn:
      return launch_gemm_form<T, GemmForm::tn>(stream, device, args, parts);
  }
}

/// The parts of as many rows as the workspace holds at a time, then their sum.
template <class T>
void launch_gemm_parts(Stream stream, const GemmDevice& device, const Gemm& gemm, const GemmArguments& whole) {
  const int parts = (whole.k + whole.chunk - 1) / whole.chunk;
  const int64_t row_bytes = int64_t{parts} * whole.n * static_cast<int64_t>(sizeof(float));
  int64_t rows = static_cast<int64_t>(device.workspace_bytes) / row_bytes;
  if (rows < whole.m && rows > LargeTile::BM) rows -= rows % LargeTile::BM;
  if (rows == 0)
    throw Error(Code::internal, "a matrix product of " + std::to_string(parts) + " parts has no workspace");

  GemmArguments part = whole;
  part.alpha = 1;
  part.bias = nullptr, part.residual = nullptr;
  part.y = device.workspace;
  part.y_f32 = true;
  part.y_vector = aligned_rows(device.workspace, whole.n, sizeof(float), 16);
  for (int64_t begin = 0; begin < whole.m; begin += rows) {
    const int64_t end = std::min<int64_t>(begin + rows, whole.m);
    part.m_begin = static_cast<int>(begin), part.m = static_cast<int>(end);
    part.part_stride = (end - begin) * whole.n;
    launch_gemm_rows<T>(stream, device, gemm.form, part, parts);

    PartsArguments sum{};
    sum.parts = device.workspace, sum.count = parts;
    sum.n = whole.n, sum.rows = end - begin;
    sum.alpha = whole.alpha;
    sum.bias = whole.bias;
    const size_t at = static_cast<size_t>(begin * whole.n);
    if (whole.residual != nullptr)
      sum.residual = static_cast<const unsigned char*>(whole.residual) + at * size_of(gemm.residual_type);
    sum.y = static_cast<unsigned char*>(whole.y) + at * size_of(gemm.y_type);
    sum.parts_vector = part.y_vector;
    sum.residual_f32 = whole.residual_f32, sum.y_f32 = whole.y_f32;
    sum.residual_vector = aligned_rows(sum.residual, whole.n, size_of(gemm.residual_type), 16);
    sum.y_vector = aligned_rows(sum.y, whole.n, size_of(gemm.y_type), 16);
    gpu::launch("add parts", dim3(blocks_for(sum.rows * ((sum.n + 7) / 8), 256)), dim3(256), 0, stream,
                add_parts_kernel<T>, sum);
  }
}

}  // namespace fire::cuda::detail

namespace fire::cuda {

template <class T>
void launch_gemm(Stream stream, const GemmDevice& device, const Gemm& gemm) {
  if (gemm.m == 0 || gemm.n == 0) return;
  const detail::GemmArguments args = detail::gemm_arguments<T>(gemm);
  args.chunk < args.k ? detail::launch_gemm_parts<T>(stream, device, gemm, args)
                      : detail::launch_gemm_rows<T>(stream, device, gemm.form, args, 1);
}

}  // namespace fire::cuda
