// Dropout masks: the values of tensor/rng.h, so a mask is the CPU's bit for bit. Three products of a linear read a
// mask, some of them several times, and one draw costs more than all of these reads (README.md).
#include "cuda/dropout.h"
#include "cuda/gpu.h"
#include "cuda/vector.cuh"
#include "tensor/rng.h"

namespace fire::cuda {
namespace {

constexpr int threads = 256;

/// Bit i: element 4 * block + i of the row with this key is kept.
__device__ inline uint32_t draw(const Dropout& dropout, uint32_t key0, uint32_t key1, uint32_t block) {
  uint32_t c0 = block, c1 = key0, c2 = dropout.module << 4 | static_cast<uint32_t>(RngStream::dropout), c3 = key1;
  uint32_t k0 = static_cast<uint32_t>(dropout.seed), k1 = static_cast<uint32_t>(dropout.seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const auto bit = [&](uint32_t bits, uint32_t value) {
    return static_cast<float>(bits >> 8) * 0x1p-24f < dropout.rate ? 0u : value;
  };
  return bit(c0, 1) | bit(c1, 2) | bit(c2, 4) | bit(c3, 8);
}

__global__ void __launch_bounds__(threads)
    draw_mask_kernel(Dropout dropout, int64_t count, int64_t words, uint32_t* __restrict__ mask) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= count) return;
  const uint32_t* key = dropout.row_keys + 2 * (at / words);
  const uint32_t key0 = key[0], key1 = key[1], first = static_cast<uint32_t>(at % words) * 8;
  uint32_t bits = 0;
#pragma unroll 2
  for (uint32_t i = 0; i < 8; ++i) bits |= draw(dropout, key0, key1, first + i) << 4 * i;
  mask[at] = bits;
}

}  // namespace

void launch_draw_mask(Stream stream, const Dropout& dropout, int64_t rows, int64_t words, uint32_t* mask) {
  const int64_t count = rows * words;
  if (count == 0) return;
  gpu::launch("draw mask", dim3(blocks_for(count, threads)), dim3(threads), 0, stream, draw_mask_kernel, dropout, count,
              words, mask);
}

}  // namespace fire::cuda
