// The kernel of gemm.h: a block computes a BM x BN tile of Y. Slices of A and B (gemm_slice.cuh) travel through a ring
// of shared memory; the warps multiply slice t (mma.cuh) while slice t + stages - 1 is on its way. The kernel that
// knows both its factors to be direct needs fewer registers and has its own instance; the other decides factor by
// factor.
//
// A launch has up to three products (GemmJoin). Beside each other: a block's tile is of one, found from its place in
// the grid. Summed: a block goes through the slices of all, with no pause between one term and the next.
#pragma once

#include <type_traits>

#include "cuda/gemm_slice.cuh"
#include "cuda/mma.cuh"

namespace fire::cuda::detail {

/// A product of a launch.
struct GemmProduct {
  int n, k, rank;
  const void *a, *b, *low_a, *low_b;
  float alpha, low_scale;
  bool low_masked;
  DropoutMask mask;
  const float* bias;
  const void* residual;
  bool residual_f32, residual_vector;
  void* y;  ///< from row m_begin on
  bool y_f32, y_vector;
};

/// The terms of a sum in slices: those of A' B' of all come first, then those of A B of all.
struct GemmTerms {
  int count, low_slices, slices;
  int first_low[gemm_most], first[gemm_most];  ///< of each term; beyond `count` out of reach
};

/// Rows [m_begin, m_end) of the m of Y; parts of k `chunk` long, a part a row of blocks.
struct GemmArguments {
  int m, m_begin, m_end, chunk;
  /// Beside each other: so many, each with its own columns of tiles; 1 where all are terms of the first.
  int columns;
  GemmTerms terms;
  GemmProduct products[gemm_most];
  FactorRoad a, b, low_a, low_b;  ///< which the factors of all can take
  int64_t part_stride;            ///< elements between the parts, which lie one behind the other
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
  gpu::begin_kernel();
  using Shape = GemmShape<T, Tile, Form>;
  using SliceA = typename Shape::SliceA;
  using SliceB = typename Shape::SliceB;
  constexpr int BK = Shape::BK, stages = Tile::stages, MT = Tile::WM / 16, NT = Tile::WN / 8;
  DYNAMIC_SHARED(shared);
  T* const ring = reinterpret_cast<T*>(shared);

  // Blocks that run together share rows of A and of B: eight tiles down, then one to the right.
  const auto tiles_of = [&](int product) { return (args.products[product].n + Tile::BN - 1) / Tile::BN; };
  const int tiles_m = (args.m_end - args.m_begin + Tile::BM - 1) / Tile::BM;
  int tiles_n = tiles_of(0);
  for (int i = 1; i < args.columns; ++i) tiles_n += tiles_of(i);
  const int block = static_cast<int>(blockIdx.x), band = block / (8 * tiles_n), within = block % (8 * tiles_n);
  const int height = min(8, tiles_m - 8 * band);
  int own = 0, column = within / height;  // of the product that this tile is of
  if (Form != GemmForm::tn)
    for (; column >= tiles_of(own); ++own) column -= tiles_of(own);
  const int m0 = args.m_begin + (8 * band + within % height) * Tile::BM, n0 = column * Tile::BN;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int part = static_cast<int>(blockIdx.y), k_begin = part * args.chunk,
            k_end = min(args.products[own].k - k_begin, args.chunk) + k_begin;
  const int warp_m = warp / Tile::warp_columns * Tile::WM, warp_n = warp % Tile::warp_columns * Tile::WN;

  // What is looked up by product costs registers, so that is n in nt, k in nn, and pointers: the rest is of the first.
  constexpr bool nt = Form == GemmForm::nt, nn = Form == GemmForm::nn;
  const int n = args.products[nt ? own : 0].n;
  const auto k_of = [&](int product) { return args.products[nn ? product : 0].k; };
  const auto stored_a = [&](const void* data, int k, const FactorRoad& road) {
    return Shape::a_transposed ? StoredMatrix{data, k, args.m, road} : StoredMatrix{data, args.m, k, road};
  };
  const auto stored_b = [&](const void* data, int k, const FactorRoad& road) {
    return Shape::b_transposed ? StoredMatrix{data, k, n, road} : StoredMatrix{data, n, k, road};
  };
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

  // The slices of the low-rank products come first, then those of A and B.
  const auto slices_of = [](int length) { return (length + BK - 1) / BK; };
  const int low_slices = part > 0 || Form == GemmForm::tn ? 0
                         : nn                             ? args.terms.low_slices
                                                          : slices_of(args.products[own].rank);
  const bool sum = nn && args.terms.count > 1;
  const int slices = sum ? args.terms.slices : low_slices + slices_of(k_end - k_begin);
  int k = k_of(own);

  // Fetching a slice: copies start and loads are issued before the product that hides them, stores follow it.
  typename SliceA::Cursor cursor_a = begin_a(stored_a(args.products[nt ? 0 : own].a, k, args.a), k_begin);
  typename SliceB::Cursor cursor_b = begin_b(stored_b(args.products[own].b, k, args.b), k_begin);
  typename SliceA::Registers held_a = {};
  typename SliceB::Registers held_b = {};
  const bool direct_a = Direct || args.a.direct, direct_b = Direct || args.b.direct;
  const auto begin_fetch = [&](int slot, int slice) {
    if (sum) {
      int term = 0;
#pragma unroll
      for (int i = 1; i < gemm_most; ++i)
        if (slice == args.terms.first[i]) term = i;
      if (term > 0) {
        k = k_of(term);
        cursor_a = begin_a(stored_a(args.products[term].a, k, args.a), 0);
        cursor_b = begin_b(stored_b(args.products[term].b, k, args.b), 0);
      }
    }
    const StoredMatrix a = stored_a(nullptr, k, args.a), b = stored_b(nullptr, k, args.b);
    if (direct_a)
      SliceA::copy(slice_a(slot), a, cursor_a);
    else
      SliceA::load(held_a, a, cursor_a);
    if (direct_b)
      SliceB::copy(slice_b(slot), b, cursor_b);
    else
      SliceB::load(held_b, b, cursor_b);
  };
  const auto end_fetch = [&](int slot) {
    const StoredMatrix a = stored_a(nullptr, k, args.a), b = stored_b(nullptr, k, args.b);
    if (!direct_a) SliceA::store(slice_a(slot), held_a, a, args.products[own].mask, cursor_a);
    if (!direct_b) SliceB::store(slice_b(slot), held_b, b, args.products[own].mask, cursor_b);
    SliceA::advance(cursor_a, a, Shape::a_transposed ? BK : 0, Shape::a_transposed ? 0 : BK);
    SliceB::advance(cursor_b, b, Shape::b_transposed ? BK : 0, Shape::b_transposed ? 0 : BK);
  };
  const auto fetch_low = [&](int slot, int slice) {
    int term = nt ? own : 0;
    if (sum) {
#pragma unroll
      for (int i = 1; i < gemm_most; ++i)
        if (slice >= args.terms.first_low[i]) term = i;
      slice -= args.terms.first_low[term];
    }
    const GemmProduct& low = args.products[term];
    const StoredMatrix a = stored_a(low.low_a, low.rank, args.low_a), b = stored_b(low.low_b, low.rank, args.low_b);
    SliceA::pass(slice_a(slot), a, low.mask, begin_a(a, slice * BK));
    SliceB::pass(slice_b(slot), b, low.mask, begin_b(b, slice * BK));
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
      if (fetches) begin_fetch(next, ahead);
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
      begin_fetch(first, first);
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
        for (int e = 0; e < 4; ++e) acc[i][j][e] *= args.products[nt ? own : 0].low_scale;
    if (args.products[0].low_masked) mask_accumulators(acc, args.products[0].mask, m0 + warp_m, n0 + warp_n);
  }
  run(std::false_type(), slices);

  const GemmProduct& result = args.products[own];
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
            make_float2(result.alpha * acc[i][j][e], result.alpha * acc[i][j][e + 1]);
  __syncthreads();

  constexpr int per_row = Tile::BN / 8, row_step = Tile::threads / per_row;
  static_assert(Tile::threads % per_row == 0 && Tile::BM % row_step == 0, "a thread stays in its columns");
  const int c = static_cast<int>(threadIdx.x) % per_row * 8, col = n0 + c, count = result.n - col;
  if (count <= 0) return;
  float bias[8];
  load_bias(bias, result, col, count);
#pragma unroll 2
  for (int r = static_cast<int>(threadIdx.x) / per_row; r < Tile::BM && m0 + r < args.m_end; r += row_step) {
    const int64_t at = int64_t{m0 + r - args.m_begin} * result.n + part * args.part_stride + col;
    const float4 low = *reinterpret_cast<const float4*>(out + r * Shape::out_stride + c);
    const float4 high = *reinterpret_cast<const float4*>(out + r * Shape::out_stride + c + 4);
    float values[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    finish_eight<T>(result, values, bias, at, count);
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
  gpu::begin_kernel();
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

}  // namespace fire::cuda::detail
