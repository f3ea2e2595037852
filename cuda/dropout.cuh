// How products read a stored dropout mask.
#pragma once

#include "cuda/gemm.h"
#include "cuda/gpu.h"

namespace fire::cuda {

/// Bit i: element (row, 4 * block + i) is kept. Outside the mask nothing is.
__device__ inline unsigned kept(const DropoutMask& mask, uint32_t row, uint32_t block) {
  if (row >= mask.rows || block >= 8 * mask.words) return 0;
  return mask.bits[int64_t{row} * mask.words + block / 8] >> block % 8 * 4 & 15;
}

}  // namespace fire::cuda
