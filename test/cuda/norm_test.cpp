#include "elementwise.h"

namespace fire::test {
namespace {

struct Shape {
  int64_t rows, columns;
};

/// Widths for every kernel shape of both types: a lane, a warp with one and with four chunks a lane, a block, a block
/// that reads a part of its row again; whole chunks and ragged ones.
std::vector<Shape> shapes() {
  std::vector<Shape> all = {{3, 1},    {5, 3},    {17, 8},   {9, 16},   {7, 20},    {9, 24},   {11, 64},  {9, 80},
                            {10, 128}, {9, 130},  {3, 256},  {3, 257},  {2, 1000},  {2, 1030}, {2, 1152}, {2, 2056},
                            {2, 4100}, {2, 5120}, {2, 9000}, {2, 9001}, {2, 18944}, {1, 18950}};
  if (large()) all.insert(all.end(), {{20011, 128}, {1025, 4096}, {257, 5120}, {65, 18944}});
  return all;
}

std::vector<double> rms_norm_reference(const std::vector<float>& x, const std::vector<float>& w, double eps,
                                       std::vector<double>& rstd) {
  const size_t n = w.size();
  std::vector<double> y(x.size());
  rstd.assign(x.size() / n, 0);
  for (size_t row = 0; row < rstd.size(); ++row) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += static_cast<double>(x[row * n + i]) * x[row * n + i];
    rstd[row] = 1 / std::sqrt(sum / static_cast<double>(n) + eps);
    for (size_t i = 0; i < n; ++i) y[row * n + i] = w[i] * (x[row * n + i] * rstd[row]);
  }
  return y;
}

std::vector<double> layer_norm_reference(const std::vector<float>& x, const std::vector<float>& w,
                                         const std::vector<float>& b, double eps) {
  const size_t n = w.size();
  std::vector<double> y(x.size());
  for (size_t row = 0; row < x.size() / n; ++row) {
    double mean = 0, var = 0;
    for (size_t i = 0; i < n; ++i) mean += x[row * n + i] / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) var += std::pow(x[row * n + i] - mean, 2) / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) y[row * n + i] = w[i] * (x[row * n + i] - mean) / std::sqrt(var + eps) + b[i];
  }
  return y;
}

/// d(sum dy . rms_norm(x)) / dx in closed form, without the rstd of the device.
std::vector<double> rms_norm_backward_reference(const std::vector<float>& dy, const std::vector<float>& x,
                                                const std::vector<float>& w, double eps) {
  const size_t n = w.size();
  std::vector<double> rstd, dx(x.size());
  rms_norm_reference(x, w, eps, rstd);
  for (size_t row = 0; row < rstd.size(); ++row) {
    double dot = 0;
    for (size_t i = row * n; i < (row + 1) * n; ++i) dot += static_cast<double>(w[i - row * n]) * dy[i] * x[i];
    for (size_t i = row * n; i < (row + 1) * n; ++i)
      dx[i] = rstd[row] * (static_cast<double>(w[i - row * n]) * dy[i] -
                           x[i] * rstd[row] * rstd[row] * dot / static_cast<double>(n));
  }
  return dx;
}

/// The same by central differences of the definition.
std::vector<double> rms_norm_slopes(const std::vector<float>& dy, const std::vector<float>& x,
                                    const std::vector<float>& w, double eps) {
  const size_t n = w.size();
  std::vector<double> dx(x.size());
  auto loss = [&](size_t row, size_t moved, double by) {
    double squares = 0, sum = 0;
    for (size_t i = 0; i < n; ++i) {
      const double v = x[row * n + i] + (i == moved ? by : 0);
      squares += v * v, sum += dy[row * n + i] * w[i] * v;
    }
    return sum / std::sqrt(squares / static_cast<double>(n) + eps);
  };
  const double h = 1e-4;
  for (size_t i = 0; i < x.size(); ++i) dx[i] = (loss(i / n, i % n, h) - loss(i / n, i % n, -h)) / (2 * h);
  return dx;
}

// f32 sums of n terms over at least 32 threads and a tree: relative error far below 1e-6; y and dx are up to about 4
// here.
constexpr double slack = 4e-6;
constexpr float eps = 1e-6f;

}  // namespace

TEST("cuda norm: rms_norm agrees with float64 in every shape, aligned or not") {
  Random random(1);
  for (const DType type : both_types)
    for (const auto [rows, columns] : shapes())
      for (const int64_t shift : {0, 1}) {
        Ops& ops = device(type);
        std::vector<float> x = rounded(random.floats(rows * columns), type);
        std::fill(x.begin(), x.begin() + columns, 0.0f);  // an empty row: only eps is left
        const std::vector<float> w = random.floats(columns, 0.5f, 2);
        Placed dx(ops, x, type, {rows, columns}, shift), dw(ops, w, DType::f32, {columns}, shift);
        Placed y(ops, type, {rows, columns}, shift), rstd(ops, DType::f32, {rows});
        ops.rms_norm(dx, dw, eps, y, rstd);
        std::vector<double> expected_rstd;
        const std::vector<double> expected = rms_norm_reference(x, w, eps, expected_rstd);
        CHECK_CLOSE(y.get(), expected, type, slack);
        const std::vector<float> r = rstd.get();
        for (size_t i = 0; i < r.size(); ++i) CHECK_NEAR(r[i] / expected_rstd[i], 1, 1e-6);
        CHECK(same_bits(dx.get(), x));

        Placed again(ops, type, {rows, columns});
        ops.rms_norm(dx, dw, eps, again, {});
        CHECK(same_bits(again.get(), y.get()));
      }
}

TEST("cuda norm: layer_norm agrees with float64 in every shape, aligned or not") {
  Random random(2);
  for (const DType type : both_types)
    for (const auto [rows, columns] : shapes())
      for (const int64_t shift : {0, 1}) {
        Ops& ops = device(type);
        std::vector<float> x = random.floats(rows * columns);
        // A mean far from 0, where mean(x^2) - mean^2 would lose its digits.
        for (size_t i = 0; i < x.size(); ++i) x[i] = x[i] + (i / static_cast<size_t>(columns) == 1 ? 30 : 0.25f);
        x = rounded(x, type);
        const std::vector<float> w = random.floats(columns, 0.5f, 2), b = random.floats(columns);
        Placed dx(ops, x, type, {rows, columns}, shift), dw(ops, w, DType::f32, {columns}, shift);
        Placed db(ops, b, DType::f32, {columns}, shift), y(ops, type, {rows, columns}, shift);
        ops.layer_norm(dx, dw, db, eps, y);
        // The mean of 30 is known to 30 * 2^-24 * a few; a deviation of 0.5 there becomes a y of about 1.7.
        CHECK_CLOSE(y.get(), layer_norm_reference(x, w, b, eps), type, 4e-5);

        Placed again(ops, type, {rows, columns});
        ops.layer_norm(dx, dw, db, eps, again);
        CHECK(same_bits(again.get(), y.get()));
      }
}

TEST("cuda norm: rms_norm_backward is the derivative of rms_norm") {
  Random random(3);
  for (const DType type : both_types)
    for (const DType dy_type : {type, DType::f32})
      for (const auto [rows, columns] : shapes())
        for (const int64_t shift : {0, 1}) {
          Ops& ops = device(type);
          const std::vector<float> x = rounded(random.floats(rows * columns), type);
          const std::vector<float> dy = rounded(random.floats(rows * columns), dy_type);
          const std::vector<float> residual = rounded(random.floats(rows * columns), type);
          const std::vector<float> w = random.floats(columns, 0.5f, 2);
          Placed dev_x(ops, x, type, {rows, columns}, shift), dev_w(ops, w, DType::f32, {columns}, shift);
          Placed dev_dy(ops, dy, dy_type, {rows, columns}, shift);
          Placed dev_residual(ops, residual, type, {rows, columns}, shift);
          Placed y(ops, type, {rows, columns}), rstd(ops, DType::f32, {rows}), dx(ops, type, {rows, columns}, shift);
          ops.rms_norm(dev_x, dev_w, 1e-3f, y, rstd);
          ops.rms_norm_backward(dev_dy, dev_x, dev_w, rstd, {}, dx);
          std::vector<double> expected = rms_norm_backward_reference(dy, x, w, 1e-3f);
          // Rows of few columns can have a large rstd, which scales everything.
          double largest = 1;
          for (const double v : expected) largest = std::max(largest, std::abs(v));
          CHECK_CLOSE(dx.get(), expected, type, slack * largest);
          if (columns <= 300 && rows < 100)
            CHECK_CLOSE(dx.get(), rms_norm_slopes(dy, x, w, 1e-3f), type, 2e-5 * largest);

          for (size_t i = 0; i < expected.size(); ++i) expected[i] += residual[i];
          Placed sum(ops, type, {rows, columns});
          ops.rms_norm_backward(dev_dy, dev_x, dev_w, rstd, dev_residual, sum);
          CHECK_CLOSE(sum.get(), expected, type, slack * largest);
          // In place of the residual, and in place of dy: the same bits.
          ops.rms_norm_backward(dev_dy, dev_x, dev_w, rstd, dev_residual, dev_residual);
          CHECK(same_bits(dev_residual.get(), sum.get()));
          if (dy_type == type) {
            ops.rms_norm_backward(dev_dy, dev_x, dev_w, rstd, {}, dev_dy);
            CHECK(same_bits(dev_dy.get(), dx.get()));
          }
        }
}

TEST("cuda norm: a row's numbers depend neither on its neighbours nor on its address") {
  Random random(4);
  for (const DType type : both_types)
    for (const int64_t columns : {3, 20, 64, 257, 1030, 4100, 9001}) {
      Ops& ops = device(type);
      const int64_t rows = 19;
      const std::vector<float> x = random.floats(rows * columns), dy = random.floats(rows * columns);
      Placed dev_x(ops, x, type, {rows, columns}), dev_dy(ops, dy, type, {rows, columns});
      Placed w(ops, random.floats(columns), DType::f32, {columns}),
          b(ops, random.floats(columns), DType::f32, {columns});
      Placed y(ops, type, {rows, columns}), rstd(ops, DType::f32, {rows}), dx(ops, type, {rows, columns});
      Placed z(ops, type, {rows, columns});
      ops.rms_norm(dev_x, w, eps, y, rstd);
      ops.rms_norm_backward(dev_dy, dev_x, w, rstd, {}, dx);
      ops.layer_norm(dev_x, w, b, eps, z);
      for (const int64_t row : {0, 7, 18})
        for (const int64_t shift : {0, 1}) {
          Placed x1(ops, row_of(x, row, columns), type, {1, columns}, shift);
          Placed dy1(ops, row_of(dy, row, columns), type, {1, columns}, shift);
          Placed y1(ops, type, {1, columns}, shift), rstd1(ops, DType::f32, {1}), dx1(ops, type, {1, columns}, shift);
          Placed z1(ops, type, {1, columns}, shift);
          ops.rms_norm(x1, w, eps, y1, rstd1);
          ops.rms_norm_backward(dy1, x1, w, rstd1, {}, dx1);
          ops.layer_norm(x1, w, b, eps, z1);
          CHECK(same_bits(y1.get(), row_of(y.get(), row, columns)));
          CHECK(rstd1.get()[0] == rstd.get()[static_cast<size_t>(row)]);
          CHECK(same_bits(dx1.get(), row_of(dx.get(), row, columns)));
          CHECK(same_bits(z1.get(), row_of(z.get(), row, columns)));
        }
    }
}

TEST("cuda norm: a row that is not finite stays visible, its neighbours stay right") {
  for (const DType type : both_types) {
    Ops& ops = device(type);
    std::vector<float> x(3 * 40, 1.0f);
    x[40 + 7] = std::numeric_limits<float>::quiet_NaN();
    Placed dev_x(ops, x, type, {3, 40}), w(ops, std::vector<float>(40, 1.0f), DType::f32, {40});
    Placed b(ops, std::vector<float>(40, 0.5f), DType::f32, {40}), y(ops, type, {3, 40}), rstd(ops, DType::f32, {3});
    ops.rms_norm(dev_x, w, 0, y, rstd);
    std::vector<float> out = y.get();
    for (size_t i = 0; i < out.size(); ++i) CHECK(i / 40 == 1 ? std::isnan(out[i]) : out[i] == 1);
    ops.layer_norm(dev_x, w, b, eps, y);
    out = y.get();
    for (size_t i = 0; i < out.size(); ++i) CHECK(i / 40 == 1 ? std::isnan(out[i]) : out[i] == 0.5f);
  }
}

TEST("cuda norm: no rows are no work, and shapes that do not fit are refused") {
  for (const DType type : both_types) {
    Ops& ops = device(type);
    Placed none(ops, type, {0, 24}), no_rstd(ops, DType::f32, {0}),
        w(ops, std::vector<float>(24, 1.0f), DType::f32, {24});
    ops.rms_norm(none, w, eps, none, no_rstd);
    ops.layer_norm(none, w, w, eps, none);
    ops.rms_norm_backward(none, none, w, no_rstd, none, none);
    CHECK(none.get().empty());
    Placed x(ops, type, {2, 20}), y(ops, type, {2, 20}), rstd(ops, DType::f32, {2});
    CHECK_ERROR(Code::internal, ("rms_norm", "[2, 20]", "f32[24]"), ops.rms_norm(x, w, eps, y, {}));
    CHECK_ERROR(Code::internal, ("layer_norm", "[2, 20]"), ops.layer_norm(x, w, w, eps, y));
    CHECK_ERROR(Code::internal, ("rms_norm_backward"), ops.rms_norm_backward(x, x, w, rstd, {}, y));
  }
}

}  // namespace fire::test
