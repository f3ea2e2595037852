// Sampling without a sort against a sort: the token that inverse transform over the ordered, kept tokens gives.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/cases/cases.h"
#include "tensor/rng.h"

namespace fire::test {
namespace {

double lse_of(const double* z, size_t n) {
  const double max = *std::max_element(z, z + n);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += std::exp(z[i] - max);
  return max + std::log(sum);
}

/// The tokens that may be drawn from a row: two where the uniform lies within rounding of the boundary between them.
class Draws {
 public:
  Draws(const double* z, size_t n, const SamplingRule& rule) : order_(n) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::stable_sort(order_.begin(), order_.end(), [&](size_t a, size_t b) { return z[a] > z[b]; });
    if (rule.temperature <= 0) order_.resize(1);
    if (rule.top_k > 0 && rule.temperature > 0) order_.resize(std::min(n, static_cast<size_t>(rule.top_k)));
    long double sum = 0;
    for (const size_t id : order_) {
      const long double gap = static_cast<long double>(z[id]) - z[order_[0]];
      running_.push_back(sum += rule.temperature > 0 ? std::exp(gap / rule.temperature) : 1);
    }
    const long double wanted = rule.top_p * sum;
    least_ = running_[std::min(running_.size() - 1, first(wanted * (1 - slack), false))];
    most_ = running_[std::min(running_.size() - 1, first(wanted * (1 + slack), false))];
    if (rule.top_p >= 1) least_ = most_ = sum;
  }

  bool certain(double uniform) const {
    return first(least_ * uniform * (1 - slack), true) == first(most_ * uniform * (1 + slack), true);
  }
  /// `got` where it may be drawn, else a token that may.
  double nearest(double got, double uniform) const {
    const size_t from = first(least_ * uniform * (1 - slack), true), to = first(most_ * uniform * (1 + slack), true);
    for (size_t i = from; i <= to && i < order_.size(); ++i)
      if (static_cast<double>(order_[i]) == got) return got;
    return static_cast<double>(order_[std::min(from, order_.size() - 1)]);
  }

 private:
  /// The first whose running sum reaches (strict: exceeds) `goal`.
  size_t first(long double goal, bool strict) const {
    const auto at = strict ? std::upper_bound(running_.begin(), running_.end(), goal)
                           : std::lower_bound(running_.begin(), running_.end(), goal);
    return static_cast<size_t>(at - running_.begin());
  }

  static constexpr long double slack = 1e-12L;  // sums of up to 2e5 terms, exponentials to 2 ulp of f64
  std::vector<size_t> order_;
  std::vector<long double> running_;
  long double least_ = 0, most_ = 0;
};

/// Rows of all kinds, from uniform random numbers: broad, peaked, all alike, few values, equal in pairs, with -0 and 0,
/// with tokens of -inf, shifted.
void shape_row(double* z, size_t n, size_t kind) {
  if (kind == 1) z[n / 3] = 30;
  if (kind == 2) std::fill_n(z, n, -3.25);
  for (size_t i = 0; i < n; ++i) {
    if (kind == 3) z[i] = std::round(z[i]);
    if (kind == 4 && i % 2 == 1) z[i] = z[i - 1];
    if (kind == 5) z[i] = z[i] < -2 ? -1.0 : z[i] < 0 ? -0.0 : 0.0;
    if (kind == 6 && i + 1 < n && std::fmod(std::abs(z[i]), 0.01) < 0.005) z[i] = -INFINITY;
    if (kind == 7) z[i] = z[i] * 20 + 1e4;
  }
}
constexpr size_t kinds = 8;

}  // namespace

Case cases::sample(int64_t rows, int64_t vocab, const SamplingRule& rule, double tolerance) {
  Doubles uniforms;
  for (uint32_t row = 0; row < static_cast<uint32_t>(rows); ++row) {
    constexpr double extremes[] = {0, 1 - 0x1p-53, 0x1p-53};
    const Philox4 bits = philox(4, {row, 0, 0, 0});
    uniforms.push_back(row < 3 ? extremes[row] : uniform53(bits[0], bits[1]));
  }
  const size_t n = static_cast<size_t>(vocab);
  Case c{"sample " + by({rows, vocab}) + ", temperature " + std::to_string(rule.temperature) + ", top_p " +
             std::to_string(rule.top_p) + ", top_k " + std::to_string(rule.top_k),
         {input("logits", DType::f32, {rows, vocab}, -4, 4)},
         [rule, uniforms](Ops& ops, Tensors& t) {
           for (const SampledToken& drawn : ops.sample(t["logits"], rule, uniforms))
             t.returned.insert(t.returned.end(), {static_cast<double>(drawn.token), drawn.logprob});
         },
         [rule, uniforms, n, tolerance](const Values& in, const Values& got) -> std::vector<Expected> {
           Expected e{"returned", {}, {}};
           double certain = 0;
           for (size_t row = 0; row < uniforms.size(); ++row) {
             const double* const z = in.at("logits").data() + row * n;
             const Draws draws(z, n, rule);
             const double token = draws.nearest(got.at("returned")[2 * row], uniforms[row]);
             certain += draws.certain(uniforms[row]) / static_cast<double>(uniforms.size());
             const double logprob = z[static_cast<size_t>(token)] - lse_of(z, n);
             e.value.insert(e.value.end(), {token, logprob});
             e.tolerance.insert(e.tolerance.end(), {0, tolerance * (1 + std::abs(logprob))});
           }
           // Extremes are on a boundary by design, as is a cut among equals.
           return {e, {"certain draws", {1}, {0.3}, INFINITY, {certain}}};
         }};
  c.shifts = {};  // rows of odd widths begin anywhere
  c.complete = [n](Values& in) {
    for (size_t row = 0; row < in["logits"].size() / n; ++row) shape_row(in["logits"].data() + row * n, n, row % kinds);
  };
  return c;
}

OPERATION(sample) {
  std::vector<Case> all;
  if (!target.plain()) return all;
  std::vector<int64_t> widths{1, 3, 17, 500, 2051};
  if (target.large) widths.insert(widths.end(), {151936, 151937});
  // A GPU is in float64. A CPU takes exponentials in f32: 2e-7 of each, and 2^-24 of its exponent, which is on average
  // at most log(vocab), 12.
  const double tolerance = target.gpu ? 1e-12 : 1e-6;
  const std::vector<SamplingRule> rules{{1, 1, 0},          {0.3, 1, 0},  {2.5, 0.9, 0},  {1, 0.5, 0},
                                        {1, 1e-9, 0},       {0.7, 1, 5},  {1, 0.8, 40},   {1.3, 1, 1},
                                        {0.01, 0.999, 100}, {50, 0.3, 0}, {1, 1, 100000}, {0, 0.9, 3}};
  for (const int64_t n : widths)
    for (const SamplingRule& rule : rules) all.push_back(cases::sample(n > 100'000 ? 4 : 16, n, rule, tolerance));
  // Greedy: the largest logit, the smallest id among equals.
  for (const int64_t n : {1, 5, 2048, 4099}) all.push_back(cases::sample(8, n, {0, 1, 0}, tolerance));
  for (const SamplingRule& rule : {SamplingRule{1, 1, 0}, SamplingRule{1.2, 0.9, 50}})
    all.push_back(cases::sample(target.large ? 4000 : 250, 301, rule, tolerance));
  return all;
}

}  // namespace fire::test
