// Sums and maxima over a warp, part of a warp or a block. The order is fixed (a butterfly over the lanes, then one warp
// after the other), so equal inputs give equal bits, and every thread receives the same bits: a + b == b + a.
//
// All threads of the warp, respectively of the block, must call; those without data bring the neutral element.
#pragma once

#include "cuda/gpu.h"

namespace fire::cuda {

constexpr int warp_size = 32;
constexpr unsigned full_warp = 0xffffffffu;

struct Sum {
  template <class V>
  __device__ static V apply(V a, V b) {
    return a + b;
  }
};

/// As fmax: a NaN loses against a number.
struct Max {
  __device__ static float apply(float a, float b) { return fmaxf(a, b); }
  __device__ static double apply(double a, double b) { return fmax(a, b); }
  __device__ static int apply(int a, int b) { return a > b ? a : b; }
};

/// Over each aligned group of `Lanes` (a power of two) neighbouring lanes by itself.
template <class Op, int Lanes = warp_size, class V>
__device__ inline V warp_reduce(V value) {
  static_assert(Lanes >= 1 && Lanes <= warp_size && (Lanes & (Lanes - 1)) == 0, "a power of two up to a warp");
#pragma unroll
  for (int step = Lanes / 2; step > 0; step /= 2) value = Op::apply(value, __shfl_xor_sync(full_warp, value, step));
  return value;
}

template <int Lanes = warp_size, class V>
__device__ inline V warp_sum(V value) {
  return warp_reduce<Sum, Lanes>(value);
}

template <int Lanes = warp_size, class V>
__device__ inline V warp_max(V value) {
  return warp_reduce<Max, Lanes>(value);
}

/// Over a one-dimensional block of `Threads` (a multiple of 32, up to 1024). `scratch` is shared memory for Threads /
/// 32 values; it may be used again right after.
template <class Op, int Threads, class V>
__device__ inline V block_reduce(V value, V* scratch) {
  static_assert(Threads % warp_size == 0 && Threads <= warp_size * warp_size, "whole warps, at most 32");
  constexpr int warps = Threads / warp_size;
  value = warp_reduce<Op>(value);
  if constexpr (warps > 1) {
    const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    // Every warp adds the warps' values for itself, in the same order.
    value = scratch[0];
#pragma unroll
    for (int i = 1; i < warps; ++i) value = Op::apply(value, scratch[i]);
    __syncthreads();
  }
  return value;
}

template <int Threads, class V>
__device__ inline V block_sum(V value, V* scratch) {
  return block_reduce<Sum, Threads>(value, scratch);
}

template <int Threads, class V>
__device__ inline V block_max(V value, V* scratch) {
  return block_reduce<Max, Threads>(value, scratch);
}

}  // namespace fire::cuda
