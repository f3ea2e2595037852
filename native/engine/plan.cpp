#include "engine/plan.h"

#include <algorithm>
#include <map>

#include "ops/null_ops.h"
#include "train/optimizer.h"

namespace fire {
namespace {

/// Stands for the images of some pairs: every run of placeholder tokens is one image of a single row.
class FlatImages {
 public:
  /// Names the images of `pairs` after their lengths.
  FlatImages(const Context& context, std::vector<Pair>& pairs) {
    for (Pair& pair : pairs) {
      std::vector<std::string> ids;
      for (const int64_t tokens : placeholder_runs(pair.prompt, context.config.image_token_id)) {
        ids.push_back(std::to_string(tokens));
        largest_ = std::max(largest_, tokens);
        features_.try_emplace(ids.back(), std::make_unique<ImageFeatures>(context.ops, TokenGrid{1, tokens},
                                                                          context.config.text.hidden_size,
                                                                          context.config.vision->deepstack_levels()));
      }
      if (pair.has_corrupted()) pair.corrupted_images = ids;
      pair.images = ids;
    }
  }

  const ImageFeatures* features(const std::string& id) const { return features_.at(id).get(); }
  /// Tokens of the largest image; 0 = there is none.
  int64_t largest() const { return largest_; }

 private:
  static std::vector<int64_t> placeholder_runs(const std::vector<int32_t>& ids, int64_t image_token_id) {
    const auto is_image = [&](int32_t id) { return id == image_token_id; };
    std::vector<int64_t> runs;
    for (auto at = std::find_if(ids.begin(), ids.end(), is_image); at != ids.end();) {
      const auto end = std::find_if_not(at, ids.end(), is_image);
      runs.push_back(end - at);
      at = std::find_if(end, ids.end(), is_image);
    }
    return runs;
  }

  std::map<std::string, std::unique_ptr<ImageFeatures>> features_;
  int64_t largest_ = 0;
};

/// A GPU gets one block (see Engine::reserve), so no end of a block goes unused.
Arena arena_of(NullOps& null) {
  return Arena(null.arena_source(), null.is_gpu() ? size_t{1} << 46 : Arena::default_block);
}

/// The arena's peak while an image of so many tokens goes through the tower.
size_t tower_peak(NullOps& null, const VisionSpec& vision, const SafeTensors& file, int64_t tokens) {
  Arena arena = arena_of(null);
  Claims claims(file, null);
  vision.load(claims, null)->encode(vision.blank(tokens), arena);
  return arena.peak_bytes();
}

}  // namespace

PlanStats plan_step(const Context& context, const SafeTensors& file, const PlanAdapters& adapters,
                    std::vector<Pair> pairs, const Objective& objective, Layout layout, bool checkpointing) {
  NullOps null(context.ops);
  Arena arena = arena_of(null);
  const Context dry{null, context.config, context.weights, arena, {}};
  const TextConfig& text = dry.config.text;
  const VisionSpec& vision = *dry.config.vision;
  const FlatImages images(dry, pairs);
  const PackedBatch batch =
      pack(pairs, objective, layout, dry.config, [&](const std::string& id, int64_t) { return images.features(id); });
  const DeviceTensor gradient(null, DType::f32, {adapters.policy.param().size()});
  const StepSettings settings{.normalizer = 1,
                              .checkpointing = checkpointing,
                              .dropout_pass = 0,
                              .logits_budget = logits_budget,
                              .reference = {},
                              .reference_adapter = adapters.reference};
  const StepStats stats =
      run_preference_step(dry, &adapters.policy, pairs, objective, batch, settings, gradient.view());

  const size_t models = objective.needs_reference() ? 2 : 1;
  PlanStats plan;
  plan.weight_bytes = dry.weights.bytes;
  plan.adapter_bytes = adapters.policy.param().bytes();
  if (adapters.reference) plan.adapter_bytes += adapters.reference->param().bytes();
  plan.optimizer_bytes = Optimizer::bytes(adapters.policy);
  plan.activation_bytes = arena.peak_bytes();
  plan.logits_bytes =
      std::min(static_cast<size_t>(stats.rows * text.vocab_size) * models * sizeof(float), logits_budget);
  plan.scratch_bytes = null.scratch_bytes();
  if (images.largest() > 0) plan.vision_bytes = tower_peak(null, vision, file, images.largest());
  const size_t hidden_bytes = static_cast<size_t>(text.hidden_size) * size_of(null.activation_type());
  plan.feature_bytes_per_token = hidden_bytes * (vision.deepstack_levels() + 1);
  plan.pixel_bytes_per_token = static_cast<size_t>(vision.patches_per_token() * vision.patch_length()) * sizeof(float);
  plan.reference_bytes_per_row = objective.needs_reference() ? hidden_bytes : 0;
  plan.tokens = stats.tokens;
  plan.rows = stats.rows;
  return plan;
}

}  // namespace fire
