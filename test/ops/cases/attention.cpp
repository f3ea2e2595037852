// Attention over spans with shared prefixes: forward, backward, the weights of one query.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "ops/cases/cases.h"

namespace fire::test {

using cases::AttentionShape;

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// One attention: which rows see which keys, and its float64 results with their bounds.
struct Problem {
  std::shared_ptr<const AttentionPlan> plan;
  int64_t queries, keys;
  AttentionShape shape;
  float scale;
  DType operand;  ///< what q, k, v, weights and their gradients are rounded to

  std::vector<int64_t> query_dims() const { return {queries, shape.heads, shape.d}; }
  std::vector<int64_t> key_dims() const { return {keys, shape.kv_heads, shape.d}; }
  std::vector<int64_t> row_dims() const { return {queries, shape.heads}; }
  std::string name(const std::string& operation) const {
    return operation + " " + by({queries, keys, shape.heads, shape.kv_heads, shape.d});
  }
  /// Key rows that a query row sees, in order.
  std::vector<int64_t> seen(int64_t query) const;
  /// Inputs are values that operands can have; keys and values that no row sees are NaN, so that a read of them shows.
  void complete(Values& in) const;
};

struct Results {
  Expected o, lse, dq, dk, dv;
  Doubles weights;  ///< [queries, heads, keys]
};

std::vector<int64_t> Problem::seen(int64_t query) const {
  std::vector<int64_t> rows;
  for (const AttentionSpan& s : plan->spans) {
    if (query < s.query_begin || query >= s.query_end) continue;
    for (const KeyRange& range : plan->context(s))
      for (int64_t i = range.begin; i < range.end; ++i) rows.push_back(i);
    const int64_t end = s.causal ? plan->key_row[static_cast<size_t>(query)] + 1 : s.own_end;
    for (int64_t i = s.own_begin; i < end; ++i) rows.push_back(i);
  }
  return rows;
}

void Problem::complete(Values& in) const {
  for (auto& [name, values] : in) values = rounded(std::move(values), operand);
  std::vector<bool> read(static_cast<size_t>(keys), false);
  for (int64_t i = 0; i < queries; ++i)
    for (const int64_t key : seen(i)) read[static_cast<size_t>(key)] = true;
  const size_t width = static_cast<size_t>(shape.kv_heads * shape.d);
  for (size_t i = 0; i < read.size() * width; ++i)
    if (!read[i / width]) {
      in["k"][i] = nan;
      if (in.contains("v")) in["v"][i] = nan;
    }
}

/// Bounds. `round` = 2^-8 is how far rounding to bf16 (8 bits) moves a number, relative to it, 0 in f32 mode: P and dS
/// are rounded as operands. `noise` is what f32 arithmetic does to a weight, and with it to every term: the score's
/// error, a few roundings of partial sums that are at most A = scale * sum |q k|, as it goes through exp. Results that
/// are stored as bf16 are rounded once more (Expected). Without `v` there are lse and weights alone, without `dout` no
/// gradients. A row outside the plan stays as it is.
Results reference(const Problem& p, const Values& in) {
  static const Doubles none;
  const auto tensor = [&](const char* name) -> const Doubles& { return in.contains(name) ? in.at(name) : none; };
  const Doubles &q = tensor("q"), &k = tensor("k"), &v = tensor("v"), &dout = tensor("dout");
  const double round = p.operand == DType::bf16 ? 0x1p-8 : 0, scale = p.scale;
  const size_t d = static_cast<size_t>(p.shape.d), heads = static_cast<size_t>(p.shape.heads);
  const size_t kv_heads = static_cast<size_t>(p.shape.kv_heads), keys = static_cast<size_t>(p.keys);
  const size_t rows = static_cast<size_t>(p.queries) * heads;
  const auto filled = [](const char* name, size_t size, double value) {
    return Expected{name, Doubles(size, value), Doubles(size)};
  };
  Results r{filled("o", q.size(), nan), filled("lse", rows, nan),  filled("dq", q.size(), nan),
            filled("dk", k.size(), 0),  filled("dv", k.size(), 0), Doubles(rows * keys)};
  // The bounds hold element by element in the worst case. As a whole the results are much closer: roundings to bf16 (at
  // most 2^-8 = 4e-3 of a term) and, in f32, score errors of some 2^-24 * 10 cancel.
  const double typical = round > 0 ? 4e-3 : 2e-6;
  r.o.relative = r.dv.relative = typical;
  r.dq.relative = r.dk.relative = 2 * typical;
  r.lse.relative = 1e-6;

  const auto dot = [d](const Doubles& a, size_t at, const Doubles& b, size_t bt, double* size) {
    double sum = 0, magnitude = 0;
    for (size_t c = 0; c < d; ++c) {
      sum += a[at + c] * b[bt + c];
      magnitude += std::abs(a[at + c] * b[bt + c]);
    }
    *size = magnitude;
    return sum;
  };
  for (size_t row = 0; row < rows; ++row) {
    const size_t qa = row * d, head = row % heads / (heads / kv_heads);
    const std::vector<int64_t> seen = p.seen(static_cast<int64_t>(row / heads));
    if (seen.empty()) continue;
    const auto key_at = [&](size_t j) { return (static_cast<size_t>(seen[j]) * kv_heads + head) * d; };
    Doubles w(seen.size()), dp(seen.size()), dp_size(seen.size()), o_size(d);
    double total = 0, delta = 0, largest = 0, top = -INFINITY, delta_error = 0;
    for (size_t j = 0; j < w.size(); ++j) {
      double size;
      top = std::max(top, w[j] = scale * dot(q, qa, k, key_at(j), &size));
      largest = std::max(largest, std::abs(scale) * size);
    }
    for (double& x : w) total += x = std::exp(x - top);
    const double noise = 0x1p-23 * (8 + largest);
    r.lse.value[row] = top + std::log(total);
    r.lse.tolerance[row] = noise + 0x1p-22 * std::abs(r.lse.value[row]);
    for (size_t j = 0; j < w.size(); ++j) {
      w[j] /= total;
      r.weights[row * keys + static_cast<size_t>(seen[j])] = w[j];
    }
    if (v.empty()) continue;
    std::fill_n(r.o.value.begin() + static_cast<std::ptrdiff_t>(qa), d, 0.0);
    for (size_t j = 0; j < w.size(); ++j) {
      const double* const seen_v = v.data() + key_at(j);
      for (size_t c = 0; c < d; ++c) {
        r.o.value[qa + c] += w[j] * seen_v[c];
        o_size[c] += w[j] * std::abs(seen_v[c]);
      }
    }
    for (size_t c = 0; c < d; ++c) r.o.tolerance[qa + c] = (round + noise) * o_size[c];
    if (dout.empty()) continue;
    for (size_t j = 0; j < w.size(); ++j) delta += w[j] * (dp[j] = dot(dout, qa, v, key_at(j), &dp_size[j]));
    for (size_t c = 0; c < d; ++c)
      delta_error += std::abs(dout[qa + c]) * (r.o.tolerance[qa + c] + (round + noise) * std::abs(r.o.value[qa + c]));
    std::fill_n(r.dq.value.begin() + static_cast<std::ptrdiff_t>(qa), d, 0.0);
    for (size_t j = 0; j < w.size(); ++j) {
      const size_t ka = key_at(j);
      const double ds = w[j] * (dp[j] - delta) * scale;
      const double ds_error =
          std::abs(scale) * w[j] * (noise * (dp_size[j] + std::abs(dp[j]) + std::abs(delta)) + delta_error) +
          (round + noise) * std::abs(ds);
      for (size_t c = 0; c < d; ++c) {
        r.dq.value[qa + c] += ds * k[ka + c];
        r.dq.tolerance[qa + c] += ds_error * std::abs(k[ka + c]);
        r.dk.value[ka + c] += ds * q[qa + c];
        r.dk.tolerance[ka + c] += ds_error * std::abs(q[qa + c]);
        r.dv.value[ka + c] += w[j] * dout[qa + c];
        r.dv.tolerance[ka + c] += (round + noise) * w[j] * std::abs(dout[qa + c]);
      }
    }
  }
  return r;
}

Problem problem(const Target& target, const AttentionPlan& plan, int64_t keys, AttentionShape shape) {
  return {std::make_shared<AttentionPlan>(plan),
          static_cast<int64_t>(plan.key_row.size()),
          keys,
          shape,
          1 / std::sqrt(static_cast<float>(shape.d)),
          target.operand};
}

Case forward(const Target& target, const Problem& p, bool lse) {
  const DType type = target.activation;
  Case c{p.name("attention"),
         {input("q", type, p.query_dims(), -2, 2), input("k", type, p.key_dims(), -2, 2),
          input("v", type, p.key_dims()), output("o", type, p.query_dims())},
         [p](Ops& ops, Tensors& t) { ops.attention(t["q"], t["k"], t["v"], t.plan, p.scale, t["o"], t["lse"]); },
         [p, lse](const Values& in, const Values&) -> std::vector<Expected> {
           Results r = reference(p, in);
           if (lse) return {std::move(r.o), std::move(r.lse)};
           return {std::move(r.o)};
         }};
  if (lse) c.arguments.push_back(output("lse", DType::f32, p.row_dims()));
  c.complete = [p](Values& in) { p.complete(in); };
  c.plan = p.plan;
  return c;
}

Case backward(const Target& target, const Problem& p) {
  const DType type = target.activation;
  Case c{p.name("attention_backward"),
         {input("dout", type, p.query_dims()), input("q", type, p.query_dims(), -2, 2),
          input("k", type, p.key_dims(), -2, 2), input("v", type, p.key_dims()), input("o", type, p.query_dims()),
          input("lse", DType::f32, p.row_dims()), output("delta", DType::f32, p.row_dims()),
          output("dq", type, p.query_dims()), output("dk", type, p.key_dims()), output("dv", type, p.key_dims())},
         [p](Ops& ops, Tensors& t) {
           ops.attention_backward(t["dout"], t["q"], t["k"], t["v"], t["o"], t["lse"], t.plan, p.scale, t["delta"],
                                  t["dq"], t["dk"], t["dv"]);
         },
         [p](const Values& in, const Values& got) -> std::vector<Expected> {
           Results r = reference(p, in);
           const Doubles &dout = in.at("dout"), &o = in.at("o");
           Expected delta{"delta", Doubles(in.at("lse").size()), {}};
           delta.tolerance.resize(delta.value.size());
           const size_t d = static_cast<size_t>(p.shape.d);
           for (size_t i = 0; i < o.size(); ++i) {
             delta.value[i / d] += dout[i] * o[i];
             delta.tolerance[i / d] += 0x1p-23 * static_cast<double>(d) * std::abs(dout[i] * o[i]);
           }
           // A device need not visit rows outside the plan.
           for (size_t row = 0; row < delta.value.size(); ++row)
             if (std::isnan(r.lse.value[row])) delta.value[row] = got.at("delta")[row];
           return {std::move(r.dq), std::move(r.dk), std::move(r.dv), delta};
         }};
  c.complete = [p](Values& in) {
    p.complete(in);
    const Results r = reference(p, {{"q", in["q"]}, {"k", in["k"]}, {"v", in["v"]}});
    const auto known = [](Doubles values) {
      for (double& x : values) x = std::isnan(x) ? 0 : x;
      return values;
    };
    in["o"] = known(r.o.value);
    in["lse"] = known(r.lse.value);
  };
  c.plan = p.plan;
  return c;
}

Case weights(const Target& target, const Problem& p, int32_t query) {
  const DType type = target.activation;
  Case c{p.name("attention_weights") + ", query " + std::to_string(query),
         {input("q", type, p.query_dims(), -2, 2), input("k", type, p.key_dims(), -2, 2)},
         [p, query](Ops& ops, Tensors& t) {
           const std::vector<float> w = ops.attention_weights(t["q"], t["k"], t.plan, p.scale, query);
           t.returned = {w.begin(), w.end()};
         },
         [p, query](const Values& in, const Values&) -> std::vector<Expected> {
           const Doubles all = reference(p, in).weights;
           const std::ptrdiff_t size = p.shape.heads * p.keys;
           Doubles w(all.begin() + query * size, all.begin() + (query + 1) * size), tolerance = w;
           // f32 throughout, also for bf16 inputs: a score's error of some 2^-24 * 10 is a weight's relative error.
           for (double& x : tolerance) x *= 4e-6;
           return {{"returned", w, tolerance}};
         }};
  c.complete = [p](Values& in) { p.complete(in); };
  c.plan = p.plan;
  return c;
}

int64_t rows_of(const AttentionPlan& plan) { return static_cast<int64_t>(plan.key_row.size()); }

AttentionPlan sequences(const std::vector<int32_t>& lengths, bool causal) {
  AttentionPlan plan;
  for (const int32_t length : lengths) cases::add_sequence(plan, length, causal);
  return plan;
}

AttentionPlan two_blocks() {
  AttentionPlan plan;
  cases::add_block(plan, 70, 5, 66);
  cases::add_block(plan, 9, 1, 0);
  return plan;
}

/// Two questions about one image, the first with two answers that begin alike, and a question of another image.
AttentionPlan two_trees() {
  AttentionPlan plan;
  cases::add_tree(plan, {{-1, 70}, {0, 9}, {1, 3}, {2, 5}, {2, 66}, {0, 65}, {5, 1}, {5, 4}});
  cases::add_tree(plan, {{-1, 1}, {0, 1}, {1, 1}, {1, 2}, {0, 130}});
  return plan;
}

/// Forward and backward see the same plans.
struct Asked {
  AttentionPlan plan;
  int64_t keys;
  AttentionShape shape;
  std::optional<float> scale = {};  ///< 1 / sqrt(d)
};

std::vector<Asked> asked(const Target& target) {
  std::vector<Asked> all;
  const auto add = [&](const AttentionPlan& plan, AttentionShape shape) {
    all.push_back({plan, rows_of(plan), shape});
  };
  // Causal sequences and images, of ragged lengths in one batch.
  std::vector<int32_t> lengths = {1, 63, 64, 65, 130};
  if (target.large) lengths.insert(lengths.end(), {700, 2, 512});
  add(sequences(lengths, true), {2, 1, 32});
  add(sequences({target.large ? 1024 : 100, 24}, false), {2, 2, 72});
  if (!target.gpu)
    for (const int32_t length : {1, 2, 63, 64, 65, 150})
      for (const bool causal : {true, false}) add(sequences({length, 3}, causal), {4, 2, 16});
  // A prefix with two tails, for every head width and grouping of a GPU's kernels, and beside other groups on a CPU.
  if (target.gpu)
    for (const AttentionShape shape : {AttentionShape{4, 1, 16},
                                       {4, 2, 20},
                                       {3, 3, 24},
                                       {6, 2, 32},
                                       {2, 1, 64},
                                       {1, 1, 72},
                                       {2, 2, 80},
                                       {2, 1, 128},
                                       {1, 1, 5},
                                       {1, 1, 100}})
      add(two_blocks(), shape);
  // Trees, for the widths whose kernels differ: a row sees up to four ranges of keys.
  for (const AttentionShape shape : {AttentionShape{4, 2, 20}, {2, 1, 64}, {6, 2, 80}, {1, 1, 128}, {14, 2, 16}})
    add(two_trees(), shape);
  if (!target.gpu) {
    AttentionPlan blocks;
    cases::add_block(blocks, 70, 5, 9);
    cases::add_block(blocks, 1, 1, 0);
    cases::add_block(blocks, 10, 0, 66);
    for (const AttentionShape shape : {AttentionShape{4, 2, 16}, {4, 1, 24}, {3, 3, 8}, {1, 1, 5}, {6, 2, 64}})
      add(blocks, shape);
  }
  // Fewer queries than keys: the prefix is read at one row, the first tail nowhere, the second across a tile border.
  all.push_back(
      {cases::restricted(two_blocks(), {69, 76, 77, 100, 139, 140, 149, 150}), rows_of(two_blocks()), {4, 2, 24}});
  const std::vector<int32_t> some = {69, 77, 81, 82, 86, 87, 152, 153, 216, 217, 220, 222, 223, 224, 225, 226, 300};
  all.push_back({cases::restricted(two_trees(), some), rows_of(two_trees()), {4, 2, 32}});
  AttentionPlan gaps;  // rows 2 and 3 ask nothing; keys 10..19 and from 90 are nobody's
  gaps.spans = {{0, 2, 0, 0, 0, 10, true, 0}, {4, 9, 0, 1, 85, 90, true, 1}};
  gaps.ranges = {{20, 85}};
  gaps.key_row = {4, 9, 0, 0, 85, 86, 86, 88, 89};
  gaps.groups = 2;
  all.push_back({gaps, 100, {4, 2, 16}});
  AttentionPlan cache;  // two queries at the end of one sequence in a cache, one behind a prefix
  cache.spans = {{0, 2, 0, 0, 0, 20, true, 0}, {2, 3, 0, 1, 36, 40, true, 1}};
  cache.ranges = {{30, 35}};
  cache.key_row = {18, 19, 38};
  cache.groups = 2;
  all.push_back({cache, 50, {4, 2, 16}});
  // Single rows behind a prefix, among tiles, as rows of a sequence and as rows that decode.
  AttentionPlan singles;
  cases::add_block(singles, 300, 1, 1);
  cases::add_sequence(singles, 1, true);
  cases::add_block(singles, 1, 1, 70);
  add(singles, {4, 2, 24});
  for (AttentionSpan& span : singles.spans) span.decodes = span.query_end - span.query_begin == 1;
  add(singles, {4, 2, 24});
  // No rows at all, and a scale of its own.
  all.push_back({{}, 3, {2, 1, 16}});
  for (const float scale : {0.0f, 0.5f, -0.25f}) all.push_back({sequences({70}, true), 70, {2, 1, 32}, scale});
  return all;
}

Problem problem(const Target& target, const Asked& a) {
  Problem p = problem(target, a.plan, a.keys, a.shape);
  if (a.scale) p.scale = *a.scale;
  return p;
}

}  // namespace

Case cases::attention(const Target& target, const AttentionPlan& plan, int64_t keys, AttentionShape shape, bool lse) {
  return forward(target, problem(target, plan, keys, shape), lse);
}

Case cases::attention_backward(const Target& target, const AttentionPlan& plan, int64_t keys, AttentionShape shape) {
  return backward(target, problem(target, plan, keys, shape));
}

void cases::add_sequence(AttentionPlan& plan, int32_t length, bool causal) {
  const int32_t begin = static_cast<int32_t>(plan.key_row.size()), end = begin + length;
  plan.spans.push_back({begin, end, 0, 0, begin, end, causal, plan.groups++});
  for (int32_t i = begin; i < end; ++i) plan.key_row.push_back(i);
}

void cases::add_block(AttentionPlan& plan, int32_t prefix, int32_t first, int32_t second) {
  const int32_t begin = static_cast<int32_t>(plan.key_row.size()), p = begin + prefix, t = p + first, end = t + second;
  const int32_t group = plan.groups++;
  plan.spans.push_back({begin, p, 0, 0, begin, p, true, group});
  const KeyRange rows{begin, p}, context = plan.add_context({&rows, 1});
  if (first > 0) plan.spans.push_back({p, t, context.begin, context.end, p, t, true, group});
  if (second > 0) plan.spans.push_back({t, end, context.begin, context.end, t, end, true, group});
  for (int32_t i = begin; i < end; ++i) plan.key_row.push_back(i);
}

void cases::add_tree(AttentionPlan& plan, const std::vector<TreeNode>& nodes) {
  const int32_t group = plan.groups++, first = static_cast<int32_t>(plan.key_row.size());
  std::vector<KeyRange> rows;
  int32_t begin = first;
  for (const TreeNode& node : nodes) {
    std::vector<KeyRange> context;
    for (int32_t up = node.parent; up >= 0; up = nodes[static_cast<size_t>(up)].parent)
      context.insert(context.begin(), rows[static_cast<size_t>(up)]);
    const KeyRange place = plan.add_context(context);
    rows.push_back({begin, begin + node.length});
    plan.spans.push_back({begin, begin + node.length, place.begin, place.end, begin, begin + node.length, true, group});
    begin += node.length;
  }
  for (int32_t i = first; i < begin; ++i) plan.key_row.push_back(i);
}

AttentionPlan cases::restricted(const AttentionPlan& plan, const std::vector<int32_t>& rows) {
  AttentionPlan out;
  out.groups = plan.groups;
  out.ranges = plan.ranges;
  for (const int32_t row : rows) out.key_row.push_back(plan.key_row[static_cast<size_t>(row)]);
  for (AttentionSpan span : plan.spans) {
    const auto first = std::lower_bound(rows.begin(), rows.end(), span.query_begin);
    const auto last = std::lower_bound(first, rows.end(), span.query_end);
    if (first == last) continue;
    span.query_begin = static_cast<int32_t>(first - rows.begin());
    span.query_end = static_cast<int32_t>(last - rows.begin());
    out.spans.push_back(span);
  }
  return out;
}

AttentionPlan cases::decode_plan(const std::vector<int32_t>& lengths, int32_t capacity) {
  AttentionPlan plan;
  for (const int32_t length : lengths) {
    const int32_t row = plan.groups++, base = row * capacity, key = base + length - 1;
    plan.spans.push_back({row, row + 1, 0, 0, base, key + 1, true, row, true});
    plan.key_row.push_back(key);
  }
  return plan;
}

AttentionPlan cases::shared_prefixes(int32_t count) {
  AttentionPlan plan;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t own = 75 + 10 * i, key = own + i % 10, group = i < 25 ? 0 : i < 39 ? 1 : 2;
    const int32_t begin = group == 1 ? 1 : 0, end = group == 0 ? 1 : group == 1 ? 2 : 0;
    plan.spans.push_back({i, i + 1, begin, end, own, key + 1, true, group, true});
    plan.key_row.push_back(key);
  }
  plan.ranges = {{0, 70}, {70, 75}};
  plan.groups = 3;
  return plan;
}

OPERATION(attention) {
  std::vector<Case> all;
  for (const Asked& a : asked(target)) {
    all.push_back(forward(target, problem(target, a), true));
    all.back().shifts = {};
  }
  all.push_back(cases::attention(target, two_blocks(), rows_of(two_blocks()), {2, 1, 32}, false));
  all.push_back(cases::attention(target, two_blocks(), rows_of(two_blocks()), {4, 2, 64}));
  // Decoding over a cache with gaps; behind shared prefixes, more queries than one bundle of a CPU takes.
  for (const AttentionShape shape : {AttentionShape{2, 2, 64},
                                     {4, 2, 128},
                                     {4, 1, 20},
                                     {6, 1, 32},
                                     {8, 1, 16},
                                     {12, 1, 24},
                                     {3, 1, 80},
                                     {2, 2, 5}}) {
    all.push_back(cases::attention(target, cases::decode_plan({1, 255, 256, 257, 600}, 610), 5 * 610, shape));
    all.back().shifts = {};
  }
  // More decoded rows than one workspace of a GPU holds: a row needs 79 chunks * 8 heads * 66 numbers here, so 16 MiB
  // hold 100 rows.
  if (target.gpu && target.operand == DType::bf16) {
    std::vector<int32_t> lengths(111, 3);
    lengths[50] = 20000;
    AttentionPlan plan = cases::decode_plan(lengths, 0);
    int32_t base = 0;
    for (size_t i = 0; i < lengths.size(); base += lengths[i++]) {
      plan.spans[i].own_begin += base, plan.spans[i].own_end += base, plan.key_row[i] += base;
    }
    all.push_back(cases::attention(target, plan, base, {8, 1, 64}));
    all.back().shifts = {};
  }
  for (const AttentionShape shape : {AttentionShape{4, 2, 16}, {6, 1, 8}, {3, 3, 5}})
    all.push_back(cases::attention(target, cases::shared_prefixes(40), 75 + 400, shape)), all.back().shifts = {};
  return all;
}

OPERATION(attention_backward) {
  std::vector<Case> all;
  for (const Asked& a : asked(target)) {
    all.push_back(backward(target, problem(target, a)));
    all.back().shifts = {};
  }
  for (const AttentionShape shape : {AttentionShape{2, 1, 32}, {4, 2, 64}})
    all.push_back(cases::attention_backward(target, two_blocks(), rows_of(two_blocks()), shape));
  return all;
}

OPERATION(attention_weights) {
  AttentionPlan plan;
  cases::add_block(plan, 70, 5, 9);
  cases::add_sequence(plan, 30, false);
  const Problem p = problem(target, plan, rows_of(plan) + 5, {4, 2, 20});
  std::vector<Case> all;
  for (const int32_t query : {0, 63, 69, 70, 83, 84, 113}) all.push_back(weights(target, p, query));
  return all;
}

}  // namespace fire::test
