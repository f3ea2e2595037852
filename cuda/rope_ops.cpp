#include "cuda/checks.h"
#include "cuda/cuda_ops.h"
#include "cuda/rope.h"

namespace fire::cuda {
namespace {

/// x[T, n, d] with cos and sin f32 [T, d].
bool are_heads(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  return x.rank() == 3 && x.dim(2) % 2 == 0 && is_f32(cos, x.dim(0) * x.dim(2)) && is_f32(sin, cos.size());
}

}  // namespace

void CudaOps::rotary_table(Tensor positions, Tensor axis, Tensor frequency, Tensor cos, Tensor sin) {
  const int64_t tokens = positions.cols(), half = axis.size();
  require(positions.rank() == 2 && is_f32(frequency, half) && is_f32(cos, tokens * 2 * half) && is_f32(sin, cos.size()),
          "rotary_table", {positions, axis, frequency, cos, sin});
  launch_rotary_table(stream_, positions.i32(), axis.i32(), frequency.f32(), cos.f32(), sin.f32(), tokens, half);
}

void CudaOps::rope(Tensor x, Tensor cos, Tensor sin) {
  require(are_heads(x, cos, sin), "rope", {x, cos, sin});
  launch_rope(stream_, x.dtype(), x.data(), cos.f32(), sin.f32(), x.dim(0), x.dim(1), x.dim(2), false);
}

void CudaOps::rope_backward(Tensor dx, Tensor cos, Tensor sin) {
  require(are_heads(dx, cos, sin), "rope_backward", {dx, cos, sin});
  launch_rope(stream_, dx.dtype(), dx.data(), cos.f32(), sin.f32(), dx.dim(0), dx.dim(1), dx.dim(2), true);
}

void CudaOps::norm_rope(Tensor x, Tensor w, float eps, Tensor cos, Tensor sin, Tensor y, Tensor rstd) {
  require(are_heads(x, cos, sin) && is_f32(w, x.dim(2)) && alike(x, y) && (!rstd || is_f32(rstd, x.dim(0) * x.dim(1))),
          "norm_rope", {x, w, cos, sin, y, rstd});
  launch_norm_rope(stream_, x.dtype(), x.data(), w.f32(), cos.f32(), sin.f32(), y.data(), f32_or_null(rstd), x.dim(0),
                   x.dim(1), x.dim(2), eps);
}

void CudaOps::norm_rope_backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor cos, Tensor sin, Tensor dx) {
  require(are_heads(x, cos, sin) && is_f32(w, x.dim(2)) && alike(x, dy) && alike(x, dx) &&
              is_f32(rstd, x.dim(0) * x.dim(1)),
          "norm_rope_backward", {dy, x, w, rstd, cos, sin, dx});
  launch_norm_rope_backward(stream_, x.dtype(), dy.data(), x.data(), w.f32(), rstd.f32(), cos.f32(), sin.f32(),
                            dx.data(), x.dim(0), x.dim(1), x.dim(2));
}

}  // namespace fire::cuda
