#include "cuda/gemm.cuh"

namespace fire::cuda {
template void launch_gemm<float>(const Gemm&, Stream);
}  // namespace fire::cuda
