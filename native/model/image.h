// From 8-bit RGB to the flattened patches that the vision tower eats, exactly as the reference image processor does it
// on its Pillow path: smart resize, bicubic with antialias, rescale and normalise, patches in 2x2 merge order.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace fire {

struct Rgb {
  int64_t height, width;
  const uint8_t* pixels;  // height * width * 3
};

struct Size {
  int64_t height, width;
  bool operator==(const Size&) const = default;
};

/// Patches of one image in processor order.
struct Patches {
  int64_t grid_h, grid_w;     // in patches
  std::vector<float> pixels;  // [grid_h * grid_w, patch_length]
  int64_t count() const { return grid_h * grid_w; }
};

/// The size an image is resized to: multiples of `factor` (half to even), area within bounds.
/// Throws ERR_FIRE_INVALID_ARGUMENT for an aspect ratio above 200 or an empty image.
Size smart_resize(Size size, int64_t factor, int64_t min_pixels, int64_t max_pixels);

/// Pillow's bicubic (a = -0.5) with antialias and its 22-bit fixed point: bit-exact. RGB interleaved in and out.
std::vector<uint8_t> resize_bicubic(const Rgb& image, Size to);

Patches preprocess(const Rgb& image, const ImageConfig& image_config, const VisionConfig& vision);

/// Placeholder tokens that an image of this size takes in a prompt.
int64_t image_tokens(Size size, const ImageConfig& image_config, const VisionConfig& vision);

}  // namespace fire
