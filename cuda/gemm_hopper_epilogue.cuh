// What becomes of the sums of a tile on Hopper (gemm_hopper.cuh). An epilogue is a struct of values that the launch
// hands to the kernel; a consumer calls its `finish` once a tile, with all four of its warps.
#pragma once

#include "cuda/gemm.cuh"

namespace fire::cuda::detail {

/// Which tile of Y, of which product, over which part of k.
struct HopperPlace {
  int product, part, m0, n0;
  bool half;
};

/// The one of gemm.h: alpha, bias, residual, and Y as it is.
struct PlainEpilogue {
  /// Y of a warp's 16 rows, of which this thread has `row` and the eighth behind it. Sum i is in column
  /// 8 (i / 4) + 2 (lane % 4) + i % 2 of the tile, and in row `row` + 8 (i / 2 % 2).
  template <int N>
  __device__ void finish(const GemmArguments& args, const HopperPlace& place, const float (&acc)[N], int row) const {
    const GemmProduct& y = args.products[place.product];
    const int quad = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int first = 0; first < N; first += 16) {  // 32 columns
      const int col = place.n0 + 2 * first + 8 * quad, count = y.n - col;
      float bias[8];
      load_bias(bias, y, col, count);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float values[8];
#pragma unroll
        for (int i = 0; i < 8; ++i)  // rounded by itself, as where it passes through memory
          values[i] = __fmul_rn(y.alpha, acc[first + 4 * (i / 2) + 2 * half + i % 2]);
        gather_row(values);
        const int r = row + 8 * half;
        if (r < args.m_end && count > 0)
          finish_eight<bf16>(y, values, bias, int64_t{r - args.m_begin} * y.n + place.part * args.part_stride + col,
                             count);
      }
    }
  }
};

}  // namespace fire::cuda::detail
