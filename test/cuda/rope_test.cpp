#include "elementwise.h"

namespace fire::test {
namespace {

struct Heads {
  int64_t tokens, heads, d;
};

/// Head widths for every kernel shape of both types and one chunk more, whole chunks and ragged ones; more heads than a
/// block takes.
std::vector<Heads> shapes() {
  std::vector<Heads> all = {{2, 2, 72}, {2, 3, 132}, {2, 2, 136},  {1, 3, 264}, {1, 2, 272}, {3, 2, 2},
                            {5, 3, 16}, {3, 1, 20},  {4, 5, 24},   {2, 17, 32}, {3, 8, 64},  {2, 5, 80},
                            {2, 4, 96}, {3, 4, 128}, {2, 33, 128}, {2, 3, 256}, {1, 2, 260}, {2, 2, 512}};
  if (large()) all.insert(all.end(), {{1027, 32, 128}, {2049, 8, 128}, {501, 16, 80}});
  return all;
}

std::vector<double> widened(const std::vector<float>& v) { return {v.begin(), v.end()}; }

/// direction -1 is the transpose.
std::vector<double> rope_reference(std::vector<double> x, const std::vector<float>& cos, const std::vector<float>& sin,
                                   Heads s, double direction = 1) {
  const int64_t half = s.d / 2;
  for (int64_t row = 0; row < s.tokens * s.heads; ++row)
    for (int64_t i = 0; i < half; ++i) {
      double &a = x[static_cast<size_t>(row * s.d + i)], &b = x[static_cast<size_t>(row * s.d + half + i)];
      const size_t at = static_cast<size_t>(row / s.heads * s.d + i), other = at + static_cast<size_t>(half);
      const double a0 = a, b0 = b;
      if (direction > 0) {
        a = a0 * cos[at] - b0 * sin[at];
        b = b0 * cos[other] + a0 * sin[other];
      } else {
        a = a0 * cos[at] + b0 * sin[other];
        b = b0 * cos[other] - a0 * sin[at];
      }
    }
  return x;
}

std::vector<double> norm_reference(const std::vector<double>& x, const std::vector<float>& w, double eps,
                                   std::vector<double>& rstd) {
  const size_t d = w.size();
  std::vector<double> y(x.size());
  rstd.assign(x.size() / d, 0);
  for (size_t row = 0; row < rstd.size(); ++row) {
    double squares = 0;
    for (size_t i = 0; i < d; ++i) squares += x[row * d + i] * x[row * d + i];
    rstd[row] = 1 / std::sqrt(squares / static_cast<double>(d) + eps);
    for (size_t i = 0; i < d; ++i) y[row * d + i] = w[i] * x[row * d + i] * rstd[row];
  }
  return y;
}

/// The slopes of sum(u * w * x * rstd(x)) by central differences, head by head.
std::vector<double> norm_slopes(const std::vector<double>& u, const std::vector<float>& x, const std::vector<float>& w,
                                double eps) {
  const size_t d = w.size();
  std::vector<double> dx(x.size());
  const double h = 1e-4;
  for (size_t at = 0; at < x.size(); ++at) {
    const size_t row = at / d * d;
    double loss[2];
    for (int side = 0; side < 2; ++side) {
      double squares = 0, sum = 0;
      for (size_t i = row; i < row + d; ++i) {
        const double v = x[i] + (i == at ? (side ? -h : h) : 0);
        squares += v * v, sum += u[i] * w[i - row] * v;
      }
      loss[side] = sum / std::sqrt(squares / static_cast<double>(d) + eps);
    }
    dx[at] = (loss[0] - loss[1]) / (2 * h);
  }
  return dx;
}

/// Both halves of cos and sin differ, so that a kernel that mixes them up is seen.
struct Inputs {
  Inputs(Random& random, Heads s, DType type)
      : x(rounded(random.floats(s.tokens * s.heads * s.d, -2, 2), type)),
        dy(rounded(random.floats(s.tokens * s.heads * s.d), type)),
        w(random.floats(s.d, 0.5f, 2)),
        cos(random.floats(s.tokens * s.d)),
        sin(random.floats(s.tokens * s.d)) {}
  std::vector<float> x, dy, w, cos, sin;
};

constexpr float eps = 1e-6f;
// Two products of factors up to 4, each with three or four f32 roundings.
constexpr double slack = 4e-6;

}  // namespace

TEST("cuda rope: rotary_table has the cosines and sines of float64 on the f32 angle") {
  Random random(11);
  Ops& ops = device(DType::f32);
  for (const int64_t half : {1, 8, 10, 64, 300}) {
    const int64_t tokens = large() ? 4099 : 37;
    std::vector<int32_t> positions = random.ids(3 * tokens, 0, 5000);
    positions[0] = 0, positions[1] = 131071;  // the longest context
    const std::vector<int32_t> axis = random.ids(half, 0, 2);
    std::vector<float> frequency = random.floats(half, 0, 1);
    frequency[0] = 1;
    Placed cos(ops, DType::f32, {tokens, 2 * half}), sin(ops, DType::f32, {tokens, 2 * half});
    OnDevice dev_positions(ops, positions, {3, tokens}), dev_axis(ops, axis, {half});
    ops.rotary_table(dev_positions, dev_axis, Placed(ops, frequency, DType::f32, {half}), cos, sin);
    const std::vector<float> c = cos.get(), s = sin.get();
    double worst = 0;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t i = 0; i < 2 * half; ++i) {
        const size_t j = static_cast<size_t>(i % half), at = static_cast<size_t>(t * 2 * half + i);
        const float angle = static_cast<float>(positions[static_cast<size_t>(axis[j] * tokens + t)]) * frequency[j];
        worst = std::max({worst, std::abs(c[at] - std::cos(static_cast<double>(angle))),
                          std::abs(s[at] - std::sin(static_cast<double>(angle)))});
      }
    CHECK_NEAR(worst, 0, 6.1e-8);  // half a unit in the last place of a number below 1, and float64's own error

    std::vector<float> host_cos(c.size()), host_sin(s.size());
    std::vector<int32_t> host_axis = axis;
    host().rotary_table(Tensor(positions.data(), DType::i32, {3, tokens}), view(host_axis), view(frequency),
                        view(host_cos, {tokens, 2 * half}), view(host_sin, {tokens, 2 * half}));
    CHECK_NEAR(excess(c, widened(host_cos), DType::f32, 1.2e-7), 0, 1);
    CHECK_NEAR(excess(s, widened(host_sin), DType::f32, 1.2e-7), 0, 1);
  }
}

TEST("cuda rope: rope and its transpose agree with float64 in every shape, aligned or not") {
  Random random(12);
  for (const DType type : both_types)
    for (const Heads s : shapes())
      for (const int64_t shift : {0, 1}) {
        Ops& ops = device(type);
        const Inputs in(random, s, type);
        Placed x(ops, in.x, type, {s.tokens, s.heads, s.d}, shift);
        Placed cos(ops, in.cos, DType::f32, {s.tokens, s.d}, shift), sin(ops, in.sin, DType::f32, {s.tokens, s.d});
        ops.rope(x, cos, sin);
        CHECK_CLOSE(x.get(), rope_reference(widened(in.x), in.cos, in.sin, s), type, slack);
        Placed dx(ops, in.dy, type, {s.tokens, s.heads, s.d}, shift);
        ops.rope_backward(dx, cos, sin);
        CHECK_CLOSE(dx.get(), rope_reference(widened(in.dy), in.cos, in.sin, s, -1), type, slack);
      }
}

TEST("cuda rope: norm_rope is rope after rms_norm, aligned or not") {
  Random random(13);
  for (const DType type : both_types)
    for (const Heads s : shapes())
      for (const int64_t shift : {0, 1}) {
        Ops& ops = device(type);
        Inputs in(random, s, type);
        std::fill(in.x.begin(), in.x.begin() + s.d, 0.0f);
        Placed x(ops, in.x, type, {s.tokens, s.heads, s.d}, shift), w(ops, in.w, DType::f32, {s.d}, shift);
        Placed cos(ops, in.cos, DType::f32, {s.tokens, s.d}), sin(ops, in.sin, DType::f32, {s.tokens, s.d}, shift);
        Placed y(ops, type, {s.tokens, s.heads, s.d}, shift), rstd(ops, DType::f32, {s.tokens * s.heads});
        ops.norm_rope(x, w, eps, cos, sin, y, rstd);
        std::vector<double> expected_rstd;
        const std::vector<double> normed = norm_reference(widened(in.x), in.w, eps, expected_rstd);
        CHECK_CLOSE(y.get(), rope_reference(normed, in.cos, in.sin, s), type, slack);
        const std::vector<float> r = rstd.get();
        for (size_t i = 0; i < r.size(); ++i) CHECK_NEAR(r[i] / expected_rstd[i], 1, 1e-6);
        CHECK(same_bits(x.get(), in.x));

        Placed again(ops, type, {s.tokens, s.heads, s.d});
        ops.norm_rope(x, w, eps, cos, sin, again, {});
        CHECK(same_bits(again.get(), y.get()));
      }
}

TEST("cuda rope: norm_rope_backward is the derivative of norm_rope") {
  Random random(14);
  for (const DType type : both_types)
    for (const Heads s : shapes())
      for (const int64_t shift : {0, 1}) {
        if (s.tokens > 100) continue;  // central differences are slow; the kernel shapes are those of the small cases
        Ops& ops = device(type);
        const Inputs in(random, s, type);
        Placed x(ops, in.x, type, {s.tokens, s.heads, s.d}, shift),
            dy(ops, in.dy, type, {s.tokens, s.heads, s.d}, shift);
        Placed w(ops, in.w, DType::f32, {s.d}), cos(ops, in.cos, DType::f32, {s.tokens, s.d}, shift);
        Placed sin(ops, in.sin, DType::f32, {s.tokens, s.d}), rstd(ops, DType::f32, {s.tokens * s.heads});
        Placed y(ops, type, {s.tokens, s.heads, s.d}), dx(ops, type, {s.tokens, s.heads, s.d}, shift);
        ops.norm_rope(x, w, 1e-3f, cos, sin, y, rstd);
        ops.norm_rope_backward(dy, x, w, rstd, cos, sin, dx);
        const std::vector<double> u = rope_reference(widened(in.dy), in.cos, in.sin, s, -1);
        const std::vector<double> expected = norm_slopes(u, in.x, in.w, 1e-3f);
        double largest = 1;
        for (const double v : expected) largest = std::max(largest, std::abs(v));
        CHECK_CLOSE(dx.get(), expected, type, 2e-5 * largest);
        ops.norm_rope_backward(dy, x, w, rstd, cos, sin, dy);
        CHECK(same_bits(dy.get(), dx.get()));
      }
}

TEST("cuda rope: the references' rotation back is the transpose of the device's rotation") {
  Random random(15);
  Ops& ops = device(DType::f32);
  const Heads s{4, 3, 24};
  const Inputs in(random, s, DType::f32);
  Placed x(ops, in.x, DType::f32, {s.tokens, s.heads, s.d}), cos(ops, in.cos, DType::f32, {s.tokens, s.d});
  Placed sin(ops, in.sin, DType::f32, {s.tokens, s.d});
  ops.rope(x, cos, sin);
  const std::vector<float> forward = x.get();
  const std::vector<double> back = rope_reference(widened(in.dy), in.cos, in.sin, s, -1);
  double left = 0, right = 0;  // <rope(x), y> = <x, back(y)>
  for (size_t i = 0; i < forward.size(); ++i) left += double{forward[i]} * in.dy[i], right += in.x[i] * back[i];
  CHECK_NEAR(left, right, 1e-5);
}

TEST("cuda rope: a head's numbers depend neither on other tokens, nor on other heads, nor on its address") {
  Random random(16);
  for (const DType type : both_types)
    for (const int64_t d : {16, 20, 64, 80, 128, 260}) {
      Ops& ops = device(type);
      const Heads s{7, 5, d};
      const Inputs in(random, s, type);
      Placed x(ops, in.x, type, {s.tokens, s.heads, d}), dy(ops, in.dy, type, {s.tokens, s.heads, d});
      Placed w(ops, in.w, DType::f32, {d}), y(ops, type, {s.tokens, s.heads, d});
      Placed cos(ops, in.cos, DType::f32, {s.tokens, d}), sin(ops, in.sin, DType::f32, {s.tokens, d});
      Placed rstd(ops, DType::f32, {s.tokens * s.heads});
      ops.norm_rope(x, w, eps, cos, sin, y, rstd);
      ops.norm_rope_backward(dy, x, w, rstd, cos, sin, dy);
      ops.rope(x, cos, sin);
      for (const int64_t row : {0, 13, 34})
        for (const int64_t shift : {0, 1}) {
          const int64_t token = row / s.heads;
          Placed x1(ops, row_of(in.x, row, d), type, {1, 1, d}, shift), y1(ops, type, {1, 1, d}, shift);
          Placed dy1(ops, row_of(in.dy, row, d), type, {1, 1, d}, shift), rstd1(ops, DType::f32, {1});
          Placed cos1(ops, row_of(in.cos, token, d), DType::f32, {1, d}, shift);
          Placed sin1(ops, row_of(in.sin, token, d), DType::f32, {1, d}, shift);
          ops.norm_rope(x1, w, eps, cos1, sin1, y1, rstd1);
          ops.norm_rope_backward(dy1, x1, w, rstd1, cos1, sin1, dy1);
          ops.rope(x1, cos1, sin1);
          CHECK(same_bits(y1.get(), row_of(y.get(), row, d)));
          CHECK(rstd1.get()[0] == rstd.get()[static_cast<size_t>(row)]);
          CHECK(same_bits(dy1.get(), row_of(dy.get(), row, d)));
          CHECK(same_bits(x1.get(), row_of(x.get(), row, d)));
        }
    }
}

TEST("cuda rope: no tokens are no work, and shapes that do not fit are refused") {
  for (const DType type : both_types) {
    Ops& ops = device(type);
    Placed none(ops, type, {0, 2, 16}), table(ops, DType::f32, {0, 16}), rstd(ops, DType::f32, {0});
    Placed w(ops, std::vector<float>(16, 1.0f), DType::f32, {16});
    ops.rope(none, table, table);
    ops.rope_backward(none, table, table);
    ops.norm_rope(none, w, eps, table, table, none, rstd);
    ops.norm_rope_backward(none, none, w, rstd, table, table, none);
    CHECK(none.get().empty());
    Placed x(ops, type, {2, 2, 16}), short_table(ops, DType::f32, {1, 16}), full(ops, DType::f32, {2, 16});
    CHECK_ERROR(Code::internal, ("rope", "[2, 2, 16]", "f32[1, 16]"), ops.rope(x, full, short_table));
    CHECK_ERROR(Code::internal, ("rope_backward"), ops.rope_backward(x, short_table, full));
    CHECK_ERROR(Code::internal, ("norm_rope_backward"), ops.norm_rope_backward(x, x, w, rstd, full, full, x));
    Placed wide(ops, type, {1, 1, 514}), wide_table(ops, DType::f32, {1, 514});
    CHECK_ERROR(Code::internal, ("514"), ops.rope(wide, wide_table, wide_table));
  }
}

}  // namespace fire::test
