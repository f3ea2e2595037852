// Sampling: equal logits, logits that are not finite, and rows alone and in a batch.
#include <cmath>

#include "fixture.h"
#include "ops/cases/cases.h"
#include "ops/run.h"

using namespace fire;
using namespace fire::test;

namespace {

using Floats = std::vector<float>;

std::vector<SampledToken> draw(Ops& ops, const Floats& logits, int64_t rows, const SamplingRule& rule,
                               const std::vector<double>& uniforms) {
  Placed z(ops, logits, DType::f32, {rows, rows ? static_cast<int64_t>(logits.size()) / rows : 7});
  return ops.sample(z, rule, uniforms);
}

}  // namespace

TEST("op/sample: equal logits are cut by id") {
  // 0.25 of mass each for ids 1 to 4; the cuts of top_k and top_p fall among them.
  const Floats row{-1, 2, 2, 2, 2, -1, -1};
  Ops& ops = plain_device();
  auto token = [&](const SamplingRule& rule, double uniform) { return draw(ops, row, 1, rule, {uniform})[0].token; };
  for (const int64_t k : {1, 2, 3, 4})
    for (int64_t i = 0; i < k; ++i)
      CHECK(token({1, 1, k}, (static_cast<double>(i) + 0.5) / static_cast<double>(k)) == 1 + i);
  for (const double uniform : {0.0, 0.49, 0.51, 0.99}) CHECK(token({1, 0.4, 0}, uniform) == (uniform < 0.5 ? 1 : 2));
  CHECK(token({1, 0, 0}, 0.99) == 1);                                  // at least one token
  CHECK(token({1, 1, 4}, 0.25) == 2 && token({1, 0.5, 4}, 0.5) == 2);  // on a boundary the draw goes past it
  CHECK(token({1, 1, 5}, 0) == 1 && token({1, 1, 5}, 1 - 0x1p-53) == 0);
}

TEST("op/sample: logits that are not finite numbers give NaN, -inf for single tokens does not") {
  Random random(4);
  const int64_t n = 1003;
  for (const SamplingRule& rule : {SamplingRule{0, 1, 0}, SamplingRule{1, 0.9, 10}}) {
    for (const float bad : {NAN, -NAN, INFINITY})
      for (const size_t at : {size_t{0}, size_t{777}, size_t{1002}}) {
        Floats z = random.floats(2 * n);
        z[at] = bad;
        const std::vector<SampledToken> got = draw(plain_device(), z, 2, rule, {0.5, 0.5});
        CHECK(std::isnan(got[0].logprob) && std::isfinite(got[1].logprob));
      }
    Floats z(static_cast<size_t>(n), -INFINITY);
    CHECK(std::isnan(draw(plain_device(), z, 1, rule, {0.5})[0].logprob));
    z[600] = -100;
    const SampledToken got = draw(plain_device(), z, 1, rule, {1 - 0x1p-53})[0];
    CHECK(got.token == 600 && got.logprob == 0);
  }
}

TEST("op/sample: a row draws the same alone, in a batch, and again") {
  Random random(5);
  const int64_t n = 2051;  // rows begin off 16 bytes
  const int rows = 9;
  const Doubles values = inputs_of(cases::sample(rows, n, {})).at("logits");
  const Floats logits(values.begin(), values.end());
  std::vector<double> uniforms;
  for (int r = 0; r < rows; ++r) uniforms.push_back(static_cast<double>(random.uniform(0, 0.999f)));
  Ops& ops = plain_device();
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

TEST("op/sample: no rows") { CHECK(draw(plain_device(), {}, 0, {1, 1, 0}, {}).empty()); }
