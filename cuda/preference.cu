// The preference loss over gathered rows.
//
// Statistics: a block owns one row and one slice of the vocabulary and keeps the slice's logits, policy and reference,
// in registers (16 + 16 a thread). One read of memory therefore gives the maximum first and the exponentials after it:
// no running maximum, no rescaling, and the same arithmetic as on a CPU. Exponentials are f32, sums f64: with two loads
// a column the kernel waits for memory, and the f64 adds of an A100 or H100 fit into that wait.
//
// Targets are few next to the logits. They are picked up, and their coefficients added, by small kernels of one thread
// a target rather than by every block searching the list.
#include "cuda/gpu.h"
#include "cuda/preference.h"
#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace fire::cuda {
namespace {

// --- statistics --------------------------------------------------------------------------------------------------

constexpr int threads = 512;
constexpr int warps = threads / warp_size;
constexpr int chunks = static_cast<int>(vocabulary_slice) / (threads * chunk_of<float>);  // of a thread
constexpr int columns_each = chunks * chunk_of<float>;
constexpr int statistics_each = 6;

/// The thread's columns of a slice; -inf, which has no mass, in place of those behind its end.
template <bool Vector>
__device__ inline void load_columns(const float* slice, int columns, float (&x)[columns_each]) {
#pragma unroll
  for (int c = 0; c < chunks; ++c) {
    const int at = (c * threads + static_cast<int>(threadIdx.x)) * chunk_of<float>;
    const Chunk<float> chunk = load_chunk<Vector, chunk_of<float>>(slice + at, columns - at);
#pragma unroll
    for (int i = 0; i < chunk_of<float>; ++i) x[c * chunk_of<float> + i] = at + i < columns ? chunk[i] : -INFINITY;
  }
}

/// A NaN loses: it shows in the sum.
__device__ inline float slice_max(const float (&x)[columns_each], float* scratch) {
  float max = -INFINITY;
#pragma unroll
  for (int i = 0; i < columns_each; ++i) max = fmaxf(max, x[i]);
  return block_max<threads>(max, scratch);
}

/// What exponents are taken relative to: a slice of nothing but -inf has sum 0, not NaN.
__device__ inline float shift_of(float max) { return max == -INFINITY ? 0.0f : max; }

/// The N sums over the block; thread k of the first N returns sum k.
template <int N>
__device__ inline double sum_each(double (&values)[N], double* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    values[k] = warp_sum(values[k]);
    if (lane == 0) scratch[k * warps + warp] = values[k];
  }
  __syncthreads();
  double sum = 0;
  if (threadIdx.x < N)
    for (int w = 0; w < warps; ++w) sum += scratch[threadIdx.x * warps + w];
  return sum;
}

template <bool Reference, bool Vector>
__global__ void __launch_bounds__(threads, 2)
    statistics_kernel(const float* __restrict__ z, const float* __restrict__ zr, int64_t columns, int slices_here,
                      int64_t slices, int64_t first_slice, double* __restrict__ statistics) {
  gpu::begin_kernel();
  SHARED(float, maxima, warps);
  SHARED(double, sums, 4 * warps);
  const int64_t row = blockIdx.x / slices_here;
  const int slice = static_cast<int>(blockIdx.x) % slices_here;
  const int64_t begin = slice * vocabulary_slice;
  const int count = static_cast<int>(columns - begin < vocabulary_slice ? columns - begin : vocabulary_slice);
  double* const out = statistics + (row * slices + first_slice + slice) * statistics_each;

  float x[columns_each], y[columns_each];
  load_columns<Vector>(z + row * columns + begin, count, x);
  if constexpr (Reference) load_columns<Vector>(zr + row * columns + begin, count, y);

  const float max_p = slice_max(x, maxima), shift_p = shift_of(max_p);
  if constexpr (!Reference) {
    double sum[1] = {0};
#pragma unroll
    for (int i = 0; i < columns_each; ++i) sum[0] += static_cast<double>(expf(x[i] - shift_p));
    const double total = sum_each(sum, sums);
    if (threadIdx.x == 0) out[0] = static_cast<double>(max_p), out[1] = total;
  } else {
    const float max_q = slice_max(y, maxima), shift_q = shift_of(max_q);
    double sum[4] = {0, 0, 0, 0};  // sum_p, cross_p, sum_q, cross_q
#pragma unroll
    for (int i = 0; i < columns_each; ++i) {
      const double p = static_cast<double>(expf(x[i] - shift_p)), q = static_cast<double>(expf(y[i] - shift_q));
      // In f64: logits differ by as much as 1e4 or as little as 1e-6. A token without mass adds nothing: 0 * inf is 0.
      const double gap = static_cast<double>(x[i]) - static_cast<double>(y[i]);
      sum[0] += p;
      sum[1] += p == 0 ? 0.0 : p * gap;
      sum[2] += q;
      sum[3] -= q == 0 ? 0.0 : q * gap;
    }
    const double total = sum_each(sum, sums);
    const int k = static_cast<int>(threadIdx.x);
    if (k < 4) out[k + 1 + k / 2] = total;
    if (k == 0) out[0] = static_cast<double>(max_p), out[3] = static_cast<double>(max_q);
  }
}

__global__ void __launch_bounds__(256)
    gather_targets_kernel(const float* __restrict__ z, const float* __restrict__ zr, int64_t columns,
                          int64_t first_column, const int32_t* __restrict__ targets, int64_t count,
                          float* __restrict__ target_logits) {
  gpu::begin_kernel();
  const int64_t k = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (k >= count) return;
  const int64_t row = targets[2 * k], column = targets[2 * k + 1] - first_column;
  if (column < 0 || column >= columns) return;
  target_logits[k] = z[row * columns + column];
  if (zr != nullptr) target_logits[count + k] = zr[row * columns + column];
}

// --- backward --------------------------------------------------------------------------------------------------

constexpr int backward_threads = 256;
constexpr int backward_chunks = 4;
constexpr int64_t backward_tile = int64_t{backward_threads} * backward_chunks * chunk_of<float>;

/// A RowGradient of ops.h.
struct RowWeights {
  float lse, reference_lse, mass, forward_kl, reverse_kl, reverse_value;
};

template <bool Vector>
__global__ void __launch_bounds__(backward_threads)
    backward_kernel(float* __restrict__ z, const float* __restrict__ zr, int64_t columns, int tiles,
                    const float* __restrict__ gradients) {
  gpu::begin_kernel();
  const int64_t row = blockIdx.x / tiles;
  const int64_t begin = blockIdx.x % tiles * backward_tile + static_cast<int64_t>(threadIdx.x) * chunk_of<float>;
  const float* const weights = gradients + row * 6;
  const RowWeights g{weights[0], weights[1], weights[2], weights[3], weights[4], weights[5]};
  const bool has_kl = g.forward_kl != 0 || g.reverse_kl != 0;
  float* const own = z + row * columns;

  // All loads first: they are what the kernel waits for.
  Chunk<float> policy[backward_chunks], reference[backward_chunks];
#pragma unroll
  for (int c = 0; c < backward_chunks; ++c) {
    const int64_t at = begin + static_cast<int64_t>(c) * backward_threads * chunk_of<float>;
    policy[c] = load_chunk<Vector, chunk_of<float>>(own + at, columns - at);
    reference[c] = {};
    if (has_kl) reference[c] = load_chunk<Vector, chunk_of<float>>(zr + row * columns + at, columns - at);
  }
#pragma unroll
  for (int c = 0; c < backward_chunks; ++c) {
    const int64_t at = begin + static_cast<int64_t>(c) * backward_threads * chunk_of<float>;
    float dz[chunk_of<float>];
#pragma unroll
    for (int i = 0; i < chunk_of<float>; ++i) {
      const float log_p = policy[c][i] - g.lse, p = expf(log_p);
      dz[i] = -g.mass * p;
      if (has_kl) {
        const float log_q = reference[c][i] - g.reference_lse, q = expf(log_q);
        const float reverse = p == 0 ? 0.0f : p * (log_p - log_q - g.reverse_value);
        dz[i] += g.forward_kl * (p - q) + g.reverse_kl * reverse;
      }
    }
    store_chunk<Vector>(own + at, columns - at, dz);
  }
}

/// The thread of the first of several targets that share an element adds for all of them.
__global__ void __launch_bounds__(256)
    add_targets_kernel(float* __restrict__ z, int64_t columns, int64_t first_column,
                       const int32_t* __restrict__ targets, const float* __restrict__ coefficients, int64_t count) {
  gpu::begin_kernel();
  const int64_t k = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (k >= count) return;
  const int32_t row = targets[2 * k], token = targets[2 * k + 1];
  const int64_t column = token - first_column;
  if (column < 0 || column >= columns) return;
  float value = 0;
#pragma unroll 8
  for (int64_t j = 0; j < count; ++j) {
    if (targets[2 * j] != row || targets[2 * j + 1] != token) continue;
    if (j < k) return;
    if (j == k) value = z[row * columns + column];  // not before: only this thread may touch the element
    value += coefficients[j];
  }
  z[row * columns + column] = value;
}

/// Every row begins on 16 bytes and ends with a whole access.
bool vectors_fit(const float* z, const float* zr, int64_t columns) {
  return aligned(z, zr) && columns % chunk_of<float> == 0;
}

}  // namespace

void launch_preference_statistics(Stream stream, const PreferenceLogits& s, const float* z, const float* zr,
                                  double* statistics, float* target_logits, int64_t slices) {
  const int64_t here = vocabulary_slices(s.columns);
  const dim3 grid(blocks_for(s.rows * here, 1));
  with_flag(zr != nullptr, [&](auto reference) {
    with_flag(vectors_fit(z, zr, s.columns), [&](auto vector) {
      gpu::launch("preference statistics", grid, dim3(threads), 0, stream,
                  statistics_kernel<decltype(reference)::value, decltype(vector)::value>, z, zr, s.columns,
                  static_cast<int>(here), slices, s.first_column / vocabulary_slice, statistics);
    });
  });
  gpu::launch("preference targets", dim3(blocks_for(s.target_count, 256)), dim3(256), 0, stream, gather_targets_kernel,
              z, zr, s.columns, s.first_column, s.targets, s.target_count, target_logits);
}

void launch_preference_backward(Stream stream, const PreferenceLogits& s, float* z, const float* zr,
                                const float* gradients, const float* coefficients) {
  const int64_t tiles = (s.columns + backward_tile - 1) / backward_tile;
  with_flag(vectors_fit(z, zr, s.columns), [&](auto vector) {
    gpu::launch("preference backward", dim3(blocks_for(s.rows * tiles, 1)), dim3(backward_threads), 0, stream,
                backward_kernel<decltype(vector)::value>, z, zr, s.columns, static_cast<int>(tiles), gradients);
  });
  gpu::launch("preference targets backward", dim3(blocks_for(s.target_count, 256)), dim3(256), 0, stream,
              add_targets_kernel, z, s.columns, s.first_column, s.targets, coefficients, s.target_count);
}

}  // namespace fire::cuda
