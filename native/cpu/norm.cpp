// RMSNorm (Zhang & Sennrich 2019) with backward, LayerNorm forward. Statistics in f32 over SIMD lanes.
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/vector_math.h"

namespace fire::cpu {
namespace {

FIRE_CLONES void rms_norm_row(const float* x, const float* w, float eps, int64_t n, float* y, float* rstd) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  const float r = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) y[i] = w[i] * (x[i] * r);
  if (rstd) *rstd = r;
}

FIRE_CLONES void rms_norm_backward_row(const float* dy, const float* x, const float* w, float rstd, int64_t n,
                                       const float* residual, float* dx) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; ++i) dot += w[i] * dy[i] * x[i];
  const float c = dot * rstd * rstd / static_cast<float>(n);
  if (residual) {
    for (int64_t i = 0; i < n; ++i) dx[i] = residual[i] + rstd * (w[i] * dy[i] - x[i] * c);
  } else {
    for (int64_t i = 0; i < n; ++i) dx[i] = rstd * (w[i] * dy[i] - x[i] * c);
  }
}

FIRE_CLONES void layer_norm_row(const float* x, const float* w, const float* b, float eps, int64_t n, float* y) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  const float mean = sum / static_cast<float>(n);
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float r = 1.0f / std::sqrt(squares / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) y[i] = w[i] * ((x[i] - mean) * r) + b[i];
}

}  // namespace

void CpuOps::rms_norm(Tensor x, Tensor w, float eps, Tensor y, Tensor rstd) {
  const int64_t n = w.size(), rows = x.size() / n;
  const std::vector<float> weight = widen(w);
  for_rows(rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      rms_norm_row(x.f32() + i * n, weight.data(), eps, n, y.f32() + i * n, rstd ? rstd.f32() + i : nullptr);
  });
}

void CpuOps::rms_norm_backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor residual, Tensor dx) {
  const int64_t n = w.size(), rows = x.size() / n;
  const std::vector<float> weight = widen(w);
  for_rows(rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      rms_norm_backward_row(dy.f32() + i * n, x.f32() + i * n, weight.data(), rstd.f32()[i], n,
                            residual ? residual.f32() + i * n : nullptr, dx.f32() + i * n);
  });
}

void CpuOps::layer_norm(Tensor x, Tensor w, Tensor b, float eps, Tensor y) {
  const int64_t n = w.size(), rows = x.size() / n;
  const std::vector<float> weight = widen(w), bias = widen(b);
  for_rows(rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      layer_norm_row(x.f32() + i * n, weight.data(), bias.data(), eps, n, y.f32() + i * n);
  });
}

}  // namespace fire::cpu
