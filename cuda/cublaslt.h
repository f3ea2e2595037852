// cuBLASLt by dlopen: an optional library, never a link or a header dependency.
//
// It is offered (gemm: 'cublaslt') and never chosen by itself. Left alone it picks its kernel and its split of K by
// shape, so a row's bits would depend on how many rows the batch has. So one algorithm is fixed a weight: the
// heuristic is asked once, for a fixed number of rows, K is not split, and every batch takes what it answered. Rows
// then keep their bits as far as one algorithm treats all rows alike, which NVIDIA does not promise
// (test/cuda/cublaslt_test.cpp says what a GPU does). Where the fixed algorithm does not take a number of rows, the
// product is refused and our own kernel computes it: those rows have other bits.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/runtime.h"
#include "tensor/dtype.h"

namespace fire::cuda {

/// The entry points used, with the prototypes that cuBLASLt 12 and 13 share. A status of 0 is success.
struct CublasLtLibrary {
  bool available = false;
  /// "cuBLASLt 13.1.1 (libcublasLt.so.13)", or what the loader said about each file tried.
  std::string detail;

  using Handle = void*;
  using Desc = void*;
  using Layout = void*;
  using Preference = void*;
  struct Algorithm {
    uint64_t data[8];
  };
  struct HeuristicResult {
    Algorithm algorithm;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
  };
  static_assert(sizeof(HeuristicResult) == 96, "the library's own layout");

  int (*create)(Handle* handle) = nullptr;
  int (*destroy)(Handle handle) = nullptr;
  int (*desc_create)(Desc* desc, int compute_type, int scale_type) = nullptr;
  int (*desc_destroy)(Desc desc) = nullptr;
  int (*desc_set)(Desc desc, int attribute, const void* value, size_t bytes) = nullptr;
  /// Column-major: `ld` elements lie between columns.
  int (*layout_create)(Layout* layout, int type, uint64_t rows, uint64_t cols, int64_t ld) = nullptr;
  int (*layout_destroy)(Layout layout) = nullptr;
  int (*preference_create)(Preference* preference) = nullptr;
  int (*preference_destroy)(Preference preference) = nullptr;
  int (*preference_set)(Preference preference, int attribute, const void* value, size_t bytes) = nullptr;
  int (*heuristic)(Handle handle, Desc desc, Layout a, Layout b, Layout c, Layout d, Preference preference, int wanted,
                   HeuristicResult* results, int* found) = nullptr;
  /// Whether the algorithm computes this product, and with what workspace.
  int (*algorithm_check)(Handle handle, Desc desc, Layout a, Layout b, Layout c, Layout d, const Algorithm* algorithm,
                         HeuristicResult* result) = nullptr;
  int (*algorithm_get)(const Algorithm* algorithm, int attribute, void* value, size_t bytes, size_t* written) = nullptr;
  /// D = alpha op(A) op(B) + beta C.
  int (*matmul)(Handle handle, Desc desc, const void* alpha, const void* a, Layout a_layout, const void* b,
                Layout b_layout, const void* beta, const void* c, Layout c_layout, void* d, Layout d_layout,
                const Algorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream) = nullptr;
};

/// Looks once: FIRE_CUBLASLT_LIB if set (and then nothing else), else libcublasLt.so.13, .so.12, .so.
const CublasLtLibrary& cublaslt();

/// Matrix products on the current device. Not thread-safe: all calls use one workspace, in the order of one stream.
class CublasLt {
 public:
  /// `library` must outlive this. Throws ERR_FIRE_UNSUPPORTED when it is not available.
  explicit CublasLt(const CublasLtLibrary& library);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  /// How B lies in memory: [N, K] for a product with its transpose, or [K, N].
  enum class Operand : uint8_t { transposed, plain };

  /// Row-major D[M,N] = A[M,K] op(B) + beta D; A and B bf16, D bf16 or f32, sums f32. The rows of all three are
  /// contiguous. False, and nothing done, when the library has no kernel for the shape, or the fixed one does not take
  /// so many rows.
  bool matmul(const bf16* a, const bf16* b, Operand layout, void* d, DType d_type, int64_t m, int64_t n, int64_t k,
              float beta, Stream stream);

 private:
  /// n, k, B's layout, D's type, and the alignments of A, B and D in bytes: what an algorithm is fixed for.
  using Weight = std::tuple<int64_t, int64_t, Operand, DType, uint32_t, uint32_t, uint32_t>;
  struct Fixed;
  struct Batch;
  std::unique_ptr<Fixed> fix(const Weight& weight);
  std::unique_ptr<Batch> batch(const Fixed& fixed, int64_t m);
  CublasLtLibrary::Layout layout(DType type, int64_t rows, int64_t cols) const;
  void succeed(int status, const char* call) const;

  const CublasLtLibrary& library_;
  CublasLtLibrary::Handle handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Weight, std::unique_ptr<Fixed>> fixed_;
};

}  // namespace fire::cuda
