// Kernels that show what the instructions of cuda/hopper.cuh answer: for wrapper_goldens.cu, which asks a GPU, and for
// the emulator's own test. One warpgroup each.
#pragma once

#include "cuda/gpu.h"
#include "cuda/hopper.cuh"

namespace fire::cuda::wrappers {

constexpr int kDepth = 64;  // of a product: four k16 steps
constexpr int kTileBytes = 256 * kDepth * 2;
constexpr size_t kProductShared = 2 * kTileBytes;

/// An operand in shared memory: [rows, kDepth], or its transpose with the rows side by side.
struct OperandLayout {
  int rows, span;  // bytes of a line
  bool mn_major;

  __host__ __device__ int boxes() const { return mn_major ? (2 * rows + span - 1) / span : 2 * kDepth / span; }
  __host__ __device__ int box_lines() const { return mn_major ? kDepth : rows; }
  __host__ __device__ int box_bytes() const { return box_lines() * span; }
  /// Where k16 step `step` starts.
  __device__ int start(int step) const {
    if (mn_major) return step * 16 * span;
    return step * 32 / span * box_bytes() + step * 32 % span;
  }
  __device__ uint32_t leading() const { return uint32_t(mn_major && span == 16 ? 128 : box_bytes()); }
  __device__ uint32_t stride() const { return uint32_t(mn_major && span == 16 ? box_bytes() : 8 * span); }
};

struct ProductArguments {
  TensorMap a, b;
  Swizzle swizzle;
  int span;                   // of it
  const uint32_t* fragments;  // [steps, 128 threads, 4], where A comes from registers
  float* d;                   // [128 threads, N / 2], before and after
};

#if FIRE_HOPPER

/// Brings an operand; called by one thread.
__device__ inline void load_operand(unsigned char* to, const TensorMap& map, const OperandLayout& layout,
                                    uint64_t* barrier) {
  for (int box = 0; box < layout.boxes(); ++box) {
    const int at = box * layout.span / 2;
    ptx::tma_load_2d(to + box * layout.box_bytes(), &map, at, 0, barrier);
  }
}

#endif

template <int N, bool TransA, bool TransB, bool Registers>
__global__ void __launch_bounds__(128, 1) product_kernel(const __grid_constant__ ProductArguments p) {
#if FIRE_HOPPER
  DYNAMIC_SHARED(bytes);
  SHARED(uint64_t, barrier, 1);
  unsigned char* const a_tile = bytes;
  unsigned char* const b_tile = bytes + kTileBytes;
  const int thread = int(threadIdx.x);
  const OperandLayout a_layout{64, p.span, TransA}, b_layout{N, p.span, TransB};
  if (thread == 0) {
    ptx::mbarrier_init(barrier, 1);
    ptx::fence_mbarrier_init();
    const int a_bytes = Registers ? 0 : a_layout.boxes() * a_layout.box_bytes();
    ptx::mbarrier_arrive_expect(barrier, uint32_t(a_bytes + b_layout.boxes() * b_layout.box_bytes()));
    if (!Registers) load_operand(a_tile, p.a, a_layout, barrier);
    load_operand(b_tile, p.b, b_layout, barrier);
  }
  __syncthreads();
  ptx::mbarrier_wait(barrier, 0);
  float d[N / 2];
  uint32_t fragments[kDepth / 16][4];
  for (int i = 0; i < N / 2; ++i) d[i] = p.d[thread * N / 2 + i];
  for (int step = 0; Registers && step < kDepth / 16; ++step)
    for (int i = 0; i < 4; ++i) fragments[step][i] = p.fragments[(step * 128 + thread) * 4 + i];
  ptx::wgmma_hold(d);
  ptx::wgmma_fence();
  for (int step = 0; step < kDepth / 16; ++step) {
    const uint64_t b =
        ptx::wgmma_descriptor(b_tile + b_layout.start(step), b_layout.leading(), b_layout.stride(), p.swizzle);
    if constexpr (Registers) {
      ptx::wgmma<N, TransB>(d, fragments[step], b, true);
    } else {
      const uint64_t a =
          ptx::wgmma_descriptor(a_tile + a_layout.start(step), a_layout.leading(), a_layout.stride(), p.swizzle);
      ptx::wgmma<N, TransA, TransB>(d, a, b, true);
    }
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::wgmma_hold(d);
  for (int i = 0; i < N / 2; ++i) p.d[thread * N / 2 + i] = d[i];
#endif
}

struct BoxArguments {
  TensorMap from, to;
  int col, row;            // of the box in `from`
  int to_col, to_row;      // in `to`
  uint32_t bytes;          // of the box
  uint32_t* shared_words;  // what the box looks like in shared memory
};

/// A box through shared memory.
__global__ void __launch_bounds__(128) box_kernel(const __grid_constant__ BoxArguments p) {
#if FIRE_HOPPER
  DYNAMIC_SHARED(bytes);
  SHARED(uint64_t, barrier, 1);
  uint32_t* const words = reinterpret_cast<uint32_t*>(bytes);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(barrier, 1);
    ptx::fence_mbarrier_init();
    ptx::mbarrier_arrive_expect(barrier, p.bytes);
    ptx::tma_load_2d(bytes, &p.from, p.col, p.row, barrier);
  }
  __syncthreads();
  ptx::mbarrier_wait(barrier, 0);
  for (uint32_t i = threadIdx.x; i < p.bytes / 4; i += 128) p.shared_words[i] = words[i];
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < p.bytes / 4; i += 128) words[i] ^= 0x01010101u;
  ptx::fence_async_shared();
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::tma_store_2d(&p.to, p.to_col, p.to_row, bytes);
    ptx::tma_store_commit();
    ptx::tma_store_wait<0>();
  }
#endif
}

/// Phases, elections, named barriers: a word for each thread. 256 threads.
__global__ void __launch_bounds__(256) sync_kernel(const uint32_t* in, uint32_t* out) {
#if FIRE_HOPPER
  SHARED(uint64_t, barrier, 2);
  SHARED(uint32_t, words, 128);
  SHARED(uint32_t, sums, 256);
  const unsigned thread = threadIdx.x;
  if (thread == 0) {
    ptx::mbarrier_init(&barrier[0], 128);
    ptx::mbarrier_init(&barrier[1], 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const uint32_t elected = __ballot_sync(0xffffffffu, ptx::elect_one());
  uint32_t sum = __popc(elected);
  // Warpgroup 0 hands words to warpgroup 1 three times; the place is free at first.
  for (unsigned round = 0; round < 3; ++round) {
    if (thread < 128) {
      ptx::mbarrier_wait(&barrier[1], (round + 1) & 1);
      words[thread] = in[round * 128 + thread];
      ptx::mbarrier_arrive(&barrier[0]);
    } else {
      ptx::mbarrier_wait(&barrier[0], round & 1);
      sum = sum * 31 + words[255 - thread];
      ptx::named_barrier_sync(2, 128);
      if (thread == 128) ptx::mbarrier_arrive(&barrier[1]);
    }
  }
  sums[thread] = sum;
  if (thread < 64)
    ptx::named_barrier_arrive(5, 128);
  else if (thread >= 192)
    ptx::named_barrier_sync(5, 128);
  out[thread] = sum + (thread >= 192 ? sums[thread - 192] : 0);
#endif
}

// What the kernels above do not have: registers that change hands, a map that is fetched ahead, a store that is waited
// for until it has read.
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
