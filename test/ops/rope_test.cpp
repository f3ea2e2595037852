// How the rotations belong together.
#include "fixture.h"
#include "ops/cases/cases.h"
#include "ops/run.h"

using namespace fire;
using namespace fire::test;

TEST("op/rope_backward: the transpose of rope, and its inverse where the angles are angles") {
  const cases::Heads s{4, 3, 24};
  const Case forward = cases::rope(DType::f32, s), backward = cases::rope_backward(DType::f32, s);
  Values in = inputs_of(forward), back = inputs_of(backward);
  back["cos"] = in["cos"], back["sin"] = in["sin"];
  const Doubles rotated = run(plain_device(), forward, in).at("x");
  const Doubles returned = run(plain_device(), backward, back).at("x");
  double left = 0, right = 0;  // <rope(x), y> = <x, back(y)>
  for (size_t i = 0; i < rotated.size(); ++i) left += rotated[i] * back["x"][i], right += in["x"][i] * returned[i];
  CHECK_NEAR(left, right, 1e-5);

  for (size_t i = 0; i < in["cos"].size(); ++i) {
    const double angle = static_cast<double>(i / 24 + 1) * (1 + static_cast<double>(i % 12)) * 0.7;
    in["cos"][i] = static_cast<float>(std::cos(angle)), in["sin"][i] = static_cast<float>(std::sin(angle));
  }
  Values again = in;
  again["x"] = run(plain_device(), forward, in).at("x");
  const Doubles x = run(plain_device(), backward, again).at("x");
  for (size_t i = 0; i < x.size(); ++i) CHECK_NEAR(x[i], in["x"][i], 12 * u);  // cos^2 + sin^2 is 1 to 2 u
}

TEST("op/norm_rope: the norm and the rotation one after the other, on a CPU to the bit") {
  const double allowed = plain_device().is_gpu() ? 64 * u : 0;  // a GPU's one kernel rounds once less
  const Target& target = devices()[0].target;
  const Case both = cases::norm_rope(target, {5, 3, 24}), rope = cases::rope(DType::f32, {5, 3, 24});
  const Values in = inputs_of(both);
  const Values fused = run(plain_device(), both, in);
  const Values normed = run(plain_device(), cases::rms_norm(target, 15, 24), in);
  Values rotation = in;
  rotation["x"] = normed.at("y");
  const Doubles apart = run(plain_device(), rope, rotation).at("x");
  for (size_t i = 0; i < apart.size(); ++i)
    CHECK_NEAR(fused.at("y")[i], apart[i], allowed * std::max(1.0, std::abs(apart[i])));
  for (size_t i = 0; i < 15; ++i) CHECK_NEAR(fused.at("rstd")[i] / normed.at("rstd")[i], 1, allowed);
}
