#include "model/image.h"

#include <algorithm>
#include <cmath>
#include <string>

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

/// For each output place along one axis: the first source place and its fixed-point weights.
struct Taps {
  int64_t begin;
  std::vector<int32_t> weights;
};

constexpr int weight_bits = 22;

std::vector<Taps> make_taps(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out), filter = std::max(scale, 1.0);
  const double support = 2.0 * filter;
  std::vector<Taps> taps(static_cast<size_t>(out));
  for (int64_t o = 0; o < out; ++o) {
    const double center = (static_cast<double>(o) + 0.5) * scale;
    const int64_t begin = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const int64_t end = std::min<int64_t>(in, static_cast<int64_t>(center + support + 0.5));
    std::vector<double> w(static_cast<size_t>(end - begin));
    double total = 0;
    for (int64_t i = begin; i < end; ++i)
      total += w[static_cast<size_t>(i - begin)] = cubic((static_cast<double>(i) - center + 0.5) / filter);
    Taps& t = taps[static_cast<size_t>(o)];
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

Size smart_resize(Size size, int64_t factor, int64_t min_pixels, int64_t max_pixels) {
  const double h = static_cast<double>(size.height), w = static_cast<double>(size.width),
               f = static_cast<double>(factor);
  if (size.height <= 0 || size.width <= 0) throw Error(Code::invalid_argument, "the image is empty");
  if (std::max(h, w) / std::min(h, w) > 200)
    throw Error(Code::invalid_argument, "an image of " + std::to_string(size.width) + "x" +
                                            std::to_string(size.height) +
                                            " pixels has an aspect ratio above 200; crop it first");
  auto to_multiple = [&](double x) { return static_cast<int64_t>(x) * factor; };
  Size out{to_multiple(std::nearbyint(h / f)), to_multiple(std::nearbyint(w / f))};
  if (out.height * out.width > max_pixels) {
    const double beta = std::sqrt(h * w / static_cast<double>(max_pixels));
    out = {std::max(factor, to_multiple(std::floor(h / beta / f))),
           std::max(factor, to_multiple(std::floor(w / beta / f)))};
  } else if (out.height * out.width < min_pixels) {
    const double beta = std::sqrt(static_cast<double>(min_pixels) / (h * w));
    out = {to_multiple(std::ceil(h * beta / f)), to_multiple(std::ceil(w * beta / f))};
  }
  return out;
}

std::vector<uint8_t> resize_bicubic(const Rgb& image, Size to) {
  std::vector<uint8_t> current(image.pixels, image.pixels + image.height * image.width * 3);
  if (to.width != image.width) {
    std::vector<uint8_t> next(static_cast<size_t>(image.height * to.width * 3));
    resample(current.data(), next.data(), image.height, image.width * 3, to.width * 3, 3, 3,
             make_taps(image.width, to.width));
    current = std::move(next);
  }
  if (to.height != image.height) {
    std::vector<uint8_t> next(static_cast<size_t>(to.height * to.width * 3));
    resample(current.data(), next.data(), 1, 0, 0, to.width * 3, to.width * 3, make_taps(image.height, to.height));
    current = std::move(next);
  }
  return current;
}

Patches preprocess(const Rgb& image, const ImageConfig& config, const VisionConfig& vision) {
  const int64_t patch = vision.patch_size, merge = vision.spatial_merge_size;
  const Size size = smart_resize({image.height, image.width}, patch * merge, config.min_pixels, config.max_pixels);
  const std::vector<uint8_t> resized = resize_bicubic(image, size);

  Patches result{size.height / patch, size.width / patch, {}};
  result.pixels.reserve(static_cast<size_t>(result.count() * vision.patch_length()));
  for (int64_t block_y = 0; block_y < result.grid_h; block_y += merge)
    for (int64_t block_x = 0; block_x < result.grid_w; block_x += merge)
      for (int64_t y = block_y; y < block_y + merge; ++y)
        for (int64_t x = block_x; x < block_x + merge; ++x)
          for (int64_t c = 0; c < 3; ++c)
            for (int64_t t = 0; t < vision.temporal_patch_size; ++t)  // a still image: every time slice is the same
              for (int64_t row = y * patch; row < (y + 1) * patch; ++row)
                for (int64_t col = x * patch; col < (x + 1) * patch; ++col) {
                  const float value =
                      static_cast<float>(resized[static_cast<size_t>((row * size.width + col) * 3 + c)]);
                  const size_t channel = static_cast<size_t>(c);
                  result.pixels.push_back((value / 255.0f - config.mean[channel]) / config.std[channel]);
                }
  return result;
}

int64_t image_tokens(Size size, const ImageConfig& config, const VisionConfig& vision) {
  const int64_t factor = vision.patch_size * vision.spatial_merge_size;
  const Size to = smart_resize(size, factor, config.min_pixels, config.max_pixels);
  return (to.height / factor) * (to.width / factor);
}

}  // namespace fire
