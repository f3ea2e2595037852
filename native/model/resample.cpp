#include "model/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fire {
namespace {

/// Keys' cubic with a = -0.5.
double cubic(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

uint8_t clip(int32_t fixed) { return static_cast<uint8_t>(std::clamp(fixed >> resample_bits, 0, 255)); }

/// Two lines side by side. What is read ends a byte behind each.
using LinePair = void(const uint8_t* first, const uint8_t* second, const std::vector<Taps>& taps, uint8_t* out,
                      uint8_t* out_second);
/// One output line of `line` bytes.
using Columns = void(const uint8_t* in, int64_t line, const Taps& taps, uint8_t* out);

void line_pair(const uint8_t* first, const uint8_t* second, const std::vector<Taps>& taps, uint8_t* out,
               uint8_t* out_second) {
  for (const auto& [from, to] : {std::pair(first, out), std::pair(second, out_second)})
    for (size_t o = 0; o < taps.size(); ++o)
      for (size_t c = 0; c < 3; ++c) {
        int32_t sum = taps[o].start[c];
        const uint8_t* p = from + taps[o].begin * 3 + c;
        for (const int32_t w : taps[o].weights) {
          sum += *p * w;
          p += 3;
        }
        to[o * 3 + c] = clip(sum);
      }
}

/// From byte `at` on.
void columns_from(int64_t at, const uint8_t* in, int64_t line, const Taps& taps, uint8_t* out) {
  constexpr int64_t chunk = 64;
  const uint8_t* from = in + taps.begin * line;
  for (; at < line; at += chunk) {
    const int64_t count = std::min(chunk, line - at);
    int32_t sums[chunk];
    std::fill_n(sums, count, taps.start[0]);
    for (size_t i = 0; i < taps.weights.size(); ++i) {
      const uint8_t* p = from + static_cast<int64_t>(i) * line + at;
      for (int64_t c = 0; c < count; ++c) sums[c] += p[c] * taps.weights[i];
    }
    for (int64_t c = 0; c < count; ++c) out[at + c] = clip(sums[c]);
  }
}

void columns(const uint8_t* in, int64_t line, const Taps& taps, uint8_t* out) { columns_from(0, in, line, taps, out); }

#if defined(__x86_64__)

#define FIRE_AVX2 __attribute__((target("avx2")))
#define FIRE_AVX2_INLINE __attribute__((target("avx2"), always_inline)) inline

/// sum + eight bytes * weight.
FIRE_AVX2_INLINE __m256i add_product(__m256i sum, __m128i bytes, int32_t weight) {
  return _mm256_add_epi32(sum, _mm256_mullo_epi32(_mm256_cvtepu8_epi32(bytes), _mm256_set1_epi32(weight)));
}

/// A pixel in four lanes of each line; the fourth is the next pixel's first byte, and goes nowhere.
FIRE_AVX2 void line_pair_avx2(const uint8_t* first, const uint8_t* second, const std::vector<Taps>& taps, uint8_t* out,
                              uint8_t* out_second) {
  for (const Taps& t : taps) {
    const auto& s = t.start;
    __m256i sum = _mm256_setr_epi32(s[0], s[1], s[2], 0, s[0], s[1], s[2], 0);
    const uint8_t *a = first + t.begin * 3, *b = second + t.begin * 3;
    for (const int32_t w : t.weights) {
      uint32_t left, right;
      std::memcpy(&left, a, sizeof left);
      std::memcpy(&right, b, sizeof right);
      sum = add_product(sum, _mm_cvtsi64_si128(static_cast<int64_t>(left | uint64_t{right} << 32)), w);
      a += 3, b += 3;
    }
    const __m256i words = _mm256_packus_epi32(_mm256_srai_epi32(sum, resample_bits), _mm256_setzero_si256());
    const __m256i bytes = _mm256_packus_epi16(words, words);
    const int32_t left = _mm256_extract_epi32(bytes, 0), right = _mm256_extract_epi32(bytes, 4);
    std::memcpy(out, &left, 3);
    std::memcpy(out_second, &right, 3);
    out += 3, out_second += 3;
  }
}

FIRE_AVX2 void columns_avx2(const uint8_t* in, int64_t line, const Taps& taps, uint8_t* out) {
  constexpr int64_t width = 8, wide = 8;  // bytes of a vector, vectors at a time
  const uint8_t* from = in + taps.begin * line;
  int64_t at = 0;
  for (; at + wide * width <= line; at += wide * width) {
    __m256i sums[wide];
#pragma GCC unroll 8
    for (int64_t j = 0; j < wide; ++j) sums[j] = _mm256_set1_epi32(taps.start[0]);
    const uint8_t* p = from + at;
    for (const int32_t w : taps.weights) {
#pragma GCC unroll 8
      for (int64_t j = 0; j < wide; ++j)
        sums[j] = add_product(sums[j], _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + j * width)), w);
      p += line;
    }
#pragma GCC unroll 8
    for (int64_t j = 0; j < wide; ++j) {
      const __m256i words = _mm256_packus_epi32(_mm256_srai_epi32(sums[j], resample_bits), _mm256_setzero_si256());
      const __m256i bytes = _mm256_packus_epi16(words, words);
      const int32_t left = _mm256_extract_epi32(bytes, 0), right = _mm256_extract_epi32(bytes, 4);
      std::memcpy(out + at + j * width, &left, 4);
      std::memcpy(out + at + j * width + 4, &right, 4);
    }
  }
  columns_from(at, in, line, taps, out);
}

const bool has_avx2 = (__builtin_cpu_init(), __builtin_cpu_supports("avx2"));
LinePair* const lines_by = has_avx2 ? line_pair_avx2 : line_pair;
Columns* const columns_by = has_avx2 ? columns_avx2 : columns;

#else

LinePair* const lines_by = line_pair;
Columns* const columns_by = columns;

#endif

}  // namespace

std::vector<Taps> make_taps(int64_t in, int64_t out, int64_t first, int64_t count) {
  const double scale = static_cast<double>(in) / static_cast<double>(out), filter = std::max(scale, 1.0);
  const double support = 2.0 * filter;
  std::vector<Taps> taps(static_cast<size_t>(count));
  for (int64_t o = first; o < first + count; ++o) {
    const double center = (static_cast<double>(o) + 0.5) * scale;
    const int64_t begin = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const int64_t end = std::min<int64_t>(in, static_cast<int64_t>(center + support + 0.5));
    std::vector<double> w(static_cast<size_t>(end - begin));
    double total = 0;
    for (int64_t i = begin; i < end; ++i)
      total += w[static_cast<size_t>(i - begin)] = cubic((static_cast<double>(i) - center + 0.5) / filter);
    Taps& t = taps[static_cast<size_t>(o - first)];
    t.begin = begin;
    for (const double value : w) {
      const double fixed = value / total * (1 << resample_bits);
      t.weights.push_back(static_cast<int32_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
    }
  }
  return taps;
}

void resample_lines(const uint8_t* in, int64_t height, int64_t width, const std::vector<Taps>& taps, uint8_t* out,
                    const Spread& spread) {
  constexpr int64_t grain = 16;
  const int64_t from = width * 3, to = static_cast<int64_t>(taps.size()) * 3;
  spread((height + grain - 1) / grain, [&](int64_t task) {
    const int64_t end = std::min(height, (task + 1) * grain);
    for (int64_t y = task * grain; y < end; y += 2) {
      const int64_t second = std::min(y + 1, end - 1);
      const uint8_t *a = in + y * from, *b = in + second * from;
      std::vector<uint8_t> padded;
      if (second + 1 == height) {
        // A pixel is read as four bytes, and behind the last one there is nothing.
        padded.assign(static_cast<size_t>(2 * from + 1), 0);
        std::copy_n(a, from, padded.begin());
        std::copy_n(b, from, padded.begin() + from);
        a = padded.data(), b = a + from;
      }
      lines_by(a, b, taps, out + y * to, out + second * to);
    }
  });
}

void resample_columns(const uint8_t* in, int64_t line, const std::vector<Taps>& taps, uint8_t* out,
                      const Spread& spread) {
  constexpr int64_t grain = 8;
  const int64_t height = static_cast<int64_t>(taps.size());
  spread((height + grain - 1) / grain, [&](int64_t task) {
    for (int64_t y = task * grain; y < std::min(height, (task + 1) * grain); ++y)
      columns_by(in, line, taps[static_cast<size_t>(y)], out + y * line);
  });
}

}  // namespace fire
