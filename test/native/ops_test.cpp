// Every CPU operation but the matrix product (gemm_test.cpp) against float64, on ragged sizes, and bit for bit against
// itself under other numbers of threads. u = 2^-24 below is the rounding unit of f32.
#include <cmath>
#include <functional>

#include "cpu/cpu_ops.h"
#include "fixture.h"
#include "objective/row_summary.h"

using namespace fire;
using namespace fire::test;

namespace {

using Floats = std::vector<float>;

cpu::CpuOps& ops() {
  static cpu::CpuOps instance(1, cpu::Precision::f32, cpu::Backend::native);
  return instance;
}

const double u = std::ldexp(1.0, -24);

/// Rows and widths around the SIMD width and the slice size of the thread pool.
const std::pair<int64_t, int64_t> ragged[] = {{1, 1}, {3, 7}, {5, 16}, {2, 33}, {7, 129}, {300, 64}};

/// |a - b| <= tolerance * max(1, |b|) for every element.
void check_all(const char* file, int line, const Floats& a, const std::vector<double>& b, double tolerance) {
  check::count_check();
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double e = std::abs(a[i] - b[i]) / std::max(1.0, std::abs(b[i]));
    worst = std::isnan(e) ? INFINITY : std::max(worst, e);
  }
  if (a.size() != b.size() || worst > tolerance)
    check::fail(file, line,
                "off by " + std::to_string(worst / u) + " u, allowed " + std::to_string(tolerance / u) + " u");
}
#define CHECK_ALL(a, b, tolerance) check_all(__FILE__, __LINE__, a, b, tolerance)

double sigmoid64(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

TEST("ops: rms_norm and its backward") {
  Random random(1);
  for (const auto& [rows, n] : ragged) {
    Floats x = random.floats(rows * n, -3, 3), w = random.floats(n, 0.5, 1.5), dy = random.floats(rows * n);
    Floats y(x.size()), rstd(static_cast<size_t>(rows)), dx = random.floats(rows * n), before = dx;
    const float eps = 1e-6f;
    ops().rms_norm(view(x, {rows, n}), view(w), eps, view(y, {rows, n}), view(rstd));
    ops().rms_norm_backward(view(dy, {rows, n}), view(x, {rows, n}), view(w), view(rstd), view(dx, {rows, n}),
                            view(dx, {rows, n}));
    std::vector<double> want_y, want_r, want_dx;
    for (int64_t i = 0; i < rows; ++i) {
      double squares = 0, dot = 0;
      for (int64_t c = 0; c < n; ++c) {
        const size_t at = static_cast<size_t>(i * n + c);
        squares += static_cast<double>(x[at]) * x[at];
        dot += static_cast<double>(w[static_cast<size_t>(c)]) * dy[at] * x[at];
      }
      const double r = 1 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(eps));
      want_r.push_back(r);
      for (int64_t c = 0; c < n; ++c) {
        const size_t at = static_cast<size_t>(i * n + c);
        const double weight = w[static_cast<size_t>(c)];
        want_y.push_back(weight * x[at] * r);
        want_dx.push_back(before[at] + r * (weight * dy[at] - x[at] * r * r * dot / static_cast<double>(n)));
      }
    }
    CHECK_ALL(y, want_y, 16 * u);  // sums over at most 16 SIMD lanes, then a root, a quotient and two products
    CHECK_ALL(rstd, want_r, 16 * u);
    CHECK_ALL(dx, want_dx,
              64 * u * (1 + *std::max_element(want_r.begin(), want_r.end())));  // differences of terms up to rstd
    Floats in_place = dy, apart(dy.size());
    ops().rms_norm_backward(view(dy), view(x), view(w), view(rstd), {}, view(apart));
    ops().rms_norm_backward(view(in_place), view(x), view(w), view(rstd), {}, view(in_place));
    CHECK(same_bits(in_place, apart));
  }
}

TEST("ops: layer_norm, also with bf16 weights") {
  Random random(2);
  for (const auto& [rows, n] : ragged) {
    Floats x = random.floats(rows * n, -2, 5), y(x.size());
    std::vector<bf16> w, b;
    for (int64_t c = 0; c < n; ++c)
      w.push_back(to_bf16(random.uniform(0.5, 1.5))), b.push_back(to_bf16(random.uniform()));
    ops().layer_norm(view(x, {rows, n}), view(w, {n}), view(b, {n}), 1e-6f, view(y, {rows, n}));
    std::vector<double> want;
    for (int64_t i = 0; i < rows; ++i) {
      double mean = 0, variance = 0;
      for (int64_t c = 0; c < n; ++c) mean += x[static_cast<size_t>(i * n + c)] / static_cast<double>(n);
      for (int64_t c = 0; c < n; ++c)
        variance += std::pow(x[static_cast<size_t>(i * n + c)] - mean, 2) / static_cast<double>(n);
      for (int64_t c = 0; c < n; ++c)
        want.push_back(to_float(w[static_cast<size_t>(c)]) * (x[static_cast<size_t>(i * n + c)] - mean) /
                           std::sqrt(variance + 1e-6) +
                       to_float(b[static_cast<size_t>(c)]));
    }
    CHECK_ALL(y, want, 64 * u);  // x - mean loses up to three bits
  }
}

TEST("ops: rope rotates, and its transpose rotates back") {
  Random random(3);
  for (const int64_t d : {2, 8, 24, 64}) {
    const int64_t tokens = 5, heads = 3, half = d / 2;
    Floats x = random.floats(tokens * heads * d), start = x, cos(static_cast<size_t>(tokens * d)), sin(cos.size());
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t i = 0; i < d; ++i) {
        const double angle = static_cast<double>(t + 1) * (1 + static_cast<double>(i % half)) * 0.7;
        cos[static_cast<size_t>(t * d + i)] = static_cast<float>(std::cos(angle));
        sin[static_cast<size_t>(t * d + i)] = static_cast<float>(std::sin(angle));
      }
    ops().rope(view(x, {tokens, heads, d}), view(cos, {tokens, d}), view(sin, {tokens, d}));
    std::vector<double> want;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < d; ++i) {
          const float* row = start.data() + (t * heads + h) * d;
          const double rotated = i < half ? -row[i + half] : row[i - half];
          want.push_back(static_cast<double>(row[i]) * cos[static_cast<size_t>(t * d + i)] +
                         rotated * sin[static_cast<size_t>(t * d + i)]);
        }
    CHECK_ALL(x, want, 4 * u);  // two products and a sum below 2
    ops().rope_backward(view(x, {tokens, heads, d}), view(cos, {tokens, d}), view(sin, {tokens, d}));
    CHECK_ALL(x, std::vector<double>(start.begin(), start.end()), 12 * u);  // cos^2 + sin^2 is 1 to 2 u
  }
}

TEST("ops: rotary_table holds cos and sin of position times frequency, axis by axis") {
  std::vector<int32_t> positions{0, 5, 900, 7, 0, 31}, axis{0, 1, 1};
  Floats frequency{1.0f, 0.5f, 0.001f}, cos(18), sin(18);
  Tensor at(positions.data(), DType::i32, {2, 3});
  ops().rotary_table(at, view(axis), view(frequency), view(cos, {3, 6}), view(sin, {3, 6}));
  for (size_t t = 0; t < 3; ++t)
    for (size_t i = 0; i < 6; ++i) {
      const size_t f = i % 3;
      const float angle = static_cast<float>(positions[static_cast<size_t>(axis[f]) * 3 + t]) * frequency[f];
      CHECK_NEAR(cos[t * 6 + i], std::cos(static_cast<double>(angle)), u);
      CHECK_NEAR(sin[t * 6 + i], std::sin(static_cast<double>(angle)), u);
    }
}

TEST("ops: norm_rope is the norm and the rotation, and its backward is their transpose") {
  Random random(33);
  const int64_t tokens = 5, heads = 3, d = 24;
  const size_t size = static_cast<size_t>(tokens * heads * d);
  Floats x = random.floats(tokens * heads * d, -2, 2), w = random.floats(d, 0.5, 1.5),
         dy = random.floats(tokens * heads * d);
  Floats cos(static_cast<size_t>(tokens * d)), sin(cos.size()), y(size), apart(size), rstd(15), dx(size);
  for (size_t i = 0; i < cos.size(); ++i) {
    const double angle = static_cast<double>(i / 24) * 0.7 * static_cast<double>(1 + i % 12);
    cos[i] = static_cast<float>(std::cos(angle));
    sin[i] = static_cast<float>(std::sin(angle));
  }
  const Tensor shape = view(x, {tokens, heads, d}), ct = view(cos, {tokens, d}), st = view(sin, {tokens, d});
  const auto forward = [&](Floats& in, Floats& out) {
    ops().norm_rope(view(in, {tokens, heads, d}), view(w), 1e-6f, ct, st, view(out, {tokens, heads, d}), view(rstd));
  };
  forward(x, y);
  ops().rms_norm(shape, view(w), 1e-6f, view(apart, {tokens, heads, d}), {});
  ops().rope(view(apart, {tokens, heads, d}), ct, st);
  CHECK(same_bits(y, apart));
  ops().norm_rope_backward(view(dy, {tokens, heads, d}), shape, view(w), view(rstd), ct, st,
                           view(dx, {tokens, heads, d}));
  // <dy, y(x + h e) - y(x - h e)> / 2h = dx . e along a random direction; f32 differences of h = 1e-2 are good to 1e-3.
  Floats e = random.floats(tokens * heads * d), high(size), low(size);
  const float h = 1e-2f;
  for (size_t i = 0; i < size; ++i) high[i] = x[i] + h * e[i], low[i] = x[i] - h * e[i];
  Floats y_high(size), y_low(size);
  forward(high, y_high);
  forward(low, y_low);
  double difference = 0, product = 0, scale = 0;
  for (size_t i = 0; i < size; ++i) {
    difference +=
        static_cast<double>(dy[i]) * (static_cast<double>(y_high[i]) - y_low[i]) / (2 * static_cast<double>(h));
    product += static_cast<double>(dx[i]) * e[i];
    scale += std::abs(static_cast<double>(dx[i]) * e[i]);
  }
  CHECK_NEAR(difference, product, 1e-3 * scale);
  Floats in_place = dy;
  const Tensor it = view(in_place, {tokens, heads, d});
  forward(x, y);  // rstd of x again
  ops().norm_rope_backward(it, shape, view(w), view(rstd), ct, st, it);
  CHECK(same_bits(in_place, dx));
}

TEST("ops: swiglu and its backward, far out too") {
  Random random(4);
  Floats gate = random.floats(40000, -8, 8), up = random.floats(40000, -2, 2), dy = random.floats(40000),
         y(gate.size());
  const float extremes[] = {-1000, -90, -87.5f, 0, 87.5f, 90, 1000};
  std::copy(std::begin(extremes), std::end(extremes), gate.begin());
  ops().swiglu(view(gate), view(up), view(y));
  Floats dgate = gate, dup = up;
  ops().swiglu_backward(view(dy), view(dgate), view(dup), view(dgate), view(dup));
  std::vector<double> want, want_dgate, want_dup;
  for (size_t i = 0; i < gate.size(); ++i) {
    const double g = gate[i], s = sigmoid64(g);
    want.push_back(g * s * up[i]);
    want_dgate.push_back(dy[i] * up[i] * (s + g * s * (1 - s)));
    want_dup.push_back(dy[i] * g * s);
  }
  CHECK_ALL(y, want, 16 * u);  // exp to 4 u, then a handful of roundings
  CHECK_ALL(dgate, want_dgate, 64 * u);
  CHECK_ALL(dup, want_dup, 16 * u);
}

TEST("ops: the forms of gelu") {
  Random random(5);
  Floats x = random.floats(20001, -9, 9);
  x[0] = 0, x[1] = -200, x[2] = 200;
  Floats tanh_form = x, erf_form = x, quick_form = x;
  ops().gelu(view(tanh_form), Gelu::tanh);
  ops().gelu(view(erf_form), Gelu::erf);
  ops().gelu(view(quick_form), Gelu::quick);
  std::vector<double> want_tanh, want_erf, want_quick;
  for (const double v : x) {
    want_tanh.push_back(0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))));
    want_erf.push_back(0.5 * v * std::erfc(-v / std::sqrt(2.0)));
    want_quick.push_back(v / (1 + std::exp(-1.702 * v)));
  }
  CHECK_ALL(tanh_form, want_tanh,
            64 * u);  // the exponent, up to 100, is rounded: e^(100 u) where the result is not tiny
  CHECK_ALL(erf_form, want_erf, 16 * u);
  CHECK_ALL(quick_form, want_quick, 64 * u);
}

TEST("ops: embedding, gather, scatter, add") {
  Random random(6);
  const int64_t vocab = 50, width = 37;
  Floats table = random.floats(vocab * width);
  std::vector<bf16> half;
  for (const float x : table) half.push_back(to_bf16(x));
  std::vector<int32_t> ids{3, 49, 0, 3};
  Floats y(ids.size() * static_cast<size_t>(width)), yh(y.size());
  ops().embedding(view(ids), view(table, {vocab, width}), view(y, {4, width}));
  ops().embedding(view(ids), view(half, {vocab, width}), view(yh, {4, width}));
  bool exact = true;
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t from = static_cast<size_t>(ids[i / 37]) * 37 + i % 37;
    exact &= y[i] == table[from] && yh[i] == to_float(half[from]);
  }
  CHECK(exact);

  std::vector<int32_t> rows{8, 2, 5};
  Floats some(3 * 37), target(10 * 37, 1.0f);
  ops().gather_rows(view(table, {vocab, width}), view(rows), view(some, {3, width}));
  ops().scatter_rows(view(some, {3, width}), view(rows), view(target, {10, width}));
  ops().scatter_add_rows(view(some, {3, width}), view(rows), view(target, {10, width}));
  ops().add(view(some, {3, width}), view(target).slice(0, 3 * width));
  exact = true;
  for (size_t r = 0; r < 10; ++r)
    for (size_t c = 0; c < 37; ++c) {
      const bool hit = r == 8 || r == 2 || r == 5;
      float want = hit ? 2 * table[r * 37 + c] : 1.0f;
      if (r < 3) want += some[r * 37 + c];
      exact &= target[r * 37 + c] == want;
    }
  CHECK(exact);
}

TEST("ops: linear with a bias, and its backward") {
  Random random(7);
  for (const auto& [rows, in] : ragged) {
    const int64_t out = 19;
    Floats x = random.floats(rows * in), w = random.floats(out * in), b = random.floats(out),
           y(static_cast<size_t>(rows * out));
    Floats dy = random.floats(rows * out), dx = random.floats(rows * in), before = dx;
    ops().linear(view(x, {rows, in}), view(w, {out, in}), view(b), {}, view(y, {rows, out}));
    ops().linear_backward(view(dy, {rows, out}), view(w, {out, in}), view(dx, {rows, in}), true);
    std::vector<double> want_y, want_dx(before.begin(), before.end());
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t o = 0; o < out; ++o) {
        double sum = b[static_cast<size_t>(o)];
        for (int64_t c = 0; c < in; ++c) {
          sum += static_cast<double>(x[static_cast<size_t>(i * in + c)]) * w[static_cast<size_t>(o * in + c)];
          want_dx[static_cast<size_t>(i * in + c)] +=
              static_cast<double>(dy[static_cast<size_t>(i * out + o)]) * w[static_cast<size_t>(o * in + c)];
        }
        want_y.push_back(sum);
      }
    CHECK_ALL(y, want_y, 2 * static_cast<double>(in) * u + 8 * u);  // see gemm_test.cpp
    CHECK_ALL(dx, want_dx, 2 * static_cast<double>(out) * u + 8 * u);
  }
}

namespace {

/// Rows of logits under policy and reference, summarised by one call over all columns.
struct Summarised {
  std::vector<SliceStatistics> statistics;
  std::vector<RowSummary> rows;
  Floats target_logits;
};

Summarised summarise(Floats& z, Floats& zr, int64_t rows, std::vector<int32_t> targets) {
  const int64_t vocab = static_cast<int64_t>(z.size()) / rows, slices = vocabulary_slices(vocab);
  const int64_t count = static_cast<int64_t>(targets.size() / 2);
  Summarised s{std::vector<SliceStatistics>(static_cast<size_t>(rows * slices), SliceStatistics{7, 7, 7, 7, 7, 7}),
               {},
               Floats(static_cast<size_t>(2 * count), 7)};
  const Tensor reference = zr.empty() ? Tensor() : view(zr, {rows, vocab});
  ops().preference_statistics(view(z, {rows, vocab}), reference, 0, view(targets).reshape({count, 2}),
                              Tensor(s.statistics.data(), DType::f64, {rows, slices, 6}),
                              view(s.target_logits, {2, count}));
  for (int64_t r = 0; r < rows; ++r)
    s.rows.push_back(summarize_row(
        std::span(s.statistics).subspan(static_cast<size_t>(r * slices), static_cast<size_t>(slices)), !zr.empty()));
  return s;
}

double lse_of(const float* z, int64_t n) {
  const double max = *std::max_element(z, z + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(z[i] - max);
  return max + std::log(sum);
}

/// KL(a || b) of softmaxes.
double kl_of(const float* a, const float* b, int64_t n) {
  const double la = lse_of(a, n), lb = lse_of(b, n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(a[i] - la) * ((a[i] - la) - (b[i] - lb));
  return sum;
}

}  // namespace

TEST("ops: preference_statistics on a wide vocabulary") {
  Random random(8);
  const int64_t rows = 3, vocab = 20011;  // two whole slices and a part of one
  Floats z = random.floats(rows * vocab, -8, 8), zr = z;
  for (float& x : zr) x += random.uniform(-1e-2f, 1e-2f);
  const std::vector<int32_t> targets{0, 5, 2, 20010, 1, 8192, 2, 0};
  const Summarised s = summarise(z, zr, rows, targets);
  for (size_t k = 0; k < 4; ++k) {
    const size_t at =
        static_cast<size_t>(targets[2 * k]) * static_cast<size_t>(vocab) + static_cast<size_t>(targets[2 * k + 1]);
    CHECK(s.target_logits[k] == z[at] && s.target_logits[4 + k] == zr[at]);
  }
  for (int64_t i = 0; i < rows; ++i) {
    const float *p = z.data() + i * vocab, *q = zr.data() + i * vocab;
    const RowSummary& row = s.rows[static_cast<size_t>(i)];
    // An exponential is off by the rounding of its argument (below 16) and 4 u; the errors average out.
    CHECK_NEAR(row.lse, lse_of(p, vocab), 12 * u);
    CHECK_NEAR(row.reference_lse, lse_of(q, vocab), 12 * u);
    // A KL of 3e-5. The f32 sum of its terms would carry 1e-6.
    const double forward = kl_of(q, p, vocab), reverse = kl_of(p, q, vocab);
    CHECK(forward > 1e-5 && forward < 1e-4);
    CHECK_NEAR(row.forward_kl, forward, 0.01 * forward);
    CHECK_NEAR(row.reverse_kl, reverse, 0.01 * reverse);
  }
  // Without a reference its places are left alone.
  Floats none;
  const Summarised alone = summarise(z, none, rows, targets);
  for (size_t i = 0; i < alone.statistics.size(); ++i) {
    const SliceStatistics &a = alone.statistics[i], &b = s.statistics[i];
    CHECK(a.max_p == b.max_p && std::abs(a.sum_p - b.sum_p) <= 1e-12 * b.sum_p);
    CHECK(a.cross_p == 7 && a.max_q == 7 && a.sum_q == 7 && a.cross_q == 7);
  }
  for (size_t k = 0; k < 4; ++k) CHECK(alone.target_logits[k] == s.target_logits[k] && alone.target_logits[4 + k] == 7);
}

TEST("ops: preference_statistics of logits far apart, equal, shifted, and not finite") {
  Random random(11);
  const int64_t vocab = 9003;
  const Floats base = random.floats(vocab, -5, 5);
  Floats z = base, zr = base;
  CHECK(summarise(z, zr, 1, {0, 1}).rows[0].forward_kl == 0 && summarise(z, zr, 1, {0, 1}).rows[0].reverse_kl == 0);
  for (float& x : zr) x += 1e4f;
  Summarised s = summarise(z, zr, 1, {0, 1});
  CHECK_NEAR(s.rows[0].reference_lse, lse_of(zr.data(), vocab), 12 * u);
  CHECK_NEAR(s.rows[0].forward_kl, kl_of(zr.data(), z.data(), vocab), 1e-6);
  CHECK_NEAR(s.rows[0].reverse_kl, kl_of(z.data(), zr.data(), vocab), 1e-6);

  z.assign(static_cast<size_t>(vocab), -200), zr = z;
  z[9000] = 0, zr[1] = 0;
  s = summarise(z, zr, 1, {0, 1});
  CHECK_NEAR(s.rows[0].forward_kl, 200, 1e-4);
  CHECK_NEAR(s.rows[0].reverse_kl, 200, 1e-4);

  for (const float bad : {NAN, INFINITY}) {
    z = zr = base;
    z[8500] = bad;
    CHECK(!std::isfinite(summarise(z, zr, 1, {0, 1}).rows[0].lse));
    CHECK(!std::isfinite(summarise(zr, z, 1, {0, 1}).rows[0].forward_kl));
  }
  z.assign(static_cast<size_t>(vocab), -INFINITY);
  CHECK(!std::isfinite(summarise(z, zr, 1, {0, 1}).rows[0].lse));
  // A slice that neither allows adds nothing, and its gradient is 0.
  z = zr = base;
  for (float& x : zr) x += random.uniform();
  std::fill(z.begin(), z.begin() + 8192, -INFINITY), std::fill(zr.begin(), zr.begin() + 8192, -INFINITY);
  s = summarise(z, zr, 1, {0, 1});
  CHECK_NEAR(s.rows[0].lse, lse_of(z.data() + 8192, vocab - 8192), 12 * u);
  CHECK_NEAR(s.rows[0].forward_kl, kl_of(zr.data() + 8192, z.data() + 8192, vocab - 8192), 1e-6);
  Floats row{static_cast<float>(s.rows[0].lse), static_cast<float>(s.rows[0].reference_lse), 0.5f, 0.1f, 0.1f, 0.2f};
  std::vector<int32_t> none;
  Floats nothing;
  ops().preference_backward(view(z, {1, vocab}), view(zr, {1, vocab}), 0, view(row, {1, 6}),
                            Tensor(none.data(), DType::i32, {0, 2}), view(nothing));
  CHECK(std::all_of(z.begin(), z.begin() + 8192, [](float x) { return x == 0; }));
  CHECK(std::all_of(z.begin() + 8192, z.end(), [](float x) { return std::isfinite(x) && x != 0; }));
}

TEST("ops: preference_backward against float64; rows without a KL weight do not read the reference") {
  Random random(12);
  const int64_t rows = 3, vocab = 5003;
  const Floats start = random.floats(rows * vocab, -6, 6);
  Floats z = start, zr = start;
  for (float& x : zr) x += random.uniform();
  const Summarised s = summarise(z, zr, rows, {0, 1});
  std::vector<RowGradient> g;
  for (const RowSummary& r : s.rows)
    g.push_back({static_cast<float>(r.lse), static_cast<float>(r.reference_lse), 0.25f, 0.01f, 0.02f,
                 static_cast<float>(r.reverse_kl)});
  g[1].forward_kl = g[1].reverse_kl = 0;
  g[2].mass = 0;
  std::vector<int32_t> targets{0, 7, 0, 7, 1, 5002, 0, 9};
  Floats coefficients{0.125f, 0.0625f, 0.25f, 0.0625f};
  std::vector<double> want(z.size());
  for (int64_t r = 0; r < rows; ++r) {
    const float *p = start.data() + r * vocab, *q = zr.data() + r * vocab;
    const RowGradient& w = g[static_cast<size_t>(r)];
    const double lse = lse_of(p, vocab), reference_lse = lse_of(q, vocab), kl = kl_of(p, q, vocab);
    for (int64_t k = 0; k < vocab; ++k) {
      const double log_p = p[k] - lse, log_q = q[k] - reference_lse, pk = std::exp(log_p);
      want[static_cast<size_t>(r * vocab + k)] =
          -w.mass * pk + w.forward_kl * (pk - std::exp(log_q)) + w.reverse_kl * pk * (log_p - log_q - kl);
    }
  }
  for (size_t k = 0; k < 4; ++k)
    want[static_cast<size_t>(targets[2 * k]) * static_cast<size_t>(vocab) + static_cast<size_t>(targets[2 * k + 1])] +=
        coefficients[k];
  std::fill(zr.begin() + vocab, zr.begin() + 2 * vocab, NAN);
  ops().preference_backward(view(z, {rows, vocab}), view(zr, {rows, vocab}), 0, Tensor(g.data(), DType::f32, {rows, 6}),
                            view(targets).reshape({4, 2}), view(coefficients));
  CHECK_ALL(z, want, 4 * u);  // coefficients below 1, probabilities off by the rounding of log p (below 16)
  for (size_t r = 0; r < 3; ++r) {
    double sum = 0;
    for (size_t k = 0; k < 5003; ++k) sum += z[r * 5003 + k];
    CHECK_NEAR(sum, 0, 16 * u);
  }
  // In chunks of columns: the same bits.
  Floats all = random.floats(2 * 16389, -6, 6), chunked;
  Floats whole = all, weights{9, 9, 0.25f, 0, 0, 0, 9, 9, 0.5f, 0, 0, 0};
  targets = {0, 8191, 1, 8192, 1, 16388, 0, 8192};
  ops().preference_backward(view(whole, {2, 16389}), {}, 0, view(weights, {2, 6}), view(targets).reshape({4, 2}),
                            view(coefficients));
  for (const int64_t begin : {int64_t{0}, vocabulary_slice, 2 * vocabulary_slice}) {
    const int64_t width = std::min(vocabulary_slice, 16389 - begin);
    Floats part;
    for (int64_t r = 0; r < 2; ++r)
      part.insert(part.end(), all.begin() + r * 16389 + begin, all.begin() + r * 16389 + begin + width);
    ops().preference_backward(view(part, {2, width}), {}, begin, view(weights, {2, 6}), view(targets).reshape({4, 2}),
                              view(coefficients));
    for (int64_t r = 0; r < 2; ++r)
      CHECK(std::equal(part.begin() + r * width, part.begin() + (r + 1) * width, whole.begin() + r * 16389 + begin));
  }
}

TEST("ops: adamw returns the norm in float64 and changes nothing when it is not finite") {
  Random random(9);
  for (const int64_t n : {0, 1, 5, 65536, 200003}) {
    Floats g = random.floats(n, -1e18f, 1e18f), p(g.size(), 1), m(g.size()), v(g.size());
    const double want = norm(g.data(), n);
    CHECK_NEAR(ops().adamw({1e-2, 0.9, 0.98, 1e-8, 0, 1, 1}, view(p), view(g), view(m), view(v)), want, 1e-12 * want);
    if (n == 0) continue;
    Floats before = p;
    g.back() = NAN;
    CHECK(std::isnan(ops().adamw({1e-2, 0.9, 0.98, 1e-8, 0, 2, 1}, view(p), view(g), view(m), view(v))));
    CHECK(same_bits(p, before));
  }
}

TEST("ops: adamw against float64 over several steps, clipped to a norm") {
  Random random(10);
  const int64_t n = 1003;
  Floats p = random.floats(n), m(p.size()), v(p.size());
  std::vector<double> p64(p.begin(), p.end()), m64(p.size()), v64(p.size());
  for (int64_t step = 1; step <= 6; ++step) {
    Floats g = random.floats(n, -0.1f, 0.1f);  // a norm of 1.8
    g[0] = 0;
    const AdamW s{1e-2, 0.9, 0.98, 1e-8, 0.05, step, step % 3 == 0 ? 0 : 0.9};
    const double clip = step % 3 == 0 ? 1 : 0.9 / (norm(g.data(), n) + 1e-6);
    ops().adamw(s, view(p), view(g), view(m), view(v));
    for (size_t i = 0; i < p.size(); ++i) {
      const double grad = clip * g[i];
      m64[i] = s.beta1 * m64[i] + (1 - s.beta1) * grad;
      v64[i] = s.beta2 * v64[i] + (1 - s.beta2) * grad * grad;
      const double m_hat = m64[i] / (1 - std::pow(s.beta1, static_cast<double>(step)));
      const double v_hat = v64[i] / (1 - std::pow(s.beta2, static_cast<double>(step)));
      p64[i] = p64[i] * (1 - s.lr * s.weight_decay) - s.lr * m_hat / (std::sqrt(v_hat) + s.eps);
    }
    CHECK_ALL(p, p64, 8 * u * static_cast<double>(step));  // parameters below 1 are rounded a few times per step
    CHECK_ALL(m, m64, 8 * u);
  }
}
