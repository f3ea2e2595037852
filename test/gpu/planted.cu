// Faults on purpose: compute-sanitizer must find each of them before its "0 errors" on the real kernels means anything.
//
//   planted none|out-of-bounds|race|uninitialised|barrier
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

namespace {

constexpr int threads = 64;

__global__ void __launch_bounds__(threads) copy(const float* from, float* to) { to[threadIdx.x] = from[threadIdx.x]; }

__global__ void __launch_bounds__(threads) out_of_bounds(float* to) { to[threadIdx.x + 1] = 1; }

/// Every thread reads what a thread of the other warp writes, without a barrier between.
__global__ void __launch_bounds__(threads) race(const float* from, float* to) {
  __shared__ float shared[threads];
  shared[threadIdx.x] = from[threadIdx.x];
  to[threadIdx.x] = shared[threadIdx.x ^ 32];
}

/// One thread passes by the barrier that its warp waits at.
__global__ void __launch_bounds__(threads) barrier(float* to) {
  if (threadIdx.x != 0) __syncthreads();
  to[threadIdx.x] = 1;
}

bool failed(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return false;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(code));
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const char* const fault = argc == 2 ? argv[1] : "";
  const size_t bytes = threads * sizeof(float);
  float *from = nullptr, *to = nullptr;
  if (failed(cudaMalloc(&from, bytes), "cudaMalloc") || failed(cudaMalloc(&to, bytes), "cudaMalloc")) return 2;
  if (std::strcmp(fault, "uninitialised") != 0 && failed(cudaMemset(from, 0, bytes), "cudaMemset")) return 2;
  if (std::strcmp(fault, "none") == 0 || std::strcmp(fault, "uninitialised") == 0) {
    copy<<<1, threads>>>(from, to);
  } else if (std::strcmp(fault, "out-of-bounds") == 0) {
    out_of_bounds<<<1, threads>>>(to);
  } else if (std::strcmp(fault, "race") == 0) {
    race<<<1, threads>>>(from, to);
  } else if (std::strcmp(fault, "barrier") == 0) {
    barrier<<<1, threads>>>(to);
  } else {
    std::fprintf(stderr, "usage: planted none|out-of-bounds|race|uninitialised|barrier\n");
    return 2;
  }
  if (failed(cudaGetLastError(), "launch") || failed(cudaDeviceSynchronize(), "kernel")) return 1;
  if (failed(cudaFree(from), "cudaFree") || failed(cudaFree(to), "cudaFree")) return 1;
  std::printf("ran\n");
  return 0;
}
