// Elementwise math that the compiler can vectorise: plain float code, no tables, no branches.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

// Hot elementwise loops are compiled for several instruction sets and chosen at load time. Sanitizers run before their
// own start-up in such resolvers, so sanitized builds take the plain version.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__) && !defined(FIRE_NO_CLONES)
#define FIRE_CLONES __attribute__((target_clones("avx512f", "avx2", "default"), flatten))
#else
#define FIRE_CLONES
#endif

namespace fire::cpu {

/// e^x to about 2 ulp (relative 2e-7): x = n ln2 + f with |f| <= ln2/2 in two steps (Cody-Waite), degree-6 Taylor-like
/// minimax polynomial, exponent put in by bits. Flushes below -87.3 to 0, saturates above 88.7. NaN stays NaN.
inline float exp_approx(float x) {
  const float clamped = x > -87.3f ? (x < 88.7f ? x : 88.7f) : -87.3f;  // NaN takes the low end
  const float n = std::nearbyint(clamped * 1.44269504088896341f);
  float f = clamped - n * 0.693359375f;
  f -= n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * f * f + f + 1.0f;
  const int32_t half = static_cast<int32_t>(n) / 2, rest = static_cast<int32_t>(n) - half;
  const float scaled = p * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((rest + 127) << 23);
  const float flushed = x < -87.3f ? 0.0f : scaled;
  return x == x ? flushed : x;
}

/// The largest of z[n] that is not NaN; -inf of none.
float max_of(const float* z, int64_t n);
/// What exponents are taken relative to: of nothing but -inf the sum is 0, not NaN.
inline float shift_of(float max) { return max == -INFINITY ? 0.0f : max; }
/// sum_i exp(z[i] - shift) in f64 over exp_approx; NaN where one is.
double sum_of_exponentials(const float* z, float shift, int64_t n);

inline float sigmoid(float x) { return 1.0f / (1.0f + exp_approx(-x)); }

}  // namespace fire::cpu
