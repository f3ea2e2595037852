// Linear layers with an adapter: what is added to W, its dropout, and the gradients of A and B.
#include "model/row_keys.h"
#include "ops/cases/cases.h"
#include "ops/cases/products.h"
#include "tensor/rng.h"

namespace fire::test {

using cases::Dx;
using cases::Linear;

namespace {

constexpr float scale = cases::lora_scale;

Dropout dropped_at(float rate) { return {rate, 0x9e3779b97f4a7c15u, 5}; }

/// A key for each row, the same for a row whatever their number.
Argument key_argument(const Linear& s) {
  std::vector<uint64_t> keys(static_cast<size_t>(s.tokens));
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = i;
  return indices("row_keys", {s.tokens, 2}, key_words(keys, {}, 0));
}

Dropout keyed(Dropout dropout, const Tensors& t) {
  if (dropout.rate > 0) dropout.row_keys = reinterpret_cast<const uint32_t*>(t["row_keys"].i32());
  return dropout;
}

/// 0 or 1 / (1 - rate), as ops.h and tensor/rng.h define it.
Doubles mask_of(int64_t rows, int64_t cols, const Dropout& d, const Values& in) {
  if (d.rate == 0) return Doubles(static_cast<size_t>(rows * cols), 1);
  Doubles mask;
  const auto key = [&](int64_t i) { return static_cast<uint32_t>(in.at("row_keys")[static_cast<size_t>(i)]); };
  const float keep = 1.0f / (1.0f - d.rate);
  Philox4 bits{};
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) {
      if (j % 4 == 0)
        bits = philox(d.seed, {static_cast<uint32_t>(j / 4), key(2 * i),
                               d.module << 4 | static_cast<uint32_t>(RngStream::dropout), key(2 * i + 1)});
      mask.push_back(uniform24(bits[static_cast<size_t>(j % 4)]) < d.rate ? 0.0 : static_cast<double>(keep));
    }
  return mask;
}

/// x * mask, one f32 product an element, as an operand.
Matrix dropped(const Matrix& x, const Doubles& mask, DType operand) {
  Matrix y = x;
  for (size_t i = 0; i < y.v.size(); ++i) y.v[i] *= mask[i];
  y.v = rounded(rounded(y.v, DType::f32), operand);
  return y;
}

bool stores_mask(const Target& target, const Dropout& dropout) { return target.gpu && dropout.rate > 0; }

Argument mask_argument(const Linear& s) { return output("mask", DType::i32, {s.tokens, mask_words(s.in)}); }

/// What draw_mask leaves: a bit for each column, and for those that fill the last word.
Expected drawn_mask(const Linear& s, const Dropout& dropout, const Values& in) {
  const int64_t words = mask_words(s.in);
  const Doubles mask = mask_of(s.tokens, 32 * words, dropout, in);
  Doubles bits;
  for (size_t word = 0; word < mask.size() / 32; ++word) {
    uint32_t value = 0;
    for (size_t j = 0; j < 32; ++j) value |= uint32_t{mask[32 * word + j] != 0} << j;
    bits.push_back(static_cast<double>(static_cast<int32_t>(value)));
  }
  return {"mask", bits, {0}};
}

LoraView adapter(const Tensors& t) { return {t["a"], t["b"], scale}; }

struct Shape {
  Linear s;
  int64_t rank;
  float rate;
};

std::vector<Shape> shapes(const Target& target) {
  std::vector<Shape> all = {{{0, 16, 24}, 4, 0.1f},  {{1, 16, 7}, 4, 0},       {{17, 63, 64}, 6, 0.25f},
                            {{5, 11, 16}, 6, 0.4f},  {{33, 11, 70}, 6, 0},     {{65, 64, 130}, 16, 0.1f},
                            {{33, 130, 65}, 128, 0}, {{130, 17, 33}, 6, 0.5f}, {{64, 64, 64}, 16, 0},
                            {{7, 1, 1}, 4, 0.3f},    {{7, 11, 129}, 6, 0.4f},  {{40, 48, 72}, 128, 0.2f}};
  if (!target.gpu) all.push_back({{203, 40, 133}, 8, 0.2f});  // more than one task
  if (target.large) all.push_back({{1030, 1024, 1032}, 16, 0.1f});
  return all;
}

/// The tiles of 64 and of 128, as (tokens, wide, narrow).
std::vector<Linear> wide_sides(const Target& target) {
  std::vector<Linear> all = tile_sides(target, 40);
  // What a tile of 128 gives in f32 is held against tiles of 32 bit for bit in test/cuda/matmul_test.cpp.
  std::erase_if(all, [&](const Linear& s) {
    return s.tokens < 64 || (target.activation == DType::f32 && s.tokens > 128 && !target.large);
  });
  return all;
}

}  // namespace

Case cases::lora_linear(const Target& target, Linear s, int64_t rank, const Dropout& dropout, bool bias, bool residual,
                        DType y_type) {
  Case c{
      "lora_linear " + by({s.tokens, s.out, s.in, rank}),
      {input("x", target.activation, {s.tokens, s.in}), input("w", target.matrix, {s.out, s.in}),
       input("a", target.activation, {rank, s.in}), input("b", target.activation, {s.out, rank}),
       output("h", target.activation, {s.tokens, rank}), output("y", y_type, {s.tokens, s.out})},
      [dropout](Ops& ops, Tensors& t) {
        const Dropout drop = keyed(dropout, t);
        if (t["mask"] && ops.is_gpu()) ops.draw_mask(drop, t["mask"]);
        ops.lora_linear(t["x"], t["w"], t["bias"], adapter(t), drop, t["mask"], t["residual"], t["h"], t["y"]);
      },
      [=](const Values& in, const Values& got) -> std::vector<Expected> {
        const auto of = [&](const char* name, int64_t rows, int64_t cols) {
          return matrix(in, name, rows, cols, target.operand);
        };
        const Matrix a = of("a", rank, s.in), b = of("b", s.out, rank), w = of("w", s.out, s.in);
        const Matrix x = of("x", s.tokens, s.in);
        const Matrix down = dropped({s.tokens, s.in, in.at("x")}, mask_of(s.tokens, s.in, dropout, in), target.operand);
        // y is held against the h that the device had for its operand.
        const Matrix h = matrix(got, "h", s.tokens, rank, target.operand);
        Sums low(s.tokens, rank, s.in), y(s.tokens, s.out, s.in);
        low.multiply(s.in, down, transposed(a));
        y.multiply(s.in, x, transposed(w));
        y.multiply(rank, h, transposed(b), scale);
        if (bias) y.add(in.at("bias"));
        if (residual) y.add(in.at("residual"));
        std::vector<Expected> all{low.expected("h", target.operand, got), y.expected("y", target.operand, got)};
        if (stores_mask(target, dropout)) all.push_back(drawn_mask(s, dropout, in));
        return all;
      }};
  if (dropout.rate > 0) c.arguments.push_back(key_argument(s));
  if (stores_mask(target, dropout)) c.arguments.push_back(mask_argument(s));
  if (bias) c.arguments.push_back(input("bias", target.vector, {s.out}));
  if (residual) c.arguments.push_back(input("residual", target.activation, {s.tokens, s.out}));
  c.shifts = {};
  return c;
}

Case cases::lora_linear_backward(const Target& target, Linear s, int64_t rank, const Dropout& dropout, Dx form,
                                 DType dx_type) {
  const bool accumulate = form == Dx::accumulated;
  Case c{"lora_linear_backward " + by({s.tokens, s.out, s.in, rank}),
         {input("dy", target.activation, {s.tokens, s.out}), input("x", target.activation, {s.tokens, s.in}),
          input("w", target.matrix, {s.out, s.in}), input("a", target.activation, {rank, s.in}),
          input("b", target.activation, {s.out, rank}), input("h", target.activation, {s.tokens, rank}),
          output("dh", target.activation, {s.tokens, rank}), both("da", DType::f32, {rank, s.in}),
          both("db", DType::f32, {s.out, rank})},
         [=](Ops& ops, Tensors& t) {
           const Dropout drop = keyed(dropout, t);
           if (t["mask"] && ops.is_gpu()) ops.draw_mask(drop, t["mask"]);
           ops.lora_linear_backward(t["dy"], t["x"], t["w"], adapter(t), drop, t["mask"], t["h"], t["dh"], t["da"],
                                    t["db"], t["dx"], accumulate);
         },
         [=](const Values& in, const Values& got) -> std::vector<Expected> {
           const DType operand = target.operand;
           const auto of = [&](const char* name, int64_t rows, int64_t cols) {
             return matrix(in, name, rows, cols, operand);
           };
           const Matrix dy = of("dy", s.tokens, s.out), h = of("h", s.tokens, rank), a = of("a", rank, s.in);
           const Matrix b = of("b", s.out, rank), w = of("w", s.out, s.in);
           const Doubles mask = mask_of(s.tokens, s.in, dropout, in);
           const Matrix x = dropped({s.tokens, s.in, in.at("x")}, mask, operand);
           // dA and dx are held against the dh that the device had for its operand.
           const Matrix dh = matrix(got, "dh", s.tokens, rank, operand);
           Sums to_h(s.tokens, rank, s.out), to_b(s.out, rank, s.tokens), to_a(rank, s.in, s.tokens);
           Sums to_x(s.tokens, s.in, s.out);
           to_h.multiply(s.out, dy, b, scale);
           to_b.multiply(s.tokens, transposed(dy), h, scale);
           to_b.add(in.at("db"));
           to_a.multiply(s.tokens, transposed(dh), x);
           to_a.add(in.at("da"));
           std::vector<Expected> all{to_h.expected("dh", operand, got), to_b.expected("db", operand, got),
                                     to_a.expected("da", operand, got)};
           if (stores_mask(target, dropout)) all.push_back(drawn_mask(s, dropout, in));
           if (form == Dx::none) return all;
           to_x.multiply(rank, dh, a);
           to_x.scale(mask);
           to_x.multiply(s.out, dy, w);
           if (accumulate) to_x.add(in.at("dx"));
           all.push_back(to_x.expected("dx", operand, got));
           return all;
         }};
  if (dropout.rate > 0) c.arguments.push_back(key_argument(s));
  if (stores_mask(target, dropout)) c.arguments.push_back(mask_argument(s));
  if (form == Dx::overwritten) c.arguments.push_back(output("dx", dx_type, {s.tokens, s.in}));
  if (form == Dx::accumulated) c.arguments.push_back(both("dx", dx_type, {s.tokens, s.in}));
  c.shifts = {};
  return c;
}

// The low-rank product of more slices than the ring of the largest tile has slots, and behind it several of k.
constexpr int64_t many_slices = 200, wide_rank = 136;

OPERATION(draw_mask) {
  std::vector<Case> all;
  if (!target.gpu || !target.plain()) return all;  // a CPU stores none
  for (const Shape& shape : shapes(target)) {
    if (shape.rate == 0) continue;
    const Linear s = shape.s;
    const Dropout dropout = dropped_at(shape.rate);
    Case c{"draw_mask " + by({s.tokens, s.in}),
           {key_argument(s), mask_argument(s)},
           [dropout](Ops& ops, Tensors& t) { ops.draw_mask(keyed(dropout, t), t["mask"]); },
           [s, dropout](const Values& in, const Values&) -> std::vector<Expected> {
             return {drawn_mask(s, dropout, in)};
           }};
    c.shifts = {};
    all.push_back(std::move(c));
  }
  return all;
}

OPERATION(lora_linear) {
  std::vector<Case> all;
  for (const auto& [s, rank, rate] : shapes(target)) {
    // With a residual there is a bias too: no layer has both, and what each adds is seen by itself in `linear`.
    all.push_back(cases::lora_linear(target, s, rank, dropped_at(rate), true, true, target.activation));
    all.push_back(cases::lora_linear(target, s, rank, dropped_at(rate), false, false, DType::f32));
  }
  for (const auto& [tokens, wide, narrow] : wide_sides(target)) {
    all.push_back(
        cases::lora_linear(target, {tokens, wide, narrow}, 8, dropped_at(0.25f), true, true, target.activation));
    all.push_back(
        cases::lora_linear(target, {tokens, narrow, wide + 3}, 8, dropped_at(0.25f), true, true, target.activation));
  }
  for (const auto& [tokens, out, in] : long_sides(target))
    all.push_back(cases::lora_linear(target, {tokens, out, in}, 6, dropped_at(0.25f), true, true, target.activation));
  if (target.gpu)
    all.push_back(cases::lora_linear(target, {129, 48 * 128, many_slices}, wide_rank, dropped_at(0.25f), true, true,
                                     target.activation));
  return all;
}

OPERATION(lora_linear_backward) {
  const DType type = target.activation;
  std::vector<Case> all;
  for (const auto& [s, rank, rate] : shapes(target)) {
    all.push_back(cases::lora_linear_backward(target, s, rank, dropped_at(rate), Dx::accumulated, type));
    all.push_back(cases::lora_linear_backward(target, s, rank, dropped_at(rate), Dx::overwritten, DType::f32));
    all.push_back(cases::lora_linear_backward(target, s, rank, dropped_at(rate), Dx::none, type));
  }
  for (const auto& [tokens, wide, narrow] : wide_sides(target)) {
    all.push_back(
        cases::lora_linear_backward(target, {tokens, wide, narrow}, 8, dropped_at(0.25f), Dx::overwritten, type));
    all.push_back(
        cases::lora_linear_backward(target, {tokens, narrow, wide + 3}, 8, dropped_at(0.25f), Dx::accumulated, type));
  }
  for (const auto& [tokens, narrow, wide] : long_sides(target))
    all.push_back(
        cases::lora_linear_backward(target, {tokens, wide, narrow}, 6, dropped_at(0.25f), Dx::accumulated, type));
  if (target.gpu) {
    all.push_back(cases::lora_linear_backward(target, {129, many_slices, 48 * 128}, wide_rank, dropped_at(0.25f),
                                              Dx::accumulated, type));
    // Gradients summed over so many tokens that they are cut into parts, in tiles of 32, 64 and 128, with rows that are
    // aligned and that are not.
    for (const auto& [tokens, out, in] : {Linear{1100, 20, 24}, {1100, 13, 1533}, {1030, 6136, 16}})
      all.push_back(cases::lora_linear_backward(target, {tokens, out, in}, 72, {}, Dx::none, type));
    if (type == DType::bf16)
      all.push_back(cases::lora_linear_backward(target, {1100, 11, 6141}, 70, dropped_at(0.25f), Dx::none, type));
    // Gradients of wide adapters in tiles of 64.
    all.push_back(cases::lora_linear_backward(target, {37, 96 * 64, 24}, 64, {}, Dx::none, type));
    all.push_back(cases::lora_linear_backward(target, {37, 24, 48 * 64 - 5}, 128, dropped_at(0.25f), Dx::none, type));
  }
  return all;
}

}  // namespace fire::test
