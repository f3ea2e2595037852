// Launcher of token sampling.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"

namespace fire::cuda {

/// SamplingRule of ops.h.
struct SampleRule {
  double temperature, top_p;
  int64_t top_k;
};

/// One token a row of logits f32 [rows, vocab], drawn as ops.h says (Ops::sample), and its log-probability at
/// temperature 1: NaN where the row holds a NaN or +inf, or nothing but -inf. uniforms and logprobs f64 [rows], tokens
/// i32 [rows].
void sample(const float* logits, int64_t rows, int64_t vocab, const SampleRule& rule, const double* uniforms,
            double* logprobs, int32_t* tokens, Stream stream);

}  // namespace fire::cuda
