// AVX2 + FMA kernels.
#if defined(__x86_64__)

#include <immintrin.h>

#include "cpu/gemm_kernels.h"

#define FIRE_AVX2 __attribute__((target("avx2,fma")))
#define FIRE_AVX2_INLINE __attribute__((target("avx2,fma"), always_inline)) static inline

namespace fire::cpu {
namespace {

/// 6 x 2 accumulators, 2 vectors of B and a broadcast of A: 15 of the 16 registers.
constexpr int kMr = 6;
constexpr int kAWidth = 8;
constexpr int kNr = 16;

/// All ones in the first `count` dwords.
FIRE_AVX2_INLINE __m256i first(int64_t count) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), index);
}

template <int MR, int NV>
FIRE_AVX2_INLINE void store_tile(const Tile& tile, const __m256 (&acc)[MR][NV]) {
  const __m256 alpha = _mm256_set1_ps(tile.alpha);
  const __m256 beta = _mm256_set1_ps(tile.beta);
  const bool read = tile.beta != 0.0f;
  const int rest = tile.cols - 8 * (NV - 1);
  const __m256i last = first(rest);
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) {
      float* c = tile.c + i * tile.ldc + 8 * j;
      const bool whole = j + 1 < NV || rest >= 8;
      __m256 value = _mm256_mul_ps(alpha, acc[i][j]);
      if (read) value = _mm256_fmadd_ps(beta, whole ? _mm256_loadu_ps(c) : _mm256_maskload_ps(c, last), value);
      if (whole) {
        _mm256_storeu_ps(c, value);
      } else {
        _mm256_maskstore_ps(c, last, value);
      }
    }
  }
}

template <int MR, int NV>
FIRE_AVX2 void run_sized(const Tile& tile) {
  __m256 acc[MR][NV];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) acc[i][j] = _mm256_setzero_ps();
    _mm_prefetch(reinterpret_cast<const char*>(tile.c + i * tile.ldc), _MM_HINT_T0);
  }
  const float* a = static_cast<const float*>(tile.a);
  const float* b = static_cast<const float*>(tile.b);
  const char* soon = tile.soon;
  for (int64_t p = tile.k; p > 0; --p, a += kAWidth, b += kNr, soon += 64) {
    _mm_prefetch(soon, _MM_HINT_T0);
    __m256 bv[NV];
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) bv[j] = _mm256_load_ps(b + 8 * j);
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const __m256 av = _mm256_broadcast_ss(a + i);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) acc[i][j] = _mm256_fmadd_ps(av, bv[j], acc[i][j]);
    }
  }
  store_tile<MR, NV>(tile, acc);
}

void run(const Tile& tile) {
  using Function = void (*)(const Tile&);
#define FIRE_ROW(rows) \
  { run_sized<rows, 1>, run_sized<rows, 2> }
  static constexpr Function kTable[kMr][2] = {FIRE_ROW(1), FIRE_ROW(2), FIRE_ROW(3),
                                              FIRE_ROW(4), FIRE_ROW(5), FIRE_ROW(6)};
#undef FIRE_ROW
  kTable[tile.rows - 1][tile.cols > 8](tile);
}

FIRE_AVX2_INLINE __m256i round_to_bf16(__m256i x) {
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(x, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256 f = _mm256_castsi256_ps(x);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(f, f, _CMP_UNORD_Q));
  const __m256i kept = _mm256_blendv_epi8(rounded, _mm256_or_si256(x, _mm256_set1_epi32(0x400000)), nan);
  return _mm256_and_si256(kept, _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
}

FIRE_AVX2_INLINE __m256i widen(__m128i x) { return _mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16); }

/// Eight consecutive values as float bits.
template <bool Round>
FIRE_AVX2_INLINE __m256i load8(const PackSource& at) {
  if (at.dtype == DType::bf16) return widen(_mm_loadu_si128(static_cast<const __m128i*>(at.data)));
  const __m256i x = _mm256_loadu_si256(static_cast<const __m256i*>(at.data));
  return Round ? round_to_bf16(x) : x;
}

/// r[i][j] becomes r[j][i]; dwords.
FIRE_AVX2_INLINE void transpose8(__m256i (&r)[8]) {
  __m256i t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    r[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm256_permute2x128_si256(r[j], r[4 + j], 0x20);
    t[4 + j] = _mm256_permute2x128_si256(r[j], r[4 + j], 0x31);
  }
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) r[j] = t[j];
}

/// k is contiguous: 8 x 8 blocks are transposed. Leaves the last k % 8 to the caller.
template <bool Round>
FIRE_AVX2_INLINE void pack_transposed(const PackSource& source, int lanes, int width, int64_t k, float* out) {
  for (int lane = 0; lane < width; lane += 8) {
    const int count = lanes - lane;
    for (int64_t p = 0; p + 8 <= k; p += 8) {
      const PackSource from = source.at(count > 0 ? lane : 0, p);
      __m256i r[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) r[i] = i < count ? load8<Round>(from.at(i, 0)) : _mm256_setzero_si256();
      transpose8(r);
      float* block = out + p * width + lane;
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) _mm256_store_si256(reinterpret_cast<__m256i*>(block + i * width), r[i]);
    }
  }
}

/// The first `count` < 8 of consecutive values as float bits, the rest zero.
template <bool Round>
FIRE_AVX2_INLINE __m256i load_first(const PackSource& at, int count) {
  if (at.dtype == DType::bf16) {
    alignas(16) uint16_t bits[8] = {};
    for (int i = 0; i < count; ++i) bits[i] = static_cast<const bf16*>(at.data)[i].bits;
    return widen(_mm_load_si128(reinterpret_cast<const __m128i*>(bits)));
  }
  const __m256i x = _mm256_maskload_epi32(static_cast<const int*>(at.data), first(count));
  return Round ? round_to_bf16(x) : x;
}

/// Lanes are contiguous: every k is a copy.
template <bool Round>
FIRE_AVX2_INLINE void pack_rows(const PackSource& source, int lanes, int width, int64_t k, float* out) {
  for (int64_t p = 0; p < k; ++p) {
    for (int lane = 0; lane < width; lane += 8) {
      const int count = lanes - lane;
      __m256i x = _mm256_setzero_si256();
      if (count >= 8) {
        x = load8<Round>(source.at(lane, p));
      } else if (count > 0) {
        x = load_first<Round>(source.at(lane, p), count);
      }
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + p * width + lane), x);
    }
  }
}

template <bool Round>
FIRE_AVX2 void pack(const PackSource& source, int lanes, int width, int64_t k, void* panel) {
  const auto portable = portable_kernels(Round ? Precision::bf16 : Precision::f32).pack;
  float* out = static_cast<float*>(panel);
  if (source.lane_stride == 1) return pack_rows<Round>(source, lanes, width, k, out);
  if (source.k_stride != 1) return portable(source, lanes, width, k, panel);
  pack_transposed<Round>(source, lanes, width, k, out);
  const int64_t whole = k / 8 * 8;
  portable(source.at(0, whole), lanes, width, k - whole, out + whole * width);
}

FIRE_AVX2 double probe(int64_t steps) {
  // Volatile, so that the compiler knows neither the factors nor that nobody reads the sum.
  volatile float factor = 0.5f, sink = 0.0f;
  const __m256 x = _mm256_set1_ps(factor);
  __m256 acc[kProbeChains];
#pragma GCC unroll 12
  for (int i = 0; i < kProbeChains; ++i) acc[i] = _mm256_set1_ps(static_cast<float>(i));
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 12
    for (int i = 0; i < kProbeChains; ++i) acc[i] = _mm256_fmadd_ps(acc[i], x, x);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kProbeChains; ++i) sink = sink + _mm256_cvtss_f32(acc[i]);
  return 2.0 * 8 * kProbeChains * static_cast<double>(steps);
}

constexpr KernelSet kF32{"avx2-f32", false, kMr, kAWidth, kNr, pack<false>, run, probe};
constexpr KernelSet kBf16{"avx2-bf16-emulated", false, kMr, kAWidth, kNr, pack<true>, run, probe};

}  // namespace

const KernelSet& avx2_kernels(Precision precision) { return precision == Precision::f32 ? kF32 : kBf16; }

}  // namespace fire::cpu

#endif
