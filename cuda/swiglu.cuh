// The arithmetic of SwiGLU, element by element: that of its own kernels (activation.cu) and of matrix products that
// end in it. Every operation is rounded by itself, so that a product has the bits of its own kernel behind it, whatever
// compiler has which around it.
#pragma once

#include "cuda/convert.cuh"

namespace fire::cuda {

/// 1 / (1 + exp(-x)) for values of type T.
template <class T>
__device__ inline float swiglu_sigmoid(float x);
template <>
__device__ inline float swiglu_sigmoid<float>(float x) {
  return __fdiv_rn(1.0f, __fadd_rn(1.0f, expf(-x)));
}
/// To 2^-21 for |x| < 8, where a bf16 has 2^-9: at the end of a product nothing hides this.
template <>
__device__ inline float swiglu_sigmoid<bf16>(float x) {
  constexpr float log2_e = 1.44269504f;
  return ptx::reciprocal_approx(__fadd_rn(1.0f, ptx::exp2_approx(__fmul_rn(x, -log2_e))));
}

/// silu(gate) * up.
template <class T>
__device__ inline float swiglu(float gate, float up) {
  return __fmul_rn(__fmul_rn(gate, swiglu_sigmoid<T>(gate)), up);
}

struct SwigluGradients {
  float gate, up;
  float product;  ///< swiglu(gate, up)
};

/// Of dy, the gradient of the product.
template <class T>
__device__ inline SwigluGradients swiglu_gradients(float dy, float gate, float up) {
  const float s = swiglu_sigmoid<T>(gate), silu = __fmul_rn(gate, s);
  const float slope = __fmul_rn(s, __fmaf_rn(gate, __fsub_rn(1.0f, s), 1.0f));
  return {__fmul_rn(__fmul_rn(dy, up), slope), __fmul_rn(dy, silu), __fmul_rn(silu, up)};
}

}  // namespace fire::cuda
