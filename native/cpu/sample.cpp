// Drawing the next token.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpu/cpu_ops.h"

namespace fire::cpu {
namespace {

double log_sum_exp(std::span<const float> z) {
  const float max = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (const float x : z) sum += std::exp(static_cast<double>(x) - max);
  return max + std::log(sum);
}

int32_t draw_token(std::span<const float> logits, const SamplingRule& rule, double uniform) {
  if (rule.temperature <= 0)
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  auto better = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  if (rule.top_k > 0 && rule.top_k < static_cast<int64_t>(order.size())) {
    std::partial_sort(order.begin(), order.begin() + rule.top_k, order.end(), better);
    order.resize(static_cast<size_t>(rule.top_k));
  } else {
    std::sort(order.begin(), order.end(), better);
  }
  std::vector<double> mass;
  double total = 0;
  for (const int32_t id : order) {
    const double gap = static_cast<double>(logits[static_cast<size_t>(id)]) - logits[static_cast<size_t>(order[0])];
    total += mass.emplace_back(std::exp(gap / rule.temperature));
  }
  double kept = 0;
  size_t count = 0;
  while (count < mass.size() && (count == 0 || kept < rule.top_p * total)) kept += mass[count++];
  double draw = uniform * kept;
  for (size_t i = 0; i < count; ++i)
    if ((draw -= mass[i]) < 0) return order[i];
  return order[count - 1];
}

}  // namespace

std::vector<SampledToken> CpuOps::sample(Tensor logits, const SamplingRule& rule, std::span<const double> uniforms) {
  const int64_t rows = logits.rows(), vocab = logits.cols();
  if (static_cast<int64_t>(uniforms.size()) != rows)
    throw Error(Code::internal, std::to_string(uniforms.size()) + " uniforms for " + logits.describe());
  std::vector<SampledToken> drawn(static_cast<size_t>(rows));
  for_slices(rows, 1, [&](int64_t row, int64_t) {
    const std::span<const float> z(logits.f32() + row * vocab, static_cast<size_t>(vocab));
    SampledToken& out = drawn[static_cast<size_t>(row)];
    const double lse = log_sum_exp(z);
    if (!std::isfinite(lse)) {  // a NaN or +inf, or no finite logit: there is no order to draw from
      out = {0, NAN};
      return;
    }
    out.token = draw_token(z, rule, uniforms[static_cast<size_t>(row)]);
    out.logprob = z[static_cast<size_t>(out.token)] - lse;
  });
  return drawn;
}

}  // namespace fire::cpu
