#include "cpu/vector_math.h"

namespace fire::cpu {

FIRE_CLONES float max_of(const float* z, int64_t n) {
  float max = -INFINITY;
#pragma omp simd reduction(max : max)
  for (int64_t i = 0; i < n; ++i) max = z[i] > max ? z[i] : max;
  return max;
}

/// Sixteen sums in turn, whatever the width of a vector: the instruction set changes no bit.
FIRE_CLONES double sum_of_exponentials(const float* z, float shift, int64_t n) {
  constexpr int64_t lanes = 16;
  double sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int64_t lane = 0; lane < lanes; ++lane) sums[lane] += static_cast<double>(exp_approx(z[i + lane] - shift));
  for (int64_t lane = 0; i + lane < n; ++lane) sums[lane] += static_cast<double>(exp_approx(z[i + lane] - shift));
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

}  // namespace fire::cpu
