// AdamW and the global norm it clips by.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/vector_math.h"

namespace fire::cpu {
namespace {

FIRE_CLONES double sum_of_squares_slice(const float* x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

FIRE_CLONES void adamw_slice(const AdamWCoefficients c, float grad_scale, float* p, const float* g, float* m, float* v,
                             int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float grad = g[i] * grad_scale;
    m[i] += c.one_minus_beta1 * (grad - m[i]);
    v[i] = c.beta2 * v[i] + c.one_minus_beta2 * grad * grad;
    p[i] = p[i] * c.decay - c.step_size * m[i] / (std::sqrt(v[i]) * c.inv_sqrt_bias2 + c.eps);
  }
}

}  // namespace

double CpuOps::norm(Tensor x) {
  constexpr int64_t grain = 65536;
  std::vector<double> partial(static_cast<size_t>((x.size() + grain - 1) / grain));
  for_slices(x.size(), grain, [&](int64_t begin, int64_t end) {
    partial[static_cast<size_t>(begin / grain)] = sum_of_squares_slice(x.f32() + begin, end - begin);
  });
  double squares = 0;
  for (const double p : partial) squares += p;
  return std::sqrt(squares);
}

double CpuOps::adamw(const AdamW& s, Tensor param, Tensor rounded, Tensor grad, Tensor m, Tensor v) {
  const int64_t size = param.size();
  if (rounded || grad.size() != size || m.size() != size || v.size() != size)
    throw Error(Code::internal, "adamw of " + param.describe() + " with " + grad.describe());
  const double norm = this->norm(grad);
  if (!std::isfinite(norm)) return norm;

  const AdamWCoefficients c(s);
  const float scale = s.max_grad_norm > 0 ? static_cast<float>(std::min(1.0, s.max_grad_norm / (norm + 1e-6))) : 1.0f;
  for_slices(size, 16384, [&](int64_t begin, int64_t end) {
    adamw_slice(c, scale, param.f32() + begin, grad.f32() + begin, m.f32() + begin, v.f32() + begin, end - begin);
  });
  return norm;
}

}  // namespace fire::cpu
