// What a training step takes, found by running it on a device that computes nothing (ops/null_ops.h).
#pragma once

#include "objective/preference_step.h"
#include "ops/null_ops.h"

namespace fire {

/// Logits that a step holds at once, in bytes; see StepSettings.
constexpr size_t logits_budget = size_t{1} << 30;

/// Bytes of a training step beside the weights. Everything but the pixels is the device's.
struct PlanStats {
  size_t weight_bytes = 0;  // as the device keeps them; on a CPU the mapped file
  size_t packed_bytes = 0;  // copies of the weights, packed for the products of a CPU
  size_t adapter_bytes = 0, optimizer_bytes = 0;
  size_t activation_bytes = 0;  // the arena's peak in the step
  size_t vision_bytes = 0;      // the same while the images, or some of them, go through the tower before the step
  size_t arena_bytes = 0;       // what a device takes for both; on a GPU there is some room in it
  size_t logits_bytes = 0;      // the part of the activations that holds logits
  size_t scratch_bytes = 0;     // of the device, beside the arena
  /// Of an encoded image, a placeholder token: features, and pixels on the host.
  size_t feature_bytes_per_token = 0, pixel_bytes_per_token = 0;
  size_t feature_unit_bytes = 0;  // features of an image take a multiple of so many
  size_t reference_bytes = 0;     // of what a cache keeps of the pairs, on the host
  int64_t tokens = 0, rows = 0;
};

/// Features of one image, a placeholder token.
size_t feature_bytes(const ModelConfig& config, const Ops& ops);

/// Patches of the images that go through the tower together: as many as the arena holds in 1 GiB on a GPU, as logits
/// have, and on a CPU, where a batch saves little, in one of its blocks. Found by a dry run; `file` holds the model's
/// weights.
int64_t tower_batch_patches(const Context& context, const SafeTensors& file);

/// The arena's peak while images, which need no pixels, go through the tower batch by batch. `null` pretends to be the
/// device, and counts what else it would take.
size_t tower_bytes(NullOps& null, const Context& context, const SafeTensors& file, std::span<const Patches> images);

/// What is trained, and what the reference has.
struct PlanAdapters {
  const Adapter& policy;
  const Adapter* reference;  // nullptr = none
};

struct PlannedStep {
  bool training;  // false = forward only
  bool checkpointing;
};

/// A step over `pairs` on the device and model of `context`. No image needs to be encoded: only the number of its
/// placeholder tokens matters. `file` holds the model's weights.
PlanStats plan_step(const Context& context, const SafeTensors& file, const PlanAdapters& adapters,
                    std::vector<Pair> pairs, const Objective& objective, Layout layout, const PlannedStep& step);

}  // namespace fire
