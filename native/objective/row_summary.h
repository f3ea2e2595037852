// From what a pass over the logits left of a row (SliceStatistics of ops.h) to its log-sum-exps and token KLs, in
// float64.
#pragma once

#include <span>

#include "ops/ops.h"

namespace fire {

struct RowSummary {
  double lse = 0, reference_lse = 0;
  double forward_kl = 0;  // KL(reference || policy) = sum q (log q - log p)
  double reverse_kl = 0;  // KL(policy || reference) = sum p (log p - log q)
};

/// `slices` are all slices of one row. Without a reference (see preference_statistics) its places are not read and stay
/// 0 here. A NaN or +inf among the logits, or no finite logit at all, makes `lse` not finite; a token that one
/// distribution allows and the other does not makes the KL infinite. Equal bits of policy and reference logits give KLs
/// of exactly 0.
RowSummary summarize_row(std::span<const SliceStatistics> slices, bool has_reference);

}  // namespace fire
