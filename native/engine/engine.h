// The engine as its users see it: one model on one device, its adapter, its encoded images, its optimizer. Not
// thread-safe; one thread calls it (the addon gives each engine a thread of its own).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/device.h"
#include "infer/generate.h"
#include "infer/score.h"
#include "objective/preference_step.h"
#include "objective/reference_cache.h"
#include "train/optimizer.h"

namespace fire {

struct EngineSpec {
  std::string model;
  DeviceSpec device;
  std::optional<LoraConfig> lora;
  std::string adapter;  // PEFT folder, or empty
  bool checkpointing = false;
  /// Host memory for reference hidden rows (see ReferenceCache); 0 = none.
  size_t reference_cache_bytes = size_t{256} << 20;
};

struct EngineInfo {
  std::string device, gemm, isa;
  int threads = 0;
  int64_t parameters = 0, trainable_parameters = 0;
  size_t weight_bytes = 0;
  std::vector<std::string> weight_dtypes;
};

struct EncodedImage {
  std::string id;
  int64_t grid_h, grid_w, tokens;
};

struct StepOptions {
  double normalizer = 1;
  Layout layout = Layout::packed;
};

/// Bytes of a training step beside the weights. Everything but the pixels is the device's.
struct MemoryPlan {
  size_t weight_bytes = 0;  // as the device keeps them; on a CPU the mapped file
  size_t adapter_bytes = 0, optimizer_bytes = 0;
  size_t activation_bytes = 0;  // the arena's peak in the step
  size_t vision_bytes = 0;      // the arena's peak while the largest image goes through the tower, before the step
  size_t logits_bytes = 0;      // the part of it that holds logits
  size_t scratch_bytes = 0;     // of the device, beside the arena
  /// Of an encoded image, a placeholder token: features, and pixels on the host.
  size_t feature_bytes_per_token = 0, pixel_bytes_per_token = 0;
  size_t reference_bytes_per_row = 0;  // on the host
  int64_t tokens = 0, rows = 0;
};

/// A sequence by image ids.
struct SequenceRef {
  std::vector<int32_t> ids;
  std::vector<std::string> images;
};

struct PromptRef {
  SequenceRef sequence;
  uint64_t seed = 0;
};

using CancelFlag = const std::atomic<bool>*;

class Engine {
 public:
  explicit Engine(const EngineSpec& spec);
  ~Engine();

  const ModelConfig& config() const { return config_; }
  const EngineSpec& spec() const { return spec_; }
  EngineInfo info() const;
  /// nullptr without an adapter.
  const Adapter* adapter() const { return adapter_.get(); }
  Adapter* adapter() { return adapter_.get(); }
  Ops& ops() { return *ops_; }
  const Decoder& decoder() const { return *decoder_; }
  const VisionTower& vision() const { return *weights_.vision; }
  Arena& arena() { return *arena_; }

  int64_t image_tokens(int64_t width, int64_t height) const;
  /// Runs the vision tower and keeps the features under `id` until released. An id that is known is not run again.
  EncodedImage encode_image(const std::string& id, const Rgb& image, CancelFlag cancel);
  void release_image(const std::string& id);

  /// What `accumulate` would take; nothing is computed and no image needs to be encoded.
  MemoryPlan plan(std::vector<Pair> pairs, const Objective& objective, const StepOptions& options);
  /// Forward and backward; gradients add up until `update` or `zero_grad`. Cancelling leaves them as they were.
  StepStats accumulate(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                       CancelFlag cancel);
  StepStats evaluate(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                     CancelFlag cancel);
  /// Returns the gradient norm before clipping.
  double update(const UpdateSettings& settings);
  void zero_grad();
  int64_t step() const { return optimizer_ ? optimizer_->step() : 0; }

  std::vector<float> logprobs(const SequenceRef& sequence, bool use_adapter, CancelFlag cancel);
  std::vector<Generated> generate(const std::vector<PromptRef>& prompts, const Sampling& sampling, bool use_adapter,
                                  const GenerationEvents& events, CancelFlag cancel);
  /// [layers, heads, image tokens] per position.
  std::vector<std::vector<float>> attention(const SequenceRef& sequence, const std::vector<int32_t>& positions,
                                            bool use_adapter);

  void save_adapter(const std::string& directory, const std::string& base_model) const;
  void save_state(const std::string& directory) const;
  void load_state(const std::string& directory);

 private:
  /// An encoded image. The plain layout encodes again, so the pixels are kept.
  struct Image {
    Patches patches;
    std::unique_ptr<ImageFeatures> features;
  };

  const Image& image(const std::string& id) const;
  /// On a GPU: makes the arena one block that holds this step, as a dry run of it says.
  void reserve(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
               const PackedBatch& batch);
  std::vector<const ImageFeatures*> features(const std::vector<std::string>& ids) const;
  StepStats run(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                Adapter* gradients, CancelFlag cancel);
  const Adapter* adapter_or_throw(const char* what) const;
  /// Throws on an imaginary device.
  void require_device() const;
  Optimizer& optimizer();

  EngineSpec spec_;
  ModelConfig config_;
  SafeTensors file_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Arena> arena_;
  Weights weights_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<Adapter> adapter_;
  std::optional<Optimizer> optimizer_;
  std::map<std::string, Image> images_;
  ReferenceCache reference_cache_;
  std::vector<std::array<int64_t, 2>> reserved_;  // tokens and rows of the steps that memory was reserved for
};

}  // namespace fire
