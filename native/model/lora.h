// The trainable part: LoRA adapters (Hu et al. 2021) with PEFT's conventions, their gradients and AdamW moments. All
// parameters live in one flat f32 buffer (so do gradients and moments), so an optimizer step is one operation.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "model/weights.h"

namespace fire {

struct LoraConfig {
  int64_t rank = 128;
  double alpha = 256;
  float dropout = 0.05f;
  bool rslora = false;
  std::vector<Proj> targets{all_projs.begin(), all_projs.end()};
  uint64_t seed = 0;
  double scale() const;
};

/// One adapted linear and where its numbers are in the flat buffers.
struct LoraModule {
  int64_t layer;
  Proj proj;
  int64_t a_begin, b_begin, out, in;
};

class Adapter {
 public:
  /// A ~ U(-1/sqrt(in), 1/sqrt(in)) (PEFT's Kaiming uniform with a = sqrt 5), B = 0: the adapted model is the base.
  Adapter(Ops& ops, const TextConfig& text, const LoraConfig& config);
  /// Reads a PEFT folder. A setting that would change the arithmetic in a way this engine lacks is refused.
  static std::unique_ptr<Adapter> load(Ops& ops, const TextConfig& text, const std::string& directory);
  ~Adapter();
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;

  const LoraConfig& config() const { return config_; }
  const std::vector<LoraModule>& modules() const { return modules_; }
  int64_t parameter_count() const { return param_.size(); }

  /// nullptr when that linear is not adapted.
  const LoraModule* find(int64_t layer, Proj proj) const;
  LoraView view(const LoraModule& m) const {
    return {a_of(param_, m), b_of(param_, m), static_cast<float>(config_.scale())};
  }
  Tensor grad_a(const LoraModule& m) const { return a_of(grad_, m); }
  Tensor grad_b(const LoraModule& m) const { return b_of(grad_, m); }

  Tensor param() const { return param_; }
  /// Allocated by `enable_training`; empty before.
  Tensor grad() const { return grad_; }
  Tensor moment1() const { return m_; }
  Tensor moment2() const { return v_; }
  void enable_training();

  /// PEFT's key of A or B: base_model.model.model.language_model.layers.N.self_attn.q_proj.lora_A.weight
  static std::string key(const LoraModule& m, char which);
  Tensor a_of(const Tensor& flat, const LoraModule& m) const;
  Tensor b_of(const Tensor& flat, const LoraModule& m) const;

  /// adapter_config.json and adapter_model.safetensors, each written atomically. `base_model` goes into the config.
  void save(const std::string& directory, const std::string& base_model) const;

 private:
  Adapter(Ops& ops, const TextConfig& text, const LoraConfig& config,
          const std::vector<std::pair<int64_t, Proj>>& places);
  Tensor allocate() const;

  Ops& ops_;
  LoraConfig config_;
  std::vector<LoraModule> modules_;
  std::vector<std::array<int32_t, proj_count>> index_;  // [layer][proj] -> module or -1
  Tensor param_, grad_, m_, v_;
};

}  // namespace fire
