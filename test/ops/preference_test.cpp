// The preference operations: small KLs, logits far apart and not finite, chunks of columns, and the loss from logits to
// gradients.
#include <cmath>

#include "fixture.h"
#include "objective/objective.h"
#include "ops/cases/cases.h"
#include "ops/run.h"

using namespace fire;
using namespace fire::test;

namespace {

using Floats = std::vector<float>;

/// A batch of rows with a reference and scored tokens.
struct Batch {
  int64_t rows, vocab;
  Floats z, zr;                  // zr empty: no reference
  std::vector<int32_t> targets;  // (row, token)
  int64_t count() const { return static_cast<int64_t>(targets.size() / 2); }
  /// Columns [begin, end) of a matrix of this batch.
  Floats columns(const Floats& all, int64_t begin, int64_t end) const {
    Floats part;
    for (int64_t r = 0; r < rows && !all.empty(); ++r)
      part.insert(part.end(), all.begin() + r * vocab + begin, all.begin() + r * vocab + end);
    return part;
  }
};

struct Statistics {
  std::vector<double> raw;  // [rows, slices, 6]
  std::vector<RowSummary> rows;
  Floats target_logits;
};

/// The columns in memory together are `width` (a multiple of the slice), or all.
Statistics statistics_of(Ops& ops, const Batch& b, int64_t width = 0) {
  const int64_t slices = vocabulary_slices(b.vocab);
  const bool reference = !b.zr.empty();
  Placed statistics(ops, DType::f64, {b.rows, slices, 6});
  Placed target_logits(ops, Floats(static_cast<size_t>(2 * b.count()), -77), DType::f32, {2, b.count()});
  Placed targets(ops, b.targets, DType::i32, {b.count(), 2});
  if (width == 0) width = b.vocab;
  for (int64_t begin = 0; begin < b.vocab; begin += width) {
    const int64_t end = std::min(begin + width, b.vocab);
    Placed z(ops, b.columns(b.z, begin, end), DType::f32, {b.rows, end - begin});
    if (reference) {
      Placed zr(ops, b.columns(b.zr, begin, end), DType::f32, {b.rows, end - begin});
      ops.preference_statistics(z, zr, begin, targets, statistics, target_logits);
    } else {
      ops.preference_statistics(z, {}, begin, targets, statistics, target_logits);
    }
  }
  Statistics out{statistics.values(), {}, target_logits.get()};
  std::vector<SliceStatistics> typed(out.raw.size() / 6);
  if (!typed.empty()) std::memcpy(typed.data(), out.raw.data(), out.raw.size() * sizeof(double));
  for (int64_t r = 0; r < b.rows; ++r)
    out.rows.push_back(summarize_row(
        std::span(typed).subspan(static_cast<size_t>(r * slices), static_cast<size_t>(slices)), reference));
  return out;
}

Floats backward_of(Ops& ops, const Batch& b, const std::vector<RowGradient>& gradients, const Floats& coefficients,
                   int64_t width = 0) {
  Floats rows(gradients.size() * 6);
  if (!rows.empty()) std::memcpy(rows.data(), gradients.data(), rows.size() * sizeof(float));
  Placed weights(ops, rows, DType::f32, {b.rows, 6});
  Placed factors(ops, coefficients, DType::f32, {b.count()});
  Placed targets(ops, b.targets, DType::i32, {b.count(), 2});
  Floats dz(b.z.size());
  if (width == 0) width = b.vocab;
  for (int64_t begin = 0; begin < b.vocab; begin += width) {
    const int64_t end = std::min(begin + width, b.vocab);
    Placed z(ops, b.columns(b.z, begin, end), DType::f32, {b.rows, end - begin});
    if (b.zr.empty()) {
      ops.preference_backward(z, {}, begin, weights, targets, factors);
    } else {
      Placed zr(ops, b.columns(b.zr, begin, end), DType::f32, {b.rows, end - begin});
      ops.preference_backward(z, zr, begin, weights, targets, factors);
    }
    const Floats part = z.get();
    for (int64_t r = 0; r < b.rows; ++r)
      std::copy_n(part.begin() + r * (end - begin), end - begin, dz.begin() + r * b.vocab + begin);
  }
  return dz;
}

RowSummary exact_row(const Batch& b, int64_t row) {
  const auto at = [&](const Floats& all) {
    return Doubles(all.begin() + row * b.vocab, all.begin() + (row + 1) * b.vocab);
  };
  const Doubles z = at(b.z), zr = b.zr.empty() ? Doubles() : at(b.zr);
  return cases::exact_row(z.data(), zr.empty() ? nullptr : zr.data(), z.size());
}

Batch random_batch(Random& random, int64_t rows, int64_t vocab, float spread, float distance, int64_t targets) {
  Batch b{rows, vocab, random.floats(rows * vocab, -spread, spread), {}, {}};
  b.zr = b.z;
  for (float& x : b.zr) x += random.uniform(-distance, distance);
  for (int64_t k = 0; k < targets; ++k) {
    b.targets.push_back(static_cast<int32_t>(random.integer(0, rows - 1)));
    b.targets.push_back(static_cast<int32_t>(random.integer(0, vocab - 1)));
  }
  return b;
}

/// Some of everything: rows with a KL, rows without, rows without targets, several targets on one element.
std::vector<RowGradient> random_gradients(Random& random, const Batch& b, const std::vector<RowSummary>& rows,
                                          const Floats& coefficients) {
  std::vector<double> mass(static_cast<size_t>(b.rows));
  for (size_t k = 0; k < coefficients.size(); ++k) mass[static_cast<size_t>(b.targets[2 * k])] += coefficients[k];
  std::vector<RowGradient> g;
  for (size_t r = 0; r < rows.size(); ++r) {
    g.push_back({static_cast<float>(rows[r].lse), static_cast<float>(rows[r].reference_lse),
                 static_cast<float>(mass[r]), 0, 0, static_cast<float>(rows[r].reverse_kl)});
    if (r % 3 == 1) continue;
    g.back().forward_kl = random.uniform(0, 0.01f);
    if (r % 3 == 2) g.back().reverse_kl = random.uniform(0, 0.01f);
  }
  return g;
}

}  // namespace

TEST("op/preference_statistics: a KL of 5e-5 is right to 1e-6, in both directions") {
  Random random(2);
  const int64_t vocab = large(plain_device()) ? 151936 : 30011;
  // Peaked (a few likely words) and broad; a uniform change by at most a has a KL of about a^2 / 6.
  for (const float spread : {14.0f, 3.0f, 0.0f}) {
    const Batch b = random_batch(random, 3, vocab, spread, 0.0171f, 3);
    const Statistics s = statistics_of(plain_device(), b);
    for (int64_t r = 0; r < b.rows; ++r) {
      const RowSummary want = exact_row(b, r);
      CHECK(want.forward_kl > 3e-5 && want.forward_kl < 7e-5);
      CHECK_NEAR(s.rows[static_cast<size_t>(r)].forward_kl, want.forward_kl, 1e-6);
      CHECK_NEAR(s.rows[static_cast<size_t>(r)].reverse_kl, want.reverse_kl, 1e-6);
    }
  }
}

TEST("op/preference_statistics: an untrained policy has a KL and a KL gradient of exactly 0") {
  Random random(3);
  Ops& ops = plain_device();
  for (const auto& [rows, vocab] : cases::logit_shapes(false)) {
    Batch b = random_batch(random, rows, vocab, 20, 0, 1);
    if (vocab > 100) b.z[3] = b.zr[3] = -INFINITY;
    const Statistics s = statistics_of(ops, b);
    std::vector<RowGradient> g;
    for (const RowSummary& row : s.rows) {
      CHECK(row.forward_kl == 0 && row.reverse_kl == 0 && row.lse == row.reference_lse);
      const float lse = static_cast<float>(row.lse);
      g.push_back({lse, lse, 0, 0.5f, 0.25f, static_cast<float>(row.reverse_kl)});
    }
    const Floats dz = backward_of(ops, b, g, {0});
    CHECK(std::all_of(dz.begin(), dz.end(), [](float x) { return x == 0; }));
  }
}

TEST("op/preference_statistics: logits 200 apart, and a reference shifted by 1e4") {
  Ops& ops = plain_device();
  const int64_t vocab = 9001;
  Batch b{3, vocab, Floats(3 * 9001, -200), Floats(3 * 9001, -200), {0, 8999, 1, 0, 2, 5}};
  b.z[8999] = 0, b.zr[1] = 0;  // each sure of another token
  Random random(4);
  for (size_t i = 9001; i < b.z.size(); ++i) {
    b.z[i] = random.uniform(-8, 8);
    b.zr[i] = b.z[i] + random.uniform(-1, 1) + (i < 2 * 9001 ? 1e4f : -1e4f);
  }
  const Statistics s = statistics_of(ops, b);
  std::vector<RowGradient> g;
  for (int64_t r = 0; r < 3; ++r) {
    const RowSummary want = exact_row(b, r);
    const RowSummary& got = s.rows[static_cast<size_t>(r)];
    CHECK_NEAR(got.lse, want.lse, 15 * u * std::max(1.0, std::abs(want.lse)));
    CHECK_NEAR(got.reference_lse, want.reference_lse, 15 * u);
    CHECK_NEAR(got.forward_kl, want.forward_kl, 1e-6 * std::max(1.0, want.forward_kl));
    CHECK_NEAR(got.reverse_kl, want.reverse_kl, 1e-6 * std::max(1.0, want.reverse_kl));
    g.push_back({static_cast<float>(got.lse), static_cast<float>(got.reference_lse), 0.3f, 0.01f, 0.02f,
                 static_cast<float>(got.reverse_kl)});
  }
  CHECK(std::abs(s.rows[0].forward_kl - 200) < 1e-3);
  const Floats dz = backward_of(ops, b, g, {0.1f, 0.1f, 0.1f});
  CHECK(std::all_of(dz.begin(), dz.end(), [](float x) { return std::isfinite(x); }));
}

TEST("op/preference_statistics: logits that are no distribution are seen, -inf for single tokens is legal") {
  Ops& ops = plain_device();
  Random random(5);
  const int64_t vocab = 9003;
  const Batch good = random_batch(random, 2, vocab, 5, 1, 1);
  for (const float bad : {NAN, -NAN, INFINITY})
    for (const size_t at : {size_t{0}, size_t{8191}, size_t{8192}, size_t{9002}}) {
      Batch b = good;
      b.z[at] = bad;
      Statistics s = statistics_of(ops, b);
      CHECK(!std::isfinite(s.rows[0].lse) && !std::isfinite(s.rows[0].forward_kl));
      CHECK(std::isfinite(s.rows[1].lse) && std::isfinite(s.rows[1].forward_kl));
      b = good;
      b.zr[at] = bad;
      s = statistics_of(ops, b);
      CHECK(std::isfinite(s.rows[0].lse) && !std::isfinite(s.rows[0].reference_lse));
      CHECK(!std::isfinite(s.rows[0].forward_kl) && !std::isfinite(s.rows[0].reverse_kl));
    }
  Batch none = good;
  std::fill(none.z.begin(), none.z.begin() + vocab, -INFINITY);
  CHECK(!std::isfinite(statistics_of(ops, none).rows[0].lse));

  // Tokens, here a whole slice, that neither allows; their gradient is 0.
  Batch masked = good;
  for (size_t i = 0; i < 8192; ++i) masked.z[i] = masked.zr[i] = -INFINITY;
  const Statistics s = statistics_of(ops, masked);
  Batch rest{1,
             vocab - 8192,
             Floats(good.z.begin() + 8192, good.z.begin() + vocab),
             Floats(good.zr.begin() + 8192, good.zr.begin() + vocab),
             {}};
  const RowSummary want = exact_row(rest, 0);
  CHECK_NEAR(s.rows[0].lse, want.lse, 15 * u);
  CHECK_NEAR(s.rows[0].forward_kl, want.forward_kl, 1e-6);
  CHECK_NEAR(s.rows[0].reverse_kl, want.reverse_kl, 1e-6);
  const RowGradient g{
      static_cast<float>(s.rows[0].lse),       static_cast<float>(s.rows[0].reference_lse), 0.5f, 0.1f, 0.1f,
      static_cast<float>(s.rows[0].reverse_kl)};
  const Floats dz = backward_of(ops, masked, {g, g}, {0});
  CHECK(std::all_of(dz.begin(), dz.begin() + 8192, [](float x) { return x == 0; }));
  CHECK(std::all_of(dz.begin() + 8192, dz.begin() + vocab, [](float x) { return std::isfinite(x) && x != 0; }));

  // Allowed by one only.
  Batch one = good;
  one.z[7] = -INFINITY;
  CHECK(statistics_of(ops, one).rows[0].forward_kl == INFINITY);
  CHECK(std::isfinite(statistics_of(ops, one).rows[0].reverse_kl));
}

TEST("op/preference_backward: targets that share an element add up in list order") {
  Random random(7);
  Ops& ops = plain_device();
  const int64_t count = large(plain_device()) ? 5000 : 700;  // more than a block of them
  Batch b = random_batch(random, 4, 50, 3, 1, count);
  const std::vector<RowGradient> g(4, RowGradient{4, 4, 0.5f, 0.01f, 0.01f, 0.1f});
  Floats coefficients = random.floats(count);
  for (size_t k = 0; k < coefficients.size(); k += 3) coefficients[k] *= 1e6f;  // so that the order matters
  Floats want = backward_of(ops, b, g, Floats(coefficients.size(), 0.0f)), reversed = want;
  auto element = [&](size_t k) { return static_cast<size_t>(b.targets[2 * k] * b.vocab + b.targets[2 * k + 1]); };
  for (size_t k = 0; k < coefficients.size(); ++k) want[element(k)] += coefficients[k];
  for (size_t k = coefficients.size(); k-- > 0;) reversed[element(k)] += coefficients[k];
  CHECK(same_bits(backward_of(ops, b, g, coefficients), want));
  CHECK(!same_bits(reversed, want));
}

TEST("op/preference_backward: rows without a KL weight do not read the reference") {
  Random random(8);
  Ops& ops = plain_device();
  Batch b = random_batch(random, 3, 4099, 5, 1, 6);
  const Floats coefficients = random.floats(6);
  std::vector<RowGradient> g(3, RowGradient{6, 6, 0.5f, 0, 0, NAN});
  Batch without = b;
  without.zr.clear();
  const Floats want = backward_of(ops, without, g, coefficients);
  std::fill(b.zr.begin(), b.zr.end(), NAN);
  CHECK(same_bits(backward_of(ops, b, g, coefficients), want));
  CHECK(std::all_of(want.begin(), want.end(), [](float x) { return std::isfinite(x); }));
}

TEST(
    "op/preference_statistics: without a reference the policy has the same bits and the reference's places are left "
    "alone") {
  Random random(9);
  Ops& ops = plain_device();
  Batch b = random_batch(random, 2, 8195, 5, 1, 3);
  const Statistics both = statistics_of(ops, b);
  Placed z(ops, b.z, DType::f32, {b.rows, b.vocab});
  Placed statistics(ops, DType::f64, {b.rows, 2, 6}), target_logits(ops, Floats(6, -77), DType::f32, {2, 3});
  Placed targets(ops, b.targets, DType::i32, {3, 2});
  const std::vector<double> marks(24, 123.0);
  ops.upload(marks.data(), statistics);
  ops.preference_statistics(z, {}, 0, targets, statistics, target_logits);
  const std::vector<double> got = statistics.values();
  for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == (i % 6 < 2 ? both.raw[i] : 123.0));
  const Floats logits = target_logits.get();
  for (size_t k = 0; k < 3; ++k) CHECK(logits[k] == both.target_logits[k] && logits[3 + k] == -77);
}

TEST("op/preference_backward: the same bits whole, in chunks of columns, alone, and again") {
  Random random(10);
  Ops& ops = plain_device();
  for (const int64_t vocab : {20011, 16385, 24576}) {  // rows of odd widths begin off 16 bytes
    const Batch b = random_batch(random, 3, vocab, 8, 1, 40);
    const Floats coefficients = random.floats(40, -0.1f, 0.1f);
    const Statistics whole = statistics_of(ops, b);
    const std::vector<RowGradient> g = random_gradients(random, b, whole.rows, coefficients);
    const Floats dz = backward_of(ops, b, g, coefficients);
    for (const int64_t width : {vocabulary_slice, 2 * vocabulary_slice, int64_t{0}}) {
      const Statistics s = statistics_of(ops, b, width);
      CHECK(same_bits(s.raw, whole.raw) && same_bits(s.target_logits, whole.target_logits));
      CHECK(same_bits(backward_of(ops, b, g, coefficients, width), dz));
    }
    for (int64_t r = 0; r < b.rows; ++r) {
      const auto row_of = [&](const auto& all, int64_t size) {
        return std::vector(all.begin() + r * size, all.begin() + (r + 1) * size);
      };
      Batch alone{1, vocab, row_of(b.z, vocab), row_of(b.zr, vocab), {}};
      Floats own;
      for (size_t k = 0; k < coefficients.size(); ++k) {
        if (b.targets[2 * k] != r) continue;
        alone.targets.insert(alone.targets.end(), {0, b.targets[2 * k + 1]});
        own.push_back(coefficients[k]);
      }
      CHECK(same_bits(statistics_of(ops, alone).raw, row_of(whole.raw, 6 * vocabulary_slices(vocab))));
      CHECK(same_bits(backward_of(ops, alone, {g[static_cast<size_t>(r)]}, own), row_of(dz, vocab)));
    }
  }
}

namespace {

/// The example worked out by hand: V = 3, one phrase token a side; values from float64. Branches in the order of
/// `Branch`; a row of zeros where a branch does not run.
struct Example {
  const char* objective;
  double loss;
  double gradient[4][3];
};

constexpr float example_z[4][3] = {{1, 0, -1}, {.2f, -.3f, .1f}, {.4f, -.4f, 0}, {.3f, .1f, -.2f}};
constexpr float example_zr[4][3] = {{.5f, 0, -.5f}, {0, 0, 0}, {.2f, 0, -.2f}, {.1f, .2f, -.1f}};
constexpr int32_t example_token[4] = {0, 2, 0, 2};
constexpr double rejected_row[3] = {-.019715476267, -.011958040827, .031673517094};

const Example examples[] = {
    {"fire",
     .754780769138,
     {{-.015074592091, .011452933215, .003621658876},
      {rejected_row[0], rejected_row[1], rejected_row[2]},
      {.002677256564, -.001074416096, -.001602840468},
      {.002089842165, .001711018049, -.003800860214}}},
    {"rrpo-phrase-kl",
     .684123278070,
     {{-.014987257895, .011492522035, .003494735859}, {rejected_row[0], rejected_row[1], rejected_row[2]}}},
    {"dpo",
     .683450698471,
     {{-.016574863542, .012117196182, .004457667360}, {rejected_row[0], rejected_row[1], rejected_row[2]}}},
    {"mdpo",
     2.050619847407,
     {{-.049728848243, .036354701113, .013374147130},
      {rejected_row[0], rejected_row[1], rejected_row[2]},
      {.026263270949, -.010539774718, -.015723496231}}},
    {"fire-v1",
     .752844555227,
     {{-.016739013087, .012669722462, .004069290624},
      {rejected_row[0], rejected_row[1], rejected_row[2]},
      {.002626327095, -.001053977472, -.001572349623}}},
    {"fire-v2",
     .751493223137,
     {{-.016716113501, .012652981524, .004063131977},
      {rejected_row[0], rejected_row[1], rejected_row[2]},
      {},
      {-.002021881393, -.001655376475, .003677257868}}},
};

}  // namespace

TEST("op/preference_backward: the example worked out by hand, from logits to gradients") {
  Ops& ops = plain_device();
  for (const Example& example : examples) {
    const Objective objective = Objective::make({example.objective, 0.1, 0.01, 0.1, 0.5, KlReduction::sum});
    Batch b{0, 3, {}, {}, {}};
    std::vector<size_t> branches;
    for (size_t branch = 0; branch < branch_count; ++branch) {
      if (!objective.runs(static_cast<Branch>(branch), true)) continue;
      b.z.insert(b.z.end(), example_z[branch], example_z[branch] + 3);
      b.zr.insert(b.zr.end(), example_zr[branch], example_zr[branch] + 3);
      b.targets.insert(b.targets.end(), {static_cast<int32_t>(b.rows++), example_token[branch]});
      branches.push_back(branch);
    }
    const Statistics s = statistics_of(ops, b);
    PairSums sums;
    PairLogps& logps = sums.logps;
    for (size_t i = 0; i < branches.size(); ++i) {
      logps.policy[branches[i]] = static_cast<double>(s.target_logits[i]) - s.rows[i].lse;
      logps.reference[branches[i]] =
          static_cast<double>(s.target_logits[branches.size() + i]) - s.rows[i].reference_lse;
    }
    CHECK_NEAR(s.rows[0].forward_kl, .067257959888, 1e-7);
    CHECK_NEAR(s.rows[0].reverse_kl, .060268897500, 1e-7);
    sums.kl = {s.rows[0].forward_kl, s.rows[0].reverse_kl};
    sums.has_corrupted = true;
    sums.chosen_tokens = sums.rejected_tokens = 1;
    const PairLoss loss = objective.evaluate(sums);
    CHECK_NEAR(loss.loss, example.loss, 2e-7);
    std::vector<RowGradient> g;
    Floats coefficients;
    for (size_t i = 0; i < branches.size(); ++i) {
      coefficients.push_back(static_cast<float>(loss.coefficient[branches[i]]));
      const KlSums kl = branches[i] == at(Branch::chosen) ? loss.kl_coefficient : KlSums();
      g.push_back({static_cast<float>(s.rows[i].lse), static_cast<float>(s.rows[i].reference_lse), coefficients.back(),
                   static_cast<float>(kl.forward), static_cast<float>(kl.reverse),
                   static_cast<float>(s.rows[i].reverse_kl)});
    }
    const Floats dz = backward_of(ops, b, g, coefficients);
    for (size_t i = 0; i < branches.size(); ++i)
      for (size_t k = 0; k < 3; ++k) CHECK_NEAR(dz[3 * i + k], example.gradient[branches[i]][k], 2e-8);
  }
}
