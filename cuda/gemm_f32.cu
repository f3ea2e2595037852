#include "cuda/gemm_launch.cuh"

namespace fire::cuda {
template void launch_gemm<float>(Stream, const GemmDevice&, const Gemm*, int, GemmJoin);
}  // namespace fire::cuda
