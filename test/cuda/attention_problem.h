// One attention with random inputs: its float64 results, how far a device may be from them, and the device's own.
#pragma once

#include "device.h"

namespace fire::test {

struct AttentionShape {
  int64_t heads, kv_heads, d;
};

/// Rows [begin, end) as a sequence of its own group.
inline void add_sequence(AttentionPlan& plan, int32_t length, bool causal) {
  const int32_t begin = static_cast<int32_t>(plan.key_row.size()), end = begin + length;
  plan.spans.push_back({begin, end, 0, 0, begin, end, causal, plan.groups++});
  for (int32_t i = begin; i < end; ++i) plan.key_row.push_back(i);
}

/// A prefix with two tails in one group.
inline void add_block(AttentionPlan& plan, int32_t prefix, int32_t first, int32_t second) {
  const int32_t begin = static_cast<int32_t>(plan.key_row.size()), p = begin + prefix, t = p + first, end = t + second;
  const int32_t group = plan.groups++;
  plan.spans.push_back({begin, p, 0, 0, begin, p, true, group});
  if (first > 0) plan.spans.push_back({p, t, begin, p, p, t, true, group});
  if (second > 0) plan.spans.push_back({t, end, begin, p, t, end, true, group});
  for (int32_t i = begin; i < end; ++i) plan.key_row.push_back(i);
}

/// The same attention asked by these rows alone, as the last layer does (query i is row rows[i]; rows ascend).
inline AttentionPlan restricted(const AttentionPlan& plan, const std::vector<int32_t>& rows) {
  AttentionPlan out;
  out.groups = plan.groups;
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

/// float64 numbers, and how far from each a device may be.
struct Expected {
  std::vector<double> value, tolerance;
  explicit Expected(size_t size = 0) : value(size), tolerance(size) {}
};

struct AttentionResults {
  Expected o, lse, dq, dk, dv;
  std::vector<double> weights;  // [queries, heads, keys]
};

struct DeviceAttention {
  std::vector<float> o, lse, dq, dk, dv;
};

class AttentionProblem {
 public:
  /// What outputs hold before the device writes them.
  static constexpr float untouched = 7;

  AttentionProblem(DType activation_type, AttentionPlan attention_plan, int64_t key_count, AttentionShape shape)
      : type(activation_type),
        plan(std::move(attention_plan)),
        queries(static_cast<int64_t>(plan.key_row.size())),
        keys(key_count),
        heads(shape.heads),
        kv_heads(shape.kv_heads),
        d(shape.d),
        scale(1 / std::sqrt(static_cast<float>(d))) {
    Random random(static_cast<uint32_t>(queries + keys + d));
    q = rounded(random.floats(queries * heads * d, -2, 2), type);
    k = rounded(random.floats(keys * kv_heads * d, -2, 2), type);
    v = rounded(random.floats(keys * kv_heads * d), type);
    dout = rounded(random.floats(queries * heads * d), type);
  }

  /// Key rows that a query row sees, in order.
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

  /// Keys and values that nobody sees become NaN: a kernel that reads them shows it.
  void poison_unseen() {
    std::vector<bool> read(static_cast<size_t>(keys), false);
    for (int64_t i = 0; i < queries; ++i)
      for (const int64_t key : seen(i)) read[static_cast<size_t>(key)] = true;
    for (int64_t i = 0; i < keys; ++i)
      if (!read[static_cast<size_t>(i)])
        for (int64_t c = i * kv_heads * d; c < (i + 1) * kv_heads * d; ++c)
          k[static_cast<size_t>(c)] = v[static_cast<size_t>(c)] = NAN;
  }

  AttentionResults reference() const;

  DeviceAttention run(bool backward = true) const {
    cuda::CudaOps& ops = device(type);
    Arena arena(ops.arena_source(), size_t{1} << 16);
    const PreparedPlan prepared = ops.prepare(plan, arena);
    const OnDevice dev_q(ops, q, type, {queries, heads, d}), dev_k(ops, k, type, {keys, kv_heads, d}),
        dev_v(ops, v, type, {keys, kv_heads, d});
    const auto filled = [](int64_t size) { return std::vector<float>(static_cast<size_t>(size), untouched); };
    const OnDevice o(ops, filled(dev_q.tensor().size()), type, {queries, heads, d}),
        lse(ops, filled(queries * heads), DType::f32, {queries, heads});
    ops.attention(dev_q, dev_k, dev_v, prepared, scale, o, lse);
    DeviceAttention result{o.get(), lse.get(), {}, {}, {}};
    if (!backward) return result;
    const OnDevice dev_dout(ops, dout, type, {queries, heads, d}), delta(ops, DType::f32, {queries, heads}),
        dq(ops, filled(dev_q.tensor().size()), type, {queries, heads, d}),
        dk(ops, filled(dev_k.tensor().size()), type, {keys, kv_heads, d}),
        dv(ops, filled(dev_k.tensor().size()), type, {keys, kv_heads, d});
    ops.attention_backward(dev_dout, dev_q, dev_k, dev_v, o, lse, prepared, scale, delta, dq, dk, dv);
    result.dq = dq.get();
    result.dk = dk.get();
    result.dv = dv.get();
    return result;
  }

  /// The device's results are within their bounds of float64.
  void check(bool backward = true) {
    const AttentionResults want = reference();
    poison_unseen();
    const DeviceAttention got = run(backward);
    // The bounds hold element by element in the worst case. As a whole the results are much closer: roundings to bf16
    // (at most 2^-8 = 4e-3 of a term) and, in f32, score errors of some 2^-24 * 10 cancel.
    const double typical = type == DType::bf16 ? 4e-3 : 2e-6;
    compare("o", got.o, want.o, typical);
    compare("lse", got.lse, want.lse, 1e-6);
    if (!backward) return;
    compare("dq", got.dq, want.dq, 2 * typical);
    compare("dk", got.dk, want.dk, 2 * typical);
    compare("dv", got.dv, want.dv, typical);
  }

  DType type;
  AttentionPlan plan;
  int64_t queries, keys, heads, kv_heads, d;
  float scale;
  std::vector<float> q, k, v, dout;

 private:
  void compare(const char* what, const std::vector<float>& got, const Expected& want, double typical) const {
    check::count_check();
    const auto complain = [&](const std::string& why) {
      check::fail(__FILE__, __LINE__,
                  std::string(what) + " (" + name(type) + ", " + std::to_string(heads) + "/" +
                      std::to_string(kv_heads) + " heads of " + std::to_string(d) + "): " + why);
    };
    for (size_t i = 0; i < want.value.size(); ++i)
      if (!(std::abs(got[i] - want.value[i]) <= want.tolerance[i]))
        return complain("element " + std::to_string(i) + " is " + std::to_string(got[i]) + ", not " +
                        std::to_string(want.value[i]) + " +- " + std::to_string(want.tolerance[i]));
    if (const double error = relative_error(got, want.value); error > typical)
      complain("relative error " + std::to_string(error * 1e6) + "e-6");
  }
};

/// Bounds. u = 2^-8 is how far rounding to bf16 (8 bits) moves a number, relative to it, 0 in f32 mode: P and dS are
/// rounded as operands, results as they are stored. `noise` is what f32 arithmetic does to a weight, and with it to
/// every term: the score's error, a few roundings of partial sums that are at most A = scale * sum |q k|, as it goes
/// through exp.
inline AttentionResults AttentionProblem::reference() const {
  const double u = type == DType::bf16 ? 0x1p-8 : 0;
  AttentionResults r;
  r.o = r.dq = Expected(q.size());
  r.dk = r.dv = Expected(k.size());
  r.lse = Expected(static_cast<size_t>(queries * heads));
  r.weights.resize(static_cast<size_t>(queries * heads * keys));
  for (int64_t i = 0; i < queries; ++i)
    for (int64_t h = 0; h < heads; ++h) {
      const size_t qa = static_cast<size_t>((i * heads + h) * d), row = static_cast<size_t>(i * heads + h);
      const auto key_at = [&](int64_t key) {
        return static_cast<size_t>((key * kv_heads + h / (heads / kv_heads)) * d);
      };
      const std::vector<int64_t> keys_of_row = seen(i);
      if (keys_of_row.empty()) {  // a row outside the plan stays as it is
        r.lse.value[row] = untouched;
        for (int64_t c = 0; c < d; ++c)
          r.o.value[qa + static_cast<size_t>(c)] = r.dq.value[qa + static_cast<size_t>(c)] = untouched;
        continue;
      }
      const auto dot = [&](const std::vector<float>& a, const std::vector<float>& b, size_t bt, double* magnitude) {
        double sum = 0, size = 0;
        for (size_t c = 0; c < static_cast<size_t>(d); ++c) {
          const double product = static_cast<double>(a[qa + c]) * b[bt + c];
          sum += product;
          size += std::abs(product);
        }
        if (magnitude) *magnitude = size;
        return sum;
      };
      std::vector<double> w, dp, dp_size(keys_of_row.size());
      double total = 0, delta = 0, largest = 0, top = -INFINITY;
      for (const int64_t key : keys_of_row) {
        double size;
        top = std::max(top, w.emplace_back(scale * dot(q, k, key_at(key), &size)));
        largest = std::max(largest, std::abs(scale) * size);
      }
      for (double& x : w) total += x = std::exp(x - top);
      const double noise = 0x1p-23 * (8 + largest);
      r.lse.value[row] = top + std::log(total);
      r.lse.tolerance[row] = noise + 0x1p-22 * std::abs(r.lse.value[row]);
      std::vector<double> o_size(static_cast<size_t>(d));
      for (size_t j = 0; j < w.size(); ++j) {
        w[j] /= total;
        r.weights[row * static_cast<size_t>(keys) + static_cast<size_t>(keys_of_row[j])] = w[j];
        delta += w[j] * dp.emplace_back(dot(dout, v, key_at(keys_of_row[j]), &dp_size[j]));
        for (size_t c = 0; c < static_cast<size_t>(d); ++c) {
          r.o.value[qa + c] += w[j] * v[key_at(keys_of_row[j]) + c];
          o_size[c] += w[j] * std::abs(v[key_at(keys_of_row[j]) + c]);
        }
      }
      double delta_error = 0;
      for (size_t c = 0; c < static_cast<size_t>(d); ++c) {
        r.o.tolerance[qa + c] = (u + noise) * o_size[c] + u * std::abs(r.o.value[qa + c]);
        delta_error += std::abs(dout[qa + c]) * (r.o.tolerance[qa + c] + noise * std::abs(r.o.value[qa + c]));
      }
      for (size_t j = 0; j < w.size(); ++j) {
        const size_t ka = key_at(keys_of_row[j]);
        const double ds = w[j] * (dp[j] - delta) * scale;
        const double ds_error =
            std::abs(scale) * w[j] * (noise * (dp_size[j] + std::abs(dp[j]) + std::abs(delta)) + delta_error) +
            (u + noise) * std::abs(ds);
        for (size_t c = 0; c < static_cast<size_t>(d); ++c) {
          r.dq.value[qa + c] += ds * k[ka + c];
          r.dq.tolerance[qa + c] += ds_error * std::abs(k[ka + c]);
          r.dk.value[ka + c] += ds * q[qa + c];
          r.dk.tolerance[ka + c] += ds_error * std::abs(q[qa + c]);
          r.dv.value[ka + c] += w[j] * dout[qa + c];
          r.dv.tolerance[ka + c] += (u + noise) * w[j] * std::abs(dout[qa + c]);
        }
      }
      for (size_t c = 0; c < static_cast<size_t>(d); ++c) r.dq.tolerance[qa + c] += u * std::abs(r.dq.value[qa + c]);
    }
  for (Expected* e : {&r.dk, &r.dv})
    for (size_t i = 0; i < e->value.size(); ++i) e->tolerance[i] += u * std::abs(e->value[i]);
  return r;
}

}  // namespace fire::test
