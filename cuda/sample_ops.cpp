#include <cstring>

#include "cuda/cuda_ops.h"
#include "cuda/sample.h"

namespace fire::cuda {

std::vector<SampledToken> CudaOps::sample(Tensor logits, const SamplingRule& rule, std::span<const double> uniforms) {
  const int64_t rows = logits.rows(), vocab = logits.cols();
  if (static_cast<int64_t>(uniforms.size()) != rows || vocab == 0 || vocab > INT32_MAX)
    throw Error(Code::internal, std::to_string(uniforms.size()) + " uniforms for " + logits.describe());
  if (rows == 0) return {};
  // One block of memory, so that the results come back in one copy: uniforms, log-probabilities, tokens.
  const size_t count = static_cast<size_t>(rows), result_bytes = count * (sizeof(double) + sizeof(int32_t));
  auto* const draws = static_cast<double*>(workspace(count * sizeof(double) + result_bytes));
  double* const logprobs = draws + rows;
  upload(uniforms.data(), Tensor(draws, DType::f64, {rows}));
  launch_sample(stream_, logits.f32(), draws, logprobs, reinterpret_cast<int32_t*>(logprobs + rows), rows, vocab, rule);

  std::vector<double> host((result_bytes + sizeof(double) - 1) / sizeof(double));
  download(Tensor(logprobs, DType::u8, {static_cast<int64_t>(result_bytes)}), host.data());
  std::vector<SampledToken> drawn(count);
  for (size_t i = 0; i < count; ++i) {
    int32_t token;
    std::memcpy(&token, reinterpret_cast<const char*>(host.data() + rows) + i * sizeof token, sizeof token);
    drawn[i] = {token, host[i]};
  }
  return drawn;
}

}  // namespace fire::cuda
