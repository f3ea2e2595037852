// Dropout masks on the device: the values of tensor/rng.h, so a mask is the CPU's bit for bit and is made again
// wherever it is needed instead of being stored.
#pragma once

#include "cuda/gemm.h"
#include "cuda/gpu.h"
#include "tensor/rng.h"

namespace fire::cuda {

/// Bit i: element (row, 4 * block + i) is kept.
__device__ inline unsigned kept(const DropoutMask& mask, uint32_t row, uint32_t block) {
  uint32_t c0 = block, c1 = row, c2 = mask.module << 4 | static_cast<uint32_t>(RngStream::dropout), c3 = mask.pass;
  uint32_t k0 = static_cast<uint32_t>(mask.seed), k1 = static_cast<uint32_t>(mask.seed >> 32);
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
  const auto bit = [&](uint32_t bits, unsigned value) {
    return static_cast<float>(bits >> 8) * 0x1p-24f < mask.rate ? 0u : value;
  };
  return bit(c0, 1) | bit(c1, 2) | bit(c2, 4) | bit(c3, 8);
}

}  // namespace fire::cuda
