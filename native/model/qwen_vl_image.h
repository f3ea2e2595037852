// Image preprocessing of the Qwen-VL families: smart resize, bicubic, rescale and normalise, patches in merge order.
#pragma once

#include <string>

#include "model/patch_rows.h"
#include "model/positions.h"
#include "tensor/json.h"

namespace fire {

struct QwenVlImage {
  /// Areas in pixels, not edges, whatever the published key names say.
  int64_t min_pixels, max_pixels;
  std::array<float, 3> mean, std;
  int64_t patch_size, temporal_patch_size, merge_size;

  PatchRows rows() const { return {patch_size, temporal_patch_size, merge_size, mean, std}; }

  /// From a parsed preprocessor_config.json, whose sizes must agree with those of the vision config.
  static QwenVlImage read(const Json& file, int64_t patch_size, int64_t temporal_patch_size, int64_t merge_size);

  View view(const Rgb& image, const Spread& spread) const;
  std::string preprocessing() const;
  TokenGrid token_grid(Size image) const;
  Patches blank(int64_t tokens) const { return {merge_size, tokens * merge_size, {}}; }
};

/// The size an image is resized to: multiples of `factor` (half to even), area within bounds.
/// Throws ERR_FIRE_UNSUPPORTED for an aspect ratio above 200, ERR_FIRE_INVALID_ARGUMENT for an empty image.
Size smart_resize(Size size, int64_t factor, int64_t min_pixels, int64_t max_pixels);

}  // namespace fire
