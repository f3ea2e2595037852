// The functions of cuda/hopper.cuh and cuda/wgmma.cuh for the emulator.
#pragma once

#include "cuda/tensor_map.h"
#include "simt/device.h"

namespace fire::simt {

/// Shared memory as instructions see it, and back: 18 bits, the end of an array included.
uint32_t shared_address(const void* p, const char* file, int line);
void* at_shared_address(uint32_t address, const char* file, int line);

void mbarrier_init(uint64_t* barrier, uint32_t count, const char* file, int line);
void fence_mbarrier_init(const char* file, int line);
void mbarrier_arrive(uint64_t* barrier, bool announces, uint32_t bytes, const char* file, int line);
void mbarrier_wait(uint64_t* barrier, uint32_t parity, const char* file, int line);
bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity, const char* file, int line);

void tma_load(void* shared, const cuda::TensorMap* map, int col, int row, uint64_t* barrier, const char* file,
              int line);
void tma_store(const cuda::TensorMap* map, int col, int row, const void* shared, const char* file, int line);
void tma_store_commit();
/// For stores to have read shared memory, or to have written.
void tma_store_wait(unsigned pending, bool reading);
void fence_async_shared();
void check_tensor_map(const cuda::TensorMap* map, const char* file, int line);

void named_barrier(int id, int threads, bool waits, const char* file, int line);
void set_registers(int count, bool grow, const char* file, int line);
bool elect(const char* file, int line);

/// What a thread brings to a product of its warpgroup.
struct WgmmaOperands {
  float* sums;
  const uint32_t* registers;  // A; nullptr: by its descriptor
  uint64_t a, b;
  int n;
  bool trans_a, trans_b, accumulate;
};
void wgmma_fence();
void wgmma_issue(const WgmmaOperands& operands, const char* file, int line);
void wgmma_commit();
void wgmma_wait(unsigned pending, const char* file, int line);

}  // namespace fire::simt

namespace fire::cuda::ptx {

#define SIMT_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/// Where shared memory is as the instructions see it: 18 bits.
inline uint32_t shared_address(const void* p, SIMT_WHERE) { return simt::shared_address(p, file, line); }

inline void mbarrier_init(uint64_t* barrier, uint32_t count, SIMT_WHERE) {
  simt::mbarrier_init(barrier, count, file, line);
}
inline void fence_mbarrier_init(SIMT_WHERE) { simt::fence_mbarrier_init(file, line); }
inline void mbarrier_arrive(uint64_t* barrier, SIMT_WHERE) { simt::mbarrier_arrive(barrier, false, 0, file, line); }
inline void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes, SIMT_WHERE) {
  simt::mbarrier_arrive(barrier, true, bytes, file, line);
}
inline void mbarrier_wait(uint64_t* barrier, uint32_t parity, SIMT_WHERE) {
  simt::mbarrier_wait(barrier, parity, file, line);
}

inline void tma_load_2d(void* shared, const TensorMap* map, int col, int row, uint64_t* barrier, SIMT_WHERE) {
  simt::tma_load(shared, map, col, row, barrier, file, line);
}
inline void tma_store_2d(const TensorMap* map, int col, int row, const void* shared, SIMT_WHERE) {
  simt::tma_store(map, col, row, shared, file, line);
}
inline void tma_store_commit() { simt::tma_store_commit(); }
template <int N>
inline void tma_store_wait_read() {
  static_assert(N >= 0, "a number of groups");
  simt::tma_store_wait(N, true);
}
template <int N>
inline void tma_store_wait() {
  static_assert(N >= 0, "a number of groups");
  simt::tma_store_wait(N, false);
}
inline void prefetch_tensor_map(const TensorMap* map, SIMT_WHERE) { simt::check_tensor_map(map, file, line); }
inline void fence_async_shared() { simt::fence_async_shared(); }

inline void named_barrier_sync(int id, int threads, SIMT_WHERE) { simt::named_barrier(id, threads, true, file, line); }
inline void named_barrier_arrive(int id, int threads, SIMT_WHERE) {
  simt::named_barrier(id, threads, false, file, line);
}

template <int N>
inline void registers_shrink(SIMT_WHERE) {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256, "setmaxnreg takes multiples of 8 from 24 to 256");
  simt::set_registers(N, false, file, line);
}
template <int N>
inline void registers_grow(SIMT_WHERE) {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256, "setmaxnreg takes multiples of 8 from 24 to 256");
  simt::set_registers(N, true, file, line);
}

inline bool elect_one(SIMT_WHERE) { return simt::elect(file, line); }

template <int N>
inline void wgmma_hold(float (&)[N]) {}
inline void wgmma_fence() { simt::wgmma_fence(); }
inline void wgmma_commit() { simt::wgmma_commit(); }
template <int N>
inline void wgmma_wait(SIMT_WHERE) {
  static_assert(N >= 0 && N <= 7, "wgmma.wait_group takes 0 to 7");
  simt::wgmma_wait(N, file, line);
}

/// As many columns as the instruction has them; cuda/wgmma.cuh has those that are used.
template <int N, bool TransA = false, bool TransB = false>
inline void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate, SIMT_WHERE) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256, "wgmma has multiples of 8 columns up to 256");
  simt::wgmma_issue({d, nullptr, a, b, N, TransA, TransB, accumulate}, file, line);
}
template <int N, bool TransB = false>
inline void wgmma(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate, SIMT_WHERE) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256, "wgmma has multiples of 8 columns up to 256");
  simt::wgmma_issue({d, a, 0, b, N, false, TransB, accumulate}, file, line);
}

#undef SIMT_WHERE

}  // namespace fire::cuda::ptx
