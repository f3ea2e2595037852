// RMSNorm in float64, for the operations that have one in them.
#pragma once

#include <cmath>

#include "ops/case.h"

namespace fire::test {

/// 1 / sqrt(mean(x^2) + eps) of every row of `columns`.
inline Doubles rstd_of(const Doubles& x, size_t columns, double eps) {
  Doubles rstd(columns == 0 ? 0 : x.size() / columns);
  for (size_t row = 0; row < rstd.size(); ++row) {
    double sum = 0;
    for (size_t i = 0; i < columns; ++i) sum += x[row * columns + i] * x[row * columns + i];
    rstd[row] = 1 / std::sqrt(sum / static_cast<double>(columns) + eps);
  }
  return rstd;
}

/// w * x * rstd.
inline Doubles normed(const Doubles& x, const Doubles& w, const Doubles& rstd) {
  Doubles y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = w[i % w.size()] * x[i] * rstd[i / w.size()];
  return y;
}

/// d(sum dy . rms_norm(x)) / dx in closed form.
inline Doubles norm_gradient(const Doubles& dy, const Doubles& x, const Doubles& w, double eps) {
  const size_t n = w.size();
  const Doubles rstd = rstd_of(x, n, eps);
  Doubles dx(x.size());
  for (size_t row = 0; row < rstd.size(); ++row) {
    double dot = 0;
    for (size_t i = 0; i < n; ++i) dot += w[i] * dy[row * n + i] * x[row * n + i];
    for (size_t i = row * n; i < (row + 1) * n; ++i)
      dx[i] = rstd[row] * (w[i - row * n] * dy[i] - x[i] * rstd[row] * rstd[row] * dot / static_cast<double>(n));
  }
  return dx;
}

/// The same by central differences of the definition: slow, and free of the algebra.
inline Doubles norm_slopes(const Doubles& dy, const Doubles& x, const Doubles& w, double eps) {
  const size_t n = w.size();
  const auto loss = [&](size_t row, size_t moved, double by) {
    double squares = 0, sum = 0;
    for (size_t i = 0; i < n; ++i) {
      const double v = x[row * n + i] + (i == moved ? by : 0);
      squares += v * v, sum += dy[row * n + i] * w[i] * v;
    }
    return sum / std::sqrt(squares / static_cast<double>(n) + eps);
  };
  const double h = 1e-4;
  Doubles dx(x.size());
  for (size_t i = 0; i < x.size(); ++i) dx[i] = (loss(i / n, i % n, h) - loss(i / n, i % n, -h)) / (2 * h);
  return dx;
}

/// dx by both ways, each plus `residual` (which may be empty). Rows of few columns can have a large rstd, which scales
/// everything: the tolerance goes by the largest element. Differences of h = 1e-4 are good to 2e-5.
inline std::vector<Expected> expected_gradient(const Doubles& dy, const Doubles& x, const Doubles& w, double eps,
                                               const Doubles& residual) {
  Doubles dx = norm_gradient(dy, x, w, eps);
  double largest = 1;
  for (const double v : dx) largest = std::max(largest, std::abs(v));
  for (size_t i = 0; i < residual.size(); ++i) dx[i] += residual[i];
  std::vector<Expected> all{{"dx", dx, {64 * u * largest}}};
  if (w.size() > 300 || x.size() > 20000) return all;
  Doubles slopes = norm_slopes(dy, x, w, eps);
  for (size_t i = 0; i < residual.size(); ++i) slopes[i] += residual[i];
  all.push_back({"dx", slopes, {2e-5 * largest}});
  return all;
}

}  // namespace fire::test
