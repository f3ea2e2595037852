// AVX-512 kernels with f32 arithmetic.
#if defined(__x86_64__)

#include "cpu/gemm_kernels_avx512.h"

namespace fire::cpu {
namespace {

using namespace avx512;

template <int MR, int NV>
struct F32Kernel {
  FIRE_AVX512 static void run(const Tile& tile) {
    prefetch_tile<MR, NV>(tile);
    __m512 acc[MR][NV];
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) acc[i][j] = _mm512_setzero_ps();
    }
    const float* a = static_cast<const float*>(tile.a);
    const float* b = static_cast<const float*>(tile.b);
    const char* soon = tile.soon;
    for (int64_t p = tile.k; p > 0; --p, a += kAWidth, b += kNr, soon += 64) {
      _mm_prefetch(soon, _MM_HINT_T0);
      __m512 bv[NV];
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) bv[j] = _mm512_load_ps(b + 16 * j);
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) {
        const __m512 av = _mm512_set1_ps(a[i]);
#pragma GCC unroll 2
        for (int j = 0; j < NV; ++j) acc[i][j] = _mm512_fmadd_ps(av, bv[j], acc[i][j]);
      }
    }
    store_tile<MR, NV>(tile, acc);
  }
};

/// float to the nearest bf16 and back, ties to even; a NaN stays one.
FIRE_AVX512_INLINE __m512i round_to_bf16(__m512i x) {
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(x, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(_mm512_castsi512_ps(x), _mm512_castsi512_ps(x), _CMP_UNORD_Q);
  const __m512i kept = _mm512_mask_or_epi32(rounded, nan, x, _mm512_set1_epi32(0x400000));
  return _mm512_and_si512(kept, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
}

template <bool Round>
struct LoadF32 {
  static constexpr int kK = 16;
  static constexpr int kPrefetch = 256;
  FIRE_AVX512_INLINE __m512i load(const char* row, int64_t depth) {
    const __m512i x = depth == kK ? _mm512_loadu_si512(row) : _mm512_maskz_loadu_epi32(first(depth), row);
    return Round ? round_to_bf16(x) : x;
  }
  FIRE_AVX512_INLINE void store(const __m512i (&r)[16], void* panel, int width, int lane0, int64_t k0, int64_t depth) {
    float* out = static_cast<float*>(panel) + k0 * width + lane0;
#pragma GCC unroll 16
    for (int d = 0; d < 16; ++d) {
      if (d < depth) _mm512_store_si512(out + d * width, r[d]);
    }
  }
};

/// Transposes pairs of bf16 as dwords and widens them on the way out: half the shuffles per value.
struct LoadBf16 {
  static constexpr int kK = 32;
  static constexpr int kPrefetch = 256;
  FIRE_AVX512_INLINE __m512i load(const char* row, int64_t depth) {
    return depth == kK ? _mm512_loadu_si512(row) : _mm512_maskz_loadu_epi16(first32(depth), row);
  }
  FIRE_AVX512_INLINE void store(const __m512i (&r)[16], void* panel, int width, int lane0, int64_t k0, int64_t depth) {
    float* out = static_cast<float*>(panel) + k0 * width + lane0;
    const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
#pragma GCC unroll 16
    for (int d = 0; d < 16; ++d) {
      if (2 * d < depth) _mm512_store_si512(out + 2 * d * width, _mm512_slli_epi32(r[d], 16));
      if (2 * d + 1 < depth) _mm512_store_si512(out + (2 * d + 1) * width, _mm512_and_si512(r[d], high));
    }
  }
};

/// Lanes are contiguous: every k is a copy.
template <bool Round>
FIRE_AVX512_INLINE void pack_rows(const PackSource& source, int lanes, int width, int64_t k, void* panel) {
  float* out = static_cast<float*>(panel);
  for (int lane0 = 0; lane0 < width; lane0 += 16) {
    const __mmask16 mask = first(lanes > lane0 ? lanes - lane0 : 0);
    const PackSource from = source.at(mask ? lane0 : 0, 0);
    if (source.dtype == DType::f32) {
      const float* in = static_cast<const float*>(from.data);
      for (int64_t p = 0; p < k; ++p) {
        const __m512i x = _mm512_maskz_loadu_epi32(mask, in + p * source.k_stride);
        _mm512_store_si512(out + p * width + lane0, Round ? round_to_bf16(x) : x);
      }
    } else {
      const bf16* in = static_cast<const bf16*>(from.data);
      for (int64_t p = 0; p < k; ++p) {
        const __m256i x = _mm256_maskz_loadu_epi16(mask, in + p * source.k_stride);
        _mm512_store_si512(out + p * width + lane0, widen(x));
      }
    }
  }
}

template <bool Round>
FIRE_AVX512 void pack(const PackSource& source, int lanes, int width, int64_t k, void* panel) {
  if (source.lane_stride == 1) return pack_rows<Round>(source, lanes, width, k, panel);
  if (source.k_stride != 1) {
    const Precision precision = Round ? Precision::bf16 : Precision::f32;
    return portable_kernels(precision).pack(source, lanes, width, k, panel);
  }
  if (source.dtype == DType::f32) return pack_transposed<LoadF32<Round>>(source, lanes, width, k, panel);
  pack_transposed<LoadBf16>(source, lanes, width, k, panel);
}

FIRE_AVX512 double probe(int64_t steps) {
  // Volatile, so that the compiler knows neither the factors nor that nobody reads the sum.
  volatile float factor = 0.5f, sink = 0.0f;
  const __m512 x = _mm512_set1_ps(factor);
  __m512 acc[kProbeChains];
#pragma GCC unroll 12
  for (int i = 0; i < kProbeChains; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 12
    for (int i = 0; i < kProbeChains; ++i) acc[i] = _mm512_fmadd_ps(acc[i], x, x);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kProbeChains; ++i) sink = sink + _mm512_cvtss_f32(acc[i]);
  return 2.0 * 16 * kProbeChains * static_cast<double>(steps);
}

constexpr KernelSet kF32{"avx512-f32", false, kMr, kAWidth, kNr, pack<false>, run_tile<F32Kernel>, probe};
constexpr KernelSet kBf16{"avx512-bf16-emulated", false, kMr, kAWidth, kNr, pack<true>, run_tile<F32Kernel>, probe};

}  // namespace

const KernelSet& avx512_kernels(Precision precision) { return precision == Precision::f32 ? kF32 : kBf16; }

}  // namespace fire::cpu

#endif
