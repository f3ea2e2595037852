// Launcher of token sampling.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#include "ops/settings.h"

namespace fire::cuda {

/// One token a row of logits f32 [rows, vocab], drawn as ops.h says (Ops::sample), and its log-probability at
/// temperature 1: NaN where the row holds a NaN or +inf, or nothing but -inf. uniforms and logprobs f64 [rows], tokens
/// i32 [rows].
void launch_sample(Stream stream, const float* logits, const double* uniforms, double* logprobs, int32_t* tokens,
                   int64_t rows, int64_t vocab, const SamplingRule& rule);

}  // namespace fire::cuda
