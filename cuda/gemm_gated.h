// Matrix products on Hopper that end in SwiGLU (swiglu.cuh): gate and up of a layer, which become their product, and
// the way back through down, which becomes the gradients of gate and up. The product's gradient never is in memory, and
// gate and up only where they are needed again. All bits are those of the products of gemm.h and the kernels of
// activation.h, with every value rounded to bf16 where it would have been in memory.
#pragma once

#include "cuda/gemm.h"

namespace fire::cuda {

/// product[m, n] = silu(Y of gate) * Y of up, all bf16; the Ys are written if `keeps`. False, with nothing launched,
/// where the kernel of gemm_hopper.h does not take both in one launch, without alpha or residual.
bool launch_gated_gemm(Stream stream, const GemmDevice& device, DType type, const Gemm& gate, const Gemm& up,
                       void* product, bool keeps);

/// dy, the Y of `down` (which is nn and is not written), becomes the gradients of gate and up in their place; and
/// product[m, n] = silu(gate) * up, of gate and up as they were, unless it is nullptr. All bf16. False as above.
bool launch_gated_backward(Stream stream, const GemmDevice& device, DType type, const Gemm& down, void* gate, void* up,
                           void* product);

}  // namespace fire::cuda
