// The matrix product of the CPU engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/gemm_kernels.h"
#include "cpu/thread_pool.h"
#include "tensor/dtype.h"

namespace fire::cpu {

struct OneDnn;

/// Which code computes products. `automatic` is native: see Gemm.
enum class Backend : uint8_t { automatic, native, onednn };

class PackedMatrix;

/// A part of a packed matrix: row `row` and column `col` are its first.
struct PackedPart {
  const PackedMatrix* matrix = nullptr;
  int64_t row = 0, col = 0;
};

/// A matrix in place: element (i, j) is at data[i * row_stride + j * col_stride]. A transposed view swaps the strides.
/// Reading is fastest when one of the strides is 1.
struct Operand {
  const void* data;
  DType dtype;  ///< f32 or bf16.
  int64_t row_stride;
  int64_t col_stride;
  /// The same numbers as `Gemm::pack` left them; may be empty. Used where this is B and the part begins on a panel.
  PackedPart packed = {};
};

/// Uninitialised memory aligned to a cache line that only grows.
class PackBuffer {
 public:
  /// At least `bytes` bytes; what an earlier call returned is no longer valid.
  void* reserve(size_t bytes);

 private:
  struct Free {
    void operator()(void* data) const;
  };
  std::unique_ptr<void, Free> data_;
  size_t size_ = 0;
};

/// B of products, packed once instead of in every product: the panels of all columns over the first block of K, then
/// those over the second, and so on. Belongs to the kernels of the Gemm that made it.
class PackedMatrix {
 public:
  size_t bytes() const { return bytes_; }

 private:
  friend class Gemm;
  PackedMatrix(const KernelSet& kernels, int64_t k, int64_t n);
  /// Whether a product over `k` rows of `part` finds its panels whole and in its own blocks of K.
  bool covers(const PackedPart& part, int64_t k) const;
  /// The panel of column `col` over the block of K that begins at row `k`; that of the next columns follows it.
  char* panel(int64_t k, int64_t col) const;

  const KernelSet& kernels_;
  int64_t k_, n_;
  size_t bytes_;
  PackBuffer buffer_;
  char* panels_;
};

/// C[M,N] = alpha * A[M,K] * B[K,N] + beta * C, with C f32 and row-major (row stride ldc).
///
/// Native products are deterministic and local: C(i,j) depends bit for bit only on row i of A, column j of B, alpha,
/// beta and the old C(i,j). M, N, the number of threads, `serial` or not, and the tile an element falls in make no
/// difference. K is summed in fixed blocks of kBlockK, each by one chain of multiply-adds from zero (fused where the
/// instruction set has that), added to C in ascending order.
///
/// beta = 0 never reads C. alpha = 0 or K = 0 never reads A and B.
///
/// `automatic` chooses native although oneDNN may be present: oneDNN picks its kernel and its split of K by shape, so a
/// row of a batch may differ from the same row alone. Nor is it faster: on one Zen 4 core, CPU time, X W^T in f32,
/// oneDNN 2.6's sgemm reached 72 / 87 / 89 % of the multiply-add ceiling at 128x1024x1024 / 1024x1024x1024 /
/// 1024x2560x2560, native 81 / 87 / 89 %. Backend::onednn gives up that promise for f32 operands (not the independence
/// of threads: its tiles are fixed); what it does not take (bf16 operands or arithmetic, strides it has no name for,
/// sides under 64) stays native.
class Gemm {
 public:
  /// `pool` must outlive this. Throws Error unsupported for Backend::onednn when the library cannot be loaded, and
  /// invalid_argument for a bad FIRE_CPU_ISA.
  Gemm(ThreadPool& pool, Precision precision, Backend backend);
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  /// In parallel over the pool; call it from one thread at a time.
  void operator()(int64_t m, int64_t n, int64_t k, float alpha, Operand a, Operand b, float beta, float* c,
                  int64_t ldc);

  /// For calls from inside a parallel_for body: runs on this thread with the pack buffers of `worker`.
  void serial(int worker, int64_t m, int64_t n, int64_t k, float alpha, Operand a, Operand b, float beta, float* c,
              int64_t ldc);

  /// Packs B[K,N], in parallel over the pool. Products with it have the same bits as without.
  PackedMatrix pack(int64_t k, int64_t n, const Operand& b);

  /// For instance "avx512-f32".
  const char* kernel_name() const { return kernels_.name; }
  /// "native" or "onednn".
  const char* backend_name() const { return onednn_ ? "onednn" : "native"; }

  /// Length of the blocks of K; part of the definition of the result.
  static constexpr int64_t kBlockK = 512;

 private:
  struct Problem;
  struct Worker {
    PackBuffer a;
    PackBuffer b;
  };

  void pack_a(const Problem& p, int64_t row, int64_t rows, int64_t k, int64_t depth, void* panels) const;
  void pack_b(const PackSource& source, int64_t cols, int64_t depth, char* panels) const;
  const char* panels_of_b(const Problem& p, int worker, int64_t col, int64_t cols, int64_t k, int64_t depth);
  const char* panels_behind(const Problem& p, int64_t col, int64_t cols, int64_t k, int64_t depth) const;
  void multiply_block(const Problem& p, int worker, int64_t row, int64_t rows, int64_t col, int64_t cols, int64_t k,
                      int64_t depth, const void* a_panels);
  void multiply_band(const Problem& p, int64_t row, int64_t rows);
  bool try_onednn(const Problem& p);

  ThreadPool& pool_;
  const KernelSet& kernels_;
  const OneDnn* onednn_ = nullptr;
  Precision precision_;
  /// Packed A of the product in progress, shared by the workers.
  PackBuffer shared_a_;
  std::vector<Worker> workers_;
};

}  // namespace fire::cpu
