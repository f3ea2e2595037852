// The one matrix product of the GPU: all of ops.h's linear and LoRA operations are calls of it.
//
//   Y[m, n] = (alpha * (L + A B) + bias[n]) + residual[m, n],   L = low_scale * (mask *) A' B'
//
// Every element is summed over the rank of A' B' first and over k of A B then, both in rising order, 16 of k a tensor
// core step in bf16 (zeros fill the last one) and one fused multiply-add an element of k in f32. So an element depends
// on its row of A, its column of B, and k, bit for bit; m, n and the kernel variant that they choose make no
// difference.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#include "tensor/dtype.h"

namespace fire::cuda {

/// A dropout as products take it: bits[rows, words] of cuda/dropout.h. What is kept is multiplied by `keep` = 1 / (1 -
/// rate).
struct DropoutMask {
  const uint32_t* bits = nullptr;
  uint32_t rows = 0, words = 0;
  float keep = 1;
};

/// How the factors lie in memory (all row-major and contiguous).
enum class GemmForm : uint8_t {
  nt,  ///< A[m, k] B[n, k]^T: forward, W[out, in]
  nn,  ///< A[m, k] B[k, n]: backward to the input
  tn,  ///< A[k, m]^T B[k, n]: gradients of weights, k = tokens
};

/// A factor: f32, or bf16 where the activation type is. An f32 factor of a bf16 product is rounded to bf16 on its way.
/// With `dropped`, it is multiplied by the dropout mask of its place in memory (row, column) before that.
struct GemmFactor {
  const void* data = nullptr;
  DType type = DType::f32;
  bool dropped = false;
};

struct Gemm {
  GemmForm form = GemmForm::nt;
  int64_t m = 0, n = 0, k = 0;  ///< k may be 0
  GemmFactor a, b;
  float alpha = 1;

  /// A'[m, rank] and B', in memory as `form` says (nt or nn); rank 0 = none.
  int64_t rank = 0;
  GemmFactor low_a, low_b;
  float low_scale = 1;
  bool low_masked = false;  ///< the mask of (row, column) of Y falls on A' B'

  DropoutMask mask;

  const float* bias = nullptr;     ///< [n] or nullptr
  const void* residual = nullptr;  ///< [m, n] or nullptr; may be y
  DType residual_type = DType::f32;
  void* y = nullptr;
  DType y_type = DType::f32;
};

/// T is the activation type, float or bf16. Nothing happens where m or n is 0.
template <class T>
void launch_gemm(Stream stream, const Gemm& gemm);
extern template void launch_gemm<float>(Stream, const Gemm&);
extern template void launch_gemm<bf16>(Stream, const Gemm&);

inline void launch_gemm(Stream stream, DType type, const Gemm& gemm) {
  type == DType::bf16 ? launch_gemm<bf16>(stream, gemm) : launch_gemm<float>(stream, gemm);
}

}  // namespace fire::cuda
