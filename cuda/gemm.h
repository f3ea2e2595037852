// The one matrix product of the GPU: all of ops.h's linear and LoRA operations are calls of it.
//
//   Y[m, n] = (alpha * (L + A B) + bias[n]) + residual[m, n],   L = low_scale * (mask *) A' B'
//
// Every element is summed over the rank of A' B' first and over k of A B then, both in rising order, 16 of k a tensor
// core step in bf16 (zeros fill the last one) and one fused multiply-add an element of k in f32. A long k is cut into
// chunks (`gemm_chunk`): each is summed for itself, the first behind A' B', and a second kernel adds the parts in
// rising order. Where they are cut depends on k alone in nt and nn. So an element depends on its row of A, its column
// of B, and k, bit for bit; m, n and the kernel variant that they choose make no difference. In tn, where k are tokens,
// it depends on the shape m, n, k: the same on every GPU. Several products can be one launch, side by side or as the
// terms of one sum (`GemmJoin`). gemm_gated.h has products that end in SwiGLU.
//
// Hopper has tensor cores of two kinds. bf16 products whose factors TMA can fetch, of any m, take a kernel on the newer
// kind (gemm_hopper.h): all factors bf16, rows of whole 16 bytes. In products without A' B' one factor may be dropped,
// A in nt or B in tn; and in nn A may be f32, which is then rounded beforehand. The two kinds need not round alike, so
// there the promise holds among products that are laid out alike; those of a model always are.
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
  // Gradients of adapters have one short side. Two tiles for each multiprocessor of an H100 (at once, or with Hopper's
  // own kernel one after the other), but no chunk so short that its part costs more than its sum.
  constexpr int64_t wanted = 264, least = 512, slice = 64;
  const int64_t tiles = ((gemm.m + 127) / 128) * ((gemm.n + 127) / 128);
  const int64_t parts = std::min(wanted / std::max<int64_t>(tiles, 1), gemm.k / least);
  if (parts <= 1) return gemm.k;
  return ((gemm.k + parts - 1) / parts + slice - 1) / slice * slice;
}

/// A sum that is computed in parts; such a product is launched by itself.
inline bool gemm_in_parts(const Gemm& gemm) { return gemm_chunk(gemm) < gemm.k; }

/// What a product may use. It makes no difference to what it computes.
struct GemmDevice {
  size_t shared_bytes = 0;     ///< of a multiprocessor
  float* workspace = nullptr;  ///< for parts and for what is rounded beforehand, as much at a time as it holds
  size_t workspace_bytes = 0;
  bool hopper = false;  ///< bf16 products whose factors TMA can fetch take the kernel of gemm_hopper.h
  int multiprocessors = 1;
};

/// The most products of one launch.
constexpr int gemm_most = 3;

/// What they are to each other.
enum class GemmJoin : uint8_t {
  beside,  ///< nothing: an element has the bits that it has in a launch of its own
  summed,  ///< terms of one Y: A' B' of all, then A B of all, in their order; the first says everything else
};

/// Whether rows of so many elements are whole pieces of 16 bytes.
inline bool in_pieces(const GemmFactor& factor, int64_t cols) {
  const int64_t bytes = cols * static_cast<int64_t>(size_of(factor.type));
  return reinterpret_cast<uintptr_t>(factor.data) % 16 == 0 && bytes % 16 == 0;
}

/// Whether one launch takes these products. In nt they share A, as linears that read the same x do; in nn they have as
/// many columns, as linears back to it do.
inline bool gemm_joins(const Gemm* gemms, int count, GemmJoin join) {
  if (count == 1) return true;
  const Gemm& first = *gemms;
  const bool nt = first.form == GemmForm::nt, nn = first.form == GemmForm::nn, summed = join == GemmJoin::summed;
  const auto alike = [](const GemmFactor& f, const GemmFactor& g) {
    return f.type == g.type && f.dropped == g.dropped;
  };
  // Kernels with tensor cores of different kinds need not give the same bits, and whose rows are in pieces chooses.
  const auto pieces = [nt](const Gemm& g) {
    return in_pieces(g.a, g.k) && in_pieces(g.b, nt ? g.k : g.n) &&
           (g.rank == 0 || (in_pieces(g.low_a, g.rank) && in_pieces(g.low_b, nt ? g.rank : g.n)));
  };
  const Gemm* low = nullptr;
  bool joins = count <= gemm_most && (summed ? nn : nt || nn);
  for (int i = 0; i < count; ++i) {
    const Gemm& g = gemms[i];
    joins &= g.form == first.form && g.m == first.m && !gemm_in_parts(g) && alike(g.a, first.a) && alike(g.b, first.b);
    joins &= nt ? g.a.data == first.a.data && g.k == first.k : g.n == first.n;
    joins &= summed || pieces(g) == pieces(first);
    if (g.rank == 0) continue;
    if (low == nullptr) low = &g;
    joins &= alike(g.low_a, low->low_a) && alike(g.low_b, low->low_b);
    // Of several masks none could fall on the accumulators; and in nn low-rank products are looked up by term.
    joins &= !g.low_masked && (nt || (summed && g.low_scale == first.low_scale));
  }
  return joins;
}

/// T is the activation type, float or bf16. Nothing happens where m or n is 0.
template <class T>
void launch_gemm(Stream stream, const GemmDevice& device, const Gemm* gemms, int count, GemmJoin join);
extern template void launch_gemm<float>(Stream, const GemmDevice&, const Gemm*, int, GemmJoin);
extern template void launch_gemm<bf16>(Stream, const GemmDevice&, const Gemm*, int, GemmJoin);

inline void launch_gemm(Stream stream, const GemmDevice& device, DType type, const Gemm* gemms, int count,
                        GemmJoin join) {
  type == DType::bf16 ? launch_gemm<bf16>(stream, device, gemms, count, join)
                      : launch_gemm<float>(stream, device, gemms, count, join);
}

}  // namespace fire::cuda
