// Linear layers and their backward.
#include "ops/cases/cases.h"
#include "ops/cases/products.h"

namespace fire::test {

using cases::Linear;

/// As many rows as a step of a large model has, through a narrow matrix.
constexpr Linear whole_step{7520, 200, 72};

std::vector<Linear> ragged_sides(const Target& target) {
  std::vector<Linear> all = {{0, 16, 24},  {1, 1, 1},    {1, 7, 16},     {3, 19, 7},   {7, 16, 17},
                             {16, 17, 63}, {17, 63, 64}, {63, 64, 65},   {64, 65, 1},  {65, 130, 7},
                             {7, 19, 129}, {130, 1, 33}, {33, 130, 530}, {64, 64, 64}, {32, 32, 600}};
  if (!target.gpu) all.push_back({300, 19, 64});
  if (target.large) all.insert(all.end(), {{1000, 2560, 2560}, {513, 1025, 777}, {4096, 1024, 512}});
  return all;
}

std::vector<Linear> tile_sides(const Target& target, int64_t in) {
  if (!target.gpu) return {};
  return {{31, 70, in}, {65, 48 * 64 - 3, in}, {129, 48 * 128 - 3, in}};
}

std::vector<Linear> long_sides(const Target& target) {
  if (!target.gpu) return {};
  return {{2, 17, 33000}, {35, 24, 40000}};
}

Case cases::linear(const Target& target, Linear s, bool bias, bool residual, DType y_type) {
  Case c{"linear " + by({s.tokens, s.out, s.in}),
         {input("x", target.activation, {s.tokens, s.in}), input("w", target.matrix, {s.out, s.in}),
          output("y", y_type, {s.tokens, s.out})},
         [](Ops& ops, Tensors& t) { ops.linear(t["x"], t["w"], t["bias"], t["residual"], t["y"]); },
         [=](const Values& in, const Values& got) -> std::vector<Expected> {
           const Matrix x = matrix(in, "x", s.tokens, s.in, target.operand);
           const Matrix w = matrix(in, "w", s.out, s.in, target.operand);
           Sums y(s.tokens, s.out, s.in);
           y.multiply(s.in, x, transposed(w));
           if (bias) y.add(in.at("bias"));
           if (residual) y.add(in.at("residual"));
           return {y.expected("y", target.operand, got)};
         }};
  if (bias) c.arguments.push_back(input("bias", target.vector, {s.out}));
  if (residual) c.arguments.push_back(input("residual", target.activation, {s.tokens, s.out}));
  if (s.tokens > 1 && bias && residual)  // of the four forms, the one with all parts
    c.alone = std::make_shared<Case>(linear(target, {1, s.out, s.in}, bias, residual, y_type));
  c.shifts = {};
  return c;
}

Case cases::linear_backward(const Target& target, Linear s, DType dy_type, DType dx_type, bool accumulate) {
  Case c{"linear_backward " + by({s.tokens, s.out, s.in}) + (accumulate ? ", added" : ""),
         {input("dy", dy_type, {s.tokens, s.out}), input("w", target.matrix, {s.out, s.in}),
          accumulate ? both("dx", dx_type, {s.tokens, s.in}) : output("dx", dx_type, {s.tokens, s.in})},
         [accumulate](Ops& ops, Tensors& t) { ops.linear_backward(t["dy"], t["w"], t["dx"], accumulate); },
         [=](const Values& in, const Values& got) -> std::vector<Expected> {
           const Matrix dy = matrix(in, "dy", s.tokens, s.out, target.operand);
           const Matrix w = matrix(in, "w", s.out, s.in, target.operand);
           Sums dx(s.tokens, s.in, s.out);
           dx.multiply(s.out, dy, w);
           if (accumulate) dx.add(in.at("dx"));
           return {dx.expected("dx", target.operand, got)};
         }};
  if (s.tokens > 1 && accumulate && dy_type == dx_type)
    c.alone = std::make_shared<Case>(linear_backward(target, {1, s.out, s.in}, dy_type, dx_type, accumulate));
  c.shifts = {};
  return c;
}

OPERATION(linear) {
  std::vector<Case> all;
  for (const Linear& s : ragged_sides(target)) {
    all.push_back(cases::linear(target, s, false, false, target.activation));
    all.push_back(cases::linear(target, s, true, true, target.activation));
    all.push_back(cases::linear(target, s, true, false, DType::f32));
    all.push_back(cases::linear(target, s, false, true, DType::f32));
  }
  // Aligned and unaligned rows, the ring of slices more than once round.
  for (const int64_t in : {200, 37})
    for (const Linear& s : tile_sides(target, in)) {
      all.push_back(cases::linear(target, s, true, true, target.activation));
      all.back().alone = nullptr;
    }
  for (const Linear& s : long_sides(target)) all.push_back(cases::linear(target, s, true, true, target.activation));
  if (target.gpu) all.push_back(cases::linear(target, whole_step, true, true, target.activation));
  // Both roads into shared memory give the same bits.
  all.push_back(cases::linear(target, {70, 96, 64}, false, false, target.activation));
  all.back().shifts = {1};
  return all;
}

OPERATION(linear_backward) {
  std::vector<DType> types{target.activation};
  if (target.activation != DType::f32) types.push_back(DType::f32);
  std::vector<Case> all;
  for (const Linear& s : ragged_sides(target))
    for (const DType dy : types)
      for (const DType dx : types) {
        if (s.tokens > 500 && dy != dx) continue;
        for (const bool accumulate : {false, true})
          all.push_back(cases::linear_backward(target, {s.tokens, s.in, s.out}, dy, dx, accumulate));
      }
  if (target.gpu)
    all.push_back(cases::linear_backward(target, {whole_step.tokens, whole_step.in, whole_step.out}, target.activation,
                                         target.activation, true));
  for (const Linear& s : long_sides(target))
    for (const DType type : types)
      all.push_back(cases::linear_backward(target, {s.tokens, s.in, s.out}, type, type, true));
  for (const Linear& s : tile_sides(target, 40)) {
    const DType type = target.activation;
    all.push_back(cases::linear_backward(target, {s.tokens, s.in, s.out}, type, type, true));
    for (const DType dy : types)
      all.push_back(cases::linear_backward(target, {s.tokens, s.in, s.out + 3}, dy, DType::f32, true));
    for (size_t i = all.size() - 1 - types.size(); i < all.size(); ++i) all[i].alone = nullptr;
  }
  return all;
}

}  // namespace fire::test
