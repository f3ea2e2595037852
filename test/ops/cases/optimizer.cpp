// One step of AdamW from any state: several steps are nothing else.
#include <cmath>

#include "ops/cases/cases.h"

namespace fire::test {
namespace {

std::vector<int64_t> sizes(const Target& target) {
  std::vector<int64_t> all{0, 1, 3, 4, 5, 1003, 4096, 50001};
  if (!target.gpu) all.push_back(200003);  // several tasks
  if (target.large) all.insert(all.end(), {int64_t{1} << 24, 30000001});
  return all;
}

/// Wider than float64: one sum of 30 million squares would be off by more than sums of parts.
double norm_of(const Doubles& x) {
  long double squares = 0;
  for (const double value : x) squares += static_cast<long double>(value) * static_cast<long double>(value);
  return static_cast<double>(std::sqrt(squares));
}

}  // namespace

Case cases::adamw(const AdamW& settings, int64_t size, bool rounded) {
  // Norms around 0.6, whatever the size.
  const double scale = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(1, size)));
  Case c{"adamw " + by({size}) + ", step " + std::to_string(settings.step) + ", norm " +
             std::to_string(settings.max_grad_norm),
         {both("param", DType::f32, {size}), input("grad", DType::f32, {size}, -scale, scale),
          both("m", DType::f32, {size}, -0.1, 0.1), both("v", DType::f32, {size}, 0, 0.01)},
         [settings](Ops& ops, Tensors& t) {
           t.returned = {ops.adamw(settings, t["param"], t["rounded"], t["grad"], t["m"], t["v"])};
         },
         [=, s = settings](const Values& in, const Values& got) -> std::vector<Expected> {
           Doubles param = in.at("param"), m = in.at("m"), v = in.at("v");
           const Doubles& grad = in.at("grad");
           const double norm = norm_of(grad);
           const double clip = s.max_grad_norm > 0 ? std::min(1.0, s.max_grad_norm / (norm + 1e-6)) : 1;
           const double steps = static_cast<double>(s.step);
           const double m_share = 1 - std::pow(s.beta1, steps), v_share = 1 - std::pow(s.beta2, steps);
           for (size_t i = 0; i < param.size(); ++i) {
             m[i] = s.beta1 * m[i] + (1 - s.beta1) * clip * grad[i];
             v[i] = s.beta2 * v[i] + (1 - s.beta2) * clip * grad[i] * clip * grad[i];
             const double m_hat = m[i] / m_share, v_hat = v[i] / v_share;
             param[i] = param[i] * (1 - s.lr * s.weight_decay) - s.lr * m_hat / (std::sqrt(v_hat) + s.eps);
           }
           // A few roundings of numbers below 1; the norm is of the gradient before clipping, summed in float64.
           std::vector<Expected> all{{"param", param, within(param, 8)},
                                     {"m", m, {8 * u}, 8 * u},
                                     {"v", v, {8 * u}, 8 * u},
                                     {"returned", {norm}, {1e-12 * norm}}};
           if (rounded) {  // no bit from the device's own parameters
             Doubles difference = fire::test::rounded(got.at("param"), DType::bf16);
             for (size_t i = 0; i < difference.size(); ++i) difference[i] -= got.at("rounded")[i];
             all.push_back({"rounded", Doubles(difference.size()), {0}, INFINITY, difference});
           }
           return all;
         }};
  if (rounded) c.arguments.push_back(output("rounded", DType::bf16, {size}));
  if (size > 10000) c.shifts = {};
  c.complete = [](Values& in) {
    if (in["grad"].size() > 4) in["grad"][3] = in["m"][3] = in["v"][3] = 0;
    // As moments of gradients are: m^2 is at most v.
    for (size_t i = 0; i < in["v"].size(); ++i) in["v"][i] += in["m"][i] * in["m"][i];
  };
  return c;
}

OPERATION(norm) {
  std::vector<Case> all;
  if (!target.plain()) return all;
  for (const int64_t size : sizes(target)) {
    all.push_back({"norm " + by({size}),
                   {input("x", DType::f32, {size})},
                   [](Ops& ops, Tensors& t) { t.returned = {ops.norm(t["x"])}; },
                   [](const Values& in, const Values&) -> std::vector<Expected> {
                     // Summed in float64; only the order differs.
                     const double norm = norm_of(in.at("x"));
                     return {{"returned", {norm}, {1e-12 * norm}}};
                   }});
    if (size > 10000) all.back().shifts = {};
  }
  return all;
}

OPERATION(adamw) {
  std::vector<Case> all;
  if (!target.plain()) return all;
  for (const int64_t size : sizes(target))
    for (const double limit : {0.0, 0.5})
      for (const int64_t step : {1, 4}) {
        if (size > 1'000'000 && (limit == 0 || step == 1)) continue;  // they add seconds and nothing else
        all.push_back(cases::adamw({1e-2, 0.9, 0.98, 1e-8, 0.05, step, limit}, size, target.gpu && step > 1));
      }
  if (target.gpu)  // more elements than one round of all parts
    all.push_back(cases::adamw({1e-2, 0.9, 0.98, 1e-8, 0.05, 1, 1.0}, (1 << 20) + 5003, true));
  return all;
}

}  // namespace fire::test
