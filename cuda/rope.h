// Rotary positions (Su et al. 2021) in the "rotate half" form, alone and fused with the RMSNorm of a head in front of
// it.
//
// x, y, dy, dx [tokens, heads, d] of the activation type, row-major, d even and at most max_head_width; cos and sin
// f32 [tokens, d]; w f32 [d]; rstd f32 [tokens, heads]. With a the first and b the second half of a head:
//   (a, b) -> (a cos - b sin, b cos + a sin), each half with its own half of cos and sin.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#include "tensor/dtype.h"

namespace fire::cuda {

/// The widest head that fits a warp's registers.
constexpr int64_t max_head_width = 512;

/// cos and sin [tokens, 2 * half] of positions[axis[i], t] * frequency[i], both halves alike. positions i32 [axes,
/// tokens], axis i32 [half], frequency f32 [half]. The angle is rounded to f32; its cosine and sine are those of
/// float64, rounded.
void launch_rotary_table(Stream stream, const int32_t* positions, const int32_t* axis, const float* frequency,
                         float* cos, float* sin, int64_t tokens, int64_t half);

/// In place; `back` is the transpose.
void launch_rope(Stream stream, DType type, void* x, const float* cos, const float* sin, int64_t tokens, int64_t heads,
                 int64_t d, bool back);

/// y = rope(w * (x * rstd)), rstd = 1 / sqrt(mean(x^2) + eps) of a head. `rstd` may be nullptr. y may be x.
void launch_norm_rope(Stream stream, DType type, const void* x, const float* w, const float* cos, const float* sin,
                      void* y, float* rstd, int64_t tokens, int64_t heads, int64_t d, float eps);

/// dx = rstd * (g - x * rstd^2 * mean(g * x)), g = w * u, where u is dy rotated back. dx may be dy.
void launch_norm_rope_backward(Stream stream, DType type, const void* dy, const void* x, const float* w,
                               const float* rstd, const float* cos, const float* sin, void* dx, int64_t tokens,
                               int64_t heads, int64_t d);

}  // namespace fire::cuda
