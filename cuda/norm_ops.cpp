#include "cuda/checks.h"
#include "cuda/cuda_ops.h"
#include "cuda/norm.h"

namespace fire::cuda {
namespace {

/// Rows of `columns` elements in x; 0 when there are no columns.
int64_t rows_of(const Tensor& x, int64_t columns) { return columns == 0 ? 0 : x.size() / columns; }

}  // namespace

void CudaOps::rms_norm(Tensor x, Tensor w, float eps, Tensor y, Tensor rstd) {
  const int64_t columns = w.size(), rows = rows_of(x, columns);
  require(is_f32(w, columns) && rows * columns == x.size() && alike(x, y) && (!rstd || is_f32(rstd, rows)), "rms_norm",
          {x, w, y, rstd});
  launch_rms_norm(stream_, x.dtype(), x.data(), w.f32(), y.data(), f32_or_null(rstd), rows, columns, eps);
}

void CudaOps::rms_norm_backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor residual, Tensor dx) {
  const int64_t columns = w.size(), rows = rows_of(x, columns), size = rows * columns;
  require(is_f32(w, columns) && size == x.size() && dy.size() == size && is_f32(rstd, rows) && alike(x, dx) &&
              (!residual || alike(x, residual)),
          "rms_norm_backward", {dy, x, w, rstd, residual, dx});
  launch_rms_norm_backward(stream_, x.dtype(), dy.dtype(), dy.data(), x.data(), w.f32(), rstd.f32(), residual.data(),
                           dx.data(), rows, columns);
}

void CudaOps::layer_norm(Tensor x, Tensor w, Tensor b, float eps, Tensor y) {
  const int64_t columns = w.size(), rows = rows_of(x, columns);
  require(is_f32(w, columns) && is_f32(b, columns) && rows * columns == x.size() && alike(x, y), "layer_norm",
          {x, w, b, y});
  launch_layer_norm(stream_, x.dtype(), x.data(), w.f32(), b.f32(), y.data(), rows, columns, eps);
}

}  // namespace fire::cuda
