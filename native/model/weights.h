// The frozen weights of a checkpoint by role: the decoder's, and the vision tower with its own.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "model/vision.h"

namespace fire {

/// The seven linears of a decoder layer that LoRA may adapt, in the order of their use.
enum class Proj : uint8_t { q, k, v, o, gate, up, down };
constexpr size_t proj_count = 7;
constexpr std::array<Proj, proj_count> all_projs{Proj::q, Proj::k, Proj::v, Proj::o, Proj::gate, Proj::up, Proj::down};
/// "q_proj", and "self_attn.q_proj" as in tensor names.
const char* short_name(Proj proj);
std::string module_name(Proj proj);
int64_t in_features(Proj proj, const TextConfig& config);
int64_t out_features(Proj proj, const TextConfig& config);

struct DecoderLayerWeights {
  Tensor input_norm, post_attention_norm;
  Tensor q_norm, k_norm;  // with TextConfig::head_norm
  /// The bias is empty except for q, k and v with TextConfig::qkv_bias.
  std::array<LinearWeights, proj_count> proj;
  const LinearWeights& operator[](Proj p) const { return proj[static_cast<size_t>(p)]; }
};

struct Weights {
  Tensor embed_tokens, norm, lm_head;
  std::vector<DecoderLayerWeights> layers;
  std::unique_ptr<VisionTower> vision;
  int64_t parameters = 0;
  size_t bytes = 0;  // see Claims

  /// A tensor that is missing, misshapen or not used by the architecture is an error that names it. A GPU gets all of
  /// them in one block.
  static Weights load(const SafeTensors& file, const ModelConfig& config, Ops& ops);
};

/// The first tensor of a checkpoint that holds a NaN or infinity, or "" (reads every byte: for diagnosis).
std::string find_nonfinite(const SafeTensors& file);

}  // namespace fire
