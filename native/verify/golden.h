// The contents of a golden folder in the engine's terms.
#pragma once

#include <string>
#include <vector>

#include "objective/packing.h"
#include "tensor/safetensors.h"
#include "train/optimizer.h"

namespace fire {

struct GoldenImage {
  std::string id, corrupted_id;
  int64_t height, width;
  Tensor rgb, rgb_corrupt;  // u8 [H, W, 3]
};

struct GoldenItem {
  std::string name;  // "item0"
  std::vector<GoldenImage> images;
  Pair pair;
  /// Images and ids of one sequence of the item.
  std::vector<int32_t> ids(bool chosen) const;
};

struct Golden {
  SafeTensors file;
  std::vector<GoldenItem> items;
  ObjectiveSpec objective;
  AdamWSpec optimizer;  // its learning rate holds where the folder names none for a step
  /// Rows of height, width, min_pixels, max_pixels, resized height, resized width; may be empty.
  std::vector<std::vector<int64_t>> smart_resize;
  /// How far the reference's own gradients in bf16 are from those in f32 (relative L2); 0 where the folder is silent.
  double bf16_gradient_noise = 0;
  int64_t image_token_id;
  int64_t stored_image_token_id;

  /// Every placeholder of an image becomes `image_token_id`, whatever token the folder writes for it.
  static Golden load(const std::string& directory, int64_t image_token_id);
  bool has(const std::string& name) const { return file.find(name) != nullptr; }

  // What the folder stores, by name. Each throws ERR_FIRE_CHECKPOINT where the array is absent, of another type or of
  // another length than asked for (any_size: whatever it has).
  static constexpr int64_t any_size = -1;
  const Tensor& floats(const std::string& name, int64_t size = any_size) const;
  /// The only value of an f32 array.
  double number(const std::string& name) const { return static_cast<double>(*floats(name, 1).f32()); }
  /// i32, i64 or u8.
  std::vector<int64_t> integers(const std::string& name, int64_t size = any_size) const;
  /// Token ids as the engine reads them.
  std::vector<int32_t> tokens(const std::string& name) const;
  [[noreturn]] void fail(const std::string& name, const std::string& why) const;
};

}  // namespace fire
