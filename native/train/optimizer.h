// What training adds to an adapter: its gradient, AdamW's moments, the step, and their state on disk.
#pragma once

#include <string>

#include "model/lora.h"

namespace fire {

/// See AdamWSpec in src/engine/native.ts.
struct AdamWSpec {
  double lr, beta1, beta2, eps, weight_decay;
  double max_grad_norm;  // 0 = no clipping
};

/// Throws ERR_FIRE_INVALID_ARGUMENT for settings that AdamW has no meaning for.
void require_valid(const AdamWSpec& spec);

class Optimizer {
 public:
  /// Gradient and moments are 0. Neither argument may go before this object.
  Optimizer(Ops& ops, Adapter& adapter);

  /// Where backward adds dL/dparameter: [parameters] f32, in the adapter's order.
  const Tensor& gradient() const { return gradient_.view(); }
  /// Its memory is never freed: something that cannot be stopped may still write to it.
  void leak_gradient() { gradient_.leak(); }
  const Tensor& moment1() const { return moment1_.view(); }
  const Tensor& moment2() const { return moment2_.view(); }
  /// What gradient and moments take.
  static size_t bytes(const Adapter& adapter) { return 3 * adapter.param().bytes(); }

  /// Clips by the global L2 norm as torch.nn.utils.clip_grad_norm_ (scale = max / (norm + 1e-6), at most 1), applies
  /// AdamW to the adapter, clears the gradient. Returns the norm before clipping. Throws ERR_FIRE_INVALID_ARGUMENT for
  /// settings that have no meaning (docs/training.md), ERR_FIRE_NONFINITE when the norm is not finite (nothing but the
  /// gradient is changed) or when a parameter no longer is (`save` then refuses too).
  double update(const AdamWSpec& spec);
  /// As after the last update: dropout masks follow from the step, so training passes since then will be drawn again.
  void zero_grad() { ops_.zero(gradient()); }

  /// Updates so far.
  int64_t step() const { return step_; }

  /// The adapter's parameters, moments and step, bit for bit, in `directory`/optimizer.safetensors. Throws
  /// ERR_FIRE_NONFINITE when one of them is not finite.
  void save(const std::string& directory) const;
  /// Throws ERR_FIRE_CHECKPOINT when the file belongs to another adapter shape.
  void load(const std::string& directory);

 private:
  Ops& ops_;
  Adapter& adapter_;
  DeviceTensor gradient_, moment1_, moment2_;
  int64_t step_ = 0;
};

}  // namespace fire
