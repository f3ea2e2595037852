#include "model/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace fire {
namespace {

/// Keys' cubic with a = -0.5.
double cubic(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// The loops are compiled twice on x86-64, once for AVX2; other processors have one width of vector.
#if defined(__x86_64__)
#define FIRE_AVX2 __attribute__((target("avx2")))
bool has_avx2() {
  static const bool found = __builtin_cpu_supports("avx2");
  return found;
}
#endif
#define FIRE_INLINE inline __attribute__((always_inline))

constexpr int64_t lanes = 8;
typedef int32_t Wide __attribute__((vector_size(lanes * sizeof(int32_t))));
typedef uint8_t Bytes __attribute__((vector_size(lanes)));

FIRE_INLINE uint8_t clip(int32_t fixed) { return static_cast<uint8_t>(std::clamp(fixed >> resample_bits, 0, 255)); }

/// Two lines side by side, a pixel in four lanes of each; the fourth is the next pixel's first byte, and goes nowhere.
FIRE_INLINE void line_pair(const uint8_t* first, const uint8_t* second, const std::vector<Taps>& taps, uint8_t* out,
                           uint8_t* out_second) {
  for (const Taps& t : taps) {
    const auto& s = t.start;
    Wide sum{s[0], s[1], s[2], 0, s[0], s[1], s[2], 0};
    const int64_t begin = t.begin * 3;
    const int32_t* weights = t.weights.data();
    const int64_t count = static_cast<int64_t>(t.weights.size());
    for (int64_t i = 0; i < count; ++i) {
      uint8_t both[lanes];
      std::memcpy(both, first + begin + i * 3, 4);
      std::memcpy(both + 4, second + begin + i * 3, 4);
      Bytes bytes;
      std::memcpy(&bytes, both, sizeof bytes);
      sum += __builtin_convertvector(bytes, Wide) * weights[i];
    }
    for (int64_t c = 0; c < 3; ++c) {
      *out++ = clip(sum[c]);
      *out_second++ = clip(sum[4 + c]);
    }
  }
}

constexpr int64_t chunk = 8 * lanes;

/// Bytes [begin, end) of one output line.
FIRE_INLINE void columns(const uint8_t* in, int64_t line, const Taps& taps, int64_t begin, int64_t end, uint8_t* out) {
  const int64_t count = static_cast<int64_t>(taps.weights.size());
  const uint8_t* from = in + taps.begin * line;
  for (; begin + chunk <= end; begin += chunk) {
    Wide sums[chunk / lanes];
    for (Wide& sum : sums) sum = Wide{} + taps.start[0];
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < chunk / lanes; ++j) {
        Bytes bytes;
        std::memcpy(&bytes, from + i * line + begin + j * lanes, sizeof bytes);
        sums[j] += __builtin_convertvector(bytes, Wide) * taps.weights[static_cast<size_t>(i)];
      }
    for (int64_t j = 0; j < chunk / lanes; ++j) {
      Wide value = sums[j] >> resample_bits;
      value = value < 0 ? Wide{} : value;
      value = value > 255 ? Wide{} + 255 : value;
      const Bytes bytes = __builtin_convertvector(value, Bytes);
      std::memcpy(out + begin + j * lanes, &bytes, sizeof bytes);
    }
  }
  for (; begin < end; ++begin) {
    int32_t sum = taps.start[0];
    for (int64_t i = 0; i < count; ++i) sum += from[i * line + begin] * taps.weights[static_cast<size_t>(i)];
    out[begin] = clip(sum);
  }
}

void line_pair_plain(const uint8_t* first, const uint8_t* second, const std::vector<Taps>& taps, uint8_t* out,
                     uint8_t* out_second) {
  line_pair(first, second, taps, out, out_second);
}
void columns_plain(const uint8_t* in, int64_t line, const Taps& taps, int64_t end, uint8_t* out) {
  columns(in, line, taps, 0, end, out);
}
#if defined(FIRE_AVX2)
FIRE_AVX2 void line_pair_avx2(const uint8_t* first, const uint8_t* second, const std::vector<Taps>& taps, uint8_t* out,
                              uint8_t* out_second) {
  line_pair(first, second, taps, out, out_second);
}
FIRE_AVX2 void columns_avx2(const uint8_t* in, int64_t line, const Taps& taps, int64_t end, uint8_t* out) {
  columns(in, line, taps, 0, end, out);
}
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
  auto* pair = line_pair_plain;
#if defined(FIRE_AVX2)
  if (has_avx2()) pair = line_pair_avx2;
#endif
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
      pair(a, b, taps, out + y * to, out + second * to);
    }
  });
}

void resample_columns(const uint8_t* in, int64_t line, const std::vector<Taps>& taps, uint8_t* out,
                      const Spread& spread) {
  constexpr int64_t grain = 8;
  const int64_t height = static_cast<int64_t>(taps.size());
  auto* across = columns_plain;
#if defined(FIRE_AVX2)
  if (has_avx2()) across = columns_avx2;
#endif
  spread((height + grain - 1) / grain, [&](int64_t task) {
    for (int64_t y = task * grain; y < std::min(height, (task + 1) * grain); ++y)
      across(in, line, taps[static_cast<size_t>(y)], line, out + y * line);
  });
}

}  // namespace fire
