#include "cuda/activation.h"
#include "cuda/checks.h"
#include "cuda/cuda_ops.h"

namespace fire::cuda {
void CudaOps::swiglu(Tensor gate, Tensor up, Tensor y) {
  require(alike(gate, up) && alike(gate, y), "swiglu", {gate, up, y});
  launch_swiglu(stream_, gate.dtype(), gate.data(), up.data(), y.data(), gate.size());
}

void CudaOps::swiglu_backward(Tensor dy, Tensor gate, Tensor up, Tensor dgate, Tensor dup) {
  require(alike(gate, up) && alike(gate, dy) && alike(gate, dgate) && alike(gate, dup), "swiglu_backward",
          {dy, gate, up, dgate, dup});
  launch_swiglu_backward(stream_, gate.dtype(), dy.data(), gate.data(), up.data(), dgate.data(), dup.data(),
                         gate.size());
}

void CudaOps::gelu(Tensor x, Gelu kind) {
  const auto launch = kind == Gelu::tanh ? launch_gelu_tanh : kind == Gelu::erf ? launch_gelu_erf : launch_gelu_quick;
  launch(stream_, x.dtype(), x.data(), x.size());
}

}  // namespace fire::cuda
