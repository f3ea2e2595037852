// The CPU matrix product: against float64, and bit for bit against itself under every way of cutting it up.
#include "cpu/gemm.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/cpu_features.h"
#include "cpu/gemm_bench.h"
#include "cpu/onednn.h"
#include "cpu/thread_pool.h"
#include "tensor/error.h"
#include "variable.h"

using fire::bf16;
using fire::DType;
using fire::Error;
using namespace fire::cpu;

namespace {

enum class Layout { rows, columns, padded_rows, padded_columns, strided };

/// A random matrix stored in some type and layout, with the values it really holds.
class Matrix {
 public:
  Matrix(int64_t rows, int64_t cols, DType dtype, Layout layout, uint32_t seed) : rows_(rows), cols_(cols) {
    switch (layout) {
      case Layout::rows:
        strides(cols, 1);
        break;
      case Layout::columns:
        strides(1, rows);
        break;
      case Layout::padded_rows:
        strides(cols + 3, 1);
        break;
      case Layout::padded_columns:
        strides(1, rows + 5);
        break;
      case Layout::strided:
        strides(2 * cols + 1, 2);
        break;
    }
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    // Exactly the elements that may be touched: one more is an error under AddressSanitizer.
    const int64_t size = rows && cols ? (rows - 1) * row_stride_ + (cols - 1) * col_stride_ + 1 : 0;
    if (dtype == DType::f32) {
      f32_.resize(static_cast<size_t>(size));
      for (float& x : f32_) x = uniform(random);
      operand = {f32_.data(), dtype, row_stride_, col_stride_};
    } else {
      b16_.resize(static_cast<size_t>(size));
      for (bf16& x : b16_) x = fire::to_bf16(uniform(random));
      operand = {b16_.data(), dtype, row_stride_, col_stride_};
    }
  }

  float at(int64_t i, int64_t j) const {
    const size_t index = static_cast<size_t>(i * row_stride_ + j * col_stride_);
    return f32_.empty() ? fire::to_float(b16_[index]) : f32_[index];
  }

  /// The view of rows [row, ...).
  Operand from_row(int64_t row) const {
    const auto bytes = row * row_stride_ * static_cast<int64_t>(size_of(operand.dtype));
    return {static_cast<const char*>(operand.data) + bytes, operand.dtype, row_stride_, col_stride_};
  }

  Operand operand;

 private:
  void strides(int64_t row, int64_t col) {
    row_stride_ = row;
    col_stride_ = col;
  }

  int64_t rows_, cols_, row_stride_ = 0, col_stride_ = 0;
  std::vector<float> f32_;
  std::vector<bf16> b16_;
};

struct Case {
  int64_t m, n, k;
  float alpha = 1;
  float beta = 0;
  DType a = DType::f32, b = DType::f32;
  Layout a_layout = Layout::rows, b_layout = Layout::columns;
};

std::vector<float> random_c(const Case& t, int64_t ldc) {
  std::vector<float> c(static_cast<size_t>(t.m * ldc));
  std::mt19937 random(99);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  for (float& x : c) x = uniform(random);
  return c;
}

/// Compares one product with float64 sums of the operands (rounded to bf16 first where the arithmetic does that, so
/// only the f32 sums differ).
///
/// Tolerance: |a|, |b|, |c| <= 1. A chain of n f32 additions of terms bounded by 1 has an error of at most
/// n * (n + 1) / 2 * u in the worst case (u = 2^-24), but its terms have random signs, partial sums grow like
/// sqrt(n) / 3 and rounding errors add like a random walk: sqrt(n) * sqrt(n) / 3 * u = n * u / 3 is their standard
/// deviation. Six of them, 2 * K * u, are allowed, times |alpha|, plus 4 u for the final scaling and addition of a
/// result no larger than 4.
void compare(Gemm& gemm, const Case& t, Precision precision, bool serial) {
  const Matrix a(t.m, t.k, t.a, t.a_layout, 1), b(t.k, t.n, t.b, t.b_layout, 2);
  const int64_t ldc = t.n + 2;
  const std::vector<float> before = random_c(t, ldc);
  std::vector<float> c = before;
  if (serial) {
    gemm.serial(0, t.m, t.n, t.k, t.alpha, a.operand, b.operand, t.beta, c.data(), ldc);
  } else {
    gemm(t.m, t.n, t.k, t.alpha, a.operand, b.operand, t.beta, c.data(), ldc);
  }
  const auto value = [&](const Matrix& x, int64_t i, int64_t j) {
    return static_cast<double>(precision == Precision::bf16 ? fire::to_float(fire::to_bf16(x.at(i, j))) : x.at(i, j));
  };
  const double u = std::ldexp(1.0, -24);
  double worst = 0, allowed = 0;
  bool outside = false;
  for (int64_t i = 0; i < t.m; ++i) {
    for (int64_t j = 0; j < ldc; ++j) {
      const size_t at = static_cast<size_t>(i * ldc + j);
      if (j >= t.n) {
        outside |= c[at] != before[at];
        continue;
      }
      double sum = 0;
      for (int64_t p = 0; p < t.k; ++p) sum += value(a, i, p) * value(b, p, j);
      const double expected = static_cast<double>(t.alpha) * sum + static_cast<double>(t.beta) * before[at];
      const double tolerance =
          std::abs(t.alpha) * (2.0 * static_cast<double>(t.k) * u) + 4 * u * std::max(1.0, std::abs(expected));
      const double error = std::abs(static_cast<double>(c[at]) - expected);
      if (!(error - tolerance <= worst - allowed)) worst = error, allowed = tolerance;
    }
  }
  CHECK(!outside);
  if (worst > allowed || std::isnan(worst)) {
    fire::check::fail(__FILE__, __LINE__,
                      std::string(gemm.kernel_name()) + " " + std::to_string(t.m) + "x" + std::to_string(t.n) + "x" +
                          std::to_string(t.k) + " layouts " + std::to_string(static_cast<int>(t.a_layout)) + "," +
                          std::to_string(static_cast<int>(t.b_layout)) + " types " + name(t.a) + "," + name(t.b) +
                          ": off by " + std::to_string(worst));
  }
  fire::check::count_check();
}

/// Runs body(gemm, precision) for every kernel this processor has, with `threads` threads.
template <class F>
void for_every_kernel(int threads, F&& body) {
  ThreadPool pool(threads);
  for (const Isa isa : supported_isas()) {
    const fire::test::Variable forced("FIRE_CPU_ISA", name(isa));
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
      Gemm gemm(pool, precision, Backend::native);
      body(gemm, precision);
    }
  }
}

bool same_bits(const float* a, const float* b, int64_t n) {
  return std::memcmp(a, b, static_cast<size_t>(n) * sizeof(float)) == 0;
}

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST("bf16 rounding") {
  CHECK(fire::to_bf16(1.0f).bits == 0x3f80);
  CHECK(fire::to_bf16(1.00390625f).bits == 0x3f80);  // a tie: to even, down
  CHECK(fire::to_bf16(1.01171875f).bits == 0x3f82);  // a tie: to even, up
  CHECK(fire::to_bf16(3.4e38f).bits == 0x7f80);
  CHECK(std::isnan(fire::to_float(fire::to_bf16(kNaN))));
  CHECK(std::isnan(fire::to_float(fire::to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST("gemm: ragged shapes against float64") {
  for_every_kernel(2, [](Gemm& gemm, Precision precision) {
    for (const int64_t m : {1, 2, 3, 7, 13, 15, 16, 17, 33, 64, 129}) {
      for (const int64_t n : {1, 3, 8, 16, 17, 33, 64, 100, 129, 300}) {
        for (const int64_t k : {1, 3, 16, 17, 64, 100}) {
          compare(gemm, {m, n, k}, precision, (m + n + k) % 2 == 0);
        }
      }
    }
  });
}

TEST("gemm: more than one block of K and band of rows") {
  for_every_kernel(3, [](Gemm& gemm, Precision precision) {
    for (const int64_t k : {511, 512, 513, 1025, 2049, 2600}) {
      compare(gemm, {19, 45, k}, precision, false);
      compare(gemm, {19, 45, k, 0.5f, 1.0f}, precision, true);
    }
    compare(gemm, {1100, 40, 70, 1.0f, 1.0f}, precision, false);
    compare(gemm, {400, 40, 70, 1.0f, 1.0f}, precision, true);
  });
}

TEST("gemm: every layout and type of the operands") {
  const Layout layouts[] = {Layout::rows, Layout::columns, Layout::padded_rows, Layout::padded_columns,
                            Layout::strided};
  for_every_kernel(2, [&](Gemm& gemm, Precision precision) {
    for (const Layout a : layouts) {
      for (const Layout b : layouts) {
        for (const DType ta : {DType::f32, DType::bf16}) {
          for (const DType tb : {DType::f32, DType::bf16}) {
            compare(gemm, {29, 75, 83, 1.0f, 0.0f, ta, tb, a, b}, precision, false);
            compare(gemm, {14, 32, 64, 1.0f, 1.0f, ta, tb, a, b}, precision, true);
            compare(gemm, {64, 64, 96, 1.0f, 1.0f, ta, tb, a, b}, precision, false);
          }
        }
      }
    }
  });
}

TEST("gemm: alpha and beta") {
  for_every_kernel(1, [](Gemm& gemm, Precision precision) {
    for (const float alpha : {0.0f, 1.0f, -1.0f, 0.125f, 2.7f}) {
      for (const float beta : {0.0f, 1.0f, -1.0f, 0.3f}) {
        compare(gemm, {21, 39, 50, alpha, beta}, precision, true);
        compare(gemm, {65, 70, 600, alpha, beta}, precision, false);
      }
    }
  });
}

TEST("gemm: beta 0 does not read C") {
  for_every_kernel(2, [](Gemm& gemm, Precision) {
    const Matrix a(18, 530, DType::f32, Layout::rows, 1), b(530, 50, DType::f32, Layout::columns, 2);
    std::vector<float> c(18 * 50, kNaN);
    gemm(18, 50, 530, 1.0f, a.operand, b.operand, 0.0f, c.data(), 50);
    CHECK(std::none_of(c.begin(), c.end(), [](float x) { return std::isnan(x); }));
    c.assign(c.size(), kNaN);
    gemm(18, 50, 0, 1.0f, a.operand, b.operand, 0.0f, c.data(), 50);
    CHECK(std::all_of(c.begin(), c.end(), [](float x) { return x == 0; }));
  });
}

TEST("gemm: a NaN stays in its row and column") {
  for_every_kernel(2, [](Gemm& gemm, Precision) {
    std::vector<float> a(20 * 40, 1.0f), b(40 * 50, 1.0f), c(20 * 50);
    a[3 * 40 + 39] = kNaN;  // row 3
    b[7 * 40 + 1] = kNaN;   // column 7 of B = W^T
    gemm(20, 50, 40, 1.0f, {a.data(), DType::f32, 40, 1}, {b.data(), DType::f32, 1, 40}, 0.0f, c.data(), 50);
    bool right = true;
    for (int i = 0; i < 20; ++i) {
      for (int j = 0; j < 50; ++j) right &= std::isnan(c[static_cast<size_t>(i * 50 + j)]) == (i == 3 || j == 7);
    }
    CHECK(right);
  });
}

TEST("gemm: empty sides") {
  for_every_kernel(2, [](Gemm& gemm, Precision) {
    std::vector<float> c = {1, 2, 3, 4, 5, 6};
    const Operand none{nullptr, DType::f32, 1, 1};
    gemm(0, 3, 5, 1.0f, none, none, 0.0f, c.data(), 3);
    gemm(2, 0, 5, 1.0f, none, none, 0.0f, c.data(), 3);
    CHECK((c == std::vector<float>{1, 2, 3, 4, 5, 6}));
    gemm(2, 2, 0, 1.0f, none, none, 2.0f, c.data(), 3);
    CHECK((c == std::vector<float>{2, 4, 3, 8, 10, 6}));
    gemm.serial(0, 2, 2, 0, 1.0f, none, none, 0.5f, c.data(), 3);
    CHECK((c == std::vector<float>{1, 2, 3, 4, 5, 6}));
    gemm(2, 2, 9, 0.0f, none, none, 1.0f, c.data(), 3);
    CHECK((c == std::vector<float>{1, 2, 3, 4, 5, 6}));
  });
}

TEST("gemm: a row alone has the bits it has in a batch") {
  for_every_kernel(1, [](Gemm& gemm, Precision) {
    const int64_t m = 61, n = 197, k = 1100;
    for (const DType weights : {DType::f32, DType::bf16}) {
      const Matrix a(m, k, DType::f32, Layout::rows, 1), b(k, n, weights, Layout::columns, 2);
      std::vector<float> batch(static_cast<size_t>(m * n), 0.25f);
      gemm(m, n, k, 0.7f, a.operand, b.operand, 0.5f, batch.data(), n);
      bool same = true;
      for (int64_t i = 0; i < m; ++i) {
        std::vector<float> row(static_cast<size_t>(n), 0.25f);
        gemm(1, n, k, 0.7f, a.from_row(i), b.operand, 0.5f, row.data(), n);
        same &= same_bits(row.data(), batch.data() + i * n, n);
      }
      CHECK(same);
      // And columns: fewer of them.
      std::vector<float> narrow(static_cast<size_t>(m * 9), 0.25f);
      gemm(m, 9, k, 0.7f, a.operand, b.operand, 0.5f, narrow.data(), 9);
      for (int64_t i = 0; i < m; ++i) CHECK(same_bits(narrow.data() + i * 9, batch.data() + i * n, 9));
    }
  });
}

TEST("gemm: threads, serial and layout change no bit") {
  const int64_t m = 333, n = 270, k = 1300;
  for (const Isa isa : supported_isas()) {
    const fire::test::Variable forced("FIRE_CPU_ISA", name(isa));
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
      const Matrix a(m, k, DType::f32, Layout::rows, 1), b(k, n, DType::bf16, Layout::columns, 2);
      std::vector<float> expected;
      for (const int threads : {1, 2, 3, 8}) {
        ThreadPool pool(threads);
        Gemm gemm(pool, precision, Backend::native);
        std::vector<float> c(static_cast<size_t>(m * n), -0.5f);
        gemm(m, n, k, 1.5f, a.operand, b.operand, 1.0f, c.data(), n);
        if (expected.empty()) expected = c;
        CHECK(same_bits(c.data(), expected.data(), m * n));
        std::vector<float> alone(static_cast<size_t>(m * n), -0.5f);
        gemm.serial(threads - 1, m, n, k, 1.5f, a.operand, b.operand, 1.0f, alone.data(), n);
        CHECK(same_bits(alone.data(), expected.data(), m * n));
      }
      std::vector<bf16> transposed(static_cast<size_t>(k * n));
      for (int64_t p = 0; p < k; ++p) {
        for (int64_t j = 0; j < n; ++j) transposed[static_cast<size_t>(p * n + j)] = fire::to_bf16(b.at(p, j));
      }
      ThreadPool pool(2);
      Gemm gemm(pool, precision, Backend::native);
      std::vector<float> c(static_cast<size_t>(m * n), -0.5f);
      gemm(m, n, k, 1.5f, a.operand, {transposed.data(), DType::bf16, n, 1}, 1.0f, c.data(), n);
      CHECK(same_bits(c.data(), expected.data(), m * n));
    }
  }
}

TEST("gemm: a packed operand changes no bit, whole or in part") {
  for_every_kernel(3, [](Gemm& gemm, Precision) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {33, 513}, {100, 700}, {300, 1024}, {257, 1537}}) {
      for (const DType type : {DType::f32, DType::bf16}) {
        for (const Layout layout : {Layout::rows, Layout::columns, Layout::padded_columns}) {
          const Matrix b(k, n, type, layout, 2);
          const PackedMatrix packed = gemm.pack(k, n, b.operand);
          /// Rows [row, k) and columns [col, n) of B times m rows of A, B as it is and packed.
          const auto same = [&](int64_t m, int64_t row, int64_t col) {
            const Matrix a(m, k - row, DType::f32, Layout::rows, 1);
            Operand part = b.operand;
            part.data = static_cast<const char*>(part.data) +
                        (row * part.row_stride + col * part.col_stride) * static_cast<int64_t>(fire::size_of(type));
            Operand once = part;
            once.packed = {&packed, row, col};
            std::vector<float> expected(static_cast<size_t>(m * (n - col)), 0.5f), c = expected, alone = expected;
            gemm(m, n - col, k - row, 0.7f, a.operand, part, 0.5f, expected.data(), n - col);
            gemm(m, n - col, k - row, 0.7f, a.operand, once, 0.5f, c.data(), n - col);
            gemm.serial(2, m, n - col, k - row, 0.7f, a.operand, once, 0.5f, alone.data(), n - col);
            const auto size = static_cast<int64_t>(c.size());
            return same_bits(c.data(), expected.data(), size) && same_bits(alone.data(), expected.data(), size);
          };
          for (const int64_t m : {1, 8, 32, 130}) {
            CHECK(same(m, 0, 0));
            if (n > 64) CHECK(same(m, 0, 64) && same(m, 0, 5));  // off a panel: B is taken as it is
            if (k > 512) CHECK(same(m, 512, 0) && same(m, 100, 0));
          }
        }
      }
    }
  });
}

TEST("gemm: a packed operand is read instead of the other") {
  for_every_kernel(1, [](Gemm& gemm, Precision) {
    std::vector<float> b(64 * 64, 1.0f), a(64, 1.0f), c(64);
    Operand operand{b.data(), DType::f32, 64, 1};
    const PackedMatrix packed = gemm.pack(64, 64, operand);
    operand.packed = {&packed};
    b.assign(b.size(), 2.0f);
    gemm(1, 64, 64, 1.0f, {a.data(), DType::f32, 64, 1}, operand, 0.0f, c.data(), 64);
    CHECK(std::all_of(c.begin(), c.end(), [](float x) { return x == 64; }));
  });
}

TEST("gemm: serial calls from every worker at once") {
  ThreadPool pool(3);
  Gemm gemm(pool, Precision::f32, Backend::native);
  const int64_t m = 64, n = 343, k = 64;
  const Matrix a(m, k, DType::f32, Layout::rows, 1), b(k, n, DType::f32, Layout::columns, 2);
  std::vector<float> expected(static_cast<size_t>(m * n));
  gemm(m, n, k, 1.0f, a.operand, b.operand, 0.0f, expected.data(), n);
  std::vector<std::vector<float>> c(24, std::vector<float>(static_cast<size_t>(m * n)));
  pool.parallel_for(24, [&](int64_t task, int worker) {
    gemm.serial(worker, m, n, k, 1.0f, a.operand, b.operand, 0.0f, c[static_cast<size_t>(task)].data(), n);
  });
  for (const auto& x : c) CHECK(same_bits(x.data(), expected.data(), m * n));
}

TEST("cpu features: forcing an instruction set") {
  {
    const fire::test::Variable forced("FIRE_CPU_ISA", "portable");
    CHECK(selected_isa() == Isa::portable);
    ThreadPool pool(1);
    CHECK(std::string(Gemm(pool, Precision::f32, Backend::automatic).kernel_name()) == "portable-f32");
  }
  const fire::test::Variable forced("FIRE_CPU_ISA", "sse9");
  CHECK_THROWS(Error, selected_isa());
}

TEST("onednn: agrees with float64, or says why it is absent") {
  ThreadPool pool(2);
  if (!onednn().available) {
    CHECK(!onednn().detail.empty());
    CHECK_THROWS(Error, Gemm(pool, Precision::f32, Backend::onednn));
    return;
  }
  Gemm gemm(pool, Precision::f32, Backend::onednn);
  CHECK(std::string(gemm.backend_name()) == "onednn");
  for (const Layout a : {Layout::rows, Layout::columns, Layout::padded_rows, Layout::strided}) {
    for (const Layout b : {Layout::rows, Layout::columns, Layout::padded_columns}) {
      compare(gemm, {130, 600, 200, 0.5f, 1.0f, DType::f32, DType::f32, a, b}, Precision::f32, false);
    }
  }
  const Matrix a(128, 128, DType::f32, Layout::rows, 1), b(128, 128, DType::f32, Layout::columns, 2);
  std::vector<float> c(128 * 128, kNaN);
  gemm(128, 128, 128, 1.0f, a.operand, b.operand, 0.0f, c.data(), 128);
  CHECK(std::none_of(c.begin(), c.end(), [](float x) { return std::isnan(x); }));
}

TEST("gemm bench: one row per arithmetic, with a ceiling") {
  const std::vector<GemmBenchRow> rows = bench_gemm(1, 0.02, {{16, 64, 64}});
  CHECK(rows.size() >= 3);
  for (const GemmBenchRow& row : rows) {
    CHECK(row.m == 16 && row.n == 64 && row.k == 64);
    CHECK(row.gflops > 0);
    CHECK(row.ceiling > 0);
  }
}
