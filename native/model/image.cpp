#include "model/image.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "tensor/error.h"

namespace fire {
namespace {

/// Keys' cubic with a = -0.5.
double cubic(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

/// For an output place along one axis: the first source place and its fixed-point weights.
struct Taps {
  int64_t begin;
  std::vector<int32_t> weights;
};

constexpr int weight_bits = 22;

/// Of the places [first, first + count) of `out`. Where `in` equals `out` they copy.
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
      const double fixed = value / total * (1 << weight_bits);
      t.weights.push_back(static_cast<int32_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
    }
  }
  return taps;
}

uint8_t clip(int32_t fixed) { return static_cast<uint8_t>(std::clamp(fixed >> weight_bits, 0, 255)); }

/// Resamples along one axis: `outer` lines, each of places `stride` bytes apart, `inner` bytes handled side by side.
void resample(const uint8_t* in, uint8_t* out, int64_t outer, int64_t in_line, int64_t out_line, int64_t stride,
              int64_t inner, const std::vector<Taps>& taps) {
  for (int64_t line = 0; line < outer; ++line)
    for (size_t o = 0; o < taps.size(); ++o)
      for (int64_t c = 0; c < inner; ++c) {
        int32_t sum = 1 << (weight_bits - 1);
        const uint8_t* p = in + line * in_line + taps[o].begin * stride + c;
        for (const int32_t w : taps[o].weights) {
          sum += *p * w;
          p += stride;
        }
        out[line * out_line + static_cast<int64_t>(o) * stride + c] = clip(sum);
      }
}

}  // namespace

void check_image_size(Size size) {
  const std::string name = "an image of " + std::to_string(size.width) + "x" + std::to_string(size.height) + " pixels";
  if (size.height <= 0 || size.width <= 0) throw Error(Code::invalid_argument, name + " is empty");
  if (size.height > 65536 || size.width > 65536)
    throw Error(Code::unsupported, name + " is too large; a side has at most 65536");
}

std::vector<uint8_t> resize_bicubic(const Rgb& image, Size to) {
  return resize_bicubic(image, to, {0, 0, to.height, to.width});
}

std::vector<uint8_t> resize_bicubic(const Rgb& image, Size to, const Window& window) {
  const int64_t line = window.width * 3;
  std::vector<uint8_t> narrow(static_cast<size_t>(image.height * line));
  resample(image.pixels, narrow.data(), image.height, image.width * 3, line, 3, 3,
           make_taps(image.width, to.width, window.left, window.width));
  std::vector<uint8_t> result(static_cast<size_t>(window.height * line));
  resample(narrow.data(), result.data(), 1, 0, 0, line, line,
           make_taps(image.height, to.height, window.top, window.height));
  return result;
}

std::vector<uint8_t> resize_padded(const Rgb& image, std::array<uint8_t, 3> fill, int64_t side, const Window& window) {
  const int64_t square = std::max(image.height, image.width), line = window.width * 3;
  const int64_t left = (square - image.width) / 2, top = (square - image.height) / 2;
  const auto filled = [&](int64_t pixels) {
    std::vector<uint8_t> bytes(static_cast<size_t>(pixels * 3));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = fill[i % 3];
    return bytes;
  };
  // Rows above and below the image stay what they are filled with: the weights of a filter sum to one. In the others
  // the filling left and right adds the same to every row.
  const std::vector<Taps> columns = make_taps(square, side, window.left, window.width);
  std::vector<uint8_t> narrow = filled(square * window.width);
  std::vector<int32_t> outside;
  const auto inside = [&](const Taps& t) {
    const int64_t end = t.begin + static_cast<int64_t>(t.weights.size());
    return std::pair(std::clamp(left, t.begin, end), std::clamp(left + image.width, t.begin, end));
  };
  for (const Taps& t : columns) {
    const auto [begin, end] = inside(t);
    int32_t weight = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(t.weights.size()); ++i)
      if (t.begin + i < begin || t.begin + i >= end) weight += t.weights[static_cast<size_t>(i)];
    for (const uint8_t value : fill) outside.push_back((1 << (weight_bits - 1)) + weight * value);
  }
  for (int64_t y = 0; y < image.height; ++y) {
    uint8_t* out = narrow.data() + (top + y) * line;
    for (size_t o = 0; o < columns.size(); ++o) {
      const auto [begin, end] = inside(columns[o]);
      for (int64_t c = 0; c < 3; ++c) {
        int32_t sum = outside[o * 3 + static_cast<size_t>(c)];
        for (int64_t x = begin; x < end; ++x)
          sum += image.pixels[(y * image.width + x - left) * 3 + c] *
                 columns[o].weights[static_cast<size_t>(x - columns[o].begin)];
        *out++ = clip(sum);
      }
    }
  }
  std::vector<uint8_t> result(static_cast<size_t>(window.height * line));
  resample(narrow.data(), result.data(), 1, 0, 0, line, line, make_taps(square, side, window.top, window.height));
  return result;
}

}  // namespace fire
