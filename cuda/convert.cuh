// Between stored elements (float, bf16) and the f32 of the arithmetic.
#pragma once

#include "cuda/gpu.h"
#include "cuda/ptx.cuh"
#include "tensor/dtype.h"

namespace fire::cuda {

__device__ inline float to_f32(float value) { return value; }
/// Exact.
__device__ inline float to_f32(bf16 value) { return __uint_as_float(uint32_t{value.bits} << 16); }

/// `value` as it is stored in a T: bf16 rounds to nearest, ties to even.
template <class T>
__device__ inline T from_f32(float value);
template <>
__device__ inline float from_f32<float>(float value) {
  return value;
}
template <>
__device__ inline bf16 from_f32<bf16>(float value) {
  return bf16{static_cast<uint16_t>(ptx::pack_bf16x2(value, 0.0f))};
}

/// The two halves of a register of packed bf16.
__device__ inline float low_f32(uint32_t packed) { return __uint_as_float(packed << 16); }
__device__ inline float high_f32(uint32_t packed) { return __uint_as_float(packed & 0xffff0000u); }

}  // namespace fire::cuda
