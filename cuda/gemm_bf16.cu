#include "cuda/gemm.cuh"

namespace fire::cuda {
template void launch_gemm<bf16>(const Gemm&, Stream);
}  // namespace fire::cuda
