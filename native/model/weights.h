// The frozen weights of a Qwen3-VL checkpoint by role. Every tensor is claimed by name and checked for its shape; one
// that is missing, misshapen or left over is an error that names it.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "model/config.h"
#include "ops/ops.h"
#include "tensor/safetensors.h"

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
  Tensor input_norm, post_attention_norm, q_norm, k_norm;
  std::array<Tensor, proj_count> proj;
  const Tensor& operator[](Proj p) const { return proj[static_cast<size_t>(p)]; }
};

struct LinearWeights {
  Tensor weight, bias;
};

struct VisionBlockWeights {
  LinearWeights norm1, qkv, proj, norm2, fc1, fc2;
};

/// LayerNorm, fc1, GELU, fc2 over merge_unit patches at once.
struct MergerWeights {
  LinearWeights norm, fc1, fc2;
};

struct VisionWeights {
  LinearWeights patch_embed;
  Tensor pos_embed;  // resampled to the grid of each image
  std::vector<VisionBlockWeights> blocks;
  MergerWeights merger;
  std::vector<MergerWeights> deepstack;
};

struct Weights {
  Tensor embed_tokens, norm, lm_head;
  std::vector<DecoderLayerWeights> layers;
  VisionWeights vision;
  int64_t parameters = 0;
  size_t bytes = 0;  // on the device

  /// Accepts the published prefixes (model.language_model., model.visual.) and the older spellings.
  static Weights load(const SafeTensors& file, const ModelConfig& config, Ops& ops);
};

/// The first tensor of a checkpoint that holds a NaN or infinity, or "" (reads every byte: for diagnosis).
std::string find_nonfinite(const SafeTensors& file);

}  // namespace fire
