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

constexpr int threads = 256;
constexpr int64_t block_stride = int64_t{threads} * chunk_of<float>;

template <bool Vector>
__global__ void __launch_bounds__(threads)
    sum_of_squares_kernel(const float* __restrict__ grad, int64_t size, double* __restrict__ parts) {
  gpu::begin_kernel();
  SHARED(double, scratch, threads / warp_size);
  double sum = 0;
#pragma unroll 4
  for (int64_t at = blockIdx.x * block_stride + static_cast<int64_t>(threadIdx.x) * chunk_of<float>; at < size;
       at += gridDim.x * block_stride) {
    const Chunk<float> x = load_chunk<Vector, chunk_of<float>>(grad + at, size - at);
#pragma unroll
    for (int i = 0; i < chunk_of<float>; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  sum = block_sum<threads>(sum, scratch);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

template <bool Vector>
__global__ void __launch_bounds__(threads)
    update_kernel(AdamWCoefficients c, double max_grad_norm, float* __restrict__ param, bf16* __restrict__ rounded,
                  const float* __restrict__ grad, float* __restrict__ m, float* __restrict__ v, int64_t size,
                  const double* __restrict__ parts, int part_count, double* __restrict__ norm_out) {
  gpu::begin_kernel();
  SHARED(double, scratch, threads / warp_size);
  double squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < part_count; i += threads) squares += parts[i];
  const double norm = sqrt(block_sum<threads>(squares, scratch));
  if (blockIdx.x == 0 && threadIdx.x == 0) *norm_out = norm;
  if (!(norm < INFINITY)) return;
  float grad_scale = 1;
  if (max_grad_norm > 0) grad_scale = static_cast<float>(fmin(1.0, max_grad_norm / (norm + 1e-6)));

  for (int64_t at = blockIdx.x * block_stride + static_cast<int64_t>(threadIdx.x) * chunk_of<float>; at < size;
       at += gridDim.x * block_stride) {
    const int64_t count = size - at;
    const Chunk<float> g = load_chunk<Vector, chunk_of<float>>(grad + at, count);
    const Chunk<float> m_old = load_chunk<Vector, chunk_of<float>>(m + at, count);
    const Chunk<float> v_old = load_chunk<Vector, chunk_of<float>>(v + at, count);
    const Chunk<float> p_old = load_chunk<Vector, chunk_of<float>>(param + at, count);
    float m_new[chunk_of<float>], v_new[chunk_of<float>], p_new[chunk_of<float>];
#pragma unroll
    for (int i = 0; i < chunk_of<float>; ++i) {
      const float scaled = g[i] * grad_scale;
      m_new[i] = m_old[i] + c.one_minus_beta1 * (scaled - m_old[i]);
      v_new[i] = c.beta2 * v_old[i] + c.one_minus_beta2 * scaled * scaled;
      p_new[i] = p_old[i] * c.decay - c.step_size * m_new[i] / (sqrtf(v_new[i]) * c.inv_sqrt_bias2 + c.eps);
    }
    store_chunk<Vector>(m + at, count, m_new);
    store_chunk<Vector>(v + at, count, v_new);
    store_chunk<Vector>(param + at, count, p_new);
    if (rounded != nullptr) store_chunk<Vector>(rounded + at, count, p_new);
  }
}

}  // namespace

int norm_parts(int64_t size) {
  const int64_t blocks = std::max<int64_t>(1, (size + block_stride - 1) / block_stride);
  return static_cast<int>(std::min<int64_t>(blocks, most_norm_parts));
}

void launch_sum_of_squares(Stream stream, const float* x, int64_t size, double* parts) {
  with_flag(aligned(x), [&](auto vector) {
    gpu::launch("sum of squares", dim3(static_cast<unsigned>(norm_parts(size))), dim3(threads), 0, stream,
                sum_of_squares_kernel<decltype(vector)::value>, x, size, parts);
  });
}

void launch_adamw(Stream stream, float* param, bf16* rounded, const float* grad, float* m, float* v, double* workspace,
                  int64_t size, const AdamW& settings) {
  const int64_t blocks = std::max<int64_t>(1, (size + block_stride - 1) / block_stride);
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>(blocks, 4096)));
  launch_sum_of_squares(stream, grad, size, workspace);
  with_flag(aligned(param, rounded, grad, m, v), [&](auto vector) {
    gpu::launch("adamw", grid, dim3(threads), 0, stream, update_kernel<decltype(vector)::value>,
                AdamWCoefficients(settings), settings.max_grad_norm, param, rounded, grad, m, v, size, workspace,
                norm_parts(size), workspace + most_norm_parts);
  });
}

}  // namespace fire::cuda
