// Rows that are not finite.
#include "fixture.h"
#include "ops/run.h"

using namespace fire;
using namespace fire::test;

TEST("op/rms_norm: a row that is not finite stays visible, its neighbours stay right; layer_norm too") {
  for (const Device& device : devices()) {
    Ops& ops = *device.ops;
    const DType type = device.target.activation, vector = device.target.vector;
    std::vector<float> x(3 * 40, 1.0f);
    x[40 + 7] = NAN;
    const Placed placed(ops, x, type, {3, 40}), y(ops, type, {3, 40}), rstd(ops, DType::f32, {3});
    const Placed w(ops, std::vector<float>(40, 1.0f), vector, {40}), b(ops, std::vector<float>(40, 0.5f), vector, {40});
    ops.rms_norm(placed, w, 0, y, rstd);
    std::vector<float> out = y.get();
    for (size_t i = 0; i < out.size(); ++i) CHECK(i / 40 == 1 ? std::isnan(out[i]) : out[i] == 1);
    ops.layer_norm(placed, w, b, 1e-6f, y);
    out = y.get();
    for (size_t i = 0; i < out.size(); ++i) CHECK(i / 40 == 1 ? std::isnan(out[i]) : out[i] == 0.5f);
  }
}
