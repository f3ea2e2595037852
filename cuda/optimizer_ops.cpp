#include <cmath>

#include "cuda/cuda_ops.h"
#include "cuda/optimizer.h"

namespace fire::cuda {

double CudaOps::adamw(const AdamW& settings, Tensor param, Tensor rounded, Tensor grad, Tensor m, Tensor v) {
  const int64_t size = param.size();
  if (grad.size() != size || m.size() != size || v.size() != size ||
      (rounded && (rounded.size() != size || rounded.dtype() != DType::bf16)))
    throw Error(Code::internal, "adamw of " + param.describe() + " with " + grad.describe());
  auto* const scratch = static_cast<double*>(workspace(adamw_workspace * sizeof(double)));
  launch_adamw(stream_, param.f32(), static_cast<bf16*>(rounded.data()), grad.f32(), m.f32(), v.f32(), scratch, size,
               settings);
  double norm;
  download(Tensor(scratch + most_norm_parts, DType::f64, {1}), &norm);
  return norm;
}

double CudaOps::norm(Tensor x) {
  const int parts = norm_parts(x.size());
  auto* const scratch = static_cast<double*>(workspace(adamw_workspace * sizeof(double)));
  launch_sum_of_squares(stream_, x.f32(), x.size(), scratch);
  std::vector<double> host(static_cast<size_t>(parts));
  download(Tensor(scratch, DType::f64, {parts}), host.data());
  double squares = 0;
  for (const double part : host) squares += part;
  return std::sqrt(squares);
}

}  // namespace fire::cuda
