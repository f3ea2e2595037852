// AdamW on gradients that are huge or not finite.
#include <cmath>
#include <utility>

#include "fixture.h"
#include "ops/run.h"

using namespace fire;
using namespace fire::test;

namespace {

using Floats = std::vector<float>;

/// Parameters and moments on the device.
class State {
 public:
  explicit State(const Floats& p)
      : dims_{static_cast<int64_t>(p.size())},
        param_(ops_, p, DType::f32, dims_),
        grad_(ops_, DType::f32, dims_),
        m_(ops_, Floats(p.size()), DType::f32, dims_),
        v_(ops_, Floats(p.size()), DType::f32, dims_) {}

  double step(const AdamW& settings, const Floats& gradient) {
    grad_.set({gradient.begin(), gradient.end()});
    return ops_.adamw(settings, param_, {}, grad_, m_, v_);
  }
  Floats param() const { return param_.get(); }
  Floats moment1() const { return m_.get(); }
  Floats moment2() const { return v_.get(); }

 private:
  Ops& ops_ = plain_device();
  std::vector<int64_t> dims_;
  Placed param_, grad_, m_, v_;
};

double norm_of(const Floats& g) {
  double squares = 0;
  for (const float x : g) squares += static_cast<double>(x) * x;
  return std::sqrt(squares);
}

}  // namespace

TEST("op/adamw: a norm whose square is beyond f32") {
  Random random(3);
  const Floats g = random.floats(20003, -1e30f, 1e30f);
  State state(Floats(20003, 1.0f));
  const double norm = norm_of(g);
  CHECK(norm > 1e31);
  CHECK_NEAR(state.step({1e-3, 0.9, 0.999, 1e-8, 0, 1, 1.0}, g), norm, 1e-12 * norm);
  // Clipped to a norm of 1, every parameter moves by about lr * sign.
  const Floats p = state.param();
  for (size_t i = 0; i < p.size(); i += 101)
    if (std::abs(g[i]) > 1e29f) CHECK_NEAR(p[i], g[i] > 0 ? 1 - 1e-3 : 1 + 1e-3, 1e-6);
}

TEST("op/norm: finite exactly when every element is") {
  Random random(5);
  Floats x = random.floats(9001, -3e38f, 3e38f);
  const auto norm = [&] { return plain_device().norm(Placed(plain_device(), x, DType::f32, {9001})); };
  CHECK_NEAR(norm(), norm_of(x), 1e-12 * norm_of(x));
  for (const float bad : {NAN, INFINITY, -INFINITY})
    for (const size_t at : {size_t{0}, size_t{4097}, size_t{9000}}) {
      const float good = std::exchange(x[at], bad);
      CHECK(!std::isfinite(norm()));
      x[at] = good;
    }
}

TEST("op/adamw: a gradient that is not finite changes nothing") {
  Random random(4);
  const Floats start = random.floats(9001), usual = random.floats(9001);
  for (const float bad : {NAN, INFINITY, -INFINITY})
    for (const size_t at : {size_t{0}, size_t{4097}, size_t{9000}}) {
      State state(start);
      state.step({1e-2, 0.9, 0.999, 1e-8, 0.1, 1, 1.0}, usual);
      const Floats p = state.param(), m = state.moment1(), v = state.moment2();
      Floats g = usual;
      g[at] = bad;
      CHECK(!std::isfinite(state.step({1e-2, 0.9, 0.999, 1e-8, 0.1, 2, 1.0}, g)));
      CHECK(same_bits(state.param(), p) && same_bits(state.moment1(), m) && same_bits(state.moment2(), v));
      CHECK(std::isfinite(state.step({1e-2, 0.9, 0.999, 1e-8, 0.1, 2, 1.0}, usual)));
      CHECK(!same_bits(state.param(), p));
    }
}
