// All inline PTX that Hopper (sm_90a) has and no other architecture, one wrapper an instruction; wgmma is in wgmma.cuh.
// The emulator has the same functions in test/simt/hopper.h. Kernels that use them have an empty body elsewhere:
// `#if defined(FIRE_SIMT) || defined(__CUDA_ARCH_FEAT_SM90_ALL)`, which is what FIRE_HOPPER says.
//
// Two worlds ("proxies") see shared memory: ordinary instructions, and the asynchronous one of TMA and wgmma. What an
// ordinary store wrote, the other world sees after fence_async_shared by the thread that stored it and a barrier on
// top; what a load of TMA wrote, everybody sees after mbarrier_wait.
#pragma once

#include "cuda/ptx.cuh"
#include "cuda/tensor_map.h"

#if defined(FIRE_SIMT) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FIRE_HOPPER 1
#else
#define FIRE_HOPPER 0
#endif

/// __launch_bounds__ of a kernel that has its body where FIRE_HOPPER is and nowhere else: there a block may have one
/// warp, so that a launch is refused.
#if FIRE_HOPPER
#define FIRE_HOPPER_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#else
#define FIRE_HOPPER_BOUNDS(threads, blocks) __launch_bounds__(32)
#endif

#ifdef FIRE_SIMT
#include "simt/hopper.h"
#else

namespace fire::cuda::ptx {

// --- mbarriers: 8 bytes of shared memory, 8-byte aligned --------------------
//
// A barrier goes through phases 0, 1, 2, ... A phase is complete when `count` threads have arrived and all bytes that
// were announced have come. A thread waits for phase p by its parity, p % 2, and must wait for every phase in turn:
// that of the phase before the first one is complete from the start, so what is free at first is waited for with 1.

__device__ inline void mbarrier_init(uint64_t* barrier, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(count) : "memory");
}

/// After this thread's mbarrier_init and before the barrier of the block that shows them to all: the copy engine too is
/// to see them.
__device__ inline void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory"); }

__device__ inline void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(barrier)) : "memory");
}

/// Arrives, and announces `bytes` that loads of this phase will bring.
__device__ inline void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}

/// Until the phase of this parity is complete. What was done before the arrivals and by the loads is then visible.
__device__ inline void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred complete;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
      "@!complete bra again;\n"
      "}\n" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

// --- TMA: called by one thread --------------------

/// The box of `map` whose first element is (row, col) to shared memory, aligned to swizzle_alignment. The whole box
/// counts at the barrier, what lies beyond the matrix too.
__device__ inline void tma_load_2d(void* shared, const TensorMap* map, int col, int row, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];\n" ::"r"(
          shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(col), "r"(row)
      : "memory");
}

/// The opposite direction. Shared memory may be written again after tma_store_wait_read; a thread that leaves the
/// kernel has waited for that.
__device__ inline void tma_store_2d(const TensorMap* map, int col, int row, const void* shared) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];\n" ::"l"(map),
               "r"(shared_address(shared)), "r"(col), "r"(row)
               : "memory");
}

/// Closes a group of this thread's stores.
__device__ inline void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;\n" ::: "memory"); }

/// Waits until at most the N youngest groups of this thread have still to read shared memory.
template <int N>
__device__ inline void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;\n" ::"n"(N) : "memory");
}

/// Waits until at most the N youngest groups of this thread have still to write.
template <int N>
__device__ inline void tma_store_wait() {
  asm volatile("cp.async.bulk.wait_group %0;\n" ::"n"(N) : "memory");
}

__device__ inline void prefetch_tensor_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];\n" ::"l"(map) : "memory");
}

__device__ inline void fence_async_shared() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

// --- warps and warpgroups --------------------

/// __syncthreads among `threads` threads, whole warps: ids 1 to 15 (0 is that of __syncthreads).
__device__ inline void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}

/// Counts at the barrier without waiting there.
__device__ inline void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}

/// The registers of each thread from here on, a multiple of 8 within 24 and 256. All threads of a warpgroup; what one
/// warpgroup gives away another may take, and waits for.
template <int N>
__device__ inline void registers_shrink() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(N));
}
template <int N>
__device__ inline void registers_grow() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(N));
}

/// True for one lane, always the same one. All 32 lanes must call it.
__device__ inline bool elect_one() {
  uint32_t elected;
  asm volatile(
      "{\n"
      ".reg .pred elected;\n"
      "elect.sync _|elected, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, elected;\n"
      "}\n"
      : "=r"(elected));
  return elected != 0;
}

}  // namespace fire::cuda::ptx

#endif

#include "cuda/wgmma.cuh"
