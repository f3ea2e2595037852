// Attention over spans with shared prefixes against a naive float64 one: forward, backward, weights of one query.
#include <cmath>

#include "cpu/cpu_ops.h"
#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

cpu::CpuOps& ops() {
  static cpu::CpuOps instance(1, cpu::Precision::f32, cpu::Backend::native);
  return instance;
}

/// The inputs of one attention and its float64 results.
struct Problem {
  int64_t queries, keys, heads, kv_heads, d;
  AttentionPlan plan;
  std::vector<float> q, k, v, dout;
  float scale;

  Problem(AttentionPlan p, int64_t query_count, int64_t key_count, int64_t head_count, int64_t kv_count, int64_t width)
      : queries(query_count),
        keys(key_count),
        heads(head_count),
        kv_heads(kv_count),
        d(width),
        plan(std::move(p)),
        scale(1 / std::sqrt(static_cast<float>(width))) {
    Random random(static_cast<uint32_t>(queries + keys + d));
    q = random.floats(queries * heads * d, -2, 2);
    k = random.floats(keys * kv_heads * d, -2, 2);
    v = random.floats(keys * kv_heads * d);
    dout = random.floats(queries * heads * d);
  }
  Tensor qt() { return view(q, {queries, heads, d}); }
  Tensor kt() { return view(k, {keys, kv_heads, d}); }
  Tensor vt() { return view(v, {keys, kv_heads, d}); }

  /// Keys that a query row sees.
  std::vector<int64_t> seen(int64_t query) const {
    std::vector<int64_t> rows;
    for (const AttentionSpan& s : plan.spans) {
      if (query < s.query_begin || query >= s.query_end) continue;
      for (int64_t i = s.prefix_begin; i < s.prefix_end; ++i) rows.push_back(i);
      const int64_t end = s.causal ? plan.key_row[static_cast<size_t>(query)] + 1 : s.own_end;
      for (int64_t i = s.own_begin; i < end; ++i) rows.push_back(i);
    }
    return rows;
  }
};

struct Results {
  std::vector<double> o, lse, dq, dk, dv, weights;  // weights [queries, heads, keys]
};

Results naive(const Problem& p) {
  Results r;
  r.o.resize(p.q.size());
  r.dq.resize(p.q.size());
  r.dk.resize(p.k.size());
  r.dv.resize(p.v.size());
  r.lse.resize(static_cast<size_t>(p.queries * p.heads));
  r.weights.resize(static_cast<size_t>(p.queries * p.heads * p.keys));
  for (int64_t i = 0; i < p.queries; ++i)
    for (int64_t h = 0; h < p.heads; ++h) {
      const size_t qa = static_cast<size_t>((i * p.heads + h) * p.d);
      auto ka = [&](int64_t key) { return static_cast<size_t>((key * p.kv_heads + h / (p.heads / p.kv_heads)) * p.d); };
      auto dot = [&](const std::vector<float>& a, size_t at, const std::vector<float>& b, size_t bt) {
        double sum = 0;
        for (int64_t c = 0; c < p.d; ++c)
          sum += static_cast<double>(a[at + static_cast<size_t>(c)]) * b[bt + static_cast<size_t>(c)];
        return sum;
      };
      const std::vector<int64_t> seen = p.seen(i);
      std::vector<double> w, dw;
      double total = 0, mean = 0;
      for (const int64_t key : seen) total += w.emplace_back(std::exp(p.scale * dot(p.q, qa, p.k, ka(key))));
      r.lse[static_cast<size_t>(i * p.heads + h)] = std::log(total);
      for (size_t j = 0; j < seen.size(); ++j) {
        w[j] /= total;
        r.weights[static_cast<size_t>((i * p.heads + h) * p.keys + seen[j])] = w[j];
        mean += w[j] * dw.emplace_back(dot(p.dout, qa, p.v, ka(seen[j])));
      }
      for (size_t j = 0; j < seen.size(); ++j)
        for (size_t c = 0; c < static_cast<size_t>(p.d); ++c) {
          const double ds = w[j] * (dw[j] - mean) * p.scale;
          r.o[qa + c] += w[j] * p.v[ka(seen[j]) + c];
          r.dq[qa + c] += ds * p.k[ka(seen[j]) + c];
          r.dk[ka(seen[j]) + c] += ds * p.q[qa + c];
          r.dv[ka(seen[j]) + c] += w[j] * p.dout[qa + c];
        }
    }
  return r;
}

void check_close(const char* what, const std::vector<float>& got, const std::vector<double>& want, double tolerance) {
  check::count_check();
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double e = std::abs(got[i] - want[i]);
    worst = std::isnan(e) ? INFINITY : std::max(worst, e);
  }
  if (worst > tolerance)
    check::fail(__FILE__, __LINE__, std::string(what) + " off by " + std::to_string(worst * 1e6) + "e-6");
}

void check_problem(Problem p) {
  const Results want = naive(p);
  std::vector<float> o(p.q.size()), lse(static_cast<size_t>(p.queries * p.heads)), dq(p.q.size()), dk(p.k.size(), 7.0f),
      dv(p.v.size(), 7.0f);
  const Tensor ot = view(o, {p.queries, p.heads, p.d}), lset = view(lse, {p.queries, p.heads});
  ops().attention(p.qt(), p.kt(), p.vt(), prepared(p.plan), p.scale, ot, lset);
  std::vector<float> delta(lse.size());
  ops().attention_backward(view(p.dout, {p.queries, p.heads, p.d}), p.qt(), p.kt(), p.vt(), ot, lset, prepared(p.plan),
                           p.scale, view(delta), view(dq, {p.queries, p.heads, p.d}),
                           view(dk, {p.keys, p.kv_heads, p.d}), view(dv, {p.keys, p.kv_heads, p.d}));
  // Scores up to 10 with rounding of 20 u, so weights are off by about 1e-6 of themselves; sums over up to 200 queries
  // of terms up to 10 for dk and dv.
  check_close("o", o, want.o, 4e-6);
  check_close("lse", lse, want.lse, 4e-6);
  check_close("dq", dq, want.dq, 1e-5);
  check_close("dk", dk, want.dk, 3e-5);
  check_close("dv", dv, want.dv, 2e-5);
  for (int64_t i = 0; i < p.queries; i += 1 + p.queries / 5) {
    const std::vector<float> w =
        ops().attention_weights(p.qt(), p.kt(), prepared(p.plan), p.scale, static_cast<int32_t>(i));
    const auto begin = want.weights.begin() + i * p.heads * p.keys;
    check_close("weights", w, {begin, begin + p.heads * p.keys}, 4e-6);
  }
}

/// Rows [begin, end) as a plain causal sequence of its own group.
void add_sequence(AttentionPlan& plan, int32_t begin, int32_t end, bool causal) {
  plan.spans.push_back({begin, end, 0, 0, begin, end, causal, plan.groups++});
  for (int32_t i = begin; i < end; ++i) plan.key_row.push_back(i);
}

/// A prefix with two tails in one group.
void add_block(AttentionPlan& plan, int32_t prefix, int32_t first, int32_t second) {
  const int32_t begin = static_cast<int32_t>(plan.key_row.size()), p = begin + prefix, t = p + first, end = t + second;
  const int32_t group = plan.groups++;
  plan.spans.push_back({begin, p, 0, 0, begin, p, true, group});
  if (first > 0) plan.spans.push_back({p, t, begin, p, p, t, true, group});
  if (second > 0) plan.spans.push_back({t, end, begin, p, t, end, true, group});
  for (int32_t i = begin; i < end; ++i) plan.key_row.push_back(i);
}

}  // namespace

TEST("attention: causal and bidirectional spans of ragged lengths") {
  for (const bool causal : {true, false})
    for (const int32_t length : {1, 2, 63, 64, 65, 150}) {
      AttentionPlan plan;
      add_sequence(plan, 0, length, causal);
      add_sequence(plan, length, length + 3, causal);
      check_problem({plan, length + 3, length + 3, 4, 2, 16});
    }
}

TEST("attention: prefixes with tails, groups, head shapes") {
  AttentionPlan plan;
  add_block(plan, 70, 5, 9);
  add_block(plan, 1, 1, 0);
  add_block(plan, 10, 0, 66);
  const int64_t rows = static_cast<int64_t>(plan.key_row.size());
  for (const auto& [heads, kv, d] : {std::array<int64_t, 3>{4, 2, 16}, {4, 1, 24}, {3, 3, 8}, {1, 1, 5}, {6, 2, 64}})
    check_problem({plan, rows, rows, heads, kv, d});
}

TEST("attention: fewer queries than keys, as in the last layer and with a cache") {
  AttentionPlan plan;
  // keys 0..19 and 30..39 of a cache of 50 rows; two queries at the end of the first, one in the second
  plan.spans = {{0, 2, 0, 0, 0, 20, true, 0}, {2, 3, 30, 35, 36, 40, true, 1}};
  plan.key_row = {18, 19, 38};
  plan.groups = 2;
  check_problem({plan, 3, 50, 4, 2, 16});
}

TEST("attention: keys outside a span are never read") {
  AttentionPlan plan;
  add_block(plan, 6, 3, 4);
  plan.spans.erase(plan.spans.begin() + 1);  // the first tail, rows 6 to 8, is not asked and not read
  Problem p(plan, 13, 13, 2, 1, 8);
  for (size_t i = 6 * 8; i < 9 * 8; ++i) p.k[i] = p.v[i] = NAN;
  std::vector<float> o(p.q.size(), 0.5f), lse(26);
  ops().attention(p.qt(), p.kt(), p.vt(), prepared(p.plan), p.scale, view(o, {13, 2, 8}), view(lse, {13, 2}));
  for (const float x : o) CHECK(std::isfinite(x));
  for (size_t i = 6 * 16; i < 9 * 16; ++i) CHECK(o[i] == 0.5f);
}

TEST("attention: very large scores stay finite") {
  AttentionPlan plan;
  add_sequence(plan, 0, 20, true);
  Problem p(plan, 20, 20, 2, 2, 8);
  for (float& x : p.q) x *= 1e3f;
  for (float& x : p.k) x *= 1e3f;
  std::vector<float> o(p.q.size()), lse(40);
  ops().attention(p.qt(), p.kt(), p.vt(), prepared(p.plan), p.scale, view(o, {20, 2, 8}), view(lse, {20, 2}));
  for (const float x : o) CHECK(std::abs(x) <= 1.001f);  // a mean of values in [-1, 1]
}

TEST("attention: a row has the same bits alone and in a batch") {
  AttentionPlan alone, batch;
  add_sequence(alone, 0, 130, true);
  add_sequence(batch, 0, 7, true);
  add_sequence(batch, 7, 137, true);
  Problem big(batch, 137, 137, 4, 2, 16);
  std::vector<float> o(big.q.size()), o_alone(130 * 64);
  ops().attention(big.qt(), big.kt(), big.vt(), prepared(big.plan), big.scale, view(o, {137, 4, 16}), {});
  ops().attention(big.qt().slice(7, 137), big.kt().slice(7, 137), big.vt().slice(7, 137), prepared(alone), big.scale,
                  view(o_alone, {130, 4, 16}), {});
  CHECK(same_bits(o_alone, {o.begin() + 7 * 64, o.end()}));
  // one query at a time, as the cache decodes
  for (const int32_t row : {0, 63, 64, 129}) {
    AttentionPlan one;
    one.spans = {{0, 1, 0, 0, 7, 7 + row + 1, true, 0}};
    one.key_row = {7 + row};
    one.groups = 1;
    std::vector<float> o_one(64);
    ops().attention(big.qt().slice(7 + row, 8 + row), big.kt(), big.vt(), prepared(one), big.scale,
                    view(o_one, {1, 4, 16}), {});
    CHECK(same_bits(o_one, {o.begin() + (7 + row) * 64, o.begin() + (8 + row) * 64}));
  }
}

TEST("attention: queries that decode have the same bits alone and beside others with their prefix") {
  // keys: prefixes at rows 0..69 and 70..74, then ten rows for each query; more queries than one bundle takes
  constexpr int32_t count = 40;
  AttentionPlan batch;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t own = 75 + 10 * i, key = own + i % 10;
    const std::array<int32_t, 2> prefix = i < 25 ? std::array{0, 70} : i < 39 ? std::array{70, 75} : std::array{0, 0};
    batch.spans.push_back({i, i + 1, prefix[0], prefix[1], own, key + 1, true, i < 25 ? 0 : i < 39 ? 1 : 2});
    batch.key_row.push_back(key);
  }
  batch.groups = 3;
  for (const auto& [heads, kv, d] : {std::array<int64_t, 3>{4, 2, 16}, {6, 1, 8}, {3, 3, 5}}) {
    Problem p(batch, count, 75 + 10 * count, heads, kv, d);
    check_problem({batch, p.queries, p.keys, heads, kv, d});
    std::vector<float> o(p.q.size()), lse(static_cast<size_t>(count * heads));
    ops().attention(p.qt(), p.kt(), p.vt(), prepared(batch), p.scale, view(o, {count, heads, d}),
                    view(lse, {count, heads}));
    for (int32_t i = 0; i < count; ++i) {
      AttentionPlan one;
      one.spans = {batch.spans[static_cast<size_t>(i)]};
      one.spans[0].query_begin = 0;
      one.spans[0].query_end = 1;
      one.spans[0].group = 0;
      one.key_row = {batch.key_row[static_cast<size_t>(i)]};
      one.groups = 1;
      std::vector<float> alone(static_cast<size_t>(heads * d)), alone_lse(static_cast<size_t>(heads));
      ops().attention(p.qt().slice(i, i + 1), p.kt(), p.vt(), prepared(one), p.scale, view(alone, {1, heads, d}),
                      view(alone_lse, {1, heads}));
      CHECK(same_bits(alone, {o.begin() + i * heads * d, o.begin() + (i + 1) * heads * d}));
      CHECK(same_bits(alone_lse, {lse.begin() + i * heads, lse.begin() + (i + 1) * heads}));
    }
  }
}
