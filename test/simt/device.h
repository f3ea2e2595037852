// CUDA's device language for an ordinary C++17 compiler: what cuda/gpu.h includes under FIRE_SIMT. Needs nothing of the
// CUDA toolkit. What is missing here is missing on purpose (float atomics, __activemask, __shared__, <<<>>>): the
// rules of cuda/gpu.h forbid it.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda/watch.h"
#include "simt/machine.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))

#define threadIdx (::fire::simt::current_thread->index)
#define blockIdx (::fire::simt::current_block.index)
#define blockDim (::fire::simt::current_block.block)
#define gridDim (::fire::simt::current_block.grid)

/// Arrays of the block, new and full of NaN in every block. A real array type, so that UBSan knows its bounds.
#define SHARED(type, name, count)                                                         \
  using name##_array_type = type[count];                                                  \
  static ::fire::simt::SharedSlot name##_slot;                                            \
  name##_array_type& name = *static_cast<name##_array_type*>(::fire::simt::static_shared( \
      &name##_slot, sizeof(name##_array_type), alignof(name##_array_type), __FILE__, __LINE__))
#define DYNAMIC_SHARED(name) unsigned char* const name = ::fire::simt::current_block.dynamic_shared

// Arguments that name the caller's line.
#define SIMT_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

// --- vector types --------------------

#define SIMT_VECTORS(type, name, align2, align4)                           \
  struct alignas(align2) name##2 {                                         \
    type x, y;                                                             \
  };                                                                       \
  struct alignas(align4) name##4 {                                         \
    type x, y, z, w;                                                       \
  };                                                                       \
  inline name##2 make_##name##2(type x, type y) { return name##2 {x, y}; } \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return name##4 {x, y, z, w}; }

SIMT_VECTORS(signed char, char, 2, 4)
SIMT_VECTORS(unsigned char, uchar, 2, 4)
SIMT_VECTORS(short, short, 4, 8)
SIMT_VECTORS(unsigned short, ushort, 4, 8)
SIMT_VECTORS(int, int, 8, 16)
SIMT_VECTORS(unsigned, uint, 8, 16)
SIMT_VECTORS(float, float, 8, 16)
SIMT_VECTORS(long long, longlong, 16, 16)
SIMT_VECTORS(unsigned long long, ulonglong, 16, 16)
SIMT_VECTORS(double, double, 16, 16)
#undef SIMT_VECTORS

struct float3 {
  float x, y, z;
};
struct int3 {
  int x, y, z;
};
inline float3 make_float3(float x, float y, float z) { return float3{x, y, z}; }
inline int3 make_int3(int x, int y, int z) { return int3{x, y, z}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return uint3{x, y, z}; }

// --- barriers and warps --------------------

constexpr int warpSize = 32;

inline void __syncthreads(SIMT_WHERE) { ::fire::simt::block_barrier(file, line); }
inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_WHERE) { ::fire::simt::warp_barrier(mask, file, line); }
// Blocks run one after another and threads switch only at collectives: there is nothing to fence.
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace fire::simt {

template <class T>
T shuffle(WarpOp op, unsigned mask, T value, int operand, int width, const char* file, int line) {
  static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8),
                "shuffles move 32-bit or 64-bit numbers");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = warp_shuffle(op, mask, bits, operand, width, file, line);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class To, class From>
To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "same_bits keeps the size");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace fire::simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_WHERE) {
  return ::fire::simt::shuffle(::fire::simt::WarpOp::shuffle, mask, value, source, width, file, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_WHERE) {
  return ::fire::simt::shuffle(::fire::simt::WarpOp::shuffle_up, mask, value, int(delta), width, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_WHERE) {
  return ::fire::simt::shuffle(::fire::simt::WarpOp::shuffle_down, mask, value, int(delta), width, file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, SIMT_WHERE) {
  return ::fire::simt::shuffle(::fire::simt::WarpOp::shuffle_xor, mask, value, lanes, width, file, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_WHERE) {
  return ::fire::simt::warp_reduce(::fire::simt::WarpOp::ballot, mask, predicate != 0, file, line);
}
inline int __any_sync(unsigned mask, int predicate, SIMT_WHERE) {
  return int(::fire::simt::warp_reduce(::fire::simt::WarpOp::any, mask, predicate != 0, file, line));
}
inline int __all_sync(unsigned mask, int predicate, SIMT_WHERE) {
  return int(::fire::simt::warp_reduce(::fire::simt::WarpOp::all, mask, predicate != 0, file, line));
}

#define SIMT_REDUCE(name, type, op)                                                                      \
  inline type name(unsigned mask, type value, SIMT_WHERE) {                                              \
    return type(::fire::simt::warp_reduce(::fire::simt::WarpOp::op, mask, uint32_t(value), file, line)); \
  }
SIMT_REDUCE(__reduce_add_sync, int, add)
SIMT_REDUCE(__reduce_add_sync, unsigned, add)
SIMT_REDUCE(__reduce_min_sync, int, min_signed)
SIMT_REDUCE(__reduce_min_sync, unsigned, min_unsigned)
SIMT_REDUCE(__reduce_max_sync, int, max_signed)
SIMT_REDUCE(__reduce_max_sync, unsigned, max_unsigned)
SIMT_REDUCE(__reduce_and_sync, unsigned, bit_and)
SIMT_REDUCE(__reduce_or_sync, unsigned, bit_or)
SIMT_REDUCE(__reduce_xor_sync, unsigned, bit_xor)
#undef SIMT_REDUCE

// --- atomics (integers only) --------------------

#define SIMT_ATOMICS(type)                                                                                   \
  inline type atomicAdd(type* p, type v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }              \
  inline type atomicAnd(type* p, type v) { return __atomic_fetch_and(p, v, __ATOMIC_RELAXED); }              \
  inline type atomicOr(type* p, type v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }                \
  inline type atomicXor(type* p, type v) { return __atomic_fetch_xor(p, v, __ATOMIC_RELAXED); }              \
  inline type atomicExch(type* p, type v) { return __atomic_exchange_n(p, v, __ATOMIC_RELAXED); }            \
  inline type atomicCAS(type* p, type expected, type v) {                                                    \
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);                 \
    return expected;                                                                                         \
  }                                                                                                          \
  inline type atomicMax(type* p, type v) {                                                                   \
    type old = __atomic_load_n(p, __ATOMIC_RELAXED);                                                         \
    while (old < v && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) { \
    }                                                                                                        \
    return old;                                                                                              \
  }                                                                                                          \
  inline type atomicMin(type* p, type v) {                                                                   \
    type old = __atomic_load_n(p, __ATOMIC_RELAXED);                                                         \
    while (v < old && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) { \
    }                                                                                                        \
    return old;                                                                                              \
  }
SIMT_ATOMICS(int)
SIMT_ATOMICS(unsigned)
SIMT_ATOMICS(unsigned long long)
#undef SIMT_ATOMICS

// --- arithmetic
// ------------------------------------------------------------------------------------------------------- expf, logf,
// sqrtf, fmaf, fmaxf, tanhf, erff, sincosf, isnan, ... are those of <math.h>.

#define SIMT_MIN_MAX(type)                                  \
  inline type min(type a, type b) { return b < a ? b : a; } \
  inline type max(type a, type b) { return a < b ? b : a; }
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX
// As CUDA: a mixed pair of int and unsigned compares as unsigned; a NaN loses against a number.
inline unsigned min(int a, unsigned b) { return min(unsigned(a), b); }
inline unsigned min(unsigned a, int b) { return min(a, unsigned(b)); }
inline unsigned max(int a, unsigned b) { return max(unsigned(a), b); }
inline unsigned max(unsigned a, int b) { return max(a, unsigned(b)); }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(double(a), b); }
inline double min(double a, float b) { return fmin(a, double(b)); }
inline double max(float a, double b) { return fmax(double(a), b); }
inline double max(double a, float b) { return fmax(a, double(b)); }

namespace fire::simt {
inline float reciprocal_sqrt(float x) { return 1.0f / sqrtf(x); }
inline double reciprocal_sqrt(double x) { return 1.0 / ::sqrt(x); }
}  // namespace fire::simt
// Macros, because some versions of <math.h> declare functions of these names.
#define rsqrtf(x) (::fire::simt::reciprocal_sqrt(static_cast<float>(x)))
#define rsqrt(x) (::fire::simt::reciprocal_sqrt(static_cast<double>(x)))
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __fdividef(a, b) ((a) / (b))

inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline int __float2int_rn(float a) { return int(rintf(a)); }

inline unsigned __float_as_uint(float v) { return ::fire::simt::same_bits<unsigned>(v); }
inline int __float_as_int(float v) { return ::fire::simt::same_bits<int>(v); }
inline float __uint_as_float(unsigned v) { return ::fire::simt::same_bits<float>(v); }
inline float __int_as_float(int v) { return ::fire::simt::same_bits<float>(v); }
inline long long __double_as_longlong(double v) { return ::fire::simt::same_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return ::fire::simt::same_bits<double>(v); }

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t{a} * b) >> 32); }
inline int __mulhi(int a, int b) { return int((int64_t{a} * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(unsigned(v)); }
inline int __clzll(long long v) { return v == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(v)); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline unsigned __brev(unsigned v) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (v >> i & 1u) << (31 - i);
  return r;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t{high} << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t{high} << 32 | low) >> (shift & 31));
}

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, const T& v) {
  *p = v;
}
template <class T>
void __stcg(T* p, const T& v) {
  *p = v;
}
#define __builtin_assume(condition) ((void)0)

#undef SIMT_WHERE

// --- launch --------------------

namespace fire::simt {

template <class... P>
struct BoundKernel {
  void (*kernel)(P...);
  std::tuple<P...> arguments;

  // A plain function, so that a sanitizer's stack ends "kernel, call, run".
  static void run(const void* bound) { static_cast<const BoundKernel*>(bound)->call(std::index_sequence_for<P...>()); }
  template <size_t... I>
  void call(std::index_sequence<I...>) const {
    kernel(std::get<I>(arguments)...);
  }
  template <size_t... I>
  void list(const void** places, std::index_sequence<I...>) const {
    ((places[I] = &std::get<I>(arguments)), ...);
  }
};

/// The host puts a piece of work on this stream (runtime.cpp), which waits for what a library has there.
void work_on(cuda::Stream stream);

}  // namespace fire::simt

namespace fire::cuda::gpu {

/// The same as in cuda/gpu.h. A defect that the emulator sees is thrown as ERR_FIRE_CUDA from here.
template <class... P, class... A>
void launch(const char* what, dim3 grid, dim3 block, size_t shared, Stream stream, void (*kernel)(P...),
            A... arguments) {
  static_assert((std::is_trivially_copyable<P>::value && ...), "kernel arguments are copied byte by byte");
  static_assert(sizeof(std::tuple<P...>) <= 4096, "a kernel has at most 4 KiB of arguments");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  using Bound = simt::BoundKernel<P...>;
  const Bound bound{kernel, std::tuple<P...>(static_cast<P>(arguments)...)};
  simt::work_on(stream);
  const void* parameters[sizeof...(P) + 1];
  bound.list(parameters, std::index_sequence_for<P...>());
  launching(what, stream);
  simt::run(
      simt::Launch{what, grid, block, shared, &Bound::run, &bound, reinterpret_cast<const void*>(kernel), parameters});
  launched(what, stream);
}

template <class... P>
int most_threads(void (*)(P...)) {
  return 1024;
}

}  // namespace fire::cuda::gpu
