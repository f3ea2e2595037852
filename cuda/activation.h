// Activations of the feed-forward layers, element by element over `size` elements of the activation type; arithmetic in
// f32. sigmoid(x) = 1 / (1 + exp(-x)), silu(x) = x sigmoid(x).
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#include "tensor/dtype.h"

namespace fire::cuda {

/// y = silu(gate) * up (Shazeer 2020).
void launch_swiglu(Stream stream, DType type, const void* gate, const void* up, void* y, int64_t size);

/// dgate = dy * up * silu'(gate), silu'(x) = s + silu(x) (1 - s) with s = sigmoid(x); dup = dy * silu(gate).
/// dgate may be gate, dup may be up.
void launch_swiglu_backward(Stream stream, DType type, const void* dy, const void* gate, const void* up, void* dgate,
                            void* dup, int64_t size);

/// In place: x * 0.5 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks & Gimpel 2016).
void launch_gelu_tanh(Stream stream, DType type, void* x, int64_t size);

/// In place: x * Phi(x) = x * 0.5 erfc(-x / sqrt(2)).
void launch_gelu_erf(Stream stream, DType type, void* x, int64_t size);

/// In place: x sigmoid(1.702 x), CLIP's approximation.
void launch_gelu_quick(Stream stream, DType type, void* x, int64_t size);

}  // namespace fire::cuda
