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
  /// A stored prompt as the engine reads it.
  std::vector<int32_t> prompt(const Tensor& ids) const;
  const Tensor* find(const std::string& name) const { return file.find(name); }
};

/// i32, i64 or u8 tensor as a vector.
std::vector<int64_t> integers(const Tensor& t);
/// A tensor of integers as token ids.
std::vector<int32_t> token_ids(const Tensor& t);

}  // namespace fire
