// One micro-batch of the preference objective: reference and policy forward on the packed rows, loss, and (if asked)
// gradients of the adapter.
#pragma once

#include <vector>

#include "objective/packing.h"

namespace fire {

struct PairStats {
  PairLoss loss;
  PairLogps logps;
  KlSums kl;
  int64_t chosen_tokens = 0, rejected_tokens = 0;
};

struct StepStats {
  std::vector<PairStats> pairs;
  int64_t tokens = 0, rows = 0;
};

struct StepSettings {
  /// Every pair's loss is divided by it: the pairs of the whole optimizer step.
  double normalizer = 1;
  bool checkpointing = false;
  uint32_t dropout_pass = 0;
  const std::atomic<bool>* cancel = nullptr;
  /// Logits held at once, in bytes (policy and reference together). Above it the vocabulary is streamed in chunks of
  /// columns and the head runs twice.
  size_t logits_budget = size_t{1} << 30;
  /// Final reference hidden rows [P, H] where they are known already; empty = run the reference.
  Tensor reference;
};

/// Runs the objective on a packed batch. With `gradients`, adds dL/dparameter to it. The reference is the decoder
/// without an adapter. Throws ERR_FIRE_NONFINITE naming the pairs when a loss is not a number; gradients are then
/// untouched.
StepStats run_preference_step(Ops& ops, const Decoder& decoder, const PackedBatch& batch, const Objective& objective,
                              std::span<const Pair> pairs, const Adapter* policy, Adapter* gradients,
                              const StepSettings& settings, int64_t vocab_size, Arena& arena);

}  // namespace fire
