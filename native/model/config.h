// config.json and preprocessor_config.json of a Qwen3-VL checkpoint, read as published. A value that the engine does
// not implement is refused by name; nothing is guessed.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "tensor/json.h"

namespace fire {

struct TextConfig {
  int64_t hidden_size, layers, heads, kv_heads, head_dim, intermediate_size, vocab_size;
  float rms_norm_eps;
  double rope_theta;
  /// Rotary frequencies that follow the temporal, height and width position.
  std::array<int64_t, 3> mrope_section;
  bool tie_word_embeddings;
};

struct VisionConfig {
  int64_t depth, hidden_size, heads, intermediate_size, patch_size, temporal_patch_size, spatial_merge_size,
      in_channels, num_position_embeddings, out_hidden_size;
  std::vector<int64_t> deepstack_indexes;
  int64_t head_dim() const { return hidden_size / heads; }
  /// Length of one flattened patch: channels * temporal * patch * patch.
  int64_t patch_length() const { return in_channels * temporal_patch_size * patch_size * patch_size; }
  int64_t merge_unit() const { return spatial_merge_size * spatial_merge_size; }
};

struct ImageConfig {
  /// Areas in pixels, not edges, whatever the published key names say.
  int64_t min_pixels, max_pixels;
  std::array<float, 3> mean, std;
};

struct ModelConfig {
  TextConfig text;
  VisionConfig vision;
  ImageConfig image;
  int64_t image_token_id, vision_start_token_id, vision_end_token_id;
  std::vector<int64_t> eos_token_ids;

  /// Reads the three files of a checkpoint folder. Throws ERR_FIRE_CHECKPOINT or ERR_FIRE_UNSUPPORTED with the key.
  static ModelConfig load(const std::string& directory);
};

}  // namespace fire
