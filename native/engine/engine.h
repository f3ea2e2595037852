// The engine as its users see it: one model on one device, its adapter, its encoded images, its optimizer. Not
// thread-safe; one thread calls it (the addon gives each engine a thread of its own).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dist/gradient_sum.h"
#include "engine/device.h"
#include "engine/encoded_images.h"
#include "engine/plan.h"
#include "infer/generate.h"
#include "infer/score.h"
#include "objective/reference_cache.h"
#include "tensor/content_store.h"
#include "train/optimizer.h"

namespace fire {

/// See EngineSpec in src/engine/native.ts.
struct EngineSpec {
  std::string model;
  DeviceSpec device;
  std::optional<LoraSpec> lora;
  /// PEFT folder, or empty. Its shape is its own; dropout and seed are those of `lora` where that is given.
  std::string adapter;
  std::string reference_adapter;  // PEFT folder that the reference has; empty = the model without an adapter
  bool checkpointing;
  /// Host memory for reference hidden rows (see ReferenceCache); 0 = none.
  size_t reference_cache_bytes;
  /// Image features and reference rows on disk; empty = none.
  std::optional<ContentStoreSpec> feature_store;
};

struct EngineInfo {
  std::string device, gemm, isa;
  int threads = 0;
  int64_t parameters = 0, trainable_parameters = 0;
  size_t weight_bytes = 0;
  size_t max_packed_bytes = 0;  // if every matrix were packed for all its uses; a plan says what is
  std::vector<std::string> weight_dtypes;
};

struct StepOptions {
  double normalizer;
  Layout layout;
  int64_t chosen_tokens = 0;
  bool last = false;  // of the step: the sums of a group begin
};

/// See src/engine/native.ts.
struct UpdateStats {
  double grad_norm;
  double seconds_waited;
};

/// A sequence by image ids.
struct SequenceRef {
  std::vector<int32_t> ids;
  std::vector<std::string> images;
};

struct PromptRef {
  SequenceRef sequence;
  uint64_t seed;
};

class Engine {
 public:
  /// `weights` are taken instead of those in the folder `spec.model`, which has the configuration.
  explicit Engine(const EngineSpec& spec, std::optional<SafeTensors> weights = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const ModelConfig& config() const { return config_; }
  const EngineSpec& spec() const { return spec_; }
  EngineInfo info() const;
  /// nullptr without an adapter.
  const Adapter* adapter() const { return adapter_.get(); }
  Adapter* adapter() { return adapter_.get(); }
  /// The adapter's gradient and moments, made on the first call. Throws ERR_FIRE_INVALID_ARGUMENT without an adapter.
  Optimizer& optimizer();
  /// From now on `update` adds up the gradients of these ranks, each with the same adapter, and waits for them. Returns
  /// when all have come. A group of one is none, and neither is one of a device for plans.
  void join_group(const GroupSpec& spec, Cancel cancel);
  /// What ends this engine's group, from any thread.
  const std::shared_ptr<GroupEnd>& group_end() const { return group_end_; }
  Ops& ops() { return *ops_; }
  Arena& arena() { return *arena_; }
  /// What a computation over this model is given.
  Context context(Cancel cancel = {}) { return {*ops_, config_, weights_, *arena_, cancel}; }

  int64_t image_tokens(int64_t width, int64_t height) const;
  View view_image(const Rgb& image) const { return config_.vision->view(image, one_by_one); }
  /// See EncodedImages::encode: those that are not held go through the tower together.
  std::vector<EncodedImage> encode_images(const std::vector<NamedImage>& images, Cancel cancel);
  EncodedImage encode_image(const std::string& id, const Rgb& image, Cancel cancel) {
    return encode_images({{id, image, nullptr}}, cancel)[0];
  }
  void release_image(const std::string& id) { images_.release(id); }
  /// What the engine holds of them, and where its memory comes from.
  EncodedImages& images() { return images_; }

  /// What `accumulate`, or without `training` `evaluate`, would take; nothing is computed and no image needs to be
  /// encoded.
  PlanStats plan(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                 bool training = true);
  /// On a GPU: takes what `plan` says of these micro-batches, so that no step has to: with `training` gradient and
  /// moments too. On a CPU nothing.
  void reserve(const std::vector<std::vector<Pair>>& batches, const Objective& objective, const StepOptions& options,
               bool training = true, Cancel cancel = {});
  /// On a GPU: takes what images of so many placeholder tokens need that are held together.
  void reserve_images(const std::vector<int64_t>& tokens);
  /// Forward and backward; gradients add up until `update` or `zero_grad`. Cancelling leaves them as they were, in the
  /// middle of backward at 0. The last one of a step begins the sums of a group while backward runs; where it fails in
  /// the middle of that, the group has ended.
  StepStats accumulate(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                       Cancel cancel);
  StepStats evaluate(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                     Cancel cancel);
  /// In a group every rank calls it once a step, with or without a gradient of its own. When the group has ended,
  /// before or meanwhile, the gradient is 0, and adapter and moments are as they were; `cancel`, which is
  /// asked while it waits, ends it.
  UpdateStats update(const AdamWSpec& spec, Cancel cancel = {});
  void zero_grad();
  int64_t step() const { return optimizer_ ? optimizer_->step() : 0; }

  /// One list a sequence, see token_logprobs.
  std::vector<std::vector<float>> logprobs(const std::vector<SequenceRef>& sequences, bool use_adapter, Cancel cancel);
  std::vector<Generation> generate(const std::vector<PromptRef>& prompts, const SamplingSpec& sampling,
                                   bool use_adapter, const GenerationEvents& events, Cancel cancel);
  /// [layers, heads, image tokens] per position.
  std::vector<std::vector<float>> attention(const SequenceRef& sequence, const std::vector<int32_t>& positions,
                                            bool use_adapter);

  void save_adapter(const std::string& directory, const std::string& base_model) const;
  void save_state(const std::string& directory) const;
  void load_state(const std::string& directory);

 private:
  /// Runs what computes with the weights. On a CPU these are the mapped file, which may change under it; a GPU has
  /// copies.
  template <class F>
  auto on_weights(F&& work) const {
    return ops_->is_gpu() ? work() : file_.reading(work);
  }
  /// The same as `reserve` for a batch that nobody reserved for, and is larger than those that somebody did.
  void make_room(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                 const PackedBatch& batch, bool training);
  /// A step that the arena holds, and with it every one that has no more of anything.
  struct Held {
    int64_t tokens, rows;
    bool reference, training;
    bool covers(const Held& o) const {
      return tokens >= o.tokens && rows >= o.rows && reference >= o.reference && training >= o.training;
    }
  };
  /// Makes the arena one block that holds steps with these plans.
  void take_arena(const std::vector<PlanStats>& plans, const Objective& objective, bool training);
  std::vector<const ImageFeatures*> features(const std::vector<std::string>& ids) const;
  Sequence resolve(const SequenceRef& sequence) const;
  /// With `training` its gradient grows and dropout is on; nullptr = values only.
  StepStats run(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                Optimizer* training, Cancel cancel);
  /// A loss was not finite. If that is because of a weight, the error says which.
  void explain_nonfinite(Error& error) const;
  Adapter& adapter_or_throw(const char* what) const;
  /// Throws on a device for plans only.
  void require_device() const;

  EngineSpec spec_;
  ModelConfig config_;
  SafeTensors file_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Arena> arena_;
  Weights weights_;
  const std::unique_ptr<const Adapter> reference_adapter_;  // nullptr: the reference is the model as it is
  std::unique_ptr<Adapter> adapter_;
  std::optional<Optimizer> optimizer_;
  const std::shared_ptr<GroupEnd> group_end_ = std::make_shared<GroupEnd>();
  std::optional<GradientSum> gradient_sum_;  // with other ranks
  std::optional<ContentStore> store_;
  EncodedImages images_;
  ReferenceCache reference_cache_;
  std::vector<Held> held_;
};

}  // namespace fire
