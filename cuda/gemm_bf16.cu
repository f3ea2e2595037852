#include "cuda/gemm.cuh"

namespace fire::cuda {
template void launch_gemm<bf16>(Stream, const GemmDevice&, const Gemm&);
}  // namespace fire::cuda
