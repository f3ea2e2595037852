// Drawing the next token.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpu/cpu_ops.h"
#include "cpu/vector_math.h"

namespace fire::cpu {
namespace {

/// Tokens in order of falling logit, the smaller id first among equals; sorted no further than it is read, which is as
/// a rule a few tokens of a whole vocabulary.
class FallingOrder {
 public:
  explicit FallingOrder(std::span<const float> logits) : logits_(logits), ids_(logits.size()) {
    std::iota(ids_.begin(), ids_.end(), 0);
  }

  int32_t operator[](size_t place) {
    if (place >= sorted_) sort_to(std::max<size_t>(64, 4 * (place + 1)));
    return ids_[place];
  }

 private:
  void sort_to(size_t end) {
    const auto better = [&](int32_t a, int32_t b) {
      const float x = logits_[static_cast<size_t>(a)], y = logits_[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    };
    const auto at = [&](size_t place) { return ids_.begin() + static_cast<std::ptrdiff_t>(place); };
    end = std::min(end, ids_.size());
    std::partial_sort(at(sorted_), at(end), ids_.end(), better);
    sorted_ = end;
  }

  std::span<const float> logits_;
  std::vector<int32_t> ids_;
  size_t sorted_ = 0;
};

int32_t draw_token(std::span<const float> logits, const SamplingRule& rule, double uniform) {
  FallingOrder order(logits);
  const double best = logits[static_cast<size_t>(order[0])];
  const auto mass = [&](size_t id) { return std::exp((static_cast<double>(logits[id]) - best) / rule.temperature); };
  const auto mass_at = [&](size_t place) { return mass(static_cast<size_t>(order[place])); };

  const size_t most = rule.top_k > 0 ? std::min(logits.size(), static_cast<size_t>(rule.top_k)) : logits.size();
  double total = 0;
  for (size_t i = 0; i < most; ++i) total += most == logits.size() ? mass(i) : mass_at(i);
  double kept = rule.top_p >= 1 ? total : 0;
  size_t count = rule.top_p >= 1 ? most : 0;
  while (count < most && (count == 0 || kept < rule.top_p * total)) kept += mass_at(count++);
  double draw = uniform * kept;
  for (size_t place = 0; place < count; ++place)
    if ((draw -= mass_at(place)) < 0) return order[place];
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
    // As in preference.cpp: exponentials in f32, their sum in f64.
    const float max = max_of(z.data(), vocab);
    const double lse = static_cast<double>(max) + std::log(sum_of_exponentials(z.data(), shift_of(max), vocab));
    if (!std::isfinite(lse)) {  // a NaN or +inf, or no finite logit: there is no order to draw from
      out = {0, NAN};
      return;
    }
    out.token = rule.temperature <= 0 ? static_cast<int32_t>(std::find(z.begin(), z.end(), max) - z.begin())
                                      : draw_token(z, rule, uniforms[static_cast<size_t>(row)]);
    out.logprob = z[static_cast<size_t>(out.token)] - lse;
  });
  return drawn;
}

}  // namespace fire::cpu
