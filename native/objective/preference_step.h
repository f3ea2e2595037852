// One micro-batch of the preference objective: reference and policy forward on the packed rows, loss, and (if asked)
// gradients of the adapter.
#pragma once

#include <functional>
#include <vector>

#include "objective/step_loss.h"

namespace fire {

struct StepStats {
  std::vector<PairStats> pairs;
  int64_t tokens = 0, rows = 0;
};

struct StepSettings {
  /// Every pair's loss is divided by it: the pairs of the whole optimizer step.
  double normalizer;
  bool checkpointing;
  int64_t dropout_step;  // updates so far; the masks depend on it
  /// Logits held at once, in bytes (policy and reference together). Above it the vocabulary is streamed in chunks of
  /// columns and the head runs twice.
  size_t logits_budget;
  /// Final reference hidden rows [P, H] where they are known already; empty = run the reference.
  Tensor reference;
  /// Of the reference; nullptr = the model without an adapter.
  const Adapter* reference_adapter = nullptr;
  /// Of the whole optimizer step, see StepLoss; 0 = of these pairs.
  int64_t chosen_tokens = 0;
  /// Called when the host has the losses and before backward is queued: a download waits for little here.
  std::function<void()> on_losses = {};
  /// Of backward, see Decoder::backward.
  std::function<void(int64_t)> layer_done = {};
  /// Backward failed for this reason: called before the half of a gradient is cleared, to which others may write.
  std::function<void(const char*)> on_failure = {};
};

/// Runs the objective on a packed batch. The policy is the model with `adapter` (nullptr: as it is), the reference the
/// model with that of `settings`. Adds dL/dparameter to `gradient`, flat as the adapter's parameters; empty = values
/// only, without dropout. Throws ERR_FIRE_NONFINITE naming the pairs when a loss is not a number; `gradient` is then
/// untouched. What ends it in the middle of backward (a stop, no memory) leaves `gradient` at 0.
StepStats run_preference_step(const Context& context, const Adapter* adapter, std::span<const Pair> pairs,
                              const Objective& objective, const PackedBatch& batch, const StepSettings& settings,
                              Tensor gradient);

}  // namespace fire
