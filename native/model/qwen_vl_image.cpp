#include "model/qwen_vl_image.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "model/config_reader.h"
#include "tensor/error.h"

namespace fire {
namespace {

/// Of one image as the tower eats it; no published model has more.
constexpr int64_t max_pixels_made = int64_t{1} << 24;

}  // namespace

QwenVlImage QwenVlImage::read(const Json& file, int64_t patch_size, int64_t temporal_patch_size, int64_t merge_size) {
  using namespace config;
  QwenVlImage c{};
  c.patch_size = patch_size, c.temporal_patch_size = temporal_patch_size, c.merge_size = merge_size;
  // Newer files have `size`, older ones the two areas, which win where there are both.
  const auto area = [&](const char* older, const char* newer, int64_t most) {
    const Json *stated = file.find(older), *size = file.find("size");
    const bool use_newer = size && (!stated || stated->is_null());
    return positive(use_newer ? *size : file, use_newer ? newer : older, most);
  };
  // Every image is made at least so large; the other bound is held against each image.
  c.min_pixels = area("min_pixels", "shortest_edge", max_pixels_made);
  c.max_pixels = area("max_pixels", "longest_edge", int64_t{1} << 40);
  check(c.min_pixels <= c.max_pixels, file.path(), "the smallest image area exceeds the largest");
  c.mean = three(file.at("image_mean"));
  c.std = three(file.at("image_std"));
  for (const float s : c.std) check(s > 0, file.path(), "image_std must be positive");
  const std::pair<const char*, int64_t> same[] = {
      {"patch_size", patch_size}, {"temporal_patch_size", temporal_patch_size}, {"merge_size", merge_size}};
  for (const auto& [key, want] : same)
    if (const Json* value = file.find(key))
      check(value->integer() == want, value->path(), "differs from vision_config (" + std::to_string(want) + ")");
  for (const char* key : {"do_rescale", "do_normalize", "do_resize"}) require_flag(file, key, true);
  require_number(file, "resample", 3);  // bicubic
  require_number(file, "rescale_factor", 1 / 255.0);
  return c;
}

Size smart_resize(Size size, int64_t factor, int64_t min_pixels, int64_t max_pixels) {
  const double h = static_cast<double>(size.height), w = static_cast<double>(size.width),
               f = static_cast<double>(factor);
  check_image_size(size);
  if (std::max(h, w) / std::min(h, w) > 200)
    throw Error(Code::unsupported, "an image of " + std::to_string(size.width) + "x" + std::to_string(size.height) +
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
  // A side is rounded up by less than `factor`, and an aspect ratio is at most 200.
  if (out.height * out.width > 2 * max_pixels_made)
    throw Error(Code::unsupported, "an image of " + std::to_string(size.width) + "x" + std::to_string(size.height) +
                                       " pixels would be " + std::to_string(out.width) + "x" +
                                       std::to_string(out.height) +
                                       " for the model; lower max_pixels in preprocessor_config.json");
  return out;
}

View QwenVlImage::view(const Rgb& image, const Spread& spread) const {
  const Size size = smart_resize({image.height, image.width}, patch_size * merge_size, min_pixels, max_pixels);
  return {size,
          resize_bicubic(image, size, spread),
          static_cast<double>(size.height) / static_cast<double>(image.height),
          static_cast<double>(size.width) / static_cast<double>(image.width),
          0,
          0};
}

std::string QwenVlImage::preprocessing() const {
  std::string name = "qwen_vl";
  for (const int64_t value : {min_pixels, max_pixels, patch_size, merge_size}) name += " " + std::to_string(value);
  return name;
}

TokenGrid QwenVlImage::token_grid(Size image) const {
  const int64_t factor = patch_size * merge_size;
  const Size to = smart_resize(image, factor, min_pixels, max_pixels);
  return {to.height / factor, to.width / factor};
}

}  // namespace fire
