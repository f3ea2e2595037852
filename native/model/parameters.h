// The numbers of an adapter, on its device.
#pragma once

#include <optional>

#include "model/device_tensor.h"

namespace fire {

/// Flat f32; and where activations are bf16, the same numbers rounded to bf16 beside them, which is what matrix
/// products read. Both are written by the members of this class and by nothing else, so they are never of two steps.
class Parameters {
 public:
  /// All 0.
  Parameters(Ops& ops, int64_t size);

  /// [size] f32. To be read.
  const Tensor& values() const { return values_.view(); }
  /// [size] in the activation type. To be read.
  const Tensor& operands() const { return rounded_ ? rounded_->view() : values(); }
  size_t bytes() const { return values().bytes() + (rounded_ ? operands().bytes() : 0); }

  /// values[begin, begin + count) = host.
  void assign(int64_t begin, int64_t count, const float* host);
  /// See Ops::adamw.
  double step(const AdamW& settings, Tensor grad, Tensor m, Tensor v);

 private:
  Ops& ops_;
  DeviceTensor values_;
  std::optional<DeviceTensor> rounded_;
};

}  // namespace fire
