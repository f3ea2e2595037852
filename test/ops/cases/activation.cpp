// The activations of the feed-forward layers.
#include <algorithm>
#include <cmath>

#include "ops/cases/cases.h"

namespace fire::test {
namespace {

/// Around a thread's chunk and a block's chunks; 20001 is more than one task of a CPU.
std::vector<int64_t> sizes(const Target& target) {
  std::vector<int64_t> all = {0, 1, 5, 7, 8, 9, 31, 256, 2047, 2048, 2049, 4100, 20001};
  if (target.large) all.push_back(2'000'003);
  return all;
}

/// Where exp leaves f32.
void set_extremes(Doubles& x) {
  constexpr double extremes[] = {-1000, -200, -90, -87.5, 0, 87.5, 90, 200, 1000};
  if (x.size() > 100) std::copy(std::begin(extremes), std::end(extremes), x.begin());
}

double silu(double x) { return x / (1 + std::exp(-x)); }
double silu_slope(double x) { return (silu(x + 1e-5) - silu(x - 1e-5)) / 2e-5; }

double gelu_of(double x, Gelu kind) {
  if (kind == Gelu::quick) return x / (1 + std::exp(-1.702 * x));
  if (kind == Gelu::erf) return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

}  // namespace

Case cases::swiglu(DType type, int64_t size) {
  Case c{"swiglu " + by({size}),
         {input("gate", type, {size}, -8, 8), input("up", type, {size}, -2, 2), output("y", type, {size})},
         [](Ops& ops, Tensors& t) { ops.swiglu(t["gate"], t["up"], t["y"]); },
         [](const Values& in, const Values&) -> std::vector<Expected> {
           const Doubles &gate = in.at("gate"), &up = in.at("up");
           Doubles y;
           for (size_t i = 0; i < gate.size(); ++i) y.push_back(silu(gate[i]) * up[i]);
           return {{"y", y, within(y, 16)}};  // exp to 4 u, then a handful of roundings
         }};
  c.complete = [](Values& in) { set_extremes(in["gate"]); };
  return c;
}

Case cases::swiglu_backward(DType type, int64_t size) {
  Case c{"swiglu_backward " + by({size}),
         {input("dy", type, {size}), input("gate", type, {size}, -8, 8), input("up", type, {size}, -2, 2),
          output("dgate", type, {size}), output("dup", type, {size})},
         [](Ops& ops, Tensors& t) { ops.swiglu_backward(t["dy"], t["gate"], t["up"], t["dgate"], t["dup"]); },
         [](const Values& in, const Values&) -> std::vector<Expected> {
           const Doubles &dy = in.at("dy"), &gate = in.at("gate"), &up = in.at("up");
           Doubles dgate, dup;
           for (size_t i = 0; i < gate.size(); ++i) {
             dgate.push_back(dy[i] * up[i] * silu_slope(gate[i]));
             dup.push_back(dy[i] * silu(gate[i]));
           }
           // gate * (1 - sigmoid) multiplies the error of the sigmoid by up to 8.
           return {{"dgate", dgate, within(dgate, 64)}, {"dup", dup, within(dup, 16)}};
         }};
  c.complete = [](Values& in) { set_extremes(in["gate"]); };
  c.in_place = {{{"dgate", "gate"}, {"dup", "up"}}};
  return c;
}

Case cases::gelu(DType type, Gelu kind, int64_t size) {
  Case c{"gelu " + std::to_string(static_cast<int>(kind)) + " " + by({size}),
         {both("x", type, {size}, -9, 9)},
         [kind](Ops& ops, Tensors& t) { ops.gelu(t["x"], kind); },
         [kind](const Values& in, const Values&) -> std::vector<Expected> {
           Doubles y;
           for (const double x : in.at("x")) y.push_back(gelu_of(x, kind));
           // The exponent of the tanh form, up to 100, is rounded: e^(100 u) where the result is not tiny.
           return {{"x", y, within(y, kind == Gelu::erf ? 16 : 64)}};
         }};
  c.complete = [](Values& in) {
    Doubles& x = in["x"];
    if (x.size() > 100) x[0] = 0, x[1] = -200, x[2] = 200;
  };
  return c;
}

OPERATION(swiglu) {
  std::vector<Case> all;
  for (const int64_t size : sizes(target)) all.push_back(cases::swiglu(target.activation, size));
  return all;
}

OPERATION(swiglu_backward) {
  std::vector<Case> all;
  for (const int64_t size : sizes(target)) all.push_back(cases::swiglu_backward(target.activation, size));
  return all;
}

OPERATION(gelu) {
  std::vector<Case> all;
  for (const Gelu kind : {Gelu::tanh, Gelu::erf, Gelu::quick})
    for (const int64_t size : sizes(target)) all.push_back(cases::gelu(target.activation, kind, size));
  return all;
}

}  // namespace fire::test
