// The functions of cuda/ptx.cuh for the emulator.
#pragma once

#include <cmath>

#include "simt/device.h"
#include "tensor/dtype.h"

namespace fire::cuda::ptx {

#define SIMT_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, SIMT_WHERE) {
  simt::warp_ldmatrix(simt::WarpOp::ldmatrix, r, row, file, line);
}

inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, SIMT_WHERE) {
  simt::warp_ldmatrix(simt::WarpOp::ldmatrix_trans, r, row, file, line);
}

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, SIMT_WHERE) {
  simt::warp_mma(d, a, b0, b1, file, line);
}

inline void cp_async_16(void* shared, const void* global, bool valid, SIMT_WHERE) {
  simt::copy_async(shared, global, valid, file, line);
}

inline void cp_async_commit() { simt::copy_async_commit(); }

template <int N>
inline void cp_async_wait(SIMT_WHERE) {
  static_assert(N >= 0, "a number of groups");
  simt::copy_async_wait(N, file, line);
}

inline uint32_t pack_bf16x2(float low, float high) {
  const auto half = [](float v) -> uint32_t { return v != v ? 0x7fffu : to_bf16(v).bits; };  // the one NaN of PTX
  return half(low) | half(high) << 16;
}

inline float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

// More exact than a GPU's.
inline float exp2_approx(float x) { return flushed(exp2f(flushed(x))); }
inline float reciprocal_approx(float x) { return flushed(1.0f / flushed(x)); }

#undef SIMT_WHERE

}  // namespace fire::cuda::ptx
