// The two passes of a resize: Pillow's 22-bit fixed point, whose sums are integers, so that they may be taken in any
// order and width of vector.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "tensor/spread.h"

namespace fire {

constexpr int resample_bits = 22;

/// For an output place along one axis: the first source place and its weights.
struct Taps {
  int64_t begin;
  std::vector<int32_t> weights;
  /// What each channel begins with: half, for rounding, and all that comes from outside the image.
  std::array<int32_t, 3> start{1 << (resample_bits - 1), 1 << (resample_bits - 1), 1 << (resample_bits - 1)};
};

/// Of the places [first, first + count) of `out`: bicubic (a = -0.5) with antialias. Where `in` equals `out` they copy.
std::vector<Taps> make_taps(int64_t in, int64_t out, int64_t first, int64_t count);

/// out[height, taps.size(), 3] from rgb in[height, width, 3]: along each line.
void resample_lines(const uint8_t* in, int64_t height, int64_t width, const std::vector<Taps>& taps, uint8_t* out,
                    const Spread& spread);
/// out[taps.size(), line] from in[.., line]: across lines, each byte by itself.
void resample_columns(const uint8_t* in, int64_t line, const std::vector<Taps>& taps, uint8_t* out,
                      const Spread& spread);

}  // namespace fire
