// Speed of the matrix product beside what this machine could do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace fire::cpu {

/// Y[m,n] = X[m,k] W[n,k]^T, the form of a linear layer.
struct GemmShape {
  int64_t m, n, k;
};

struct GemmBenchRow {
  int64_t m, n, k;
  /// Arithmetic.
  DType dtype;
  /// "native", "native, bf16 weights" or "onednn".
  std::string backend;
  /// Median over the rounds, 1e9 operations per second (2 m n k per product).
  double gflops;
  /// Register-only multiply-add ceiling of the same instruction set and threads, median over the same rounds.
  double ceiling;
};

/// Times every shape in each arithmetic and backend there is. Ceiling and products take turns, round after round, for
/// about `seconds` per shape (at least three rounds): on a shared machine a slow minute then hits all alike.
std::vector<GemmBenchRow> bench_gemm(int threads, double seconds, const std::vector<GemmShape>& shapes);

}  // namespace fire::cpu
