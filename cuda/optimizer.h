// Launcher of the optimizer step.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#include "ops/settings.h"
#include "tensor/dtype.h"

namespace fire::cuda {

/// Squares are summed in at most this many parts: how many depends on the size, not on the GPU.
constexpr int most_norm_parts = 1024;
int norm_parts(int64_t size);
/// Doubles that adamw needs: the parts, then the norm.
constexpr int adamw_workspace = most_norm_parts + 1;

/// parts f64 [norm_parts(size)], whose sum is that of the squares of x f32 [size].
void launch_sum_of_squares(Stream stream, const float* x, int64_t size, double* parts);

/// param, grad, m, v f32 [size]; `rounded` [size] or nullptr receives the new param. workspace[most_norm_parts]
/// receives the L2 norm of grad before clipping; when it is not finite nothing else changes. No host round trip: the
/// update reads the norm on the device.
void launch_adamw(Stream stream, float* param, bf16* rounded, const float* grad, float* m, float* v, double* workspace,
                  int64_t size, const AdamW& settings);

}  // namespace fire::cuda
