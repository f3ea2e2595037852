// The preference loss over gathered rows: one pass per slice of the vocabulary for log-sum-exp and two-way token KL,
// one for the gradient. Exponentials in f32, sums in f64: over 150k columns an f32 sum loses what a KL of 1e-5 consists
// of.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/vector_math.h"

namespace fire::cpu {
namespace {

/// Logits differ by as much as 1e4 or as little as 1e-6: their difference is taken in f64. 0 * inf counts as 0: a token
/// that has no mass adds nothing.
FIRE_CLONES void sums_of_both(const float* z, float shift, const float* zr, float shift_r, int64_t n,
                              SliceStatistics* out) {
  double sum_p = 0, cross_p = 0, sum_q = 0, cross_q = 0;
#pragma omp simd reduction(+ : sum_p, cross_p, sum_q, cross_q)
  for (int64_t i = 0; i < n; ++i) {
    const double p = static_cast<double>(exp_approx(z[i] - shift)),
                 q = static_cast<double>(exp_approx(zr[i] - shift_r));
    const double gap = static_cast<double>(z[i]) - static_cast<double>(zr[i]);
    sum_p += p;
    sum_q += q;
    cross_p += p == 0 ? 0.0 : p * gap;
    cross_q -= q == 0 ? 0.0 : q * gap;
  }
  out->sum_p = sum_p, out->cross_p = cross_p;
  out->sum_q = sum_q, out->cross_q = cross_q;
}

FIRE_CLONES void rank_gradient_row(float* z, const RowGradient g, int64_t n) {
  for (int64_t i = 0; i < n; ++i) z[i] = -g.mass * exp_approx(z[i] - g.lse);
}

FIRE_CLONES void kl_gradient_row(float* z, const float* zr, const RowGradient g, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float log_p = z[i] - g.lse, log_q = zr[i] - g.reference_lse;
    const float p = exp_approx(log_p), q = exp_approx(log_q);
    const float reverse = p == 0 ? 0.0f : p * (log_p - log_q - g.reverse_value);
    z[i] = -g.mass * p + g.forward_kl * (p - q) + g.reverse_kl * reverse;
  }
}

}  // namespace

void CpuOps::preference_statistics(Tensor z, Tensor zr, int64_t first_column, Tensor targets, Tensor statistics,
                                   Tensor target_logits) {
  const int64_t columns = z.cols(), slices = vocabulary_slices(columns);
  const int64_t first_slice = first_column / vocabulary_slice, all_slices = statistics.dim(1);
  auto* const out = static_cast<SliceStatistics*>(statistics.data());
  for_slices(z.rows() * slices, 1, [&](int64_t task, int64_t) {
    const int64_t row = task / slices, slice = task % slices, begin = slice * vocabulary_slice;
    const int64_t n = std::min(vocabulary_slice, columns - begin);
    const float* p = z.f32() + row * columns + begin;
    SliceStatistics& s = out[row * all_slices + first_slice + slice];
    const float max_p = max_of(p, n);
    s.max_p = static_cast<double>(max_p);
    if (!zr) {
      s.sum_p = sum_of_exponentials(p, shift_of(max_p), n);
      return;
    }
    const float* q = zr.f32() + row * columns + begin;
    const float max_q = max_of(q, n);
    s.max_q = static_cast<double>(max_q);
    sums_of_both(p, shift_of(max_p), q, shift_of(max_q), n, &s);
  });

  const int64_t count = targets.dim(0);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t row = targets.i32()[2 * k], column = targets.i32()[2 * k + 1] - first_column;
    if (column < 0 || column >= columns) continue;
    target_logits.f32()[k] = z.f32()[row * columns + column];
    if (zr) target_logits.f32()[count + k] = zr.f32()[row * columns + column];
  }
}

void CpuOps::preference_backward(Tensor z, Tensor zr, int64_t first_column, Tensor rows, Tensor targets,
                                 Tensor coefficients) {
  const int64_t columns = z.cols();
  const auto* const gradients = static_cast<const RowGradient*>(rows.data());
  for_slices(z.rows(), 1, [&](int64_t row, int64_t) {
    const RowGradient& g = gradients[row];
    float* out = z.f32() + row * columns;
    if (g.forward_kl == 0 && g.reverse_kl == 0) {
      rank_gradient_row(out, g, columns);
    } else {
      kl_gradient_row(out, zr.f32() + row * columns, g, columns);
    }
  });
  for (int64_t k = 0; k < targets.dim(0); ++k) {
    const int64_t row = targets.i32()[2 * k], column = targets.i32()[2 * k + 1] - first_column;
    if (column >= 0 && column < columns) z.f32()[row * columns + column] += coefficients.f32()[k];
  }
}

}  // namespace fire::cpu
