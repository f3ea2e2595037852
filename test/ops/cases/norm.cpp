// RMSNorm with its backward, LayerNorm.
#include <algorithm>
#include <cmath>

#include "ops/cases/cases.h"
#include "ops/cases/normed.h"

namespace fire::test {
namespace {

struct Shape {
  int64_t rows, columns;
};

/// Widths for every kernel shape of both types: a lane, a warp with one and with four chunks a lane, a block, a block
/// that reads a part of its row again; whole chunks and ragged ones. 300 rows of 64 are two tasks of a CPU.
std::vector<Shape> shapes(const Target& target) {
  std::vector<Shape> all = {{0, 24},   {1, 1},    {3, 1},    {5, 3},    {3, 7},    {17, 8},    {9, 16},
                            {7, 20},   {9, 24},   {2, 33},   {11, 64},  {300, 64}, {9, 80},    {10, 128},
                            {7, 129},  {9, 130},  {3, 256},  {3, 257},  {2, 1000}, {2, 1030},  {2, 1152},
                            {2, 2056}, {3, 4100}, {2, 5120}, {2, 9000}, {2, 9001}, {2, 18944}, {1, 18950}};
  if (target.large) all.insert(all.end(), {{20011, 128}, {1025, 4096}, {257, 5120}, {65, 18944}});
  return all;
}

constexpr float eps = 1e-6f;

}  // namespace

Case cases::rms_norm(const Target& target, int64_t rows, int64_t columns) {
  const DType type = target.activation;
  Case c{"rms_norm " + by({rows, columns}),
         {input("x", type, {rows, columns}, -3, 3), input("w", target.vector, {columns}, 0.5, 2),
          output("y", type, {rows, columns}), output("rstd", DType::f32, {rows})},
         [](Ops& ops, Tensors& t) { ops.rms_norm(t["x"], t["w"], eps, t["y"], t["rstd"]); },
         [](const Values& in, const Values&) -> std::vector<Expected> {
           const Doubles &x = in.at("x"), &w = in.at("w"), rstd = rstd_of(x, w.size(), eps), y = normed(x, w, rstd);
           // Sums of squares over at least 16 lanes, then a root, a quotient and two products.
           return {{"y", y, within(y, 16)}, {"rstd", rstd, within(rstd, 16)}};
         }};
  c.complete = [columns](Values& in) {  // an empty row: only eps is left
    if (!in["x"].empty()) std::fill_n(in["x"].begin(), columns, 0.0);
  };
  if (rows > 1) c.alone = std::make_shared<Case>(rms_norm(target, 1, columns));
  return c;
}

Case cases::rms_norm_backward(const Target& target, DType dy_type, bool residual, int64_t rows, int64_t columns) {
  constexpr float wide_eps = 1e-3f;
  const DType type = target.activation;
  Case c{
      "rms_norm_backward " + by({rows, columns}) + (residual ? ", residual" : ""),
      {input("dy", dy_type, {rows, columns}), input("x", type, {rows, columns}),
       input("w", target.vector, {columns}, 0.5, 2), input("rstd", DType::f32, {rows}),
       output("dx", type, {rows, columns})},
      [](Ops& ops, Tensors& t) { ops.rms_norm_backward(t["dy"], t["x"], t["w"], t["rstd"], t["residual"], t["dx"]); },
      [residual](const Values& in, const Values&) {
        return expected_gradient(in.at("dy"), in.at("x"), in.at("w"), wide_eps,
                                 residual ? in.at("residual") : Doubles());
      }};
  c.complete = [columns](Values& in) { in["rstd"] = rstd_of(in["x"], static_cast<size_t>(columns), wide_eps); };
  if (residual) c.arguments.push_back(input("residual", type, {rows, columns}));
  if (residual) c.in_place.push_back({{"dx", "residual"}});
  if (dy_type == type) c.in_place.push_back({{"dx", "dy"}});
  if (rows > 1) c.alone = std::make_shared<Case>(rms_norm_backward(target, dy_type, residual, 1, columns));
  return c;
}

Case cases::layer_norm(const Target& target, int64_t rows, int64_t columns) {
  const DType type = target.activation;
  Case c{"layer_norm " + by({rows, columns}),
         {input("x", type, {rows, columns}), input("w", target.vector, {columns}, 0.5, 2),
          input("b", target.vector, {columns}), output("y", type, {rows, columns})},
         [](Ops& ops, Tensors& t) { ops.layer_norm(t["x"], t["w"], t["b"], eps, t["y"]); },
         [rows](const Values& in, const Values&) -> std::vector<Expected> {
           const Doubles &x = in.at("x"), &w = in.at("w"), &b = in.at("b");
           const size_t n = w.size();
           Doubles y(x.size()), tolerance(x.size());
           for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
             double mean = 0, var = 0;
             for (size_t i = 0; i < n; ++i) mean += x[row * n + i] / static_cast<double>(n);
             for (size_t i = 0; i < n; ++i) var += std::pow(x[row * n + i] - mean, 2) / static_cast<double>(n);
             for (size_t i = 0; i < n; ++i) {
               const size_t at = row * n + i;
               y[at] = w[i] * (x[at] - mean) / std::sqrt(var + eps) + b[i];
               // x - mean has the rounding of the mean, and a deviation of 0.5 becomes a y of about 1.7.
               tolerance[at] = std::max(64.0, 22 * std::abs(mean)) * u * std::max(1.0, std::abs(y[at]));
             }
           }
           return {{"y", y, tolerance}};
         }};
  // Means from 0.25, and one of 30, where mean(x^2) - mean^2 would lose its digits.
  c.complete = [columns](Values& in) {
    for (size_t i = 0; i < in["x"].size(); ++i)
      in["x"][i] = in["x"][i] * 1.5 + (i / static_cast<size_t>(columns) == 1 ? 30 : 0.25);
  };
  if (rows > 1) c.alone = std::make_shared<Case>(layer_norm(target, 1, columns));
  return c;
}

OPERATION(rms_norm) {
  std::vector<Case> all;
  for (const auto [rows, columns] : shapes(target)) {
    all.push_back(cases::rms_norm(target, rows, columns));
    // Without rstd, as where nothing is trained.
    all.push_back(cases::rms_norm(target, rows, columns));
    all.back().name += ", no rstd";
    all.back().arguments.pop_back();
    all.back().reference = [whole = all.back().reference](const Values& in, const Values& got) {
      return std::vector<Expected>{whole(in, got)[0]};
    };
    all.back().alone = nullptr;
    all.back().shifts = {};
  }
  return all;
}

OPERATION(rms_norm_backward) {
  std::vector<Case> all;
  for (const auto [rows, columns] : shapes(target))
    for (const bool residual : {false, true}) {
      all.push_back(cases::rms_norm_backward(target, target.activation, residual, rows, columns));
      if (target.activation != DType::f32)
        all.push_back(cases::rms_norm_backward(target, DType::f32, residual, rows, columns));
    }
  return all;
}

OPERATION(layer_norm) {
  std::vector<Case> all;
  for (const auto [rows, columns] : shapes(target)) all.push_back(cases::layer_norm(target, rows, columns));
  return all;
}

}  // namespace fire::test
