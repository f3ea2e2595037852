// Kernels for every instruction of cuda/hopper.cuh and cuda/wgmma.cuh, products of 8 columns only: what is compiled for each
// mutant of these headers.
#include "test/gpu/hopper_wrappers.cuh"
#include "test/ptx/relay.cuh"

namespace fire::cuda::wrappers {

#define PRODUCT(...) template __global__ void product_kernel<__VA_ARGS__>(const __grid_constant__ ProductArguments)
#define ALL_PRODUCTS(n)            \
  PRODUCT(n, false, false, false); \
  PRODUCT(n, false, true, false);  \
  PRODUCT(n, true, false, false);  \
  PRODUCT(n, true, true, false);   \
  PRODUCT(n, false, false, true);  \
  PRODUCT(n, false, true, true)
ALL_PRODUCTS(8);

}  // namespace fire::cuda::wrappers
