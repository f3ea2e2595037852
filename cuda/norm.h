// Normalisation of rows: RMSNorm (Zhang & Sennrich 2019) with its backward, LayerNorm (Ba et al. 2016) forward.
//
// x, y, dy, dx, residual [rows, columns] of the activation type, row-major; w and b f32 [columns]; rstd f32 [rows].
// Statistics in f32; the order of their sums depends on `columns` and `type` alone.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#include "tensor/dtype.h"

namespace fire::cuda {

/// y = w * (x * rstd), rstd = 1 / sqrt(mean(x^2) + eps). `rstd` may be nullptr. y may be x.
void launch_rms_norm(Stream stream, DType type, const void* x, const float* w, void* y, float* rstd, int64_t rows,
                     int64_t columns, float eps);

/// dx = rstd * (g - x * rstd^2 * mean(g * x)) + residual with g = w * dy. `residual` may be nullptr; dx may be
/// residual, and dy when dy_type is `type`. dy_type is `type` or f32.
void launch_rms_norm_backward(Stream stream, DType type, DType dy_type, const void* dy, const void* x, const float* w,
                              const float* rstd, const void* residual, void* dx, int64_t rows, int64_t columns);

/// y = w * ((x - mean) / sqrt(var + eps)) + b; var is the mean of (x - mean)^2. y may be x.
void launch_layer_norm(Stream stream, DType type, const void* x, const float* w, const float* b, void* y, int64_t rows,
                       int64_t columns, float eps);

}  // namespace fire::cuda
