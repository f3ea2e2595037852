// oneDNN by dlopen: an optional library, never a link dependency.
#pragma once

#include <cstdint>
#include <string>

namespace fire::cpu {

/// The entry points used, with the prototypes that oneDNN 2.x and 3.x share.
struct OneDnn {
  bool available = false;
  /// "oneDNN 2.6.0 (libdnnl.so.2)", or what the loader said about each file tried.
  std::string detail;
  /// Row-major C[m,n] = alpha * op(A) op(B) + beta * C; returns 0 on success.
  int (*sgemm)(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
               const float* b, int64_t ldb, float beta, float* c, int64_t ldc) = nullptr;
  /// omp_set_num_threads of the OpenMP runtime oneDNN was built with; nullptr when it has none.
  void (*set_omp_threads)(int threads) = nullptr;

  /// Makes calls from this thread run on this thread only: the engine's own pool does the cutting.
  void single_thread() const;
};

/// Looks once: FIRE_ONEDNN_LIB if set (and then nothing else), else libdnnl.so.3, libdnnl.so.2.
const OneDnn& onednn();

}  // namespace fire::cpu
