// The preference loss over gathered rows: log-sum-exp, target log-probabilities, two-way token KL and the gradient,
// each one pass over the logits. Exponentials in f32, sums in f64: over 150k columns an f32 sum loses what a KL of
// 1e-5 consists of.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/vector_math.h"

namespace fire::cpu {
namespace {

FIRE_CLONES float log_sum_exp_row(const float* z, int64_t n) {
  float max = -INFINITY;
#pragma omp simd reduction(max : max)
  for (int64_t i = 0; i < n; ++i) max = z[i] > max ? z[i] : max;
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(exp_approx(z[i] - max));
  return static_cast<float>(max + std::log(sum));
}

/// forward = sum q (log q - log p), reverse = sum p (log p - log q). Each sum also takes (p - q), which totals 0 and
/// makes every term non-negative, so a small KL is not the difference of large numbers.
FIRE_CLONES void token_kl_row(const float* z, float lse, const float* zr, float lse_r, int64_t n, double* forward,
                              double* reverse) {
  double f = 0, r = 0;
#pragma omp simd reduction(+ : f, r)
  for (int64_t i = 0; i < n; ++i) {
    const float log_p = z[i] - lse, log_q = zr[i] - lse_r;
    const float p = exp_approx(log_p), q = exp_approx(log_q), gap = log_p - log_q;
    f += static_cast<double>(p - q - q * gap);
    r += static_cast<double>(q - p + p * gap);
  }
  *forward = f;
  *reverse = r;
}

FIRE_CLONES void rank_gradient_row(float* z, float lse, float mass, int64_t n) {
  for (int64_t i = 0; i < n; ++i) z[i] = -mass * exp_approx(z[i] - lse);
}

FIRE_CLONES void kl_gradient_row(float* z, float lse, const float* zr, float lse_r, float mass, float forward,
                                 float reverse, float reverse_kl, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float log_p = z[i] - lse, log_q = zr[i] - lse_r;
    const float p = exp_approx(log_p), q = exp_approx(log_q);
    z[i] = -mass * p + forward * (p - q) + reverse * (p * (log_p - log_q - reverse_kl));
  }
}

}  // namespace

void CpuOps::log_sum_exp(Tensor z, Tensor lse) {
  const int64_t n = z.cols();
  for_slices(z.rows(), 1, [&](int64_t row, int64_t) { lse.f32()[row] = log_sum_exp_row(z.f32() + row * n, n); });
}

std::vector<double> CpuOps::target_logprobs(Tensor z, Tensor lse, std::span<const RowTarget> targets) {
  std::vector<double> logprobs;
  logprobs.reserve(targets.size());
  for (const RowTarget& t : targets)
    logprobs.push_back(static_cast<double>(z.f32()[t.row * z.cols() + t.target]) - lse.f32()[t.row]);
  return logprobs;
}

void CpuOps::token_kl(Tensor z, Tensor lse, Tensor zr, Tensor lse_r, std::span<const int32_t> rows,
                      std::vector<double>& forward, std::vector<double>& reverse) {
  const int64_t n = z.cols();
  forward.assign(rows.size(), 0);
  reverse.assign(rows.size(), 0);
  for_slices(static_cast<int64_t>(rows.size()), 1, [&](int64_t i, int64_t) {
    const int32_t row = rows[static_cast<size_t>(i)];
    token_kl_row(z.f32() + row * n, lse.f32()[row], zr.f32() + i * n, lse_r.f32()[i], n,
                 &forward[static_cast<size_t>(i)], &reverse[static_cast<size_t>(i)]);
  });
}

void CpuOps::preference_backward(Tensor z, Tensor lse, Tensor zr, Tensor lse_r, std::span<const int32_t> kl_rows,
                                 std::span<const double> reverse_kl_values, const RowGradient& gradient,
                                 std::span<const RowTarget> targets, std::span<const float> coefficients) {
  const int64_t n = z.cols();
  std::vector<int32_t> reference_row(static_cast<size_t>(z.rows()), -1);
  for (size_t i = 0; i < kl_rows.size(); ++i) reference_row[static_cast<size_t>(kl_rows[i])] = static_cast<int32_t>(i);
  for_slices(z.rows(), 1, [&](int64_t row, int64_t) {
    const size_t p = static_cast<size_t>(row);
    float* out = z.f32() + row * n;
    const float row_lse = lse.f32()[row];
    if (reference_row[p] < 0) {
      rank_gradient_row(out, row_lse, gradient.mass[p], n);
      return;
    }
    const int32_t r = reference_row[p];
    kl_gradient_row(out, row_lse, zr.f32() + r * n, lse_r.f32()[r], gradient.mass[p], gradient.forward_kl[p],
                    gradient.reverse_kl[p], static_cast<float>(reverse_kl_values[static_cast<size_t>(r)]), n);
  });
  for (size_t i = 0; i < targets.size(); ++i) z.f32()[targets[i].row * n + targets[i].target] += coefficients[i];
}

}  // namespace fire::cpu
