// The optimizer step of an adapter, and its state on disk.
#pragma once

#include <string>

#include "model/lora.h"

namespace fire {

struct UpdateSettings {
  double lr = 1e-6, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double max_grad_norm = 0;  // 0 = no clipping
};

class Optimizer {
 public:
  Optimizer(Ops& ops, Adapter& adapter) : ops_(ops), adapter_(adapter) { adapter.enable_training(); }

  /// Clips by the global L2 norm as torch.nn.utils.clip_grad_norm_ (scale = max / (norm + 1e-6), at most 1), applies
  /// AdamW, clears the gradients. Returns the norm before clipping. Throws ERR_FIRE_NONFINITE, changing nothing but
  /// clearing the gradients, when the norm is not finite.
  double update(const UpdateSettings& settings);
  void zero_grad() { ops_.zero(adapter_.grad()); }

  int64_t step() const { return step_; }
  /// Counts training passes; the dropout masks of a pass depend on it.
  uint32_t next_pass() { return pass_++; }

  /// Parameters, moments and counters, bit for bit, in `directory`/optimizer.safetensors.
  void save(const std::string& directory) const;
  /// Throws ERR_FIRE_CHECKPOINT when the file belongs to another adapter shape.
  void load(const std::string& directory);

 private:
  Ops& ops_;
  Adapter& adapter_;
  int64_t step_ = 0;
  uint32_t pass_ = 0;
};

}  // namespace fire
