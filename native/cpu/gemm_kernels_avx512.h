// Pieces shared by the two AVX-512 kernel files. Everything is static and carries its target attribute: no function
// compiled for AVX-512 may be merged by the linker with one that other code calls.
#pragma once

#if defined(__x86_64__)

// GCC 12 takes the deliberately undefined vectors of its own intrinsics for a mistake (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "cpu/gemm_kernels.h"

// A file may ask for more by defining FIRE_AVX512_EXTRA (",feature") before it includes this one.
#if !defined(FIRE_AVX512_EXTRA)
#define FIRE_AVX512_EXTRA
#endif
#define FIRE_AVX512_ISA "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq" FIRE_AVX512_EXTRA
#define FIRE_AVX512 __attribute__((target(FIRE_AVX512_ISA)))
#define FIRE_AVX512_INLINE __attribute__((target(FIRE_AVX512_ISA), always_inline)) static inline

namespace fire::cpu::avx512 {

/// 14 x 2 accumulators, 2 vectors of B and a broadcast of A: 31 of the 32 registers.
constexpr int kMr = 14;
/// A panels are 16 wide, so that a transposed 16 x 16 block is stored whole.
constexpr int kAWidth = 16;
constexpr int kNr = 32;

FIRE_AVX512_INLINE __mmask16 first(int64_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << count) - 1);
}

FIRE_AVX512_INLINE __mmask32 first32(int64_t count) { return count >= 32 ? 0xffffffffu : (1u << count) - 1; }

/// r[i][j] becomes r[j][i]; dwords.
FIRE_AVX512_INLINE void transpose16(__m512i (&r)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  // r[4 * i + j] now holds, in 128-bit lane l, column 4 * l + j of rows 4 * i .. 4 * i + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88);
    t[4 + j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
    t[8 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);
    t[12 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0x88);
    r[8 + j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0xdd);
    r[4 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0x88);
    r[12 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0xdd);
  }
}

/// 16 bf16 to float, exact.
FIRE_AVX512_INLINE __m512i widen(__m256i x) { return _mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16); }

/// C = alpha * acc + beta * C.
template <int MR, int NV>
FIRE_AVX512_INLINE void store_tile(const Tile& tile, const __m512 (&acc)[MR][NV]) {
  const __m512 alpha = _mm512_set1_ps(tile.alpha);
  const __m512 beta = _mm512_set1_ps(tile.beta);
  const bool read = tile.beta != 0.0f;
  const __mmask16 last = first(tile.cols - 16 * (NV - 1));
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
    float* c = tile.c + i * tile.ldc;
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) {
      const __mmask16 mask = j + 1 < NV ? first(16) : last;
      __m512 value = _mm512_mul_ps(alpha, acc[i][j]);
      if (read) value = _mm512_fmadd_ps(beta, _mm512_maskz_loadu_ps(mask, c + 16 * j), value);
      _mm512_mask_storeu_ps(c + 16 * j, mask, value);
    }
  }
}

/// Starts fetching the tile of C that is about to be summed into.
template <int MR, int NV>
FIRE_AVX512_INLINE void prefetch_tile(const Tile& tile) {
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) {
      if (16 * j < tile.cols) _mm_prefetch(reinterpret_cast<const char*>(tile.c + i * tile.ldc + 16 * j), _MM_HINT_T0);
    }
  }
}

using TileFunction = void (*)(const Tile&);

/// Calls the instance of Kernel<rows, vectors> for the tile's size.
template <template <int, int> class Kernel>
void run_tile(const Tile& tile) {
#define FIRE_ROW(rows) \
  { Kernel<rows, 1>::run, Kernel<rows, 2>::run }
  static constexpr TileFunction kTable[kMr][2] = {FIRE_ROW(1),  FIRE_ROW(2),  FIRE_ROW(3),  FIRE_ROW(4), FIRE_ROW(5),
                                                  FIRE_ROW(6),  FIRE_ROW(7),  FIRE_ROW(8),  FIRE_ROW(9), FIRE_ROW(10),
                                                  FIRE_ROW(11), FIRE_ROW(12), FIRE_ROW(13), FIRE_ROW(14)};
#undef FIRE_ROW
  kTable[tile.rows - 1][tile.cols > 16](tile);
}

/// Packs lanes whose k are contiguous, 16 lanes at a time. Loader::kK values of k fit a vector of 16 dwords;
/// Loader::load reads up to kK values of one lane, Loader::store writes dword row d of the transposed block.
template <class Loader>
FIRE_AVX512_INLINE void pack_transposed(const PackSource& source, int lanes, int width, int64_t k, void* panel) {
  constexpr int kK = Loader::kK;
  for (int lane0 = 0; lane0 < width; lane0 += 16) {
    const int count = lanes - lane0 < 16 ? lanes - lane0 : 16;
    for (int64_t k0 = 0; k0 < k; k0 += kK) {
      const int64_t depth = k - k0 < kK ? k - k0 : kK;
      const char* row = static_cast<const char*>(source.at(count > 0 ? lane0 : 0, k0).data);
      const int64_t stride = source.lane_stride * static_cast<int64_t>(size_of(source.dtype));
      __m512i r[16];
      if (count == 16 && depth == kK) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
          _mm_prefetch(row + i * stride + Loader::kPrefetch, _MM_HINT_T0);
          r[i] = Loader::load(row + i * stride, kK);
        }
      } else {
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) r[i] = i < count ? Loader::load(row + i * stride, depth) : _mm512_setzero_si512();
      }
      transpose16(r);
      Loader::store(r, panel, width, lane0, k0, depth);
    }
  }
}

}  // namespace fire::cpu::avx512

#endif
