// Correct kernels: no report in any mode, and the same bits in all of them.
#include <algorithm>
#include <cmath>

#include "simt/selftest.h"

namespace fire::simt::selftest {
namespace {

constexpr unsigned all_lanes = 0xffffffffu;
namespace ptx = cuda::ptx;

uint32_t random_bits(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return uint32_t(state >> 33);
}

/// Uniform in [-1, 1).
float random_float(uint64_t& state) { return float(random_bits(state) % (1u << 20)) / float(1 << 19) - 1; }

// --- atomics, barriers, three dimensions --------------------

__global__ void __launch_bounds__(96)
    count(const int* x, int n, int* histogram, unsigned long long* sum, int* largest) {
  SHARED(int, bins, 16);
  const int t = int(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
  const int threads = int(blockDim.x * blockDim.y * blockDim.z);
  if (t < 16) bins[t] = 0;
  __syncthreads();
  const int block = int(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
  const int i = block * threads + t;
  if (i < n) {
    atomicAdd(&bins[x[i] % 16], 1);
    atomicAdd(sum, static_cast<unsigned long long>(x[i]));
    atomicMax(largest, x[i]);
  }
  __syncthreads();
  if (t < 16) atomicAdd(&histogram[t], bins[t]);
}

Result atomics() {
  constexpr int n = 1000;
  Array<int> x(n), histogram(16), largest(1);
  Array<unsigned long long> sum(1);
  int expected[16] = {}, most = 0;
  unsigned long long total = 0;
  uint64_t state = 7;
  for (int i = 0; i < 16; ++i) histogram[size_t(i)] = 0;
  sum[0] = 0;
  largest[0] = 0;
  for (int i = 0; i < n; ++i) {
    const int value = int(random_bits(state) % 5000);
    x[size_t(i)] = value;
    ++expected[value % 16];
    total += static_cast<unsigned long long>(value);
    most = std::max(most, value);
  }
  launch(dim3(3, 2, 2), dim3(8, 4, 3), 0, count, static_cast<const int*>(x.data()), n, histogram.data(), sum.data(),
         largest.data());
  bool right = sum[0] == total && largest[0] == most;
  for (int i = 0; i < 16; ++i) right = right && histogram[size_t(i)] == expected[i];
  return {right, histogram.bits()};
}

// --- warps --------------------

__global__ void collectives(unsigned* y) {
  const unsigned lane = threadIdx.x % 32;
  const int v = int(lane * 37 % 32) - 16;
  unsigned* out = y + threadIdx.x * 16;
  out[0] = unsigned(__shfl_sync(all_lanes, v, 5));
  out[1] = unsigned(__shfl_sync(all_lanes, v, int(lane) + 1, 8));
  out[2] = unsigned(__shfl_up_sync(all_lanes, v, 3));
  out[3] = unsigned(__shfl_up_sync(all_lanes, v, 3, 8));
  out[4] = unsigned(__shfl_down_sync(all_lanes, v, 3, 16));
  out[5] = unsigned(__shfl_xor_sync(all_lanes, v, 9));
  out[6] = unsigned(__shfl_xor_sync(all_lanes, v, 9, 8));
  out[7] = __ballot_sync(all_lanes, v > 0);
  out[8] = unsigned(__any_sync(all_lanes, v == 3)) + 2 * unsigned(__all_sync(all_lanes, v >= -16));
  out[9] = unsigned(__reduce_add_sync(all_lanes, v));
  out[10] = unsigned(__reduce_min_sync(all_lanes, v));
  out[11] = __reduce_max_sync(all_lanes, unsigned(v));
  out[12] = __reduce_xor_sync(all_lanes, unsigned(v) * 3u);
  out[13] = 0;
  if (lane < 8) out[13] = unsigned(__reduce_add_sync(0xffu, int(lane)));
  out[14] = unsigned(__shfl_xor_sync(all_lanes, double(v) / 3, 1) * 3000);
  out[15] = lane % 2 == 0 ? unsigned(__shfl_down_sync(0x55555555u, v, 2)) : __ballot_sync(0xaaaaaaaau, lane > 8);
}

Result warp_collectives() {
  Array<unsigned> y(64 * 16);
  launch(1, 64, 0, collectives, y.data());
  const auto v = [](int lane) { return lane * 37 % 32 - 16; };
  unsigned positive = 0, exclusive = 0, largest = 0;
  int sum = 0;
  for (int l = 0; l < 32; ++l) {
    positive |= unsigned(v(l) > 0) << l;
    exclusive ^= unsigned(v(l)) * 3u;
    largest = std::max(largest, unsigned(v(l)));
    sum += v(l);
  }
  bool right = true;
  for (int t = 0; t < 64; ++t) {
    const int l = t % 32;
    // As the CUDA programming guide says: out of the segment gives the lane's own value.
    const int up = l - 3, down = l + 3, exchange = l ^ 9;
    const unsigned expected[16] = {
        unsigned(v(5)),
        unsigned(v(l / 8 * 8 + (l + 1) % 8)),
        unsigned(v(up < 0 ? l : up)),
        unsigned(v(up < l / 8 * 8 ? l : up)),
        unsigned(v(down >= l / 16 * 16 + 16 ? l : down)),
        unsigned(v(exchange)),
        unsigned(v(exchange >= l / 8 * 8 + 8 ? l : exchange)),
        positive,
        3,
        unsigned(sum),
        unsigned(-16),
        largest,
        exclusive,
        l < 8 ? 28u : 0u,
        unsigned(double(v(l ^ 1)) / 3 * 3000),
        l % 2 == 0 ? unsigned(v(l + 2 < 32 ? l + 2 : l)) : 0xaaaaaa00u,
    };
    for (int i = 0; i < 16; ++i) right = right && y[size_t(t * 16 + i)] == expected[i];
  }
  return {right, y.bits()};
}

// Threads that leave early are fine where no collective names them.
__global__ void leave_early(float* y, int n) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  y[i] = __uint_as_float(__float_as_uint(float(i)) ^ 0x80000000u);
}

Result early_exit() {
  Array<float> y(100);
  launch(4, 32, 0, leave_early, y.data(), 100);
  bool right = true;
  for (int i = 0; i < 100; ++i) right = right && y[size_t(i)] == -float(i);
  return {right, y.bits()};
}

// --- online softmax, a warp for each row --------------------

__global__ void __launch_bounds__(128) softmax(const float* x, float* y, int rows, int columns) {
  const int row = int(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32), lane = int(threadIdx.x % 32);
  if (row >= rows) return;
  x += int64_t{row} * columns;
  y += int64_t{row} * columns;
  float most = -INFINITY, sum = 0;
  for (int i = lane; i < columns; i += 32) {
    const float larger = fmaxf(most, x[i]);
    sum = sum * expf(most - larger) + expf(x[i] - larger);
    most = larger;
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other_most = __shfl_xor_sync(all_lanes, most, distance);
    const float other_sum = __shfl_xor_sync(all_lanes, sum, distance);
    const float larger = fmaxf(most, other_most);
    if (larger > -INFINITY) sum = sum * expf(most - larger) + other_sum * expf(other_most - larger);
    most = larger;
  }
  for (int i = lane; i < columns; i += 32) y[i] = expf(x[i] - most) / sum;
}

Result online_softmax() {
  constexpr int rows = 6, columns = 333;
  Array<float> x(rows * columns), y(rows * columns);
  uint64_t state = 3;
  for (size_t i = 0; i < x.size(); ++i) x[i] = 20 * random_float(state);
  launch(2, 128, 0, softmax, static_cast<const float*>(x.data()), y.data(), rows, columns);
  double worst = 0;
  for (size_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (size_t i = 0; i < columns; ++i) sum += std::exp(double(x[row * columns + i]));
    for (size_t i = 0; i < columns; ++i) {
      const double expected = std::exp(double(x[row * columns + i])) / sum;
      worst = std::max(worst, std::abs(y[row * columns + i] - expected) / expected);
    }
  }
  return {worst < 1e-5, y.bits()};  // f32: a few roundings on numbers of magnitude 40 in the exponent
}

// --- tensor core: by the layout of the PTX manual, without ldmatrix --------------------

__global__ void one_mma(const bf16* a, const bf16* b, float* d) {
  const int g = int(threadIdx.x) / 4, t = int(threadIdx.x) % 4 * 2;
  const auto pair = [](bf16 low, bf16 high) { return uint32_t{low.bits} | uint32_t{high.bits} << 16; };
  uint32_t fragment[4];
  for (int i = 0; i < 4; ++i) {
    const bf16* p = a + (g + i % 2 * 8) * 16 + t + i / 2 * 8;
    fragment[i] = pair(p[0], p[1]);
  }
  const uint32_t b0 = pair(b[t * 8 + g], b[(t + 1) * 8 + g]), b1 = pair(b[(t + 8) * 8 + g], b[(t + 9) * 8 + g]);
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = d[(g + i / 2 * 8) * 8 + t + i % 2];
  ptx::mma_bf16(sums, fragment, b0, b1);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + t + i % 2] = sums[i];
}

Result mma_layout() {
  Array<bf16> a(16 * 16), b(16 * 8);
  Array<float> d(16 * 8);
  uint64_t state = 11;
  for (size_t i = 0; i < a.size(); ++i) a[i] = to_bf16(random_float(state));
  for (size_t i = 0; i < b.size(); ++i) b[i] = to_bf16(random_float(state));
  std::vector<double> expected(16 * 8);
  for (size_t m = 0; m < 16; ++m)
    for (size_t n = 0; n < 8; ++n) {
      d[m * 8 + n] = random_float(state);
      expected[m * 8 + n] = d[m * 8 + n];
      for (size_t k = 0; k < 16; ++k) expected[m * 8 + n] += double(to_float(a[m * 16 + k])) * to_float(b[k * 8 + n]);
    }
  launch(1, 32, 0, one_mma, static_cast<const bf16*>(a.data()), static_cast<const bf16*>(b.data()), d.data());
  double worst = 0;
  for (size_t i = 0; i < d.size(); ++i) worst = std::max(worst, std::abs(d[i] - expected[i]));
  return {worst < 4e-6, d.bits()};  // 17 additions of magnitude up to 4, each off by at most 2^-24 of it
}

__global__ void load_matrices(const uint16_t* x, uint32_t* straight, uint32_t* transposed) {
  SHARED(uint4, s, 32);
  const unsigned lane = threadIdx.x;
  s[lane] = reinterpret_cast<const uint4*>(x)[lane];
  __syncwarp();
  uint32_t r[4];
  ptx::ldmatrix_x4(r, &s[lane]);
  for (unsigned i = 0; i < 4; ++i) straight[lane * 4 + i] = r[i];
  ptx::ldmatrix_x4_trans(r, &s[lane]);
  for (unsigned i = 0; i < 4; ++i) transposed[lane * 4 + i] = r[i];
}

Result ldmatrix_layout() {
  Array<uint16_t> x(256);
  Array<uint32_t> straight(128), transposed(128);
  for (size_t i = 0; i < 256; ++i) x[i] = uint16_t(i);
  launch(1, 32, 0, load_matrices, static_cast<const uint16_t*>(x.data()), straight.data(), transposed.data());
  bool right = true;
  for (size_t lane = 0; lane < 32; ++lane)
    for (size_t i = 0; i < 4; ++i) {
      const auto element = [&](size_t row, size_t column) { return uint32_t(i * 64 + row * 8 + column); };
      const size_t row = lane / 4, column = lane % 4 * 2;
      right = right && straight[lane * 4 + i] == (element(row, column) | element(row, column + 1) << 16);
      right = right && transposed[lane * 4 + i] == (element(column, row) | element(column + 1, row) << 16);
    }
  return {right, straight.bits() ^ transposed.bits()};
}

// --- matrix product: three cp.async stages, ldmatrix, mma --------------------

// y[M, N] = x[M, K] w[N, K]^T in tiles of 32 x 16 x 16, two warps. K is a multiple of 8.
__global__ void __launch_bounds__(64) product(const bf16* x, const bf16* w, float* y, int M, int N, int K) {
  constexpr int stages = 3, row_bytes = 48;  // 32 of them used: no bank conflicts
  constexpr int stage_bytes = (32 + 16) * row_bytes;
  DYNAMIC_SHARED(tiles);
  const int t = int(threadIdx.x), lane = t % 32, warp = t / 32;
  const int first_row = int(blockIdx.y) * 32, first_column = int(blockIdx.x) * 16;
  const int steps = (K + 15) / 16;
  const auto load = [&](int step) {
    unsigned char* const tile = tiles + step % stages * stage_bytes;
    for (int i = t; i < 48 * 2; i += 64) {
      const int row = i / 2, k = step * 16 + i % 2 * 8;
      const bool of_x = row < 32;
      const int at = of_x ? first_row + row : first_column + row - 32;
      const bool valid = k < K && at < (of_x ? M : N);
      ptx::cp_async_16(tile + row * row_bytes + i % 2 * 16, valid ? (of_x ? x : w) + int64_t{at} * K + k : x, valid);
    }
  };
  for (int step = 0; step < stages - 1; ++step) {
    if (step < steps) load(step);
    ptx::cp_async_commit();
  }
  float sums[2][4] = {};
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<stages - 2>();
    __syncthreads();  // this step's tile is there, and nobody reads the one that is refilled now
    if (step + stages - 1 < steps) load(step + stages - 1);
    ptx::cp_async_commit();
    const unsigned char* const tile = tiles + step % stages * stage_bytes;
    uint32_t a[4], b[4];
    ptx::ldmatrix_x4(a, tile + (warp * 16 + lane % 16) * row_bytes + lane / 16 * 16);
    ptx::ldmatrix_x4(b, tile + (32 + lane % 8 + lane / 16 * 8) * row_bytes + lane / 8 % 2 * 16);
    ptx::mma_bf16(sums[0], a, b[0], b[1]);
    ptx::mma_bf16(sums[1], a, b[2], b[3]);
  }
  ptx::cp_async_wait<0>();
  for (int half = 0; half < 2; ++half)
    for (int i = 0; i < 4; ++i) {
      const int row = first_row + warp * 16 + lane / 4 + i / 2 * 8;
      const int column = first_column + half * 8 + lane % 4 * 2 + i % 2;
      if (row < M && column < N) y[int64_t{row} * N + column] = sums[half][i];
    }
}

Result pipelined_product() {
  constexpr int M = 50, N = 27, K = 88;
  Array<bf16> x(size_t{M} * K), w(size_t{N} * K);
  Array<float> y(size_t{M} * N);
  uint64_t state = 5;
  for (size_t i = 0; i < x.size(); ++i) x[i] = to_bf16(random_float(state));
  for (size_t i = 0; i < w.size(); ++i) w[i] = to_bf16(random_float(state));
  launch(dim3((N + 15) / 16, (M + 31) / 32), 64, 3 * 48 * 48, product, static_cast<const bf16*>(x.data()),
         static_cast<const bf16*>(w.data()), y.data(), M, N, K);
  double difference = 0, size = 0;
  for (size_t m = 0; m < M; ++m)
    for (size_t n = 0; n < N; ++n) {
      double sum = 0;
      for (size_t k = 0; k < K; ++k) sum += double(to_float(x[m * K + k])) * to_float(w[n * K + k]);
      difference += (y[m * N + n] - sum) * (y[m * N + n] - sum);
      size += sum * sum;
    }
  return {std::sqrt(difference / size) < 1e-6, y.bits()};
}

// --- two launches that hand memory on --------------------

__global__ void put(float* x) { x[blockIdx.x * blockDim.x + threadIdx.x] = float(threadIdx.x + 100 * blockIdx.x); }
__global__ void mirror(const float* x, float* y, int n) {
  SHARED(float, s, 32);
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  s[threadIdx.x] = x[n - 1 - i];
  __syncthreads();
  y[i] = s[31 - threadIdx.x];
}

Result launches_in_order() {
  constexpr int blocks = 9, n = blocks * 32;
  Array<float> x(n), y(n);
  bool right = true;
  for (int round = 0; round < 2; ++round) {
    launch(blocks, 32, 0, put, x.data());
    launch(blocks, 32, 0, mirror, static_cast<const float*>(x.data()), y.data(), n);
    for (int i = 0; i < n; ++i) right = right && y[size_t(i)] == float(i % 32 + 100 * (blocks - 1 - i / 32));
  }
  return {right, y.bits()};
}

// A block as large as it can be: as many fibers as there are.
__global__ void __launch_bounds__(1024) largest(float* y) {
  SHARED(float, s, 1024);
  for (int round = 0; round < 2; ++round) {
    s[threadIdx.x] = float(threadIdx.x) + float(round);
    __syncthreads();
    y[blockIdx.x * 1024 + threadIdx.x] = s[1023 - threadIdx.x];
    __syncthreads();
  }
}

Result largest_block() {
  Array<float> y(2048);
  launch(2, 1024, 0, largest, y.data());
  return {y[0] == 1024 && y[1023] == 1 && y[1024] == 1024 && y[2047] == 1, y.bits()};
}

}  // namespace

const std::vector<Planted>& controls() {
  static const std::vector<Planted> all = {
      {"atomics", atomics},
      {"warp_collectives", warp_collectives},
      {"early_exit", early_exit},
      {"online_softmax", online_softmax},
      {"mma_layout", mma_layout},
      {"ldmatrix_layout", ldmatrix_layout},
      {"pipelined_product", pipelined_product},
      {"launches_in_order", launches_in_order},
      {"largest_block", largest_block},
  };
  return all;
}

}  // namespace fire::simt::selftest
