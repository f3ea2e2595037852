// The host's half of the loss of a step: from what a pass over the logits left of rows and targets to the losses of the
// pairs, and from those to what the pass back over the logits needs. Float64.
#pragma once

#include <span>
#include <vector>

#include "objective/packing.h"
#include "objective/row_summary.h"

namespace fire {

struct PairStats : PairSums {
  PairLoss loss;
};

/// What was read of the logits.
struct RowReadings {
  std::vector<RowSummary> rows;
  /// Log-probability of the target of each term; 0 under a reference that is not run.
  std::vector<double> policy, reference;
};

class StepLoss {
 public:
  /// `normalizer`: N, the pairs of the optimizer step; `chosen_tokens`: T, their `averaged_tokens`, 0 = those of
  /// `pairs`. Pairs, objective and batch must outlive this.
  StepLoss(std::span<const Pair> pairs, const Objective& objective, const PackedBatch& batch, double normalizer,
           int64_t chosen_tokens);

  /// One a pair. A loss that is not finite stays so.
  std::vector<PairStats> losses(const RowReadings& readings) const;

  /// One a gathered row.
  std::vector<RowGradient> row_gradients(const RowReadings& readings, std::span<const PairStats> losses) const;
  /// dL/d log-probability, one a term.
  std::vector<float> coefficients(std::span<const PairStats> losses) const;

 private:
  double coefficient(const Term& term, std::span<const PairStats> losses) const;
  double kl_divisor(const KlRow& row) const;

  std::span<const Pair> pairs_;
  const Objective& objective_;
  const PackedBatch& batch_;
  double normalizer_, pairs_per_token_;
  std::vector<std::array<int64_t, 2>> kl_count_;  // rows by pair and answer
};

}  // namespace fire
