// Kernels for any processor: 128-bit vectors in the compiler's own vector extension.
#include <cstring>

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "cpu/gemm_kernels.h"

namespace fire::cpu {
namespace {

#if defined(__aarch64__)
using Vec4 = float32x4_t;
#else
typedef float Vec4 __attribute__((vector_size(16)));
#endif

constexpr int kMr = 4;
constexpr int kVectors = 2;
constexpr int kNr = 4 * kVectors;

template <bool Round>
float load(const PackSource& source, int64_t lane, int64_t k) {
  const int64_t at = lane * source.lane_stride + k * source.k_stride;
  if (source.dtype == DType::bf16) return to_float(static_cast<const bf16*>(source.data)[at]);
  const float value = static_cast<const float*>(source.data)[at];
  return Round ? to_float(to_bf16(value)) : value;
}

template <bool Round>
void pack(const PackSource& source, int lanes, int width, int64_t k, void* panel) {
  float* out = static_cast<float*>(panel);
  for (int64_t p = 0; p < k; ++p, out += width) {
    for (int lane = 0; lane < lanes; ++lane) out[lane] = load<Round>(source, lane, p);
    for (int lane = lanes; lane < width; ++lane) out[lane] = 0.0f;
  }
}

/// a * b + c, fused where that is one instruction. Left to itself the compiler could fuse in one copy of a loop and not
/// in another, and results would depend on the tile.
inline float multiply_add(float a, float b, float c) {
#if defined(__FP_FAST_FMAF)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

inline Vec4 multiply_add(Vec4 a, Vec4 b, Vec4 c) {
#if defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

void store(const Tile& tile, const float (&sum)[kMr][kNr]) {
  for (int i = 0; i < tile.rows; ++i) {
    float* c = tile.c + i * tile.ldc;
    for (int j = 0; j < tile.cols; ++j) {
      const float scaled = tile.alpha * sum[i][j];
      c[j] = tile.beta == 0.0f ? scaled : multiply_add(tile.beta, c[j], scaled);
    }
  }
}

/// Always computes the full tile; panels are padded to it.
void run(const Tile& tile) {
  Vec4 acc[kMr][kVectors] = {};
  const float* a = static_cast<const float*>(tile.a);
  const float* b = static_cast<const float*>(tile.b);
  for (int64_t p = 0; p < tile.k; ++p, a += kMr, b += kNr) {
    Vec4 bv[kVectors];
    std::memcpy(bv, b, sizeof(bv));
#pragma GCC unroll 4
    for (int i = 0; i < kMr; ++i) {
      const Vec4 av = {a[i], a[i], a[i], a[i]};
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) acc[i][j] = multiply_add(av, bv[j], acc[i][j]);
    }
  }
  float sum[kMr][kNr];
  std::memcpy(sum, acc, sizeof(sum));
  store(tile, sum);
}

double probe(int64_t steps) {
  // Volatile, so that the compiler knows neither the factors nor that nobody reads the sum.
  volatile float factor = 0.5f, sink = 0.0f;
  const Vec4 x = {factor, factor, factor, factor};
  Vec4 acc[kProbeChains];
  for (int i = 0; i < kProbeChains; ++i) acc[i] = x + static_cast<float>(i);
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 12
    for (int i = 0; i < kProbeChains; ++i) acc[i] = multiply_add(acc[i], x, x);
  }
  for (const Vec4& v : acc) sink = sink + v[0];
  return 2.0 * 4 * kProbeChains * static_cast<double>(steps);
}

constexpr KernelSet kF32{"portable-f32", false, kMr, kMr, kNr, pack<false>, run, probe};
constexpr KernelSet kBf16{"portable-bf16-emulated", false, kMr, kMr, kNr, pack<true>, run, probe};

}  // namespace

const KernelSet& portable_kernels(Precision precision) { return precision == Precision::f32 ? kF32 : kBf16; }

const KernelSet& kernel_set(Isa isa, Precision precision) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::avx512bf16:
      return precision == Precision::bf16 ? avx512bf16_kernels() : avx512_kernels(precision);
    case Isa::avx512:
      return avx512_kernels(precision);
    case Isa::avx2:
      return avx2_kernels(precision);
#endif
    default:
      return portable_kernels(precision);
  }
}

}  // namespace fire::cpu
