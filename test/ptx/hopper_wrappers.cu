// The kernels of test/gpu/hopper_wrappers.cuh in the shapes that test/simt/selftest_hopper_controls.cpp asks for.
#include "test/gpu/hopper_wrappers.cuh"

namespace fire::cuda::wrappers {

#define PRODUCTS(n)                                                          \
  template __global__ void product_kernel<n, false, false, false>(const __grid_constant__ ProductArguments); \
  template __global__ void product_kernel<n, false, true, false>(const __grid_constant__ ProductArguments);  \
  template __global__ void product_kernel<n, true, false, false>(const __grid_constant__ ProductArguments);  \
  template __global__ void product_kernel<n, true, true, false>(const __grid_constant__ ProductArguments);   \
  template __global__ void product_kernel<n, false, false, true>(const __grid_constant__ ProductArguments);  \
  template __global__ void product_kernel<n, false, true, true>(const __grid_constant__ ProductArguments);
PRODUCTS(8)
PRODUCTS(80)
PRODUCTS(256)

}  // namespace fire::cuda::wrappers
