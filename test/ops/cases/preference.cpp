// The two passes of the preference loss over gathered rows of logits.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/cases/cases.h"
#include "tensor/rng.h"

namespace fire::test {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// (row, token) of `count` scored tokens, the last column among them and the last element once more.
std::vector<int32_t> some_targets(int64_t count, int64_t rows, int64_t vocab) {
  std::vector<int32_t> targets;
  for (int64_t k = 0; k < count; ++k) {
    const Philox4 bits = philox(3, {static_cast<uint32_t>(k), 0, 0, 0});
    targets.push_back(static_cast<int32_t>(bits[0] % static_cast<uint32_t>(rows)));
    targets.push_back(static_cast<int32_t>(k == 0 ? vocab - 1 : bits[1] % static_cast<uint32_t>(vocab)));
  }
  if (count > 0) targets.insert(targets.end(), targets.end() - 2, targets.end());
  return targets;
}

/// The reference lies within `distance` of the policy.
void set_reference(Values& in, double distance) {
  for (size_t i = 0; i < in["zr"].size(); ++i) in["zr"][i] = in["z"][i] + distance * in["zr"][i];
}

double lse_of(const double* z, size_t n) {
  const double max = *std::max_element(z, z + n);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += std::exp(z[i] - max);
  return max + std::log(sum);
}

/// The statistics of one slice, and how far each may be off: an exponential by the rounding of its argument (below 16)
/// and 2 ulp.
void add_slice(const double* z, const double* zr, size_t n, Expected& e) {
  const auto push = [&](double value, double tolerance) {
    e.value.push_back(value);
    e.tolerance.push_back(tolerance);
  };
  const auto side = [&](const double* a, const double* b) {
    const double max = *std::max_element(a, a + n);
    double sum = 0, cross = 0, cross_size = 0;
    for (size_t i = 0; i < n; ++i) {
      const double p = std::exp(a[i] - max), gap = b == nullptr ? nan : a[i] - b[i];
      sum += p, cross += p * gap, cross_size += p * std::abs(gap);
    }
    push(max, 0);
    push(sum, 24 * u * sum);
    push(cross, 24 * u * cross_size);
  };
  side(z, zr);
  if (zr != nullptr) return side(zr, z);
  for (int i = 0; i < 3; ++i) push(nan, 0);  // left alone
}

Case statistics(bool reference, int64_t rows, int64_t vocab, float distance, const std::vector<int32_t>& targets) {
  const int64_t count = static_cast<int64_t>(targets.size() / 2), slices = vocabulary_slices(vocab);
  Case c{"preference_statistics " + by({rows, vocab}) + (reference ? "" : ", no reference"),
         {input("z", DType::f32, {rows, vocab}, -8, 8), indices("targets", {count, 2}, targets),
          output("statistics", DType::f64, {rows, slices, 6}), output("target_logits", DType::f32, {2, count})},
         [](Ops& ops, Tensors& t) {
           ops.preference_statistics(t["z"], t["zr"], 0, t["targets"], t["statistics"], t["target_logits"]);
         },
         [=](const Values& in, const Values& got) {
           const Doubles& z = in.at("z");
           const double* const zr = reference ? in.at("zr").data() : nullptr;
           const size_t n = static_cast<size_t>(vocab), per_row = static_cast<size_t>(slices);
           std::vector<SliceStatistics> raw(got.at("statistics").size() / 6);
           for (size_t i = 0; i < raw.size(); ++i) {
             const double* const s = got.at("statistics").data() + 6 * i;
             raw[i] = {s[0], s[1], s[2], s[3], s[4], s[5]};
           }
           Expected slice{"statistics", {}, {}}, logits{"target_logits", {}, {0}};
           Expected lse{"lse", {}, {15 * u}}, kl{"kl", {}, {1e-6 * (0.5 + static_cast<double>(distance))}};
           for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
             const double *p = z.data() + row * n, *q = reference ? zr + row * n : nullptr;
             for (size_t begin = 0; begin < n; begin += vocabulary_slice)
               add_slice(p + begin, q ? q + begin : nullptr, std::min<size_t>(vocabulary_slice, n - begin), slice);
             const RowSummary want = cases::exact_row(p, q, n);
             const RowSummary have = summarize_row(std::span(raw).subspan(row * per_row, per_row), reference);
             // The errors of the exponentials average out over the tokens.
             lse.value.insert(lse.value.end(), {want.lse, want.reference_lse});
             lse.got.insert(lse.got.end(), {have.lse, have.reference_lse});
             // Those errors weigh the gaps (below 2 * distance) and enter once more through each lse.
             kl.value.insert(kl.value.end(), {want.forward_kl, want.reverse_kl});
             kl.got.insert(kl.got.end(), {have.forward_kl, have.reverse_kl});
           }
           for (const double* const from : {z.data(), zr})
             for (size_t k = 0; k < targets.size(); k += 2)
               logits.value.push_back(
                   from ? from[static_cast<size_t>(targets[k]) * n + static_cast<size_t>(targets[k + 1])] : nan);
           return std::vector<Expected>{slice, logits, lse, kl};
         }};
  if (reference) c.arguments.push_back(input("zr", DType::f32, {rows, vocab}));
  c.complete = [distance](Values& in) {
    if (in.contains("zr")) set_reference(in, distance);
  };
  return c;
}

/// Some of everything: rows with a KL, rows without, rows without targets. Rows without a KL do not read the reference.
void set_gradients(Values& in, size_t rows, size_t vocab) {
  set_reference(in, 1);
  Doubles& gradients = in["rows"];
  for (size_t row = 0; row < rows; ++row) {
    const RowSummary s = cases::exact_row(in["z"].data() + row * vocab, in["zr"].data() + row * vocab, vocab);
    double mass = 0;
    for (size_t k = 0; k < in["coefficients"].size(); ++k)
      if (in["targets"][2 * k] == static_cast<double>(row)) mass += in["coefficients"][k];
    double* const g = gradients.data() + 6 * row;
    g[0] = s.lse, g[1] = s.reference_lse, g[2] = mass, g[5] = s.reverse_kl;
    g[3] = row % 3 == 1 ? 0 : 0.01 * std::abs(g[3]);
    g[4] = row % 3 == 2 ? 0.01 * std::abs(g[4]) : 0;
    if (row % 3 == 1) std::fill_n(in["zr"].begin() + static_cast<std::ptrdiff_t>(row * vocab), vocab, nan);
  }
}

}  // namespace

RowSummary cases::exact_row(const double* z, const double* zr, size_t n) {
  RowSummary e;
  e.lse = lse_of(z, n);
  if (zr == nullptr) return e;
  e.reference_lse = lse_of(zr, n);
  for (size_t k = 0; k < n; ++k) {
    const double log_p = z[k] - e.lse, log_q = zr[k] - e.reference_lse;
    e.forward_kl += std::exp(log_q) * (log_q - log_p);
    e.reverse_kl += std::exp(log_p) * (log_p - log_q);
  }
  return e;
}

std::vector<std::pair<int64_t, int64_t>> cases::logit_shapes(bool large) {
  std::vector<std::pair<int64_t, int64_t>> all{{1, 1},    {3, 7},    {5, 64},   {2, 1023},  {3, 4099},
                                               {3, 5003}, {2, 8192}, {3, 8193}, {2, 16384}, {3, 20011}};
  if (large) all.insert(all.end(), {{64, 151936}, {5, 151937}});
  return all;
}

Case cases::preference_statistics(int64_t rows, int64_t vocab, float distance, const std::vector<int32_t>& targets) {
  return statistics(true, rows, vocab, distance, targets);
}

Case cases::preference_backward(int64_t rows, int64_t vocab, const std::vector<int32_t>& targets) {
  const int64_t count = static_cast<int64_t>(targets.size() / 2);
  const size_t n = static_cast<size_t>(vocab), height = static_cast<size_t>(rows);
  Case c{"preference_backward " + by({rows, vocab}),
         {both("z", DType::f32, {rows, vocab}, -8, 8), input("zr", DType::f32, {rows, vocab}),
          input("rows", DType::f32, {rows, 6}), indices("targets", {count, 2}, targets),
          input("coefficients", DType::f32, {count}, -0.1, 0.1)},
         [](Ops& ops, Tensors& t) {
           ops.preference_backward(t["z"], t["zr"], 0, t["rows"], t["targets"], t["coefficients"]);
         },
         [n, height](const Values& in, const Values& got) -> std::vector<Expected> {
           const Doubles &z = in.at("z"), &zr = in.at("zr"), &at = in.at("targets");
           Expected dz{"z", Doubles(z.size()), Doubles(z.size())};
           for (size_t i = 0; i < z.size(); ++i) {
             const double* const g = in.at("rows").data() + i / n * 6;
             const double log_p = z[i] - g[0], p = std::exp(log_p);
             const bool kl = g[3] != 0 || g[4] != 0;
             const double log_q = kl ? zr[i] - g[1] : 0, q = kl ? std::exp(log_q) : 0, gap = log_p - log_q - g[5];
             dz.value[i] = -g[2] * p + g[3] * (p - q) + g[4] * p * gap;
             // log p and log q are rounded below 32, exponentials to 2 ulp, and there are a few sums.
             dz.tolerance[i] = 40 * u * (std::abs(g[2]) * p + g[3] * (p + q) + g[4] * p * (std::abs(gap) + 2));
           }
           const Doubles& coefficients = in.at("coefficients");
           for (size_t k = 0; k < coefficients.size(); ++k) {
             const size_t element = static_cast<size_t>(at[2 * k]) * n + static_cast<size_t>(at[2 * k + 1]);
             dz.value[element] += coefficients[k];
             dz.tolerance[element] += 4 * u * std::abs(coefficients[k]) + u * std::abs(dz.value[element]);
           }
           if (n > 1) dz.relative = 1e-5;  // of one token all is cancelled
           Expected sums{"row sums", Doubles(height), {4e-6}};
           sums.got.resize(height);
           for (size_t i = 0; i < z.size(); ++i) sums.got[i / n] += got.at("z")[i];
           return {dz, sums};
         }};
  c.complete = [n, height](Values& in) { set_gradients(in, height, n); };
  return c;
}

OPERATION(preference_statistics) {
  std::vector<Case> all;
  if (!target.plain()) return all;
  all.push_back(cases::preference_statistics(0, 100, 1, {}));
  all.push_back(cases::preference_statistics(2, 100, 1, {}));
  for (const auto& [rows, vocab] : cases::logit_shapes(target.large)) {
    for (const float distance : {0.02f, 3.0f})
      all.push_back(cases::preference_statistics(rows, vocab, distance, some_targets(2 * rows, rows, vocab)));
    all.push_back(statistics(false, rows, vocab, 0, some_targets(2 * rows, rows, vocab)));
  }
  return all;
}

OPERATION(preference_backward) {
  std::vector<Case> all;
  if (!target.plain()) return all;
  all.push_back(cases::preference_backward(0, 100, {}));
  for (const auto& [rows, vocab] : cases::logit_shapes(target.large))
    all.push_back(cases::preference_backward(rows, vocab, some_targets(3 * rows, rows, vocab)));
  return all;
}

}  // namespace fire::test
