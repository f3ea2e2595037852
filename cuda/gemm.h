// The one matrix product of the GPU: all of ops.h's linear and LoRA operations are calls of it.
//
//   Y[m, n] = (alpha * (L + A B) + bias[n]) + residual[m, n],   L = low_scale * (mask *) A' B'
//
// Every element is summed over the rank of A' B' first and over k of A B then, both in rising order, 16 of k a tensor
// core step in bf16 (zeros fill the last one) and one fused multiply-add an element of k in f32. A long k is cut into
// chunks (`gemm_chunk`): each is summed for itself, the first behind A' B', and a second kernel adds the parts in
// rising order. Where they are cut depends on k alone in nt and nn. So an element depends on its row of A, its column
// of B, and k, bit for bit; m, n and the kernel variant that they choose make no difference. In tn, where k are tokens,
// it depends on the shape m, n, k: the same on every GPU.
#pragma once

#include <algorithm>
#include <cstddef>
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

/// The length of the chunks of k; k where there is one.
inline int64_t gemm_chunk(const Gemm& gemm) {
  // Only a vocabulary is this long: parts of anything that all rows go through would cost more than they bring.
  constexpr int64_t long_sum = 32768, long_chunk = 16384;
  if (gemm.form != GemmForm::tn) return gemm.k > long_sum ? long_chunk : gemm.k;
  // Gradients of adapters have one short side. Two blocks for each multiprocessor of an H100, but no chunk so short
  // that its part costs more than its sum.
  constexpr int64_t wanted = 264, least = 512, slice = 64;
  const int64_t tiles = ((gemm.m + 127) / 128) * ((gemm.n + 127) / 128);
  const int64_t parts = std::min(wanted / std::max<int64_t>(tiles, 1), gemm.k / least);
  if (parts <= 1) return gemm.k;
  return ((gemm.k + parts - 1) / parts + slice - 1) / slice * slice;
}

/// What a product may use. It makes no difference to what it computes.
struct GemmDevice {
  size_t shared_bytes = 0;     ///< of a multiprocessor
  float* workspace = nullptr;  ///< for products in parts, of as many rows at a time as it holds
  size_t workspace_bytes = 0;
};

/// T is the activation type, float or bf16. Nothing happens where m or n is 0.
template <class T>
void launch_gemm(Stream stream, const GemmDevice& device, const Gemm& gemm);
extern template void launch_gemm<float>(Stream, const GemmDevice&, const Gemm&);
extern template void launch_gemm<bf16>(Stream, const GemmDevice&, const Gemm&);

inline void launch_gemm(Stream stream, const GemmDevice& device, DType type, const Gemm& gemm) {
  type == DType::bf16 ? launch_gemm<bf16>(stream, device, gemm) : launch_gemm<float>(stream, device, gemm);
}

}  // namespace fire::cuda
