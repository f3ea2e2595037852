#include "cuda/gemm.cuh"

namespace fire::cuda {
template void launch_gemm<float>(Stream, const GemmDevice&, const Gemm&);
}  // namespace fire::cuda
