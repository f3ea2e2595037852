// What a checkpoint folder says of itself: config.json and its companions, read as published. A value that the engine
// does not implement is refused by name; nothing is guessed. Each family has a reader of its own (families.h).
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "tensor/json.h"

namespace fire {

class VisionSpec;

/// How the rotary frequencies of the decoder are shared between the temporal, height and width position of a token.
enum class Mrope : uint8_t {
  none,      ///< one position per token
  sections,  ///< the first section[0] follow the temporal position, the next section[1] the height, the rest the width
  interleaved,  ///< in turns (positions.h)
};

/// A decoder of pre-norm layers with grouped-query attention and SwiGLU, as Qwen2, Qwen3 and LLaMA have it.
struct TextConfig {
  int64_t hidden_size, layers, heads, kv_heads, head_dim, intermediate_size, vocab_size;
  float rms_norm_eps;
  double rope_theta;
  Mrope mrope = Mrope::none;
  std::array<int64_t, 3> mrope_section{};
  /// q, k and v have a bias (Qwen2).
  bool qkv_bias = false;
  /// q and k are RMS-normed head by head before the rotation (Qwen3).
  bool head_norm = false;
  bool tie_word_embeddings = false;
};

/// Where the language model's tensors are: the first prefix and the first name that the checkpoint has.
struct TextNames {
  std::vector<std::string> prefixes;  // of embed_tokens.weight, layers.N, norm.weight
  std::vector<std::string> heads;     // of the untied output matrix
};

struct ModelConfig {
  /// The `model_type` of config.json.
  std::string family;
  TextConfig text;
  TextNames names;
  std::shared_ptr<const VisionSpec> vision;
  /// Stands in a prompt for one row of an image. Negative where the vocabulary has no such token.
  int64_t image_token_id;
  std::vector<int64_t> eos_token_ids;

  /// Reads the files of a checkpoint folder. Throws ERR_FIRE_CHECKPOINT or ERR_FIRE_UNSUPPORTED with the key.
  static ModelConfig load(const std::string& directory);
};

}  // namespace fire
