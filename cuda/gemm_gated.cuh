// The epilogues of gemm_gated.h. Gate, up and all that follows from them are bf16 in rows of whole 16 bytes.
#pragma once

#include "cuda/gemm_gated.h"
#include "cuda/gemm_hopper.h"
#include "cuda/gemm_hopper_launch.cuh"
#include "cuda/gemm_launch.cuh"
#include "cuda/swiglu.cuh"

namespace fire::cuda::detail {

/// Two sums of a linear, as they are stored.
__device__ inline uint32_t pack_with_bias(const GemmProduct& y, float first, float second, int col) {
  if (y.bias != nullptr && col < y.n) first += y.bias[col], second += y.bias[col + 1];
  return ptx::pack_bf16x2(first, second);
}

__device__ inline uint32_t packed_swiglu(uint32_t gate, uint32_t up) {
  return ptx::pack_bf16x2(swiglu<bf16>(low_f32(gate), low_f32(up)), swiglu<bf16>(high_f32(gate), high_f32(up)));
}

/// Of gate and up (products 0 and 1), straight from the registers: for few rows.
struct PlainGatedEpilogue {
  static constexpr const char* kernel = "gemm swiglu sm_90a";
  static constexpr int products = 2, warp_bytes = 0;
  bf16* product;
  bool keeps;

  __device__ void prefetch(const GemmArguments&) const {}
  template <class Tile, class Ring>
  __device__ void fetch(const GemmArguments&, const HopperPlace&, Ring&) const {}

  template <class Tile, int N, class Ring>
  __device__ void finish(const GemmArguments& args, const HopperPlace& place, const float (&acc)[N], int row, Ring&,
                         unsigned char*) const {
    const GemmProduct &gate = args.products[0], &up = args.products[1];
#pragma unroll
    for (int i = 0; i < N / 4; ++i) {
      const int r = row + 8 * (i % 2), col = place.n0 + 8 * (i / 2) + 2 * (static_cast<int>(threadIdx.x) % 4);
      const uint32_t g = pack_with_bias(gate, acc[2 * i], acc[2 * i + 1], col);
      const uint32_t u = pack_with_bias(up, acc[N / 2 + 2 * i], acc[N / 2 + 2 * i + 1], col);
      if (r >= args.m_end || col >= gate.n) continue;
      const auto store = [&](void* to, uint32_t pair) {
        *reinterpret_cast<uint32_t*>(static_cast<bf16*>(to) + int64_t{r} * gate.n + col) = pair;
      };
      store(product, packed_swiglu(g, u));
      if (keeps) store(gate.y, g), store(up.y, u);
    }
  }
};

/// The same by way of shared memory and TMA.
struct StagedGatedEpilogue {
  static constexpr const char* kernel = "gemm swiglu sm_90a";
  static constexpr int products = 2, warp_bytes = HopperStaging::bytes;
  TensorMap gate, up, product;
  bool keeps;

  __device__ void prefetch(const GemmArguments&) const {
    ptx::prefetch_tensor_map(&product);
    if (keeps) ptx::prefetch_tensor_map(&gate), ptx::prefetch_tensor_map(&up);
  }
  template <class Tile, class Ring>
  __device__ void fetch(const GemmArguments&, const HopperPlace&, Ring&) const {}

  template <class Tile, int N, class Ring>
  __device__ void finish(const GemmArguments& args, const HopperPlace& place, const float (&acc)[N], int row, Ring&,
                         unsigned char* staging) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane == 0) ptx::tma_store_wait_read<0>();  // an odd number of pieces may have been sent for the tile before
    HopperStaging stage(staging);
#pragma unroll
    for (int piece = 0; piece < N / HopperPiece::columns; ++piece) {
      const int column = place.n0 + piece * HopperPiece::columns, first = 32 * piece;
      uint32_t gates[16], ups[16];
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const int at = first + 2 * i, col = column + 8 * (i / 2) + 2 * (lane % 4);
        gates[i] = pack_with_bias(args.products[0], acc[at], acc[at + 1], col);
        ups[i] = pack_with_bias(args.products[1], acc[N / 2 + at], acc[N / 2 + at + 1], col);
      }
      if (keeps) stage.send(&gate, column, row - lane / 4, gates), stage.send(&up, column, row - lane / 4, ups);
#pragma unroll
      for (int i = 0; i < 16; ++i) gates[i] = packed_swiglu(gates[i], ups[i]);
      stage.send(&product, column, row - lane / 4, gates);
    }
  }
};

/// Y is the gradient of silu(gate) * up. Slots of the ring bring 64 columns of gate and of up, each warp writes their
/// gradients in their place, and the slots are free when these have gone.
struct GatedBackwardEpilogue {
  static constexpr const char* kernel = "gemm swiglu_backward sm_90a";
  static constexpr int products = 1, warp_bytes = 2 * HopperPiece::bytes;
  TensorMap gate, up;                 ///< boxes as high as a tile
  TensorMap to_gate, to_up, product;  ///< boxes of a warp's rows
  bool has_product;

  __device__ void prefetch(const GemmArguments&) const {
    for (const TensorMap* map : {&gate, &up, &to_gate, &to_up}) ptx::prefetch_tensor_map(map);
    if (has_product) ptx::prefetch_tensor_map(&product);
  }
  template <class Tile, class Ring>
  __device__ void fetch(const GemmArguments&, const HopperPlace& place, Ring& ring) const {
    constexpr int bytes = Tile::BM * HopperPiece::line;
#pragma unroll 1
    for (int n = 0; n < (place.half ? Tile::BN / 2 : Tile::BN); n += HopperPiece::columns, ring.slot.advance()) {
      uint64_t* const arrived = ring.begin_fetch(2 * bytes);
      ptx::tma_load_2d(ring.data(), &gate, place.n0 + n, place.m0, arrived);
      ptx::tma_load_2d(ring.data() + bytes, &up, place.n0 + n, place.m0, arrived);
    }
  }

  template <class Tile, int N, class Ring>
  __device__ void finish(const GemmArguments&, const HopperPlace& place, const float (&acc)[N], int row, Ring& ring,
                         unsigned char* staging) const {
    constexpr int pieces = N / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp_row = row - lane / 4;
    const HopperPiece own;
    int before = 0;
    // All groups of stores but so many have been read: the slot of the last of these is free, and so is its piece.
    const auto release = [&](auto left) {
      if (lane == 0) ptx::tma_store_wait_read<decltype(left)::value>();
      ring.release(before);
      __syncwarp();
    };
#pragma unroll
    for (int piece = 0; piece < pieces; ++piece) {
      ring.wait();
      unsigned char* const gates = ring.data() + (warp_row - place.m0) * HopperPiece::line;
      unsigned char* const ups = gates + Tile::BM * HopperPiece::line;
      unsigned char* const values = staging + piece % 2 * HopperPiece::bytes;
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const uint32_t g = own.get(gates, i), u = own.get(ups, i);
        const uint32_t dy = ptx::pack_bf16x2(acc[32 * piece + 2 * i], acc[32 * piece + 2 * i + 1]);
        const SwigluGradients low = swiglu_gradients<bf16>(low_f32(dy), low_f32(g), low_f32(u));
        const SwigluGradients high = swiglu_gradients<bf16>(high_f32(dy), high_f32(g), high_f32(u));
        own.put(gates, i, ptx::pack_bf16x2(low.gate, high.gate));
        own.put(ups, i, ptx::pack_bf16x2(low.up, high.up));
        own.put(values, i, ptx::pack_bf16x2(low.product, high.product));
      }
      ptx::fence_async_shared();
      __syncwarp();
      const int column = place.n0 + piece * HopperPiece::columns;
      HopperPiece::store(&to_gate, column, warp_row, gates);
      HopperPiece::store(&to_up, column, warp_row, ups);
      if (has_product) HopperPiece::store(&product, column, warp_row, values);
      if (lane == 0) ptx::tma_store_commit();
      if (piece > 0) release(std::integral_constant<int, 1>());
      before = ring.slot.index;
      ring.slot.advance();
    }
    release(std::integral_constant<int, 0>());
  }
};

/// Whether Hopper's kernel takes it, but for how its factors lie.
inline bool takes_gated(const GemmDevice& device, DType type, const Gemm& gemm, GemmForm form) {
  return device.hopper && type == DType::bf16 && gemm.form == form && gemm.y_type == DType::bf16 && gemm.alpha == 1 &&
         gemm.residual == nullptr && !gemm_in_parts(gemm);
}

/// Whether TMA takes all of these matrices of n columns.
template <class... P>
bool in_whole_pieces(int64_t n, const P*... matrices) {
  return (in_pieces({matrices, DType::bf16}, n) && ...);
}

}  // namespace fire::cuda::detail
