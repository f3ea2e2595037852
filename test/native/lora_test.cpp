// LoRA forward and backward against float64, its dropout masks, and all operations under one, two and three threads.
#include <cmath>

#include "cpu/cpu_ops.h"
#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

using Floats = std::vector<float>;

cpu::CpuOps& ops() {
  static cpu::CpuOps instance(1, cpu::Precision::f32, cpu::Backend::native);
  return instance;
}

/// The mask that the operations apply, 0 or 1/(1-p), read off a LoRA whose A is the identity.
Floats mask_of(int64_t rows, int64_t n, const Dropout& dropout) {
  Floats x(static_cast<size_t>(rows * n), 1.0f), a(static_cast<size_t>(n * n)), b(static_cast<size_t>(n), 0.0f);
  for (int64_t i = 0; i < n; ++i) a[static_cast<size_t>(i * n + i)] = 1;
  Floats h(x.size()), y(static_cast<size_t>(rows));
  Floats w(static_cast<size_t>(n));
  ops().lora_linear(view(x, {rows, n}), view(w, {1, n}), {}, {view(a, {n, n}), view(b, {1, n}), 1.0f}, dropout, {},
                    view(h, {rows, n}), view(y, {rows, 1}));
  return h;
}

struct Problem {
  int64_t rows, in, out, r;
  Floats x, w, a, b, residual, y, dy, da, db, dx;
  LoraView lora(float scale) { return {view(a, {r, in}), view(b, {out, r}), scale}; }
};

Problem make_problem(int64_t rows, int64_t in, int64_t out, int64_t r) {
  Random random(static_cast<uint32_t>(rows + in));
  return {rows,
          in,
          out,
          r,
          random.floats(rows * in),
          random.floats(out * in),
          random.floats(r * in),
          random.floats(out * r),
          random.floats(rows * out),
          Floats(static_cast<size_t>(rows * out)),
          random.floats(rows * out),
          random.floats(r * in),
          random.floats(out * r),
          random.floats(rows * in)};
}

double relative(const Floats& got, const std::vector<double>& want) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(got[i] - want[i], 2);
    size += want[i] * want[i];
  }
  return std::sqrt(difference / size);
}

}  // namespace

TEST("lora: forward and backward against float64, with and without dropout") {
  for (const auto& [rows, in] : {std::pair<int64_t, int64_t>{1, 3}, {5, 16}, {33, 70}, {7, 129}})
    for (const float rate : {0.0f, 0.4f}) {
      Problem p = make_problem(rows, in, 11, 6);
      const Problem start = p;
      const Dropout dropout{rate, 99, 5, 2};
      const Floats mask = rate > 0 ? mask_of(rows, in, dropout) : Floats(p.x.size(), 1.0f);
      const float scale = 1.75f;
      Floats h(static_cast<size_t>(rows * p.r));
      Floats dh(h.size());
      const Tensor w = view(p.w, {p.out, in});
      ops().lora_linear(view(p.x, {rows, in}), w, {}, p.lora(scale), dropout, view(p.residual, {rows, p.out}),
                        view(h, {rows, p.r}), view(p.y, {rows, p.out}));
      ops().lora_linear_backward(view(p.dy, {rows, p.out}), view(p.x, {rows, in}), w, p.lora(scale), dropout,
                                 view(h, {rows, p.r}), view(dh, {rows, p.r}), view(p.da, {p.r, in}),
                                 view(p.db, {p.out, p.r}), view(p.dx, {rows, in}), true);

      std::vector<double> hw(h.size()), y(start.residual.begin(), start.residual.end()),
          da(start.da.begin(), start.da.end()), db(start.db.begin(), start.db.end()),
          dx(start.dx.begin(), start.dx.end());
      const auto at = [](int64_t row, int64_t cols, int64_t col) { return static_cast<size_t>(row * cols + col); };
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t o = 0; o < p.out; ++o)
          for (int64_t c = 0; c < in; ++c) {
            const double weight = p.w[at(o, in, c)];
            y[at(i, p.out, o)] += p.x[at(i, in, c)] * weight;
            dx[at(i, in, c)] += p.dy[at(i, p.out, o)] * weight;
          }
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < p.r; ++j) {
          double dh = 0;
          for (int64_t c = 0; c < in; ++c)
            hw[at(i, p.r, j)] += static_cast<double>(p.x[at(i, in, c)]) * mask[at(i, in, c)] * p.a[at(j, in, c)];
          for (int64_t o = 0; o < p.out; ++o) {
            y[at(i, p.out, o)] += scale * hw[at(i, p.r, j)] * p.b[at(o, p.r, j)];
            db[at(o, p.r, j)] += scale * hw[at(i, p.r, j)] * p.dy[at(i, p.out, o)];
            dh += static_cast<double>(scale) * p.dy[at(i, p.out, o)] * p.b[at(o, p.r, j)];
          }
          for (int64_t c = 0; c < in; ++c) {
            da[at(j, in, c)] += dh * p.x[at(i, in, c)] * mask[at(i, in, c)];
            dx[at(i, in, c)] += dh * mask[at(i, in, c)] * p.a[at(j, in, c)];
          }
        }
      // Sums of up to 129 products in f32: rounding grows like a random walk, a few u = 6e-8.
      CHECK_NEAR(relative(h, hw), 0, 5e-7);
      CHECK_NEAR(relative(p.y, y), 0, 5e-7);
      CHECK_NEAR(relative(p.da, da), 0, 5e-7);
      CHECK_NEAR(relative(p.db, db), 0, 5e-7);
      CHECK_NEAR(relative(p.dx, dx), 0, 5e-7);

      // without dx the other two are the same
      Floats da2 = start.da, db2 = start.db;
      ops().lora_linear_backward(view(p.dy, {rows, p.out}), view(p.x, {rows, in}), w, p.lora(scale), dropout,
                                 view(h, {rows, p.r}), view(dh, {rows, p.r}), view(da2, {p.r, in}),
                                 view(db2, {p.out, p.r}), {}, false);
      CHECK(same_bits(da2, p.da) && same_bits(db2, p.db));
    }
}

TEST("dropout: masks depend on seed, module, pass, row and column alone") {
  const Dropout base{0.3f, 7, 2, 5};
  const Floats mask = mask_of(40, 50, base);
  CHECK(same_bits(mask, mask_of(40, 50, base)));
  for (const Dropout& other :
       {Dropout{0.3f, 8, 2, 5}, Dropout{0.3f, 7, 3, 5}, Dropout{0.3f, 7, 2, 6}, Dropout{0.3f, uint64_t{7} << 32, 2, 5}})
    CHECK(!same_bits(mask, mask_of(40, 50, other)));
  // fewer rows or columns: the same mask, cut
  const Floats rows = mask_of(13, 50, base);
  CHECK(std::equal(rows.begin(), rows.end(), mask.begin()));
  const Floats narrow = mask_of(40, 31, base);
  bool same = true;
  for (size_t i = 0; i < narrow.size(); ++i) same &= narrow[i] == mask[i / 31 * 50 + i % 31];
  CHECK(same);
}

TEST("dropout: keeps a share of 1 - p and the expectation of 1") {
  for (const float rate : {0.05f, 0.5f, 0.9f}) {
    const int64_t rows = 400, n = 100;
    double kept = 0, neighbours = 0;
    const Floats mask = mask_of(rows, n, {rate, 1, 0, 0});
    for (size_t i = 0; i < mask.size(); ++i) {
      CHECK(mask[i] == 0 || mask[i] == 1.0f / (1.0f - rate));
      kept += mask[i] != 0;
      if (i + 1 < mask.size()) neighbours += mask[i] != 0 && mask[i + 1] != 0;
    }
    const double count = static_cast<double>(rows * n), p = 1 - static_cast<double>(rate);
    // six standard deviations of a binomial; pairs of neighbours are nearly as independent
    CHECK_NEAR(kept / count, p, 6 * std::sqrt(p * (1 - p) / count));
    CHECK_NEAR(neighbours / count, p * p, 9 * std::sqrt(p * p * (1 - p * p) / count));
  }
}

TEST("ops: the number of threads changes no bit") {
  const int64_t rows = 203, n = 133, heads = 3, d = 12, vocab = 1009;
  std::vector<Floats> expected;
  for (const int threads : {1, 2, 3}) {
    cpu::CpuOps device(threads, cpu::Precision::f32, cpu::Backend::native);
    CHECK(device.threads() == threads);
    Random random(5);
    std::vector<Floats> got;
    Floats x = random.floats(rows * n), w = random.floats(n), b = random.floats(n), dy = random.floats(rows * n);
    Floats y(x.size()), rstd(static_cast<size_t>(rows)), dx(x.size());
    device.rms_norm(view(x, {rows, n}), view(w), 1e-6f, view(y, {rows, n}), view(rstd));
    got.push_back(y);
    device.rms_norm_backward(view(dy, {rows, n}), view(x, {rows, n}), view(w), view(rstd), {}, view(dx, {rows, n}));
    got.push_back(dx);
    device.layer_norm(view(x, {rows, n}), view(w), view(b), 1e-6f, view(y, {rows, n}));
    device.gelu(view(y), Gelu::tanh);
    device.gelu(view(y), Gelu::erf);
    device.add(view(x), view(y));
    got.push_back(y);
    device.swiglu(view(x), view(dy), view(y));
    device.swiglu_backward(view(y), view(x), view(dy), view(x), view(dy));
    got.push_back(x);
    Floats param = random.floats(rows * n), m(param.size()), v2(param.size());
    got.push_back({static_cast<float>(
        device.adamw({1e-3, 0.9, 0.999, 1e-8, 0.1, 1, 0.5}, view(param), view(dy), view(m), view(v2)))});
    got.push_back(param);

    Problem p = make_problem(rows, n, 40, 8);
    Floats h(static_cast<size_t>(rows * 8));
    const Dropout dropout{0.2f, 3, 1, 1};
    Floats dh(h.size());
    device.lora_linear(view(p.x, {rows, n}), view(p.w, {40, n}), {}, p.lora(0.5f), dropout,
                       view(p.residual, {rows, 40}), view(h, {rows, 8}), view(p.y, {rows, 40}));
    device.lora_linear_backward(view(p.dy, {rows, 40}), view(p.x, {rows, n}), view(p.w, {40, n}), p.lora(0.5f), dropout,
                                view(h, {rows, 8}), view(dh, {rows, 8}), view(p.da, {8, n}), view(p.db, {40, 8}),
                                view(p.dx, {rows, n}), false);
    for (const Floats* part : {&p.y, &p.da, &p.db, &p.dx}) got.push_back(*part);

    AttentionPlan plan;
    plan.groups = 2;
    plan.spans = {
        {0, 100, 0, 0, 0, 100, true, 0}, {100, 150, 0, 100, 100, 150, true, 0}, {150, 203, 0, 0, 150, 203, false, 1}};
    for (int32_t i = 0; i < rows; ++i) plan.key_row.push_back(i);
    Floats q = random.floats(rows * heads * d), k = random.floats(rows * d), v = random.floats(rows * d), o(q.size());
    Floats lse(static_cast<size_t>(rows * heads)), dq(q.size()), dk(k.size()), dv(v.size());
    const Tensor qt = view(q, {rows, heads, d}), kt = view(k, {rows, 1, d}), vt = view(v, {rows, 1, d}),
                 ot = view(o, {rows, heads, d});
    Floats delta(lse.size());
    device.attention(qt, kt, vt, prepared(plan), 0.3f, ot, view(lse, {rows, heads}));
    device.attention_backward(qt, qt, kt, vt, ot, view(lse, {rows, heads}), prepared(plan), 0.3f,
                              view(delta, {rows, heads}), view(dq, {rows, heads, d}), view(dk, {rows, 1, d}),
                              view(dv, {rows, 1, d}));
    for (const Floats* part : {&o, &lse, &delta, &dq, &dk, &dv}) got.push_back(*part);

    Floats z = random.floats(6 * vocab, -5, 5), zr = random.floats(6 * vocab, -5, 5), target_logits(4);
    std::vector<int32_t> targets{1, 3, 1, 5};
    std::vector<double> statistics(6 * 6);
    const Tensor zt = view(z, {6, vocab}), zrt = view(zr, {6, vocab});
    Tensor pairs(targets.data(), DType::i32, {2, 2});
    device.preference_statistics(zt, zrt, 0, pairs, Tensor(statistics.data(), DType::f64, {6, 1, 6}),
                                 view(target_logits, {2, 2}));
    Floats rows6 = random.floats(6 * 6), coefficients{0.1f, 0.2f};
    device.preference_backward(zt, zrt, 0, view(rows6, {6, 6}), pairs, view(coefficients));
    got.push_back(z);
    got.push_back(target_logits);
    for (const double s : statistics) got.push_back({static_cast<float>(s)});

    if (expected.empty()) expected = got;
    for (size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i], expected[i]));
  }
}
