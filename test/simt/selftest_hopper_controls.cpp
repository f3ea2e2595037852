// Correct kernels with what Hopper has: no report in any mode, and the same bits in all of them.
#include <cmath>

#include "cuda/hopper.cuh"
#include "simt/selftest.h"

namespace fire::simt::selftest {
namespace {

namespace ptx = cuda::ptx;
using cuda::Swizzle;
using cuda::TensorMap;

float random_float(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return float(uint32_t(state >> 33) % (1u << 20)) / float(1 << 19) - 1;
}

void fill(Array<bf16>& x, uint64_t seed) {
  for (size_t i = 0; i < x.size(); ++i) x[i] = to_bf16(random_float(seed));
}

// --- a persistent product, warp-specialised: TMA, wgmma, stores by TMA --------------------

constexpr int kTile = 64, kColumns = 96, kSlice = 64, kStages = 3;
constexpr int kLeftBytes = kTile * kSlice * 2, kRightBytes = kColumns * kSlice * 2;
constexpr int kStageBytes = kLeftBytes + kRightBytes;
constexpr int kOutBytes = kTile * 32 * 4;  // one of three boxes of 64 x 32

struct ProductArguments {
  TensorMap x, w, y;
  int rows, columns, depth;
};

// y[rows, columns] = x[rows, depth] w[columns, depth]^T. Warpgroup 0 loads, 1 and 2 have tiles in turn.
__global__ void __launch_bounds__(384, 1) product(const __grid_constant__ ProductArguments p) {
  DYNAMIC_SHARED(bytes);
  SHARED(uint64_t, full, kStages);
  SHARED(uint64_t, empty, kStages);
  unsigned char* const out = bytes + kStages * kStageBytes;
  const int thread = int(threadIdx.x), group = thread / 128;
  if (thread == 0) {
    for (int i = 0; i < kStages; ++i) {
      ptx::mbarrier_init(&full[i], 1);
      ptx::mbarrier_init(&empty[i], 2);
    }
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensor_map(&p.x);
  }
  __syncthreads();
  const int across = (p.columns + kColumns - 1) / kColumns, slices = (p.depth + kSlice - 1) / kSlice;
  const int tiles = (p.rows + 2 * kTile - 1) / (2 * kTile) * across;
  int step = 0;
  if (group == 0) {
    ptx::registers_shrink<40>();
    if (thread >= 32 || !ptx::elect_one()) return;
    for (int tile = int(blockIdx.x); tile < tiles; tile += int(gridDim.x))
      for (int slice = 0; slice < slices; ++slice) {
        // Both halves of x pass through the same places one after another, to keep shared memory small.
        for (int half = 0; half < 2; ++half, ++step) {
          const int stage = step % kStages;
          unsigned char* const to = bytes + stage * kStageBytes;
          ptx::mbarrier_wait(&empty[stage], unsigned(step / kStages + 1) & 1);
          ptx::mbarrier_arrive_expect(&full[stage], kStageBytes);
          ptx::tma_load_2d(to, &p.x, slice * kSlice, (tile / across * 2 + half) * kTile, &full[stage]);
          ptx::tma_load_2d(to + kLeftBytes, &p.w, slice * kSlice, tile % across * kColumns, &full[stage]);
        }
      }
    return;
  }
  ptx::registers_grow<232>();
  for (int tile = int(blockIdx.x); tile < tiles; tile += int(gridDim.x)) {
    float sums[kColumns / 2];
    for (float& sum : sums) sum = 0;
    for (int slice = 0; slice < slices; ++slice)
      for (int half = 0; half < 2; ++half, ++step) {
        const int stage = step % kStages;
        ptx::mbarrier_wait(&full[stage], unsigned(step / kStages) & 1);
        if (half == group - 1) {
          const unsigned char* const from = bytes + stage * kStageBytes;
          ptx::wgmma_fence();
          for (int k = 0; k < kSlice / 16; ++k)
            ptx::wgmma<kColumns>(sums, ptx::wgmma_descriptor(from + k * 32, 16, 1024, Swizzle::bytes_128),
                                 ptx::wgmma_descriptor(from + kLeftBytes + k * 32, 16, 1024, Swizzle::bytes_128), true);
          ptx::wgmma_commit();
          ptx::wgmma_wait<0>();
        }
        if (thread % 128 == 0) ptx::mbarrier_arrive(&empty[stage]);
      }
    // The block's two warpgroups share the place for results.
    if (group == 2) ptx::named_barrier_sync(3, 256);
    const int row = thread % 128 / 32 * 16 + thread % 32 / 4;
    for (int i = 0; i < kColumns / 2; ++i) {
      const int column = i / 4 * 8 + thread % 4 * 2 + i % 2, line = row + i / 2 % 2 * 8;
      const int piece = (column % 32 / 4) ^ (line % 8);
      *reinterpret_cast<float*>(out + column / 32 * kOutBytes + line * 128 + piece * 16 + column % 4 * 4) = sums[i];
    }
    ptx::fence_async_shared();
    ptx::named_barrier_sync(group, 128);
    if (thread % 128 == 0) {
      for (int box = 0; box < 3; ++box)
        ptx::tma_store_2d(&p.y, tile % across * kColumns + box * 32, (tile / across * 2 + group - 1) * kTile,
                          out + box * kOutBytes);
      ptx::tma_store_commit();
      ptx::tma_store_wait_read<0>();
    }
    ptx::named_barrier_sync(group, 128);
    if (group == 1) {
      ptx::named_barrier_sync(3, 256);
      ptx::named_barrier_sync(4, 256);
    } else {
      ptx::named_barrier_sync(4, 256);
    }
  }
}

Result persistent_product() {
  constexpr int rows = 300, columns = 200, depth = 152;
  Array<bf16> x(size_t{rows} * depth), w(size_t{columns} * depth);
  Array<float> y(size_t{rows} * columns);
  fill(x, 5);
  fill(w, 6);
  ProductArguments p{};
  p.x = cuda::encode_tensor_map({x.data(), DType::bf16, rows, depth, depth, kTile, kSlice, Swizzle::bytes_128});
  p.w = cuda::encode_tensor_map({w.data(), DType::bf16, columns, depth, depth, kColumns, kSlice, Swizzle::bytes_128});
  p.y = cuda::encode_tensor_map({y.data(), DType::f32, rows, columns, columns, kTile, 32, Swizzle::bytes_128});
  p.rows = rows;
  p.columns = columns;
  p.depth = depth;
  launch(4, 384, kStages * kStageBytes + 3 * kOutBytes, product, p);
  double difference = 0, size = 0;
  for (size_t m = 0; m < rows; ++m)
    for (size_t n = 0; n < columns; ++n) {
      double sum = 0;
      for (size_t k = 0; k < depth; ++k) sum += double(to_float(x[m * depth + k])) * to_float(w[n * depth + k]);
      difference += (y[m * columns + n] - sum) * (y[m * columns + n] - sum);
      size += sum * sum;
    }
  return {std::sqrt(difference / size) < 1e-6, y.bits()};
}

}  // namespace

const std::vector<Planted>& hopper_controls() {
  static const std::vector<Planted> all = {
      {"persistent_product", persistent_product},
  };
  return all;
}

}  // namespace fire::simt::selftest
