// Launcher of the optimizer step.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"

namespace fire::cuda {

/// The gradient's squares are summed in at most this many parts: how many depends on its size, not on the GPU.
constexpr int adamw_parts = 1024;
/// Doubles that `adamw` needs: the parts, then the norm.
constexpr int adamw_workspace = adamw_parts + 1;

/// AdamW of ops.h.
struct AdamWSettings {
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;
  double max_grad_norm;
};

/// param, grad, m, v f32 [size]. workspace[adamw_parts] receives the L2 norm of grad before clipping; when it is not
/// finite nothing else changes. No host round trip: the update reads the norm on the device.
void adamw(const AdamWSettings& settings, float* param, const float* grad, float* m, float* v, int64_t size,
           double* workspace, Stream stream);

}  // namespace fire::cuda
