// Sampling without a sort against a sort: the token that inverse transform over the ordered, kept tokens gives.
#include <cmath>
#include <numeric>

#include "device.h"

using namespace fire;
using namespace fire::test;

namespace {

using Floats = std::vector<float>;

std::vector<SampledToken> draw(Ops& ops, const Floats& logits, int64_t rows, const SamplingRule& rule,
                               const std::vector<double>& uniforms) {
  OnDevice z(ops, logits, DType::f32, {rows, rows ? static_cast<int64_t>(logits.size()) / rows : 7});
  return ops.sample(z, rule, uniforms);
}

double lse_of(const float* z, int64_t n) {
  const double max = *std::max_element(z, z + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(z[i] - max);
  return max + std::log(sum);
}

/// The tokens that may be drawn: two where the uniform lies within rounding of the boundary between them.
class Expected {
 public:
  Expected(const float* z, int64_t n, const SamplingRule& rule) : order_(static_cast<size_t>(n)) {
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) { return z[a] > z[b]; });
    if (rule.temperature <= 0) order_.resize(1);
    if (rule.top_k > 0 && rule.top_k < n && rule.temperature > 0) order_.resize(static_cast<size_t>(rule.top_k));
    long double sum = 0;
    for (const int32_t id : order_) {
      const long double gap = static_cast<long double>(z[id]) - z[order_[0]];
      running_.push_back(sum += rule.temperature > 0 ? std::exp(gap / rule.temperature) : 1);
    }
    const long double wanted = rule.top_p * sum;
    least_ = running_[std::min(running_.size() - 1, first(wanted * (1 - slack_), false))];
    most_ = running_[std::min(running_.size() - 1, first(wanted * (1 + slack_), false))];
    if (rule.top_p >= 1) least_ = most_ = sum;
  }

  /// 0: not allowed; 1: allowed; 2: the only one.
  int allows(int32_t token, double uniform) const {
    const size_t from = first(least_ * uniform * (1 - slack_), true), to = first(most_ * uniform * (1 + slack_), true);
    for (size_t i = from; i <= to && i < order_.size(); ++i)
      if (order_[i] == token) return from == to ? 2 : 1;
    return 0;
  }

 private:
  /// The first whose running sum reaches (strict: exceeds) `goal`.
  size_t first(long double goal, bool strict) const {
    const auto at = strict ? std::upper_bound(running_.begin(), running_.end(), goal)
                           : std::lower_bound(running_.begin(), running_.end(), goal);
    return static_cast<size_t>(at - running_.begin());
  }

  static constexpr long double slack_ = 1e-12L;  // sums of up to 2e5 terms, exponentials to 2 ulp of f64
  std::vector<int32_t> order_;
  std::vector<long double> running_;
  long double least_ = 0, most_ = 0;
};

struct Tally {
  int64_t draws = 0, certain = 0, wrong = 0, unlike_cpu = 0, wrong_logprob = 0;
};

void check_draws(const Floats& logits, int64_t rows, const SamplingRule& rule, const std::vector<double>& uniforms,
                 Tally& tally) {
  const int64_t n = static_cast<int64_t>(logits.size()) / rows;
  const std::vector<SampledToken> got = draw(device(DType::f32), logits, rows, rule, uniforms);
  const std::vector<SampledToken> cpu = draw(host(), logits, rows, rule, uniforms);
  CHECK(got.size() == static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) {
    const float* z = logits.data() + r * n;
    const size_t i = static_cast<size_t>(r);
    const int verdict = Expected(z, n, rule).allows(got[i].token, uniforms[i]);
    ++tally.draws;
    tally.certain += verdict == 2;
    tally.wrong += verdict == 0;
    tally.unlike_cpu += verdict == 2 && got[i].token != cpu[i].token;
    const double want = z[got[i].token] - lse_of(z, n);
    tally.wrong_logprob += !(std::abs(got[i].logprob - want) <= 1e-12 * (1 + std::abs(want)));
  }
}

/// Rows of all kinds: broad, peaked, all alike, few values, equal in pairs, with -0 and 0, with tokens of -inf,
/// shifted.
Floats make_row(Random& random, int64_t n, int kind) {
  Floats z = random.floats(n, -4, 4);
  if (kind == 1) z[static_cast<size_t>(random.integer(0, n - 1))] = 30;
  if (kind == 2) std::fill(z.begin(), z.end(), -3.25f);
  if (kind == 3)
    for (float& x : z) x = std::round(x);
  if (kind == 4)
    for (size_t i = 1; i < z.size(); i += 2) z[i] = z[i - 1];
  if (kind == 5)
    for (float& x : z) x = x < -2 ? -1.0f : x < 0 ? -0.0f : 0.0f;
  if (kind == 6)
    for (size_t i = 0; i + 1 < z.size(); ++i)
      if (random.chance(0.5)) z[i] = -INFINITY;
  if (kind == 7)
    for (float& x : z) x = x * 20 + 1e4f;
  return z;
}
constexpr int kinds = 8;

}  // namespace

TEST("sample: draws of every rule from rows of every kind") {
  Random random(1);
  Tally tally;
  const std::vector<SamplingRule> rules{{1, 1, 0},          {0.3, 1, 0},  {2.5, 0.9, 0},  {1, 0.5, 0},
                                        {1, 1e-9, 0},       {0.7, 1, 5},  {1, 0.8, 40},   {1.3, 1, 1},
                                        {0.01, 0.999, 100}, {50, 0.3, 0}, {1, 1, 100000}, {0, 0.9, 3}};
  std::vector<int64_t> widths{1, 3, 17, 500, 2051};
  if (large()) widths.insert(widths.end(), {151936, 151937});
  for (const int64_t n : widths)
    for (const SamplingRule& rule : rules) {
      Floats logits;
      std::vector<double> uniforms;
      const int rows = large() ? 64 : 16;
      for (int r = 0; r < rows; ++r) {
        const Floats row = make_row(random, n, r % kinds);
        logits.insert(logits.end(), row.begin(), row.end());
        const double extremes[] = {0, 1 - 0x1p-53, 0x1p-53};
        uniforms.push_back(r < 3 ? extremes[r]
                                 : static_cast<double>(random.integer(0, (int64_t{1} << 53) - 1)) * 0x1p-53);
      }
      check_draws(logits, rows, rule, uniforms, tally);
    }
  CHECK(tally.draws >= 900);
  CHECK(tally.wrong == 0);
  CHECK(tally.unlike_cpu == 0);
  CHECK(tally.wrong_logprob == 0);
  CHECK(tally.certain > tally.draws * 9 / 10);  // some uniforms are on a boundary by design
}

TEST("sample: many draws from one row") {
  Random random(2);
  Tally tally;
  const int64_t n = 301;
  const int rows = large() ? 4000 : 250;
  for (const SamplingRule& rule : {SamplingRule{1, 1, 0}, SamplingRule{1.2, 0.9, 50}}) {
    const Floats row = make_row(random, n, 3);
    Floats logits;
    std::vector<double> uniforms;
    for (int r = 0; r < rows; ++r) {
      logits.insert(logits.end(), row.begin(), row.end());
      uniforms.push_back((r + 0.5) / rows);
    }
    check_draws(logits, rows, rule, uniforms, tally);
  }
  CHECK(tally.wrong == 0 && tally.unlike_cpu == 0 && tally.wrong_logprob == 0);
}

TEST("sample: equal logits are cut by id") {
  // 0.25 of mass each for ids 1 to 4; the cuts of top_k and top_p fall among them.
  const Floats row{-1, 2, 2, 2, 2, -1, -1};
  Ops& ops = device(DType::f32);
  auto token = [&](const SamplingRule& rule, double uniform) { return draw(ops, row, 1, rule, {uniform})[0].token; };
  for (const int64_t k : {1, 2, 3, 4})
    for (int64_t i = 0; i < k; ++i)
      CHECK(token({1, 1, k}, (static_cast<double>(i) + 0.5) / static_cast<double>(k)) == 1 + i);
  for (const double uniform : {0.0, 0.49, 0.51, 0.99}) CHECK(token({1, 0.4, 0}, uniform) == (uniform < 0.5 ? 1 : 2));
  CHECK(token({1, 0, 0}, 0.99) == 1);                                  // at least one token
  CHECK(token({1, 1, 4}, 0.25) == 2 && token({1, 0.5, 4}, 0.5) == 2);  // on a boundary the draw goes past it
  CHECK(token({1, 1, 5}, 0) == 1 && token({1, 1, 5}, 1 - 0x1p-53) == 0);
}

TEST("sample: greedy takes the largest logit, the smallest id among equals") {
  Random random(3);
  for (const int64_t n : {1, 5, 2048, 4099})
    for (int kind = 0; kind < kinds; ++kind) {
      const Floats z = make_row(random, n, kind);
      const SampledToken got = draw(device(DType::f32), z, 1, {0, 1, 0}, {0.7})[0];
      CHECK(got.token == std::max_element(z.begin(), z.end()) - z.begin());
      CHECK_NEAR(got.logprob, z[static_cast<size_t>(got.token)] - lse_of(z.data(), n), 1e-12);
    }
}

TEST("sample: logits that are not finite numbers give NaN, -inf for single tokens does not") {
  Random random(4);
  const int64_t n = 1003;
  for (const SamplingRule& rule : {SamplingRule{0, 1, 0}, SamplingRule{1, 0.9, 10}}) {
    for (const float bad : {NAN, -NAN, INFINITY})
      for (const size_t at : {size_t{0}, size_t{777}, size_t{1002}}) {
        Floats z = random.floats(2 * n);
        z[at] = bad;
        for (Ops* ops : {static_cast<Ops*>(&device(DType::f32)), static_cast<Ops*>(&host())}) {
          const std::vector<SampledToken> got = draw(*ops, z, 2, rule, {0.5, 0.5});
          CHECK(std::isnan(got[0].logprob) && std::isfinite(got[1].logprob));
        }
      }
    Floats z(static_cast<size_t>(n), -INFINITY);
    for (Ops* ops : {static_cast<Ops*>(&device(DType::f32)), static_cast<Ops*>(&host())}) {
      CHECK(std::isnan(draw(*ops, z, 1, rule, {0.5})[0].logprob));
      z[600] = -100;
      const SampledToken got = draw(*ops, z, 1, rule, {1 - 0x1p-53})[0];
      CHECK(got.token == 600 && got.logprob == 0);
      z[600] = -INFINITY;
    }
  }
}

TEST("sample: a row draws the same alone, in a batch, and again") {
  Random random(5);
  const int64_t n = 2051;  // rows begin off 16 bytes
  const int rows = 9;
  Floats logits;
  std::vector<double> uniforms;
  for (int r = 0; r < rows; ++r) {
    const Floats row = make_row(random, n, r % kinds);
    logits.insert(logits.end(), row.begin(), row.end());
    uniforms.push_back(static_cast<double>(random.uniform(0, 0.999f)));
  }
  Ops& ops = device(DType::f32);
  auto same = [](const SampledToken& a, const SampledToken& b) {
    return a.token == b.token && std::memcmp(&a.logprob, &b.logprob, sizeof a.logprob) == 0;
  };
  for (const SamplingRule& rule : {SamplingRule{0, 1, 0}, SamplingRule{0.9, 0.95, 0}}) {
    const std::vector<SampledToken> batch = draw(ops, logits, rows, rule, uniforms);
    const std::vector<SampledToken> again = draw(ops, logits, rows, rule, uniforms);
    for (int r = 0; r < rows; ++r) {
      const size_t i = static_cast<size_t>(r);
      const Floats row(logits.begin() + r * n, logits.begin() + (r + 1) * n);
      CHECK(same(again[i], batch[i]) && same(draw(ops, row, 1, rule, {uniforms[i]})[0], batch[i]));
    }
  }
}

TEST("sample: no rows; as many uniforms as rows") {
  CHECK(draw(device(DType::f32), {}, 0, {1, 1, 0}, {}).empty());
  CHECK_THROWS(Error, draw(device(DType::f32), {1, 2}, 1, {1, 1, 0}, {}));
}
