#include "objective/row_summary.h"

#include <algorithm>
#include <cmath>

namespace fire {
namespace {

struct Part {
  double max, sum, cross;
};

/// One distribution over the whole row.
struct Totals {
  double lse;
  double cross;  // expectation of (own logit - other logit)
};

template <class Read>
Totals combine(std::span<const SliceStatistics> slices, Read&& read) {
  double max = -INFINITY;
  for (const SliceStatistics& s : slices) max = std::max(max, read(s).max);
  double sum = 0, cross = 0;
  for (const SliceStatistics& s : slices) {
    const Part part = read(s);
    // A slice of nothing but -inf adds 0 * 0; a row of nothing else gives NaN.
    const double scale = std::exp(part.max - max);
    sum += part.sum * scale;
    cross += part.cross * scale;
  }
  return {max + std::log(sum), cross / sum};
}

/// Rounding may take a KL of (nearly) equal distributions below 0. What is not finite stays so.
double not_negative(double kl) { return kl < 0 && std::isfinite(kl) ? 0 : kl; }

}  // namespace

RowSummary summarize_row(std::span<const SliceStatistics> slices, bool has_reference) {
  RowSummary row;
  const Totals p = combine(slices, [=](const SliceStatistics& s) {
    return Part{s.max_p, s.sum_p, has_reference ? s.cross_p : 0};
  });
  row.lse = p.lse;
  if (!has_reference) return row;
  const Totals q = combine(slices, [](const SliceStatistics& s) { return Part{s.max_q, s.sum_q, s.cross_q}; });
  row.reference_lse = q.lse;
  row.forward_kl = not_negative(q.cross + p.lse - q.lse);
  row.reverse_kl = not_negative(p.cross - p.lse + q.lse);
  return row;
}

}  // namespace fire
