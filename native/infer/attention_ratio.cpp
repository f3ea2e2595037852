#include "infer/attention_ratio.h"

#include <algorithm>
#include <cmath>

namespace fire {
namespace {

std::vector<double> head_mean(std::span<const float> weights, size_t tokens) {
  std::vector<double> mean(tokens);
  const size_t heads = weights.size() / tokens;
  for (size_t i = 0; i < weights.size(); ++i)
    mean[i % tokens] += static_cast<double>(weights[i]) / static_cast<double>(heads);
  return mean;
}

}  // namespace

AttentionRatio attention_ratio(std::span<const float> question, std::span<const float> general, size_t tokens,
                               std::span<const int64_t> truth) {
  const std::vector<double> q = head_mean(question, tokens), g = head_mean(general, tokens);
  std::vector<double> relative(tokens), uniform(tokens);
  double total = 0, inside = 0;
  for (size_t i = 0; i < tokens; ++i) total += relative[i] = q[i] / g[i];
  for (const int64_t t : truth) {
    inside += relative[static_cast<size_t>(t)];
    uniform[static_cast<size_t>(t)] = 1.0 / static_cast<double>(truth.size());
  }
  AttentionRatio out{inside / (total / static_cast<double>(tokens) * static_cast<double>(truth.size()) + 1e-8), 0, 0};
  for (size_t i = 0; i < tokens; ++i) {
    const double p = relative[i] / (total + 1e-8), u = uniform[i], mid = (p + u) / 2;
    const double p_clip = std::clamp(p, 1e-12, 1.0), u_clip = std::clamp(u, 1e-12, 1.0);
    out.kl += u_clip * std::log(u_clip / p_clip);
    for (const double x : {p, u}) out.js += 0.5 * x * std::log((x + 1e-8) / (mid + 1e-8));
  }
  return out;
}

}  // namespace fire
