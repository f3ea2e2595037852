// The tensor cores of Hopper: products of a warpgroup (128 threads, the first a multiple of 128), bf16 operands, f32
// sums.
//
//   d [64 x N] += a [64 x 16] b [16 x N]
//
// d: thread t of the warpgroup has in d[i] row 16 * (t / 32) + t % 32 / 4 + 8 * (i / 2 % 2) and column
// 8 * (i / 4) + 2 * (t % 4) + i % 2.
//
// a from registers: as ptx.cuh has it for mma.m16n8k16, warp w has rows 16 w to 16 w + 15.
//
// A batch is wgmma_hold, wgmma_fence, some wgmma, wgmma_commit; after the wgmma_wait that covers it, and wgmma_hold, d
// may be touched again. The fence is what orders registers: no thread writes to d or to a between the fence and the
// wgmma.
//
// An operand in shared memory is told by a descriptor. "K-major" (Trans = false) has the 16 elements of k side by side,
// "MN-major" (Trans = true) the rows of a or columns of b. In lines of S bytes (S of the swizzle, as TMA puts them):
//
//   K-major     8 rows are 8 lines; stride_bytes from one 8 rows to the next. leading_bytes is not read.
//               The next 16 of k are 32 bytes on in the line.
//   MN-major    8 of k are 8 lines of S / 2 rows; stride_bytes from one 8 of k to the next, leading_bytes from one
//               S / 2 rows to the next. The next 16 of k are 2 * stride_bytes on. The last of N columns may end within
//               a line (80 of 64 + 16). CUTLASS has the same for whole lines (make_gmma_desc,
//               mma_traits_sm90_gmma.hpp); NVIDIA's Fuser runs every N with every swizzle on a card (HopperSS and
//               HopperRS, tests/cpp/test_mma.cpp).
//   no swizzle  pieces of 8 lines of 16 bytes, whichever major: leading_bytes to the next 8 of k, stride_bytes to the
//               next 8 rows.
#pragma once

#include "cuda/tensor_map.h"

namespace fire::cuda::ptx {

/// `shared` is 16-byte aligned and lies in a tile that is aligned to swizzle_alignment, in its first line or 8 k lines
/// below it. The strides are multiples of 16 below 256 KiB. ("Matrix descriptor" in the PTX manual: bits 0-13 start /
/// 16, 16-29 leading / 16, 32-45 stride / 16, 49-51 base offset, 62-63 swizzle: 0 none, 1 128 bytes, 2 64, 3 32.)
__device__ inline uint64_t wgmma_descriptor(const void* shared, uint32_t leading_bytes, uint32_t stride_bytes,
                                            Swizzle swizzle) {
  const uint64_t mode = swizzle == Swizzle::none ? 0 : 4 - static_cast<uint64_t>(swizzle);
  const auto field = [](uint32_t bytes) { return static_cast<uint64_t>(bytes & 0x3ffff) >> 4; };
  return field(shared_address(shared)) | field(leading_bytes) << 16 | field(stride_bytes) << 32 | mode << 62;
}

/// The descriptor of what lies so many bytes further: one addition, as the start of an operand is its lowest bits.
__device__ inline uint64_t wgmma_behind(uint64_t descriptor, uint32_t bytes) {
  const uint32_t low = static_cast<uint32_t>(descriptor) + (bytes >> 4);
  return (descriptor >> 32 << 32) | low;
}

#ifndef FIRE_SIMT

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }

/// Closes a group of this warpgroup's products.
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }

/// Waits until at most the N youngest groups are under way.
template <int N>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(N) : "memory");
}

/// Before wgmma_fence and after wgmma_wait: the compiler, to whom the sums are done when the product is asked for,
/// moves what writes and what reads them across neither. (Not to be seen in the emulator, which has no such compiler.)
template <int N>
__device__ inline void wgmma_hold(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

/// The same for a from registers: they are read until the wait.
__device__ inline void wgmma_hold(uint32_t (&a)[4]) {
#pragma unroll
  for (uint32_t& x : a) asm volatile("" : "+r"(x)::"memory");
}

// Operands %0 to %(count - 1) of an instruction, and what nvcc is told of them.
#define FIRE_NAMES_4(a, b, c, d) "%" #a ",%" #b ",%" #c ",%" #d
#define FIRE_NAMES_10(t) "%" #t "0,%" #t "1,%" #t "2,%" #t "3,%" #t "4,%" #t "5,%" #t "6,%" #t "7,%" #t "8,%" #t "9"
#define FIRE_NAMES_FIRST_10 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9"
#define FIRE_NAMES_30 FIRE_NAMES_FIRST_10 "," FIRE_NAMES_10(1) "," FIRE_NAMES_10(2)
#define FIRE_NAMES_60 FIRE_NAMES_30 "," FIRE_NAMES_10(3) "," FIRE_NAMES_10(4) "," FIRE_NAMES_10(5)
#define FIRE_NAMES_90 FIRE_NAMES_60 "," FIRE_NAMES_10(6) "," FIRE_NAMES_10(7) "," FIRE_NAMES_10(8)
#define FIRE_D_4 FIRE_NAMES_4(0, 1, 2, 3)
#define FIRE_D_8 FIRE_D_4 "," FIRE_NAMES_4(4, 5, 6, 7)
#define FIRE_D_16 FIRE_NAMES_FIRST_10 ",%10,%11," FIRE_NAMES_4(12, 13, 14, 15)
#define FIRE_D_32 FIRE_NAMES_30 ",%30,%31"
#define FIRE_D_40 FIRE_NAMES_30 "," FIRE_NAMES_10(3)
#define FIRE_D_48 FIRE_D_40 "," FIRE_NAMES_4(40, 41, 42, 43) "," FIRE_NAMES_4(44, 45, 46, 47)
#define FIRE_D_64 FIRE_NAMES_60 "," FIRE_NAMES_4(60, 61, 62, 63)
#define FIRE_D_96 FIRE_NAMES_90 ",%90,%91," FIRE_NAMES_4(92, 93, 94, 95)
#define FIRE_D_128 \
  FIRE_NAMES_90    \
  "," FIRE_NAMES_10(9) "," FIRE_NAMES_10(10) "," FIRE_NAMES_10(11) ",%120,%121,%122,%123,%124,%125,%126,%127"

#define FIRE_SUMS_4(i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define FIRE_SUMS_8(i) FIRE_SUMS_4(i), FIRE_SUMS_4((i) + 4)
#define FIRE_SUMS_16(i) FIRE_SUMS_8(i), FIRE_SUMS_8((i) + 8)
#define FIRE_SUMS_32(i) FIRE_SUMS_16(i), FIRE_SUMS_16((i) + 16)
#define FIRE_SUMS_40(i) FIRE_SUMS_32(i), FIRE_SUMS_8((i) + 32)
#define FIRE_SUMS_48(i) FIRE_SUMS_32(i), FIRE_SUMS_16((i) + 32)
#define FIRE_SUMS_64(i) FIRE_SUMS_32(i), FIRE_SUMS_32((i) + 32)
#define FIRE_SUMS_96(i) FIRE_SUMS_64(i), FIRE_SUMS_32((i) + 64)
#define FIRE_SUMS_128(i) FIRE_SUMS_64(i), FIRE_SUMS_64((i) + 64)

/// The instruction for one N.
template <int N>
struct Wgmma;

// p0 .. p6: the numbers of the operands after the `count` sums.
#define FIRE_WGMMA(N, count, p0, p1, p2, p3, p4, p5, p6)                                                     \
  template <>                                                                                                \
  struct Wgmma<N> {                                                                                          \
    template <bool TransA, bool TransB>                                                                      \
    __device__ static inline void shared(float (&d)[count], uint64_t a, uint64_t b, uint32_t accumulate) {   \
      asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #p2                                \
                   ", 0;\n"                                                                                  \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" FIRE_D_##count               \
                   "}, %" #p0 ", %" #p1 ", accumulate, 1, 1, %" #p3 ", %" #p4 ";\n}\n"                       \
                   : FIRE_SUMS_##count(0)                                                                    \
                   : "l"(a), "l"(b), "r"(accumulate), "n"(int(TransA)), "n"(int(TransB))                     \
                   : "memory");                                                                              \
    }                                                                                                        \
    template <bool TransB>                                                                                   \
    __device__ static inline void registers(float (&d)[count], const uint32_t (&a)[4], uint64_t b,           \
                                            uint32_t accumulate) {                                           \
      asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #p5                                \
                   ", 0;\n"                                                                                  \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" FIRE_D_##count               \
                   "}, {%" #p0 ", %" #p1 ", %" #p2 ", %" #p3 "}, %" #p4 ", accumulate, 1, 1, %" #p6 ";\n}\n" \
                   : FIRE_SUMS_##count(0)                                                                    \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(int(TransB))   \
                   : "memory");                                                                              \
    }                                                                                                        \
  };

FIRE_WGMMA(8, 4, 4, 5, 6, 7, 8, 9, 10)
FIRE_WGMMA(16, 8, 8, 9, 10, 11, 12, 13, 14)
FIRE_WGMMA(32, 16, 16, 17, 18, 19, 20, 21, 22)
FIRE_WGMMA(64, 32, 32, 33, 34, 35, 36, 37, 38)
FIRE_WGMMA(80, 40, 40, 41, 42, 43, 44, 45, 46)
FIRE_WGMMA(96, 48, 48, 49, 50, 51, 52, 53, 54)
FIRE_WGMMA(128, 64, 64, 65, 66, 67, 68, 69, 70)
FIRE_WGMMA(192, 96, 96, 97, 98, 99, 100, 101, 102)
FIRE_WGMMA(256, 128, 128, 129, 130, 131, 132, 133, 134)

#undef FIRE_WGMMA

/// d = a b, or d += a b: both operands from shared memory.
template <int N, bool TransA = false, bool TransB = false>
__device__ inline void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
  Wgmma<N>::template shared<TransA, TransB>(d, a, b, accumulate);
}

/// The same with a from registers.
template <int N, bool TransB = false>
__device__ inline void wgmma(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  Wgmma<N>::template registers<TransB>(d, a, b, accumulate);
}

#endif

}  // namespace fire::cuda::ptx
