// AVX-512-BF16 kernels: vdpbf16ps on pairs of bf16, f32 sums. The instruction flushes denormals. Loops that look like
// those of gemm_kernels_avx512.cpp and gemm_kernels_avx2.cpp differ in their intrinsics and in the target that the
// compiler may use, neither of which a template can take.
#if defined(__x86_64__)

#define FIRE_AVX512_EXTRA ",avx512bf16"
#include "cpu/gemm_kernels_avx512.h"

namespace fire::cpu {
namespace {

using namespace avx512;

template <int MR, int NV>
struct Bf16Kernel {
  FIRE_AVX512 static void run(const Tile& tile) {
    prefetch_tile<MR, NV>(tile);
    __m512 acc[MR][NV];
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) acc[i][j] = _mm512_setzero_ps();
    }
    const int32_t* a = static_cast<const int32_t*>(tile.a);
    const int32_t* b = static_cast<const int32_t*>(tile.b);
    const char* soon = tile.soon;
    for (int64_t p = (tile.k + 1) / 2; p > 0; --p, a += kAWidth, b += kNr, soon += 64) {
      _mm_prefetch(soon, _MM_HINT_T0);
      __m512i bv[NV];
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) bv[j] = _mm512_load_si512(b + 16 * j);
#pragma GCC unroll 16
      for (int i = 0; i < MR; ++i) {
        const __m512i av = _mm512_set1_epi32(a[i]);
#pragma GCC unroll 2
        for (int j = 0; j < NV; ++j) acc[i][j] = _mm512_dpbf16_ps(acc[i][j], (__m512bh)av, (__m512bh)bv[j]);
      }
    }
    store_tile<MR, NV>(tile, acc);
  }
};

/// Two vectors of floats to 32 bf16, `low` first.
FIRE_AVX512_INLINE __m512i narrow(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

struct StorePairs {
  FIRE_AVX512_INLINE void store(const __m512i (&r)[16], void* panel, int width, int lane0, int64_t k0, int64_t depth) {
    int32_t* out = static_cast<int32_t*>(panel) + k0 / 2 * width + lane0;
#pragma GCC unroll 16
    for (int d = 0; d < 16; ++d) {
      if (2 * d < depth) _mm512_store_si512(out + d * width, r[d]);
    }
  }
};

struct LoadBf16 : StorePairs {
  static constexpr int kK = 32;
  static constexpr int kPrefetch = 256;
  FIRE_AVX512_INLINE __m512i load(const char* row, int64_t depth) {
    return depth == kK ? _mm512_loadu_si512(row) : _mm512_maskz_loadu_epi16(first32(depth), row);
  }
};

struct LoadF32 : StorePairs {
  static constexpr int kK = 32;
  static constexpr int kPrefetch = 256;
  FIRE_AVX512_INLINE __m512i load(const char* row, int64_t depth) {
    const float* x = reinterpret_cast<const float*>(row);
    if (depth == kK) return narrow(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16));
    if (depth <= 16) return narrow(_mm512_maskz_loadu_ps(first(depth), x), _mm512_setzero_ps());
    return narrow(_mm512_loadu_ps(x), _mm512_maskz_loadu_ps(first(depth - 16), x + 16));
  }
};

/// 16 lanes of one k as bf16 in the low half of dwords.
FIRE_AVX512_INLINE __m512i load_row(const PackSource& source, __mmask16 mask) {
  if (source.dtype == DType::bf16) return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, source.data));
  return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, source.data)));
}

/// Lanes are contiguous: two rows are interleaved.
FIRE_AVX512_INLINE void pack_rows(const PackSource& source, int lanes, int width, int64_t k, void* panel) {
  for (int lane0 = 0; lane0 < width; lane0 += 16) {
    int32_t* out = static_cast<int32_t*>(panel) + lane0;
    const __mmask16 mask = first(lanes > lane0 ? lanes - lane0 : 0);
    const PackSource from = source.at(mask ? lane0 : 0, 0);
    for (int64_t p = 0; p < k; p += 2, out += width) {
      const __m512i even = load_row(from.at(0, p), mask);
      const __m512i odd = p + 1 < k ? load_row(from.at(0, p + 1), mask) : _mm512_setzero_si512();
      _mm512_store_si512(out, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
    }
  }
}

uint32_t load_any(const PackSource& source, int64_t lane, int64_t k) {
  const int64_t at = lane * source.lane_stride + k * source.k_stride;
  if (source.dtype == DType::bf16) return static_cast<const bf16*>(source.data)[at].bits;
  return to_bf16(static_cast<const float*>(source.data)[at]).bits;
}

void pack_any(const PackSource& source, int lanes, int width, int64_t k, void* panel) {
  uint32_t* out = static_cast<uint32_t*>(panel);
  for (int64_t p = 0; p < k; p += 2, out += width) {
    for (int lane = 0; lane < lanes; ++lane) {
      out[lane] = load_any(source, lane, p) | (p + 1 < k ? load_any(source, lane, p + 1) << 16 : 0u);
    }
    for (int lane = lanes; lane < width; ++lane) out[lane] = 0;
  }
}

FIRE_AVX512 void pack(const PackSource& source, int lanes, int width, int64_t k, void* panel) {
  if (source.lane_stride == 1) return pack_rows(source, lanes, width, k, panel);
  if (source.k_stride != 1) return pack_any(source, lanes, width, k, panel);
  if (source.dtype == DType::f32) return pack_transposed<LoadF32>(source, lanes, width, k, panel);
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
    for (int i = 0; i < kProbeChains; ++i) acc[i] = _mm512_dpbf16_ps(acc[i], (__m512bh)x, (__m512bh)x);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kProbeChains; ++i) sink = sink + _mm512_cvtss_f32(acc[i]);
  return 2.0 * 32 * kProbeChains * static_cast<double>(steps);
}

constexpr KernelSet kBf16{"avx512bf16", true, kMr, kAWidth, kNr, pack, run_tile<Bf16Kernel>, probe};

}  // namespace

const KernelSet& avx512bf16_kernels() { return kBf16; }

}  // namespace fire::cpu

#endif
