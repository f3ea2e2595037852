// Rotary positions, alone and behind the norm of each head.
#include <algorithm>
#include <cmath>

#include "ops/cases/cases.h"
#include "ops/cases/normed.h"

namespace fire::test {

using cases::Heads;

namespace {

/// Head widths for every kernel shape of both types and one chunk more, whole chunks and ragged ones; more heads than a
/// block takes.
std::vector<Heads> shapes(const Target& target) {
  std::vector<Heads> all = {{0, 2, 16}, {2, 2, 72},  {2, 3, 132},  {2, 2, 136}, {1, 3, 264}, {1, 2, 272}, {3, 2, 2},
                            {5, 3, 8},  {5, 3, 16},  {3, 1, 20},   {4, 5, 24},  {2, 17, 32}, {3, 8, 64},  {2, 5, 80},
                            {2, 4, 96}, {3, 4, 128}, {2, 33, 128}, {2, 3, 256}, {7, 5, 260}, {2, 2, 512}};
  if (target.large) all.insert(all.end(), {{1027, 32, 128}, {2049, 8, 128}, {501, 16, 80}});
  return all;
}

/// y = cos * x + sin * rotate_half(x) of every head, rotate_half(a, b) = (-b, a); or its transpose, in which an element
/// goes back to its partner with the partner's sine.
Doubles rotated(const Doubles& x, const Values& in, Heads s, bool transposed) {
  const Doubles &cos = in.at("cos"), &sin = in.at("sin");
  const size_t d = static_cast<size_t>(s.d), half = d / 2, heads = static_cast<size_t>(s.heads);
  const auto sine = [&](size_t token, size_t i) { return i < half ? -sin[token * d + i] : sin[token * d + i]; };
  Doubles y(x.size());
  for (size_t at = 0; at < x.size(); ++at) {
    const size_t token = at / d / heads, i = at % d, partner = (i + half) % d;
    y[at] = cos[token * d + i] * x[at] + sine(token, transposed ? partner : i) * x[at - i + partner];
  }
  return y;
}

/// Both halves of cos and sin differ, so that a kernel that mixes them up is seen.
std::vector<Argument> angles(Heads s) {
  return {input("cos", DType::f32, {s.tokens, s.d}), input("sin", DType::f32, {s.tokens, s.d})};
}

Case rotation(const std::string& name, DType type, Heads s, bool transposed,
              void (Ops::*operation)(Tensor, Tensor, Tensor)) {
  Case c{name + " " + by({s.tokens, s.heads, s.d}),
         {both("x", type, {s.tokens, s.heads, s.d})},
         [operation](Ops& ops, Tensors& t) { (ops.*operation)(t["x"], t["cos"], t["sin"]); },
         [s, transposed](const Values& in, const Values&) -> std::vector<Expected> {
           const Doubles y = rotated(in.at("x"), in, s, transposed);
           return {{"x", y, within(y, 4)}};  // two products and a sum below 2
         }};
  for (Argument& a : angles(s)) c.arguments.push_back(std::move(a));
  if (s.tokens * s.heads > 1)
    c.alone = std::make_shared<Case>(rotation(name, type, {1, 1, s.d}, transposed, operation));
  return c;
}

constexpr float eps = 1e-6f, wide_eps = 1e-3f;

}  // namespace

Case cases::rotary_table(int64_t tokens, int64_t half) {
  std::vector<int32_t> positions, axis;
  for (int32_t i = 0; i < 3 * tokens; ++i) positions.push_back(i * 7919 % 5000);
  if (tokens > 1) positions[1] = 131071;  // the longest context
  for (int32_t i = 0; i < half; ++i) axis.push_back(i * 5 % 3);
  Case c{"rotary_table " + by({tokens, half}),
         {indices("positions", {3, tokens}, positions), indices("axis", {half}, axis),
          input("frequency", DType::f32, {half}, 0, 1), output("cos", DType::f32, {tokens, 2 * half}),
          output("sin", DType::f32, {tokens, 2 * half})},
         [](Ops& ops, Tensors& t) { ops.rotary_table(t["positions"], t["axis"], t["frequency"], t["cos"], t["sin"]); },
         [tokens, half](const Values& in, const Values&) -> std::vector<Expected> {
           const Doubles &at = in.at("positions"), &axes = in.at("axis"), &frequency = in.at("frequency");
           Doubles cos, sin;
           for (int64_t token = 0; token < tokens; ++token)
             for (int64_t i = 0; i < 2 * half; ++i) {
               const size_t j = static_cast<size_t>(i % half);
               const double position =
                   at[static_cast<size_t>(axes[j]) * static_cast<size_t>(tokens) + static_cast<size_t>(token)];
               const float angle = static_cast<float>(position) * static_cast<float>(frequency[j]);
               cos.push_back(std::cos(static_cast<double>(angle)));
               sin.push_back(std::sin(static_cast<double>(angle)));
             }
           // Half a unit in the last place of a number below 1, and float64's own error.
           return {{"cos", cos, {6.1e-8}}, {"sin", sin, {6.1e-8}}};
         }};
  c.complete = [](Values& in) { in["frequency"][0] = 1; };
  return c;
}

Case cases::rope(DType type, Heads s) { return rotation("rope", type, s, false, &Ops::rope); }

Case cases::rope_backward(DType type, Heads s) { return rotation("rope_backward", type, s, true, &Ops::rope_backward); }

Case cases::norm_rope(const Target& target, Heads s) {
  const std::vector<int64_t> dims{s.tokens, s.heads, s.d};
  Case c{"norm_rope " + by(dims),
         {input("x", target.activation, dims, -2, 2), input("w", target.vector, {s.d}, 0.5, 2),
          output("y", target.activation, dims), output("rstd", DType::f32, {s.tokens * s.heads})},
         [](Ops& ops, Tensors& t) { ops.norm_rope(t["x"], t["w"], eps, t["cos"], t["sin"], t["y"], t["rstd"]); },
         [s](const Values& in, const Values&) -> std::vector<Expected> {
           const Doubles &x = in.at("x"), &w = in.at("w"), rstd = rstd_of(x, w.size(), eps);
           const Doubles y = rotated(normed(x, w, rstd), in, s, false);
           // Two products of factors up to 4, each with three or four roundings.
           return {{"y", y, within(y, 64)}, {"rstd", rstd, within(rstd, 16)}};
         }};
  for (Argument& a : angles(s)) c.arguments.push_back(std::move(a));
  c.complete = [s](Values& in) {
    if (!in["x"].empty()) std::fill_n(in["x"].begin(), s.d, 0.0);
  };
  if (s.tokens * s.heads > 1) c.alone = std::make_shared<Case>(norm_rope(target, {1, 1, s.d}));
  return c;
}

Case cases::norm_rope_backward(const Target& target, Heads s) {
  const std::vector<int64_t> dims{s.tokens, s.heads, s.d};
  Case c{"norm_rope_backward " + by(dims),
         {input("dy", target.activation, dims), input("x", target.activation, dims, -2, 2),
          input("w", target.vector, {s.d}, 0.5, 2), input("rstd", DType::f32, {s.tokens * s.heads}),
          output("dx", target.activation, dims)},
         [](Ops& ops, Tensors& t) {
           ops.norm_rope_backward(t["dy"], t["x"], t["w"], t["rstd"], t["cos"], t["sin"], t["dx"]);
         },
         [s](const Values& in, const Values&) {
           return expected_gradient(rotated(in.at("dy"), in, s, true), in.at("x"), in.at("w"), wide_eps, {});
         }};
  for (Argument& a : angles(s)) c.arguments.push_back(std::move(a));
  c.complete = [s](Values& in) { in["rstd"] = rstd_of(in["x"], static_cast<size_t>(s.d), wide_eps); };
  c.in_place = {{{"dx", "dy"}}};
  if (s.tokens * s.heads > 1) c.alone = std::make_shared<Case>(norm_rope_backward(target, {1, 1, s.d}));
  return c;
}

OPERATION(rotary_table) {
  std::vector<Case> all;
  if (!target.plain()) return all;
  for (const int64_t half : {1, 8, 10, 64, 300}) all.push_back(cases::rotary_table(target.large ? 4099 : 37, half));
  return all;
}

OPERATION(rope) {
  std::vector<Case> all;
  for (const Heads& s : shapes(target)) all.push_back(cases::rope(target.activation, s));
  return all;
}

OPERATION(rope_backward) {
  std::vector<Case> all;
  for (const Heads& s : shapes(target)) all.push_back(cases::rope_backward(target.activation, s));
  return all;
}

OPERATION(norm_rope) {
  std::vector<Case> all;
  for (const Heads& s : shapes(target)) all.push_back(cases::norm_rope(target, s));
  return all;
}

OPERATION(norm_rope_backward) {
  std::vector<Case> all;
  for (const Heads& s : shapes(target)) all.push_back(cases::norm_rope_backward(target, s));
  return all;
}

}  // namespace fire::test
