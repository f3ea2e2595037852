// The epilogues of gemm_gated.h, and what its products are to the kernel of gemm_hopper.cuh.
#pragma once

#include "cuda/gemm_gated.h"
#include "cuda/gemm_hopper_launch.cuh"
#include "cuda/gemm_launch.cuh"
#include "cuda/swiglu.cuh"

namespace fire::cuda::detail {

/// Which sums of a tile a thread of a quad gathers in four registers of pairs: `set` by `set` all of them. In a tile of
/// 32 columns and more 32 columns of a row, in one of 16 those of two rows.
template <int Columns>
struct QuadSets {
  static constexpr bool two_rows = Columns < 32;
  static constexpr int count = Columns / 16;
  /// Of register i: the row, 8 times this behind the first, and the group of eight columns.
  __device__ static constexpr int half(int set, int i) { return two_rows ? i / 2 : set % 2; }
  __device__ static constexpr int group(int set, int i) { return two_rows ? i % 2 : 4 * (set / 2) + i; }
  /// The sum that is the first of its pair.
  __device__ static constexpr int sum(int set, int i) { return 4 * group(set, i) + 2 * half(set, i); }
};

/// Lane q of a quad has pair q of four groups of eight columns; afterwards all pairs of group q.
__device__ inline void gather_quad(uint32_t (&r)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = lane & bit;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & bit) continue;
      uint32_t &low = r[i], &high = r[i + bit];
      const uint32_t got = __shfl_xor_sync(0xffffffffu, upper ? low : high, bit);
      low = upper ? got : low;
      high = upper ? high : got;
    }
  }
}

/// The first `count` of eight elements; `vector`: `to` is 16-byte aligned.
__device__ inline void store_quad(bf16* to, const uint32_t (&r)[4], bool vector, int count) {
  if (vector && count >= 8) {
    *reinterpret_cast<uint4*>(to) = make_uint4(r[0], r[1], r[2], r[3]);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < count) to[i] = bf16{static_cast<uint16_t>(r[i / 2] >> i % 2 * 16)};
  }
}

/// Two sums as they are stored, from column `col` on.
__device__ inline uint32_t pack_with_bias(const GemmProduct& y, float first, float second, int col) {
  if (y.bias != nullptr) {
    if (col < y.n) first += y.bias[col];
    if (col + 1 < y.n) second += y.bias[col + 1];
  }
  return ptx::pack_bf16x2(first, second);
}

/// Gate is product 0, up is product 1.
struct GatedEpilogue {
  static constexpr const char* kernel = "gemm swiglu sm_90a";
  static constexpr int products = 2;
  bf16* product;
  bool vector, keeps;

  template <int N>
  __device__ void finish(const GemmArguments& args, const HopperPlace& place, const float (&acc)[N], int row) const {
    using Sets = QuadSets<N>;
    const GemmProduct &gate = args.products[0], &up = args.products[1];
    const int quad = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int set = 0; set < Sets::count; ++set) {
      uint32_t gates[4], ups[4], values[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = Sets::sum(set, i), col = place.n0 + 8 * Sets::group(set, i) + 2 * quad;
        gates[i] = pack_with_bias(gate, acc[at], acc[at + 1], col);
        ups[i] = pack_with_bias(up, acc[N / 2 + at], acc[N / 2 + at + 1], col);
        values[i] = ptx::pack_bf16x2(swiglu<bf16>(low_f32(gates[i]), low_f32(ups[i])),
                                     swiglu<bf16>(high_f32(gates[i]), high_f32(ups[i])));
      }
      gather_quad(values);
      if (keeps) gather_quad(gates), gather_quad(ups);
      const int r = row + 8 * Sets::half(set, quad), col = place.n0 + 8 * Sets::group(set, quad), count = gate.n - col;
      if (r >= args.m_end || count <= 0) continue;
      const int64_t at = int64_t{r} * gate.n + col;
      store_quad(product + at, values, vector, count);
      if (!keeps) continue;
      store_quad(static_cast<bf16*>(gate.y) + at, gates, gate.y_vector, count);
      store_quad(static_cast<bf16*>(up.y) + at, ups, up.y_vector, count);
    }
  }
};

/// Y is the gradient of silu(gate) * up.
struct GatedBackwardEpilogue {
  static constexpr const char* kernel = "gemm swiglu_backward sm_90a";
  static constexpr int products = 1;
  bf16 *gate, *up, *product;
  bool vector;

  template <int N>
  __device__ void finish(const GemmArguments& args, const HopperPlace& place, const float (&acc)[N], int row) const {
    using Sets = QuadSets<2 * N>;
    constexpr int ahead = Sets::count < 4 ? Sets::count : 4;  // gate and up are asked for so many sets before their turn
    const int n = args.products[0].n, quad = static_cast<int>(threadIdx.x) % 4;
    const auto row_of = [&](int set) { return row + 8 * Sets::half(set, quad); };
    const auto col_of = [&](int set) { return place.n0 + 8 * Sets::group(set, quad); };
    const auto count_of = [&](int set) { return row_of(set) < args.m_end ? n - col_of(set) : 0; };
    const auto at_of = [&](int set) { return int64_t{row_of(set)} * n + col_of(set); };
    Chunk<bf16> gates[ahead], ups[ahead];
    const auto load = [&](int set) {
      if (const int count = count_of(set); count > 0) {
        gates[set % ahead] = vector ? load_chunk<true, 8>(gate + at_of(set), count)
                                    : load_chunk<false, 8>(gate + at_of(set), count);
        ups[set % ahead] = vector ? load_chunk<true, 8>(up + at_of(set), count)
                                  : load_chunk<false, 8>(up + at_of(set), count);
      }
    };
#pragma unroll
    for (int set = 0; set < ahead; ++set) load(set);
#pragma unroll
    for (int set = 0; set < Sets::count; ++set) {
      uint32_t dys[4], to_gate[4], to_up[4], values[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) dys[i] = ptx::pack_bf16x2(acc[Sets::sum(set, i)], acc[Sets::sum(set, i) + 1]);
      gather_quad(dys);
      const Chunk<bf16> g = gates[set % ahead], u = ups[set % ahead];
      if (set + ahead < Sets::count) load(set + ahead);
      const int count = count_of(set);
      if (count <= 0) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const SwigluGradients low = swiglu_gradients<bf16>(low_f32(dys[i]), g[2 * i], u[2 * i]);
        const SwigluGradients high = swiglu_gradients<bf16>(high_f32(dys[i]), g[2 * i + 1], u[2 * i + 1]);
        to_gate[i] = ptx::pack_bf16x2(low.gate, high.gate);
        to_up[i] = ptx::pack_bf16x2(low.up, high.up);
        values[i] = ptx::pack_bf16x2(low.product, high.product);
      }
      store_quad(gate + at_of(set), to_gate, vector, count);
      store_quad(up + at_of(set), to_up, vector, count);
      if (product != nullptr) store_quad(product + at_of(set), values, vector, count);
    }
  }
};

/// Whether Hopper's kernel takes it, but for how its factors lie.
inline bool takes_gated(const GemmDevice& device, DType type, const Gemm& gemm, GemmForm form) {
  return device.hopper && type == DType::bf16 && gemm.form == form && gemm.y_type == DType::bf16 && gemm.alpha == 1 &&
         gemm.residual == nullptr && !gemm_in_parts(gemm);
}

inline bool rows_of_pieces(const void* data, int64_t n) { return aligned_rows(data, n, sizeof(bf16), 16); }

}  // namespace fire::cuda::detail
