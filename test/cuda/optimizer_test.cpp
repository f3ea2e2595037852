// AdamW with clipping by the global norm, against float64.
#include <cmath>

#include "device.h"

using namespace fire;
using namespace fire::test;

namespace {

using Floats = std::vector<float>;

const double u = std::ldexp(1.0, -24);

/// Parameters and moments on a device, from element `offset` of their memory on: 1 takes the path for unaligned memory.
class State {
 public:
  State(Ops& ops, const Floats& p, int64_t offset = 0)
      : ops_(ops),
        offset_(offset),
        size_(static_cast<int64_t>(p.size())),
        param_(ops, padded(p), DType::f32, {size_ + offset}),
        grad_(ops, DType::f32, {size_ + offset}),
        m_(ops, padded(Floats(p.size())), DType::f32, {size_ + offset}),
        v_(ops, padded(Floats(p.size())), DType::f32, {size_ + offset}) {}

  double step(const AdamW& settings, const Floats& gradient) {
    grad_.set(padded(gradient));
    return ops_.adamw(settings, part(param_), part(grad_), part(m_), part(v_));
  }
  Floats param() const { return ops_.download_f32(part(param_)); }
  Floats moment1() const { return ops_.download_f32(part(m_)); }
  Floats moment2() const { return ops_.download_f32(part(v_)); }
  Floats grad() const { return ops_.download_f32(part(grad_)); }

 private:
  Floats padded(Floats values) const {
    values.insert(values.begin(), static_cast<size_t>(offset_), 1e30f);
    return values;
  }
  Tensor part(const OnDevice& t) const { return t.tensor().slice(offset_, offset_ + size_); }

  Ops& ops_;
  int64_t offset_, size_;
  OnDevice param_, grad_, m_, v_;
};

double norm_of(const Floats& g) {
  double squares = 0;
  for (const float x : g) squares += static_cast<double>(x) * x;
  return std::sqrt(squares);
}

std::vector<int64_t> sizes() {
  std::vector<int64_t> all{1, 3, 4, 1003, 4096, 50001};
  if (large()) all.insert(all.end(), {int64_t{1} << 24, 30000001});
  return all;
}

}  // namespace

TEST("optimizer: adamw against float64 over several steps, with and without clipping") {
  Random random(1);
  for (const int64_t n : sizes())
    for (const double limit : {0.0, 0.5}) {
      const Floats start = random.floats(n);
      State state(device(DType::f32), start);
      std::vector<double> p(start.begin(), start.end()), m(p.size()), v(p.size());
      const double gradient_scale = 1 / std::sqrt(static_cast<double>(n));  // norms around 0.6, on both sides of 0.5
      for (int64_t step = 1; step <= 4; ++step) {
        Floats g = random.floats(n);
        for (float& x : g) x *= static_cast<float>(gradient_scale * (step == 2 ? 0.1 : 1));
        if (n > 4) g[3] = 0;
        const AdamW s{1e-2, 0.9, 0.98, 1e-8, 0.05, step, limit};
        const double norm = norm_of(g);
        CHECK_NEAR(state.step(s, g), norm, 1e-12 * norm);  // before clipping, summed in float64
        const double scale = limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1;
        for (size_t i = 0; i < p.size(); ++i) {
          const double grad = scale * g[i];
          m[i] = s.beta1 * m[i] + (1 - s.beta1) * grad;
          v[i] = s.beta2 * v[i] + (1 - s.beta2) * grad * grad;
          const double m_hat = m[i] / (1 - std::pow(s.beta1, static_cast<double>(step)));
          const double v_hat = v[i] / (1 - std::pow(s.beta2, static_cast<double>(step)));
          p[i] = p[i] * (1 - s.lr * s.weight_decay) - s.lr * m_hat / (std::sqrt(v_hat) + s.eps);
        }
        CHECK(largest_error(state.param(), p) < 8 * u * static_cast<double>(step));  // a few roundings a step, below 1
        CHECK(relative_error(state.moment1(), m) < 8 * u);
        CHECK(relative_error(state.moment2(), v) < 8 * u);
        CHECK(same_bits(state.grad(), g));
      }
    }
}

TEST("optimizer: the CPU takes the same step to rounding") {
  Random random(2);
  const Floats start = random.floats(5003);
  State gpu(device(DType::f32), start), cpu(host(), start);
  for (int64_t step = 1; step <= 5; ++step) {
    const Floats g = random.floats(5003, -3, 3);
    const AdamW s{1e-3, 0.9, 0.999, 1e-8, 0.01, step, 1.0};
    const double norm = cpu.step(s, g);
    CHECK_NEAR(gpu.step(s, g), norm, 1e-13 * norm);
    const Floats want = cpu.param();
    CHECK(largest_error(gpu.param(), std::vector<double>(want.begin(), want.end())) <
          4 * u * static_cast<double>(step));
  }
}

TEST("optimizer: more elements than one round of all parts") {
  Random random(6);
  const int64_t n = (1 << 20) + 5003;
  const Floats start = random.floats(n), g = random.floats(n);
  State gpu(device(DType::f32), start), cpu(host(), start);
  const AdamW s{1e-2, 0.9, 0.98, 1e-8, 0.05, 1, 1.0};
  const double norm = norm_of(g);
  CHECK_NEAR(gpu.step(s, g), norm, 1e-12 * norm);
  cpu.step(s, g);
  const Floats want = cpu.param();
  CHECK(largest_error(gpu.param(), std::vector<double>(want.begin(), want.end())) < 8 * u);
}

TEST("optimizer: a norm whose square is beyond f32") {
  Random random(3);
  const Floats g = random.floats(20003, -1e30f, 1e30f);
  State state(device(DType::f32), Floats(20003, 1.0f));
  const double norm = norm_of(g);
  CHECK(norm > 1e31);
  CHECK_NEAR(state.step({1e-3, 0.9, 0.999, 1e-8, 0, 1, 1.0}, g), norm, 1e-12 * norm);
  // Clipped to a norm of 1, every parameter moves by about lr * sign.
  const Floats p = state.param();
  for (size_t i = 0; i < p.size(); i += 101)
    if (std::abs(g[i]) > 1e29f) CHECK_NEAR(p[i], g[i] > 0 ? 1 - 1e-3 : 1 + 1e-3, 1e-6);
}

TEST("optimizer: a gradient that is not finite changes nothing") {
  Random random(4);
  const Floats start = random.floats(9001), usual = random.floats(9001);
  for (const float bad : {NAN, INFINITY, -INFINITY})
    for (const size_t at : {size_t{0}, size_t{4097}, size_t{9000}}) {
      State state(device(DType::f32), start);
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

TEST("optimizer: the same bits again, and wherever the tensors begin") {
  Random random(5);
  const int64_t n = 30007;
  const Floats start = random.floats(n), g = random.floats(n);
  const AdamW s{1e-2, 0.9, 0.98, 1e-8, 0.05, 1, 0.7};
  State one(device(DType::f32), start), two(device(DType::f32), start), odd(device(DType::f32), start, 1);
  const double norm = one.step(s, g);
  CHECK(two.step(s, g) == norm && odd.step(s, g) == norm);
  for (const State* other : {&two, &odd}) {
    CHECK(same_bits(other->param(), one.param()));
    CHECK(same_bits(other->moment1(), one.moment1()) && same_bits(other->moment2(), one.moment2()));
  }
}

TEST("optimizer: no parameters") {
  State state(device(DType::f32), {});
  CHECK(state.step({1e-2, 0.9, 0.98, 1e-8, 0.05, 1, 0.7}, {}) == 0);
  OnDevice a(device(DType::f32), DType::f32, {3}), b(device(DType::f32), DType::f32, {2});
  CHECK_THROWS(Error, device(DType::f32).adamw({1e-2, 0.9, 0.98, 1e-8, 0.05, 1, 0.7}, a, b, a, a));
}
