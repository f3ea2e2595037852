// Rotary positions, alone and behind the norm of each head.
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/vector_math.h"

namespace fire::cpu {
namespace {

FIRE_CLONES void rope_head(float* x, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i + half] + a * sin[i + half];
  }
}

/// The transpose: what an element gave to its partner comes back with the partner's sine.
FIRE_CLONES void rope_back_head(float* x, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cos[i] + b * sin[i + half];
    x[i + half] = b * cos[i + half] - a * sin[i];
  }
}

/// Rotates every head of x[T, n, d] in place.
void rotate(const Tensor& x, const Tensor& cos, const Tensor& sin, bool back, int64_t begin, int64_t end) {
  const int64_t heads = x.dim(1), d = x.dim(2);
  for (int64_t t = begin; t < end; ++t)
    for (int64_t h = 0; h < heads; ++h)
      (back ? rope_back_head : rope_head)(x.f32() + (t * heads + h) * d, cos.f32() + t * d, sin.f32() + t * d, d / 2);
}

}  // namespace

void CpuOps::rotary_table(Tensor positions, Tensor axis, Tensor frequency, Tensor cos, Tensor sin) {
  const int64_t tokens = positions.cols(), half = frequency.size();
  for_rows(tokens, 2 * half, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(positions.i32()[axis.i32()[i] * tokens + t]) * frequency.f32()[i];
        const int64_t at = t * 2 * half + i;
        cos.f32()[at] = cos.f32()[at + half] = static_cast<float>(std::cos(static_cast<double>(angle)));
        sin.f32()[at] = sin.f32()[at + half] = static_cast<float>(std::sin(static_cast<double>(angle)));
      }
  });
}

void CpuOps::rope(Tensor x, Tensor cos, Tensor sin) {
  for_rows(x.dim(0), x.dim(1) * x.dim(2), [&](int64_t begin, int64_t end) { rotate(x, cos, sin, false, begin, end); });
}

void CpuOps::rope_backward(Tensor dx, Tensor cos, Tensor sin) {
  for_rows(dx.dim(0), dx.dim(1) * dx.dim(2),
           [&](int64_t begin, int64_t end) { rotate(dx, cos, sin, true, begin, end); });
}

void CpuOps::norm_rope(Tensor x, Tensor w, float eps, Tensor cos, Tensor sin, Tensor y, Tensor rstd) {
  rms_norm(x, w, eps, y, rstd);
  rope(y, cos, sin);
}

void CpuOps::norm_rope_backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor cos, Tensor sin, Tensor dx) {
  if (dx.data() != dy.data()) copy(dy, dx);
  rope_backward(dx, cos, sin);
  rms_norm_backward(dx, x, w, rstd, {}, dx);
}

}  // namespace fire::cpu
