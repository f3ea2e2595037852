// The kernels that hopper_test.cpp and test/simt/selftest_hopper_controls.cpp launch.
#include "test/ptx/hopper_few.cu"

namespace fire::cuda::wrappers {

ALL_PRODUCTS(80);
ALL_PRODUCTS(256);

#define TWO_PRODUCTS(n)            \
  PRODUCT(n, false, false, false); \
  PRODUCT(n, false, true, true)
TWO_PRODUCTS(16);
TWO_PRODUCTS(32);
TWO_PRODUCTS(64);
TWO_PRODUCTS(96);
TWO_PRODUCTS(128);
TWO_PRODUCTS(192);

}  // namespace fire::cuda::wrappers
