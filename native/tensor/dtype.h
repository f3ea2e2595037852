// Plain C++17: device sources include it too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fire {

/// Element types of tensors in memory and in checkpoints.
enum class DType : uint8_t { f32, bf16, f16, i32, i64, u8, f64 };

/// Upper half of an IEEE binary32; arithmetic always happens in float.
struct bf16 {
  uint16_t bits;
};

/// IEEE binary16. Only files have it: weights are widened when a device adopts them.
struct f16 {
  uint16_t bits;
};

/// Bytes per element.
constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::i64:
    case DType::f64:
      return 8;
    case DType::u8:
      return 1;
  }
  return 0;
}

constexpr const char* name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::f16:
      return "f16";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::u8:
      return "u8";
    case DType::f64:
      return "f64";
  }
  return "?";
}

/// Exact.
inline float to_float(bf16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

/// Rounds to nearest, ties to even. A NaN stays a NaN (quiet, payload truncated); overflow gives infinity.
inline bf16 to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return bf16{static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return bf16{static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

/// Exact.
inline float to_float(f16 value) {
  const uint32_t sign = uint32_t{value.bits & 0x8000u} << 16, exponent = (value.bits >> 10) & 0x1fu;
  const uint32_t mantissa = value.bits & 0x3ffu;
  float result;
  if (exponent == 0) {
    result = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -result : result;
  }
  const uint32_t bits = sign | (exponent == 0x1f ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

/// Rounds to nearest, ties to even. A NaN stays a NaN; overflow gives infinity.
inline f16 to_f16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // 65520, halfway to what would be next
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14 all steps are 2^-24, those of a float at 0.5
    float shifted;
    std::memcpy(&shifted, &magnitude, sizeof shifted);
    shifted += 0.5f;
    std::memcpy(&half, &shifted, sizeof half);
    half -= 0x3f000000u;
  } else {
    half = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  }
  return f16{static_cast<uint16_t>(sign | half)};
}

}  // namespace fire
