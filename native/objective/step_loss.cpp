#include "objective/step_loss.h"

#include <algorithm>

namespace fire {

StepLoss::StepLoss(std::span<const Pair> pairs, const Objective& objective, const PackedBatch& batch, double normalizer,
                   int64_t chosen_tokens)
    : pairs_(pairs), objective_(objective), batch_(batch), normalizer_(normalizer), kl_count_(pairs.size()) {
  for (const KlRow& r : batch.kl_rows) ++kl_count_[static_cast<size_t>(r.pair)][at(r.branch)];
  if (chosen_tokens == 0)
    for (const Pair& p : pairs) chosen_tokens += averaged_tokens(p, objective);
  pairs_per_token_ = normalizer / static_cast<double>(std::max<int64_t>(1, chosen_tokens));
}

std::vector<PairStats> StepLoss::losses(const RowReadings& readings) const {
  std::vector<PairStats> all(pairs_.size());
  for (size_t p = 0; p < pairs_.size(); ++p) {
    const Pair& pair = pairs_[p];
    all[p].chosen_tokens = tokens_in_scope(pair, Branch::chosen, objective_);
    all[p].rejected_tokens = tokens_in_scope(pair, Branch::rejected, objective_);
    all[p].has_corrupted = pair.has_corrupted();
    all[p].weight = pair.weight;
    all[p].rejected_score = pair.rejected_score;
    all[p].pairs_per_token = pairs_per_token_;
  }
  for (size_t i = 0; i < batch_.terms.size(); ++i) {
    const Term& t = batch_.terms[i];
    PairStats& pair = all[static_cast<size_t>(t.pair)];
    if (t.weight != 0) {
      pair.logps.policy[at(t.branch)] += t.weight * readings.policy[i];
      pair.logps.reference[at(t.branch)] += t.weight * readings.reference[i];
    }
    if (t.answer) pair.answer_logp += readings.policy[i];
  }
  for (const KlRow& r : batch_.kl_rows) {
    PairStats& pair = all[static_cast<size_t>(r.pair)];
    KlSums& kl = r.branch == Branch::chosen ? pair.kl : pair.rejected_kl;
    const RowSummary& row = readings.rows[static_cast<size_t>(r.row)];
    kl.forward += row.forward_kl / kl_divisor(r);
    kl.reverse += row.reverse_kl / kl_divisor(r);
  }
  for (PairStats& pair : all) pair.loss = objective_.evaluate(pair);
  return all;
}

std::vector<RowGradient> StepLoss::row_gradients(const RowReadings& readings, std::span<const PairStats> losses) const {
  struct Sums {
    double mass = 0, forward_kl = 0, reverse_kl = 0;
  };
  std::vector<Sums> sums(readings.rows.size());
  for (const Term& t : batch_.terms) sums[static_cast<size_t>(t.at.row)].mass += coefficient(t, losses);
  // Both answers read one row while they share their words.
  for (const KlRow& r : batch_.kl_rows) {
    const PairLoss& loss = losses[static_cast<size_t>(r.pair)].loss;
    const KlSums& slope = r.branch == Branch::chosen ? loss.kl_coefficient : loss.rejected_kl_coefficient;
    Sums& row = sums[static_cast<size_t>(r.row)];
    row.forward_kl += slope.forward / (normalizer_ * kl_divisor(r));
    row.reverse_kl += slope.reverse / (normalizer_ * kl_divisor(r));
  }
  std::vector<RowGradient> rows;
  for (size_t r = 0; r < sums.size(); ++r) {
    const RowSummary& s = readings.rows[r];
    rows.push_back({static_cast<float>(s.lse), static_cast<float>(s.reference_lse), static_cast<float>(sums[r].mass),
                    static_cast<float>(sums[r].forward_kl), static_cast<float>(sums[r].reverse_kl),
                    static_cast<float>(s.reverse_kl)});
  }
  return rows;
}

std::vector<float> StepLoss::coefficients(std::span<const PairStats> losses) const {
  std::vector<float> all;
  for (const Term& t : batch_.terms) all.push_back(static_cast<float>(coefficient(t, losses)));
  return all;
}

double StepLoss::coefficient(const Term& t, std::span<const PairStats> losses) const {
  const PairLoss& loss = losses[static_cast<size_t>(t.pair)].loss;
  const double slope = t.weight * loss.coefficient[at(t.branch)] + (t.answer ? loss.answer_coefficient : 0);
  return slope / normalizer_;
}

double StepLoss::kl_divisor(const KlRow& r) const {
  const int64_t count = kl_count_[static_cast<size_t>(r.pair)][at(r.branch)];
  return objective_.coefficients().kl_reduction == KlReduction::mean ? static_cast<double>(count) : 1.0;
}

}  // namespace fire
