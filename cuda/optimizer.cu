// AdamW on gradients clipped by their global norm: one kernel sums the squares in parts, one adds up the parts (every
// block for itself, in the same order) and updates.
#include <algorithm>
#include <cmath>

#include "cuda/gpu.h"
#include "cuda/optimizer.h"
#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace fire::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = chunk_of<float>;
constexpr int64_t kBlockStride = int64_t{kThreads} * kChunk;

template <bool Vector>
__global__ void __launch_bounds__(kThreads)
    sum_of_squares_kernel(const float* __restrict__ grad, int64_t size, double* __restrict__ parts) {
  SHARED(double, scratch, kThreads / warp_size);
  double sum = 0;
#pragma unroll 4
  for (int64_t at = blockIdx.x * kBlockStride + static_cast<int64_t>(threadIdx.x) * kChunk; at < size;
       at += gridDim.x * kBlockStride) {
    const Chunk<float> x = load_chunk<Vector, kChunk>(grad + at, size - at);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  sum = block_sum<kThreads>(sum, scratch);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

struct Coefficients {
  float decay, one_minus_beta1, beta2, one_minus_beta2, step_size, inv_sqrt_bias2, eps;
  double max_grad_norm;
};

template <bool Vector>
__global__ void __launch_bounds__(kThreads)
    update_kernel(Coefficients c, float* __restrict__ param, const float* __restrict__ grad, float* __restrict__ m,
                  float* __restrict__ v, int64_t size, const double* __restrict__ parts, int part_count,
                  double* __restrict__ norm_out) {
  SHARED(double, scratch, kThreads / warp_size);
  double squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < part_count; i += kThreads) squares += parts[i];
  const double norm = sqrt(block_sum<kThreads>(squares, scratch));
  if (blockIdx.x == 0 && threadIdx.x == 0) *norm_out = norm;
  if (!(norm < INFINITY)) return;
  float grad_scale = 1;
  if (c.max_grad_norm > 0) grad_scale = static_cast<float>(fmin(1.0, c.max_grad_norm / (norm + 1e-6)));

  for (int64_t at = blockIdx.x * kBlockStride + static_cast<int64_t>(threadIdx.x) * kChunk; at < size;
       at += gridDim.x * kBlockStride) {
    const int64_t count = size - at;
    const Chunk<float> g = load_chunk<Vector, kChunk>(grad + at, count);
    const Chunk<float> m_old = load_chunk<Vector, kChunk>(m + at, count);
    const Chunk<float> v_old = load_chunk<Vector, kChunk>(v + at, count);
    const Chunk<float> p_old = load_chunk<Vector, kChunk>(param + at, count);
    float m_new[kChunk], v_new[kChunk], p_new[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const float scaled = g[i] * grad_scale;
      m_new[i] = m_old[i] + c.one_minus_beta1 * (scaled - m_old[i]);
      v_new[i] = c.beta2 * v_old[i] + c.one_minus_beta2 * scaled * scaled;
      p_new[i] = p_old[i] * c.decay - c.step_size * m_new[i] / (sqrtf(v_new[i]) * c.inv_sqrt_bias2 + c.eps);
    }
    store_chunk<Vector>(m + at, count, m_new);
    store_chunk<Vector>(v + at, count, v_new);
    store_chunk<Vector>(param + at, count, p_new);
  }
}

/// Differences from 1 are taken in float64: 1 - 0.999f is off by 5e-5.
Coefficients coefficients_of(const AdamW& s) {
  const double bias1 = 1 - std::pow(s.beta1, static_cast<double>(s.step));
  const double bias2 = 1 - std::pow(s.beta2, static_cast<double>(s.step));
  Coefficients c;
  c.decay = static_cast<float>(1 - s.lr * s.weight_decay);
  c.one_minus_beta1 = static_cast<float>(1 - s.beta1);
  c.beta2 = static_cast<float>(s.beta2);
  c.one_minus_beta2 = static_cast<float>(1 - s.beta2);
  c.step_size = static_cast<float>(s.lr / bias1);
  c.inv_sqrt_bias2 = static_cast<float>(1 / std::sqrt(bias2));
  c.eps = static_cast<float>(s.eps);
  c.max_grad_norm = s.max_grad_norm;
  return c;
}

}  // namespace

void launch_adamw(Stream stream, float* param, const float* grad, float* m, float* v, double* workspace, int64_t size,
                  const AdamW& settings) {
  const Coefficients c = coefficients_of(settings);
  const int64_t blocks = std::max<int64_t>(1, (size + kBlockStride - 1) / kBlockStride);
  const int parts = static_cast<int>(std::min<int64_t>(blocks, adamw_parts));
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>(blocks, 4096)));
  with_flag(aligned(param, grad, m, v), [&](auto vector) {
    constexpr bool wide = decltype(vector)::value;
    gpu::launch("gradient norm", dim3(static_cast<unsigned>(parts)), dim3(kThreads), 0, stream,
                sum_of_squares_kernel<wide>, grad, size, workspace);
    gpu::launch("adamw", grid, dim3(kThreads), 0, stream, update_kernel<wide>, c, param, grad, m, v, size, workspace,
                parts, workspace + adamw_parts);
  });
}

}  // namespace fire::cuda
