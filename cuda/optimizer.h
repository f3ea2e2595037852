// Launcher of the optimizer step.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#include "ops/settings.h"

namespace fire::cuda {

/// The gradient's squares are summed in at most this many parts: how many depends on its size, not on the GPU.
constexpr int adamw_parts = 1024;
/// Doubles that it needs: the parts, then the norm.
constexpr int adamw_workspace = adamw_parts + 1;

/// param, grad, m, v f32 [size]. workspace[adamw_parts] receives the L2 norm of grad before clipping; when it is not
/// finite nothing else changes. No host round trip: the update reads the norm on the device.
void launch_adamw(Stream stream, float* param, const float* grad, float* m, float* v, double* workspace, int64_t size,
                  const AdamW& settings);

}  // namespace fire::cuda
