// What cuda/hopper.cuh has and no kernel of test/gpu/hopper_wrappers.cuh: registers that change hands, a map that is
// fetched ahead, a store that is waited for until it has read.
#pragma once

#include "cuda/gpu.h"
#include "cuda/hopper.cuh"

namespace fire::cuda::wrappers {

constexpr int kRelaySide = 64;
constexpr int kRelayBytes = kRelaySide * kRelaySide * 2;

struct RelayArguments {
  TensorMap from, to;  // bf16 [64 tiles, 64]
  int tiles;
};

/// to = -from: tiles one above the other. Warpgroup 0 loads, 1 has the even tiles, 2 the odd ones.
__global__ void __launch_bounds__(384, 1) relay_kernel(const __grid_constant__ RelayArguments p) {
#if FIRE_HOPPER
  DYNAMIC_SHARED(bytes);
  SHARED(uint64_t, full, 2);
  SHARED(uint64_t, empty, 2);
  const int group = static_cast<int>(threadIdx.x / 128);
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) {
      ptx::mbarrier_init(&full[i], 1);
      ptx::mbarrier_init(&empty[i], 1);
    }
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensor_map(&p.from);
  }
  __syncthreads();
  if (group == 0) {
    ptx::registers_shrink<40>();
    if (threadIdx.x >= 32 || !ptx::elect_one()) return;
    for (int tile = 0; tile < p.tiles; ++tile) {
      const int stage = tile % 2;
      ptx::mbarrier_wait(&empty[stage], static_cast<unsigned>(tile / 2 + 1) & 1);
      ptx::mbarrier_arrive_expect(&full[stage], kRelayBytes);
      ptx::tma_load_2d(bytes + stage * kRelayBytes, &p.from, 0, kRelaySide * tile, &full[stage]);
    }
    return;
  }
  ptx::registers_grow<232>();
  const int stage = group - 1;
  uint32_t* const words = reinterpret_cast<uint32_t*>(bytes + stage * kRelayBytes);
  for (int tile = stage; tile < p.tiles; tile += 2) {
    ptx::mbarrier_wait(&full[stage], static_cast<unsigned>(tile / 2) & 1);
    for (unsigned i = threadIdx.x % 128; i < kRelayBytes / 4; i += 128) words[i] ^= 0x80008000u;
    ptx::fence_async_shared();
    ptx::named_barrier_sync(group, 128);
    if (threadIdx.x % 128 != 0) continue;
    ptx::tma_store_2d(&p.to, 0, kRelaySide * tile, words);
    ptx::tma_store_commit();
    ptx::tma_store_wait_read<0>();
    ptx::mbarrier_arrive(&empty[stage]);
  }
#endif
}

}  // namespace fire::cuda::wrappers
