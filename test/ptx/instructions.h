// What the C++ that scripts/ptx-to-cpp.mjs writes is made of: PTX instructions that are no operator of C++.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>

#include "simt/hopper.h"

namespace fire::ptx {

namespace simt = fire::simt;
using simt::WarpOp;
using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s8 = int8_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;
using f32 = float;
using f64 = double;

// --- bits --------------------

inline u32 bits(f32 v) {
  u32 b;
  std::memcpy(&b, &v, sizeof b);
  return b;
}
inline u64 bits(f64 v) {
  u64 b;
  std::memcpy(&b, &v, sizeof b);
  return b;
}
inline f32 as_f32(u32 b) {
  f32 v;
  std::memcpy(&v, &b, sizeof v);
  return v;
}
inline f64 as_f64(u64 b) {
  f64 v;
  std::memcpy(&v, &b, sizeof v);
  return v;
}

// Shifts by the width or more, which C++ leaves open.
template <class T>
T shift_left(T v, u32 n) {
  return n >= 8 * sizeof(T) ? T(0) : T(v << n);
}
template <class T>
T shift_right(T v, u32 n) {
  const u32 most = 8 * sizeof(T) - 1;
  if (n <= most) return T(v >> n);
  return v < 0 ? T(-1) : T(0);
}

template <class T>
T low_ones(u32 n) {
  return n >= 8 * sizeof(T) ? T(~T(0)) : T((T(1) << n) - 1);
}
template <class T>
T insert_bits(T a, T b, u32 position, u32 length) {
  const u32 at = position & 255, width = length & 255;
  const T mask = shift_left(low_ones<T>(width), at);
  return T((b & ~mask) | (shift_left(a, at) & mask));
}
inline u32 extract_bits(u32 v, u32 position, u32 length) {
  return shift_right(v, position & 255) & low_ones<u32>(length & 255);
}
inline u64 extract_bits(u64 v, u32 position, u32 length) {
  return shift_right(v, position & 255) & low_ones<u64>(length & 255);
}

inline u32 count_ones(u32 v) { return u32(__builtin_popcount(v)); }
inline u32 count_ones(u64 v) { return u32(__builtin_popcountll(v)); }
inline u32 leading_zeros(u32 v) { return v == 0 ? 32 : u32(__builtin_clz(v)); }
inline u32 leading_zeros(u64 v) { return v == 0 ? 64 : u32(__builtin_clzll(v)); }

/// prmt without a mode: byte i of the result is byte n % 8 of {b, a}, n the i-th digit of the selector; with 8 in n its sign.
inline u32 permute_bytes(u32 a, u32 b, u32 selector) {
  const u64 both = u64{b} << 32 | a;
  u32 result = 0;
  for (int i = 0; i < 4; ++i) {
    const u32 n = selector >> 4 * i & 15;
    const u32 byte = u32(both >> 8 * (n & 7)) & 255;
    result |= (n < 8 ? byte : byte & 128 ? 255u : 0u) << 8 * i;
  }
  return result;
}
inline u32 funnel_left(u32 low, u32 high, u32 n) { return u32((u64{high} << 32 | low) << (n & 31) >> 32); }
inline u32 funnel_right(u32 low, u32 high, u32 n) { return u32((u64{high} << 32 | low) >> (n & 31)); }

// --- whole numbers --------------------

inline u32 multiply_high(u32 a, u32 b) { return u32(u64{a} * b >> 32); }
inline s32 multiply_high(s32 a, s32 b) { return s32(s64{a} * b >> 32); }
inline u64 multiply_high(u64 a, u64 b) { return u64(static_cast<unsigned __int128>(a) * b >> 64); }
inline s64 multiply_high(s64 a, s64 b) { return s64(static_cast<__int128>(a) * b >> 64); }

/// By 0: all ones, as a GPU answers. The smallest number by -1 wraps.
template <class T>
T divide(T a, T b) {
  if (b == 0) return T(~T(0));
  return T(-1) < T(0) && b == T(-1) ? T(0 - u64(a)) : T(a / b);
}
template <class T>
T remainder(T a, T b) {
  if (b == 0) return a;
  return T(-1) < T(0) && b == T(-1) ? T(0) : T(a % b);
}

inline s32 absolute(s32 v) { return v < 0 ? s32(0 - u32(v)) : v; }
inline s64 absolute(s64 v) { return v < 0 ? s64(0 - u64(v)) : v; }

template <class T>
T add_carry(T a, T b, bool carry, bool& out) {
  T sum;
  const bool first = __builtin_add_overflow(a, b, &sum);
  out = __builtin_add_overflow(sum, T(carry), &sum) || first;
  return sum;
}
template <class T>
T subtract_borrow(T a, T b, bool borrow, bool& out) {
  T difference;
  const bool first = __builtin_sub_overflow(a, b, &difference);
  out = __builtin_sub_overflow(difference, T(borrow), &difference) || first;
  return difference;
}
template <class T>
T mad_low_carry(T a, T b, T c, bool carry, bool& out) {
  return add_carry(T(a * b), c, carry, out);
}
template <class T>
T mad_high_carry(T a, T b, T c, bool carry, bool& out) {
  return add_carry(multiply_high(a, b), c, carry, out);
}

template <class T>
T smaller(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T larger(T a, T b) {
  return a < b ? b : a;
}

// --- floats --------------------

template <class T>
bool unordered(T a, T b) {
  return __builtin_isunordered(a, b);
}

// A NaN loses against a number, and -0 is less than +0.
inline f32 smaller(f32 a, f32 b) { return a == b ? (std::signbit(a) ? a : b) : std::fmin(a, b); }
inline f64 smaller(f64 a, f64 b) { return a == b ? (std::signbit(a) ? a : b) : std::fmin(a, b); }
inline f32 larger(f32 a, f32 b) { return a == b ? (std::signbit(a) ? b : a) : std::fmax(a, b); }
inline f64 larger(f64 a, f64 b) { return a == b ? (std::signbit(a) ? b : a) : std::fmax(a, b); }

inline f32 absolute(f32 v) { return __builtin_fabsf(v); }
inline f64 absolute(f64 v) { return __builtin_fabs(v); }
inline f32 with_sign(f32 v, f32 sign) { return __builtin_copysignf(v, sign); }
inline f64 with_sign(f64 v, f64 sign) { return __builtin_copysign(v, sign); }
inline f32 square_root(f32 v) { return std::sqrt(v); }
inline f64 square_root(f64 v) { return std::sqrt(v); }
inline f32 multiply_add(f32 a, f32 b, f32 c) { return __builtin_fmaf(a, b, c); }
inline f64 multiply_add(f64 a, f64 b, f64 c) { return __builtin_fma(a, b, c); }
// Approximations are more exact here than on a GPU.
inline f32 power_of_two(f32 v) { return std::exp2(v); }
inline f32 logarithm_of_two(f32 v) { return std::log2(v); }

/// Rounded down. The product is exact in f64; `rest` is what its sum with c leaves out.
inline f32 multiply_add_down(f32 a, f32 b, f32 c) {
  const f32 nearest = __builtin_fmaf(a, b, c);
  const f64 product = f64{a} * b, sum = product + c;
  const f64 part = sum - product, rest = (product - (sum - part)) + (c - part);
  const bool above = nearest > sum || (nearest == sum && rest < 0);
  return above ? std::nextafter(nearest, -std::numeric_limits<f32>::infinity()) : nearest;
}

/// .ftz: subnormal numbers are zeros.
template <class T>
T flushed(T v) {
  return absolute(v) < std::numeric_limits<T>::min() ? with_sign(T(0), v) : v;
}
inline f32 saturated(f32 v) { return v > 0 ? (v < 1 ? v : 1) : 0; }

inline f32 rni(f32 v) { return std::nearbyint(v); }
inline f64 rni(f64 v) { return std::nearbyint(v); }
inline f32 rzi(f32 v) { return std::trunc(v); }
inline f64 rzi(f64 v) { return std::trunc(v); }
inline f32 rmi(f32 v) { return std::floor(v); }
inline f64 rmi(f64 v) { return std::floor(v); }
inline f32 rpi(f32 v) { return std::ceil(v); }
inline f64 rpi(f64 v) { return std::ceil(v); }

/// Of a whole number: the nearest that T has; 0 of a NaN.
template <class T, class F>
T to_integer(F v) {
  if (v != v) return 0;
  if (v <= F(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  if (v >= F(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  return T(v);
}

inline u16 to_bf16(f32 v) {
  const u32 b = bits(v);
  if (v != v) return 0x7fff;
  return u16((b + 0x7fff + (b >> 16 & 1)) >> 16);
}
inline u32 pack_bf16(f32 high, f32 low) { return u32{to_bf16(high)} << 16 | to_bf16(low); }

// --- memory --------------------

inline void* pointer(u64 address) { return reinterpret_cast<void*>(address); }
inline u64 address(const void* p) { return reinterpret_cast<u64>(p); }

template <class T>
T load(u64 at) {
  return *static_cast<const T*>(pointer(at));
}
template <class T>
void store(u64 at, T v) {
  *static_cast<T*>(pointer(at)) = v;
}

[[noreturn]] void misaligned(u64 at, u32 bytes, const char* file, int line);
/// The address of a vector access.
template <u32 bytes>
u64 aligned(u64 at, const char* file, int line) {
  if (at % bytes != 0) misaligned(at, bytes, file, line);
  return at;
}

/// Shared memory has addresses of its own, of 32 bits.
inline u64 shared(u32 offset) { return address(simt::current_block.shared_window) + offset; }
inline u32 shared_offset(u64 at) { return u32(at - address(simt::current_block.shared_window)); }
inline u32 dynamic_shared() { return shared_offset(address(simt::current_block.dynamic_shared)); }
inline u32 shared_array(simt::SharedSlot* slot, size_t bytes, size_t alignment, const char* file, int line) {
  return shared_offset(address(simt::static_shared(slot, bytes, alignment, file, line)));
}

// --- threads --------------------

inline const uint3& thread() { return simt::current_thread->index; }
inline const simt::BlockView& block() { return simt::current_block; }
inline u32 lane() {
  const auto& [x, y, z] = thread();
  return (x + block().block.x * (y + block().block.y * z)) % 32;
}

[[noreturn]] void trap(const char* file, int line);
/// cp.async copies 16 bytes or writes 16 zeros here; nothing in between is used.
bool whole_or_nothing(u32 bytes, const char* file, int line);

/// `c` of shfl: 31 (0 when up), and 32 less the width in bits 8 to 12.
inline int width_of(u32 c) { return 32 - int(c >> 8 & 31); }
u32 shuffle(WarpOp op, u32 value, u32 operand, u32 c, u32 mask, const char* file, int line);
bool in_range(WarpOp op, u32 operand, u32 c);

inline const cuda::TensorMap* tensor_map(u64 at) { return static_cast<const cuda::TensorMap*>(pointer(at)); }

inline void call(void (*function)(const void* const*, void* const*), std::initializer_list<const void*> parameters,
                 std::initializer_list<void*> results) {
  function(parameters.begin(), results.begin());
}

}  // namespace fire::ptx
