// Launchers of the preference loss over gathered rows: the two passes over the logits that the loss needs, with no
// temporary of their size. Formulas: ops.h (SliceStatistics, RowGradient) and docs/objectives.md.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#include "ops/settings.h"

namespace fire::cuda {

/// Logits f32 [rows, columns] of the vocabulary from `first_column` (a multiple of the slice) on, and the scored
/// tokens: i32 [target_count, 2], (row, token).
struct PreferenceLogits {
  int64_t rows, columns, first_column;
  const int32_t* targets;
  int64_t target_count;
};

/// statistics f64 [rows, slices, 6]: the slices of these columns are filled (without `zr`: max_p and sum_p alone).
/// target_logits f32 [2, target_count]: policy and reference logit of the targets among the columns.
void launch_preference_statistics(Stream stream, const PreferenceLogits& shape, const float* z, const float* zr,
                                  double* statistics, float* target_logits, int64_t slices);

/// z becomes dL/dz. gradients f32 [rows, 6] (RowGradient), coefficients f32 [target_count]. `zr` is read in rows with a
/// KL weight only. Coefficients of targets that share an element are added in the order of the list.
void launch_preference_backward(Stream stream, const PreferenceLogits& shape, float* z, const float* zr,
                                const float* gradients, const float* coefficients);

}  // namespace fire::cuda
