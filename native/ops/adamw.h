// AdamW's settings and what every device makes of them. C++17, as the kernels include it.
#pragma once

#include <cmath>
#include <cstdint>

namespace fire {

struct AdamW {
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;          // 1 for the first update
  double max_grad_norm;  // gradients are scaled by min(1, max_grad_norm / (norm + 1e-6)); 0 = no clipping
};

/// param = param * decay - step_size * m / (sqrt(v) * inv_sqrt_bias2 + eps).
struct AdamWCoefficients {
  float decay, one_minus_beta1, beta2, one_minus_beta2, step_size, inv_sqrt_bias2, eps;
};

/// Differences from 1 are taken in float64: 1 - 0.999f is off by 5e-5.
inline AdamWCoefficients coefficients_of(const AdamW& s) {
  const double bias1 = 1 - std::pow(s.beta1, static_cast<double>(s.step));
  const double bias2 = 1 - std::pow(s.beta2, static_cast<double>(s.step));
  return {static_cast<float>(1 - s.lr * s.weight_decay),
          static_cast<float>(1 - s.beta1),
          static_cast<float>(s.beta2),
          static_cast<float>(1 - s.beta2),
          static_cast<float>(s.lr / bias1),
          static_cast<float>(1 / std::sqrt(bias2)),
          static_cast<float>(s.eps)};
}

}  // namespace fire
