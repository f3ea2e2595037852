// From slice statistics to log-sum-exp and both KLs, against sums over the whole row.
#include "objective/row_summary.h"

#include <cmath>

#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

using Doubles = std::vector<double>;

/// Statistics of slices of `width` columns, in float64 throughout.
std::vector<SliceStatistics> slices_of(const Doubles& z, const Doubles& zr, size_t width) {
  std::vector<SliceStatistics> slices;
  for (size_t begin = 0; begin < z.size(); begin += width) {
    const size_t end = std::min(z.size(), begin + width);
    SliceStatistics s{-INFINITY, 0, 0, -INFINITY, 0, 0};
    for (size_t i = begin; i < end; ++i) s.max_p = std::max(s.max_p, z[i]), s.max_q = std::max(s.max_q, zr[i]);
    for (size_t i = begin; i < end; ++i) {
      const double p = std::exp(z[i] - s.max_p), q = std::exp(zr[i] - s.max_q);
      s.sum_p += p, s.cross_p += p * (z[i] - zr[i]);
      s.sum_q += q, s.cross_q += q * (zr[i] - z[i]);
    }
    slices.push_back(s);
  }
  return slices;
}

double lse_of(const Doubles& z) {
  const double max = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (const double x : z) sum += std::exp(x - max);
  return max + std::log(sum);
}

/// KL(a || b).
double kl_of(const Doubles& a, const Doubles& b) {
  const double la = lse_of(a), lb = lse_of(b);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::exp(a[i] - la) * ((a[i] - la) - (b[i] - lb));
  return sum;
}

Doubles logits(Random& random, size_t n, float spread, double shift = 0) {
  Doubles z;
  for (size_t i = 0; i < n; ++i) z.push_back(shift + static_cast<double>(random.uniform(-spread, spread)));
  return z;
}

}  // namespace

TEST("row summary: slices make the sums of the whole row") {
  Random random(1);
  for (const size_t n : {1, 2, 7, 100})
    for (const size_t width : {1, 3, 100})
      for (const double shift : {0.0, 1e4, -1e4}) {
        const Doubles z = logits(random, n, 6), zr = logits(random, n, 6, shift);
        const RowSummary row = summarize_row(slices_of(z, zr, width), true);
        const double tolerance = 1e-14 * (1 + std::abs(shift)) * static_cast<double>(n + 10);
        CHECK_NEAR(row.lse, lse_of(z), tolerance);
        CHECK_NEAR(row.reference_lse, lse_of(zr), tolerance);
        CHECK_NEAR(row.forward_kl, kl_of(zr, z), tolerance);
        CHECK_NEAR(row.reverse_kl, kl_of(z, zr), tolerance);
        if (n == 7 && shift == 0) CHECK(std::abs(row.forward_kl - row.reverse_kl) > 1e-3);  // the two directions differ
      }
}

TEST("row summary: slices whose maxima are far apart") {
  // The second slice's sums underflow beside the first's, in either order.
  for (const double gap : {200.0, 1000.0}) {
    const Doubles z{gap, gap - 1, 0, -1}, zr{0, 1, gap, gap + 0.5};
    for (const size_t width : {1, 2, 4}) {
      const RowSummary row = summarize_row(slices_of(z, zr, width), true);
      CHECK_NEAR(row.lse, lse_of(z), 1e-12 * gap);
      CHECK_NEAR(row.forward_kl, kl_of(zr, z), 1e-12 * gap);
      CHECK_NEAR(row.reverse_kl, kl_of(z, zr), 1e-12 * gap);
    }
  }
}

TEST("row summary: equal rows have a KL of exactly 0, none is negative") {
  Random random(2);
  for (int i = 0; i < 200; ++i) {
    const Doubles z = logits(random, 50, 9);
    const RowSummary same = summarize_row(slices_of(z, z, 16), true);
    CHECK(same.forward_kl == 0 && same.reverse_kl == 0 && same.lse == same.reference_lse);
    Doubles near = z;
    for (double& x : near) x += 1e-9 * static_cast<double>(random.uniform());  // a KL of 1e-19, below rounding
    const RowSummary close = summarize_row(slices_of(z, near, 16), true);
    CHECK(close.forward_kl >= 0 && close.forward_kl < 1e-14);
    CHECK(close.reverse_kl >= 0 && close.reverse_kl < 1e-14);
  }
  // Sums whose rounding went the wrong way.
  const SliceStatistics s{0, 1, -1e-12, 0, 1, -1e-12};
  const RowSummary clamped = summarize_row(std::vector<SliceStatistics>{s}, true);
  CHECK(clamped.forward_kl == 0 && clamped.reverse_kl == 0);
}

TEST("row summary: slices without a finite logit, and rows that are no distribution") {
  const SliceStatistics part{1, 2, 0.5, 2, 3, 0.25}, empty{-INFINITY, 0, 0, -INFINITY, 0, 0};
  const RowSummary alone = summarize_row(std::vector<SliceStatistics>{part}, true);
  const RowSummary beside = summarize_row(std::vector<SliceStatistics>{empty, part, empty}, true);
  CHECK(alone.lse == beside.lse && alone.reference_lse == beside.reference_lse);
  CHECK(alone.forward_kl == beside.forward_kl && alone.reverse_kl == beside.reverse_kl);

  const std::vector<SliceStatistics> nothing{empty, empty};
  CHECK(!std::isfinite(summarize_row(nothing, true).lse));
  for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    SliceStatistics s = part;
    s.sum_p = bad;
    const RowSummary row = summarize_row(std::vector<SliceStatistics>{part, s}, true);
    CHECK(!std::isfinite(row.lse));
    CHECK(!std::isfinite(row.forward_kl) && !std::isfinite(row.reverse_kl));
  }
  SliceStatistics infinite = part;
  infinite.max_p = INFINITY;
  infinite.sum_p = NAN;
  CHECK(!std::isfinite(summarize_row(std::vector<SliceStatistics>{part, infinite}, true).lse));
  // A token that the reference allows and the policy does not.
  SliceStatistics forbidden = part;
  forbidden.cross_q = INFINITY;
  CHECK(summarize_row(std::vector<SliceStatistics>{part, forbidden}, true).forward_kl == INFINITY);
}

TEST("row summary: without a reference its places are not read") {
  const SliceStatistics part{1, 2, NAN, NAN, NAN, NAN};
  const RowSummary row = summarize_row(std::vector<SliceStatistics>{part, part}, false);
  CHECK_NEAR(row.lse, 1 + std::log(4.0), 1e-15);
  CHECK(row.reference_lse == 0 && row.forward_kl == 0 && row.reverse_kl == 0);
}
