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
  /// Renames the images of `pairs`, so that two have the same name where the step knows them to be the same image.
  FlatImages(const Context& context, std::vector<Pair>& pairs) : context_(context) {
    for (size_t p = 0; p < pairs.size(); ++p) {
      Pair& pair = pairs[p];
      const std::vector<int64_t> runs = placeholder_runs(pair.prompt, context.config.image_token_id);
      const std::string own = std::to_string(p);
      if (pair.has_corrupted()) pair.corrupted_images = names(pair.corrupted_images, runs, own + " corrupted");
      pair.images = names(pair.images, runs, own);
    }
  }

  const ImageFeatures* features(const std::string& id) const { return features_.at(id).get(); }
  /// Tokens of the largest image; 0 = there is none.
  int64_t largest() const { return largest_; }

 private:
  /// One a run. Where images are not named one a run, they are nobody else's but `own`: a plan may be too large.
  std::vector<std::string> names(const std::vector<std::string>& ids, const std::vector<int64_t>& runs,
                                 const std::string& own) {
    std::vector<std::string> all;
    for (size_t i = 0; i < runs.size(); ++i) {
      // An id that stands for images of two lengths is two images, and no id is a name of `own`.
      const std::string length = "/" + std::to_string(runs[i]);
      all.push_back(ids.size() == runs.size() ? "image " + ids[i] + length
                                              : "of pair " + own + "/" + std::to_string(i));
      add(all.back(), runs[i]);
    }
    return all;
  }

  void add(const std::string& name, int64_t tokens) {
    largest_ = std::max(largest_, tokens);
    features_.try_emplace(
        name, std::make_unique<ImageFeatures>(context_.ops, TokenGrid{1, tokens}, context_.config.text.hidden_size,
                                              context_.config.vision->deepstack_levels()));
  }

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

  const Context& context_;
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
  plan.adapter_bytes = adapters.policy.parameters().bytes();
  if (adapters.reference) plan.adapter_bytes += adapters.reference->parameters().bytes();
  plan.optimizer_bytes = Optimizer::bytes(adapters.policy);
  plan.activation_bytes = arena.peak_bytes();
  plan.logits_bytes =
      std::min(static_cast<size_t>(stats.rows * text.vocab_size) * models * sizeof(float), logits_budget);
  plan.scratch_bytes = null.scratch_bytes();
  if (images.largest() > 0) plan.vision_bytes = tower_peak(null, vision, file, images.largest());
  plan.packed_bytes = null.packed_bytes();
  const size_t hidden_bytes = static_cast<size_t>(text.hidden_size) * size_of(null.activation_type());
  plan.feature_bytes_per_token = hidden_bytes * (vision.deepstack_levels() + 1);
  plan.pixel_bytes_per_token = static_cast<size_t>(vision.patches_per_token() * vision.patch_length()) * sizeof(float);
  if (objective.needs_reference())
    for (const std::vector<int32_t>& rows : batch.pair_rows) plan.reference_bytes += rows.size() * hidden_bytes;
  plan.tokens = stats.tokens;
  plan.rows = stats.rows;
  return plan;
}

}  // namespace fire
