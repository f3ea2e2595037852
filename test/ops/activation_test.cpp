// Where activations saturate, and their tails.
#include "fixture.h"
#include "ops/run.h"

using namespace fire;
using namespace fire::test;

namespace {

/// A CPU's exp ends at e^88.7, so what should be 0 may be a hundred of its reciprocals.
float nothing(const Device& device) { return device.ops->is_gpu() ? 0 : 1e-35f; }

std::vector<float> gelu_of(Ops& ops, DType type, const std::vector<float>& x, Gelu kind) {
  const Placed placed(ops, x, type, {static_cast<int64_t>(x.size())});
  ops.gelu(placed, kind);
  return placed.get();
}

}  // namespace

TEST("op/gelu: the tails are relatively right and the two gelus differ") {
  const std::vector<float> x = {-9, -6, -4, -2, -0.5f, 0, 0.5f, 2, 6};
  const std::vector<float> tanh = gelu_of(plain_device(), DType::f32, x, Gelu::tanh);
  const std::vector<float> erf = gelu_of(plain_device(), DType::f32, x, Gelu::erf);
  for (size_t i = 0; i < x.size(); ++i) {
    // The derivative of log erfc at -6 / sqrt(2) is 6: an argument right to 2^-24 gives 6 * 6 * 2^-24 = 2e-6. In the
    // tanh form exp is taken of up to 2 a = 66, which costs 66 * 2^-23.
    // tanh of float64 has no digits left where 1 + tanh(a) cancels: take the equal form x / (1 + exp(-2a)).
    const double v = x[i], a = std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
    const double by_tanh = v / (1 + std::exp(-2 * a)), by_erf = 0.5 * v * std::erfc(-v / std::sqrt(2.0));
    CHECK_NEAR(tanh[i], by_tanh, 2e-5 * std::abs(by_tanh) + 1e-40);
    CHECK_NEAR(erf[i], by_erf, 2e-5 * std::abs(by_erf) + 1e-40);
  }
  CHECK(std::abs(tanh[4] - erf[4]) > 1e-5f);  // at -0.5
}

TEST("op/gelu: large arguments saturate and NaN stays") {
  for (const Device& device : devices())
    for (const Gelu kind : {Gelu::tanh, Gelu::erf, Gelu::quick}) {
      const std::vector<float> y = gelu_of(*device.ops, device.target.activation, {-80, 50, NAN, 0}, kind);
      CHECK(std::abs(y[0]) < 1e-37f + nothing(device) && y[1] == 50 && std::isnan(y[2]) && y[3] == 0);
    }
}

TEST("op/swiglu: large arguments saturate and NaN stays, backward too") {
  for (const Device& device : devices()) {
    Ops& ops = *device.ops;
    const DType type = device.target.activation;
    const std::vector<float> ones(4, 1), threes{3, 3, 3, NAN};
    const Placed gate(ops, std::vector<float>{-200, 200, NAN, 1}, type, {4}), up(ops, threes, type, {4});
    const Placed y(ops, type, {4}), dy(ops, ones, type, {4});
    ops.swiglu(gate, up, y);
    std::vector<float> out = y.get();
    CHECK(std::abs(out[0]) <= nothing(device) && out[1] == 600 && std::isnan(out[2]) && std::isnan(out[3]));
    ops.swiglu_backward(dy, gate, up, gate, up);
    out = gate.get();
    CHECK(std::abs(out[0]) <= nothing(device) && out[1] == 3 && std::isnan(out[2]) && std::isnan(out[3]));
  }
}
