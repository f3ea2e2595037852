// 8-bit RGB images, their resampling as Pillow does it, and the patches that a vision tower eats.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "tensor/spread.h"

namespace fire {

struct Rgb {
  int64_t height, width;
  const uint8_t* pixels;  // height * width * 3
};

struct Size {
  int64_t height, width;
  bool operator==(const Size&) const = default;
};

/// What a tower is shown of an image: resampled, padded and cropped, not yet normalised.
struct View {
  Size size;
  std::vector<uint8_t> pixels;  // height * width * 3
  double scale_y, scale_x;      // pixels of the view for one of the image
  double top, left;             // where the image begins in the view; negative where it was cropped
};

/// Throws ERR_FIRE_INVALID_ARGUMENT for an image that is empty, ERR_FIRE_UNSUPPORTED for a side above 65536, as no JPEG
/// has.
void check_image_size(Size size);

/// One image as its tower takes it, still as the bytes that are shown: an eighth, or a quarter in bf16, of what its
/// patches take. They become patches on their way to the device (patch_rows.h).
struct Patches {
  int64_t grid_h, grid_w;       // in patches
  std::vector<uint8_t> pixels;  // [grid_h * side, grid_w * side, 3], with patches of side x side
  int64_t count() const { return grid_h * grid_w; }
};
Patches patches_of(View view, int64_t side);

/// A part of an image.
struct Window {
  int64_t top, left, height, width;
};

/// Pillow's bicubic (a = -0.5) with antialias and its 22-bit fixed point: bit-exact. RGB interleaved in and out.
std::vector<uint8_t> resize_bicubic(const Rgb& image, Size to, const Spread& spread);
/// The same, of which only `window` is made.
std::vector<uint8_t> resize_bicubic(const Rgb& image, Size to, const Window& window, const Spread& spread);

/// `window` of the image in the middle of a square of its longer side, the rest filled, resized to `side` x `side`. The
/// square itself is never in memory.
std::vector<uint8_t> resize_padded(const Rgb& image, std::array<uint8_t, 3> fill, int64_t side, const Window& window,
                                   const Spread& spread);

}  // namespace fire
