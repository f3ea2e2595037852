#include "engine/plan.h"

#include <algorithm>
#include <map>

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
      pair.images = names(pair.images, runs, own);
      if (pair.has_corrupted()) pair.corrupted_images = names(pair.corrupted_images, runs, own + " corrupted");
    }
  }

  const ImageFeatures* features(const std::string& id) const { return features_.at(id).get(); }
  /// Tokens of each, in the order in which a run asks for them.
  const std::vector<int64_t>& tokens() const { return tokens_; }

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
    std::unique_ptr<ImageFeatures>& features = features_[name];
    if (features) return;
    features =
        std::make_unique<ImageFeatures>(pool_, context_.ops.activation_type(), TokenGrid{1, tokens},
                                        context_.config.text.hidden_size, context_.config.vision->deepstack_levels());
    tokens_.push_back(tokens);
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
  FeaturePool pool_{context_.ops.arena_source()};
  std::map<std::string, std::unique_ptr<ImageFeatures>> features_;
  std::vector<int64_t> tokens_;
};

/// A GPU's arena has room for a batch that is a little larger than any planned, and is a number of the 2 MiB that CUDA
/// allocates in.
size_t with_room(size_t bytes) {
  constexpr size_t unit = size_t{2} << 20;
  return (bytes + bytes / 32 + unit - 1) / unit * unit;
}

/// A GPU gets one block (see Engine::reserve), so no end of a block goes unused.
Arena arena_of(NullOps& null) {
  return Arena(null.arena_source(), null.is_gpu() ? size_t{1} << 46 : Arena::default_block);
}

/// The tower on a device that computes nothing.
class DryTower {
 public:
  DryTower(NullOps& null, const ModelConfig& config, const SafeTensors& file)
      : null_(null), config_(config), claims_(file, null), tower_(config.vision->load(claims_, null)) {}

  /// The arena's peak while images go through it together.
  size_t peak(std::span<const Patches> images, Arena& arena) const {
    std::vector<const Patches*> patches;
    std::vector<std::unique_ptr<ImageFeatures>> features;
    std::vector<ImageFeatures*> filled;
    FeaturePool pool(null_.arena_source());
    for (const Patches& image : images) {
      patches.push_back(&image);
      features.push_back(std::make_unique<ImageFeatures>(pool, null_.activation_type(), config_.vision->grid_of(image),
                                                         config_.text.hidden_size, config_.vision->deepstack_levels()));
      filled.push_back(features.back().get());
    }
    tower_->encode(patches, filled, arena);
    return arena.peak_bytes();
  }

 private:
  NullOps& null_;
  const ModelConfig& config_;
  Claims claims_;
  std::unique_ptr<VisionTower> tower_;
};

/// Images as one batch of the tower that none of images with so many tokens has more patches than, whichever of them
/// are missing and in whatever order they come: as many patches as all have, or fill a batch.
std::vector<Patches> largest_batch(const VisionSpec& vision, std::vector<int64_t> tokens, int64_t most) {
  std::sort(tokens.rbegin(), tokens.rend());
  std::vector<Patches> images;
  int64_t left = most;
  for (const int64_t count : tokens) {
    Patches image = vision.blank(count);
    if (!images.empty() && image.count() > left) image = vision.blank(left / (vision.merge() * vision.merge()));
    if (!images.empty() && image.count() > left) break;
    left -= image.count();
    images.push_back(std::move(image));
    if (left < vision.merge() * vision.merge()) break;
  }
  return images;
}

}  // namespace

size_t feature_bytes(const ModelConfig& config, const Ops& ops) {
  return static_cast<size_t>(config.text.hidden_size) * size_of(ops.activation_type()) *
         (config.vision->deepstack_levels() + 1);
}

int64_t tower_batch_patches(const Context& context, const SafeTensors& file) {
  constexpr int64_t tokens = 256;
  const size_t budget = context.ops.is_gpu() ? size_t{1} << 30 : Arena::default_block;
  NullOps null(context.ops);
  Arena arena(null.arena_source(), size_t{1} << 46);
  const Patches image = context.config.vision->blank(tokens);
  const size_t bytes = DryTower(null, context.config, file).peak({&image, 1}, arena);
  return static_cast<int64_t>(budget) * image.count() / static_cast<int64_t>(bytes);
}

size_t tower_bytes(NullOps& null, const Context& context, const SafeTensors& file, std::span<const Patches> images) {
  const DryTower tower(null, context.config, file);
  Arena arena = arena_of(null);
  std::vector<int64_t> patches;
  for (const Patches& image : images) patches.push_back(image.count());
  size_t begin = 0;
  for (const size_t end : tower_batches(patches, tower_batch_patches(context, file))) {
    tower.peak(images.subspan(begin, end - begin), arena);
    begin = end;
  }
  return arena.peak_bytes();
}

PlanStats plan_step(const Context& context, const SafeTensors& file, const PlanAdapters& adapters,
                    std::vector<Pair> pairs, const Objective& objective, Layout layout, const PlannedStep& step) {
  NullOps null(context.ops);
  Arena arena = arena_of(null);
  const Context dry{null, context.config, context.weights, arena, {}};
  const TextConfig& text = dry.config.text;
  const VisionSpec& vision = *dry.config.vision;
  const FlatImages images(dry, pairs);
  const PackedBatch batch =
      pack(pairs, objective, layout, dry.config, [&](const std::string& id, int64_t) { return images.features(id); });
  const DeviceTensor gradient(null, DType::f32, {step.training ? adapters.policy.param().size() : 0});
  const StepSettings settings{.normalizer = 1,
                              .checkpointing = step.checkpointing,
                              .dropout_step = 0,
                              .logits_budget = logits_budget,
                              .reference = {},
                              .reference_adapter = adapters.reference};
  const StepStats stats = run_preference_step(dry, &adapters.policy, pairs, objective, batch, settings,
                                              step.training ? gradient.view() : Tensor());

  const size_t models = objective.needs_reference() ? 2 : 1;
  PlanStats plan;
  plan.weight_bytes = dry.weights.bytes;
  plan.adapter_bytes = adapters.policy.parameters().bytes();
  if (adapters.reference) plan.adapter_bytes += adapters.reference->parameters().bytes();
  if (step.training) plan.optimizer_bytes = Optimizer::bytes(adapters.policy);
  plan.activation_bytes = arena.peak_bytes();
  plan.logits_bytes =
      std::min(static_cast<size_t>(stats.rows * text.vocab_size) * models * sizeof(float), logits_budget);
  plan.scratch_bytes = null.scratch_bytes();
  if (!images.tokens().empty())
    plan.vision_bytes =
        tower_bytes(null, context, file, largest_batch(vision, images.tokens(), tower_batch_patches(context, file)));
  plan.arena_bytes = std::max(plan.activation_bytes, plan.vision_bytes);
  if (null.is_gpu()) plan.arena_bytes = with_room(plan.arena_bytes);
  plan.packed_bytes = null.packed_bytes();
  plan.feature_bytes_per_token = feature_bytes(dry.config, null);
  const int64_t side = vision.merge() * vision.rows().side();
  plan.pixel_bytes_per_token = static_cast<size_t>(3 * side * side);
  plan.feature_unit_bytes = FeaturePool::unit;
  const size_t hidden_bytes = static_cast<size_t>(text.hidden_size) * size_of(null.activation_type());
  if (objective.needs_reference())
    for (const std::vector<int32_t>& rows : batch.pair_rows) plan.reference_bytes += rows.size() * hidden_bytes;
  plan.tokens = stats.tokens;
  plan.rows = stats.rows;
  return plan;
}

}  // namespace fire
