#include "elementwise.h"

namespace fire::test {
namespace {

std::vector<int64_t> sizes() {
  std::vector<int64_t> all = {1, 5, 7, 8, 9, 31, 256, 2047, 2048, 2049, 4100};
  if (large()) all.push_back(2'000'003);
  return all;
}

double silu(double x) { return x / (1 + std::exp(-x)); }
double gelu(double x, Gelu kind) {
  if (kind == Gelu::quick) return x / (1 + std::exp(-1.702 * x));
  if (kind == Gelu::erf) return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double silu_slope(double x) { return (silu(x + 1e-5) - silu(x - 1e-5)) / 2e-5; }

template <class F>
std::vector<double> mapped(size_t n, F f) {
  std::vector<double> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = f(i);
  return v;
}

// Arguments up to 8 and products up to 16, a handful of f32 roundings each.
constexpr double slack = 1e-5;

}  // namespace

TEST("cuda activation: swiglu agrees with float64, aligned or not") {
  Random random(31);
  for (const DType type : both_types)
    for (const int64_t n : sizes())
      for (const int64_t shift : {0, 1}) {
        Ops& ops = device(type);
        const std::vector<float> gate = rounded(random.floats(n, -8, 8), type),
                                 up = rounded(random.floats(n, -2, 2), type);
        Placed dev_gate(ops, gate, type, {n}, shift), dev_up(ops, up, type, {n}, shift), y(ops, type, {n}, shift);
        ops.swiglu(dev_gate, dev_up, y);
        CHECK_CLOSE(y.get(), mapped(gate.size(), [&](size_t i) { return silu(gate[i]) * up[i]; }), type, slack);
        Placed again(ops, type, {n});
        ops.swiglu(dev_gate, dev_up, again);
        CHECK(same_bits(again.get(), y.get()));
      }
}

TEST("cuda activation: swiglu_backward is the derivative of swiglu, also in place") {
  Random random(32);
  for (const DType type : both_types)
    for (const int64_t n : sizes())
      for (const int64_t shift : {0, 1}) {
        Ops& ops = device(type);
        const std::vector<float> gate = rounded(random.floats(n, -8, 8), type),
                                 up = rounded(random.floats(n, -2, 2), type);
        const std::vector<float> dy = rounded(random.floats(n), type);
        Placed dev_gate(ops, gate, type, {n}, shift), dev_up(ops, up, type, {n}), dev_dy(ops, dy, type, {n}, shift);
        Placed dgate(ops, type, {n}), dup(ops, type, {n}, shift);
        ops.swiglu_backward(dev_dy, dev_gate, dev_up, dgate, dup);
        CHECK_CLOSE(dgate.get(), mapped(gate.size(), [&](size_t i) { return dy[i] * up[i] * silu_slope(gate[i]); }),
                    type, slack);
        CHECK_CLOSE(dup.get(), mapped(gate.size(), [&](size_t i) { return dy[i] * silu(gate[i]); }), type, slack);
        ops.swiglu_backward(dev_dy, dev_gate, dev_up, dev_gate, dev_up);
        CHECK(same_bits(dev_gate.get(), dgate.get()));
        CHECK(same_bits(dev_up.get(), dup.get()));
      }
}

TEST("cuda activation: all forms of gelu agree with float64, aligned or not") {
  Random random(33);
  for (const DType type : both_types)
    for (const Gelu kind : {Gelu::tanh, Gelu::erf, Gelu::quick})
      for (const int64_t n : sizes())
        for (const int64_t shift : {0, 1}) {
          Ops& ops = device(type);
          const std::vector<float> x = rounded(random.floats(n, -8, 8), type);
          Placed dev_x(ops, x, type, {n}, shift);
          ops.gelu(dev_x, kind);
          CHECK_CLOSE(dev_x.get(), mapped(x.size(), [&](size_t i) { return gelu(x[i], kind); }), type, slack / 2);
        }
}

TEST("cuda activation: the tails are relatively right and the two gelus differ") {
  Ops& ops = device(DType::f32);
  const std::vector<float> x = {-9, -6, -4, -2, -0.5f, 0, 0.5f, 2, 6};
  const int64_t n = static_cast<int64_t>(x.size());
  std::vector<float> by_kind[2];
  for (const Gelu kind : {Gelu::tanh, Gelu::erf}) {
    Placed dev_x(ops, x, DType::f32, {n});
    ops.gelu(dev_x, kind);
    const std::vector<float> y = by_kind[kind == Gelu::erf] = dev_x.get();
    // The derivative of log erfc at -6 / sqrt(2) is 6: an argument right to 2^-24 gives 6 * 6 * 2^-24 = 2e-6. In the
    // tanh form exp is taken of up to 2 u = 66, which costs 66 * 2^-23.
    for (size_t i = 0; i < x.size(); ++i) {
      // tanh of float64 has no digits left where 1 + tanh(u) cancels: take the equal form x / (1 + exp(-2u)).
      const double v = x[i], u = std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
      const double expected = kind == Gelu::erf ? gelu(v, kind) : v / (1 + std::exp(-2 * u));
      CHECK_NEAR(y[i], expected, 2e-5 * std::abs(expected) + 1e-40);
    }
  }
  CHECK(std::abs(by_kind[0][4] - by_kind[1][4]) > 1e-5f);  // at -0.5
}

TEST("cuda activation: large arguments saturate and NaN stays") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const DType type : both_types) {
    Ops& ops = device(type);
    Placed gate(ops, {-200, 200, nan, 1}, type, {4}), up(ops, {3, 3, 3, nan}, type, {4}), y(ops, type, {4});
    Placed dy(ops, {1, 1, 1, 1}, type, {4});
    ops.swiglu(gate, up, y);
    std::vector<float> out = y.get();
    CHECK(out[0] == 0 && out[1] == 600 && std::isnan(out[2]) && std::isnan(out[3]));
    ops.swiglu_backward(dy, gate, up, gate, up);
    out = gate.get();
    CHECK(out[0] == 0 && out[1] == 3 && std::isnan(out[2]) && std::isnan(out[3]));
    for (const Gelu kind : {Gelu::tanh, Gelu::erf, Gelu::quick}) {
      Placed x(ops, {-80, 50, nan, 0}, type, {4});
      ops.gelu(x, kind);
      out = x.get();
      CHECK(std::abs(out[0]) < 1e-37f && out[1] == 50 && std::isnan(out[2]) && out[3] == 0);
    }
  }
}

TEST("cuda activation: nothing to do is no work, and shapes that do not fit are refused") {
  for (const DType type : both_types) {
    Ops& ops = device(type);
    Placed none(ops, type, {0}), two(ops, type, {2}), three(ops, type, {3});
    ops.swiglu(none, none, none);
    ops.swiglu_backward(none, none, none, none, none);
    ops.gelu(none, Gelu::erf);
    CHECK(none.get().empty());
    CHECK_ERROR(Code::internal, ("swiglu", "[2]", "[3]"), ops.swiglu(two, three, two));
    CHECK_ERROR(Code::internal, ("swiglu_backward"), ops.swiglu_backward(two, two, two, three, two));
  }
}

}  // namespace fire::test
