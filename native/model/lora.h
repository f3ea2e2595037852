// The trainable part: LoRA adapters (Hu et al. 2021) with PEFT's conventions. All parameters are one flat f32
// buffer. Gradients and moments (train/optimizer.h) are flat in the same order, so an optimizer step is one operation.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "model/parameters.h"
#include "model/weights.h"
#include "tensor/json.h"
#include "tensor/sha256.h"

namespace fire {

/// See LoraSpec in src/engine/native.ts.
struct LoraSpec {
  int64_t rank;
  double alpha;
  float dropout;
  bool rslora;
  std::vector<Proj> targets;
  uint64_t seed;
  double scale() const;
};

/// One adapted linear and where its numbers are in a flat buffer.
struct LoraModule {
  int64_t layer;
  Proj proj;
  int64_t a_begin, b_begin, out, in;
};

class Adapter {
 public:
  /// A ~ U(-1/sqrt(in), 1/sqrt(in)) (PEFT's Kaiming uniform with a = sqrt 5), B = 0: the adapted model is the base.
  Adapter(Ops& ops, const TextConfig& text, const LoraSpec& spec);
  /// Reads a PEFT folder. A setting that would change the arithmetic in a way this engine lacks is refused.
  static std::unique_ptr<Adapter> load(Ops& ops, const TextConfig& text, const std::string& directory);

  const LoraSpec& spec() const { return spec_; }
  /// How it goes on being trained; what a folder says of it is how it was.
  void train_with(float dropout, uint64_t seed) {
    spec_.dropout = dropout;
    spec_.seed = seed;
  }
  /// Two adapters with it compute the same: places, scale and numbers.
  Sha256::Digest content() const;
  const std::vector<LoraModule>& modules() const { return modules_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  /// [parameters] f32, to be read.
  const Tensor& param() const { return parameters_.values(); }

  /// nullptr when that linear is not adapted.
  const LoraModule* find(int64_t layer, Proj proj) const;
  LoraView view(const LoraModule& m) const {
    const Tensor& operands = parameters_.operands();
    return {a_of(operands, m), b_of(operands, m), static_cast<float>(spec_.scale())};
  }
  /// A [rank, in] and B [out, rank] of a module in `flat`, which holds a number a parameter in their order.
  Tensor a_of(const Tensor& flat, const LoraModule& m) const;
  Tensor b_of(const Tensor& flat, const LoraModule& m) const;

  /// Throws ERR_FIRE_NONFINITE with `when` and the first tensor that holds a value which is not finite.
  void require_finite(const std::string& when) const;

  /// PEFT's key of A or B: base_model.model.model.language_model.layers.N.self_attn.q_proj.lora_A.weight
  static std::string key(const LoraModule& m, char which);

  /// adapter_config.json and adapter_model.safetensors, each written atomically. `base_model` goes into the config.
  /// Throws ERR_FIRE_NONFINITE, before anything is written, when a value is not finite.
  void save(const std::string& directory, const std::string& base_model) const;

 private:
  Adapter(Ops& ops, const TextConfig& text, const LoraSpec& spec, std::vector<LoraModule> modules);
  /// From the two files of a PEFT folder; `spec` is the first one's, its targets left for the other.
  static std::unique_ptr<Adapter> read(Ops& ops, const TextConfig& text, const Json& config, LoraSpec spec,
                                       const SafeTensors& file);

  Ops& ops_;
  LoraSpec spec_;
  std::vector<LoraModule> modules_;
  std::vector<std::array<int32_t, proj_count>> index_;  // [layer][proj] -> module or -1
  Parameters parameters_;
};

}  // namespace fire
