#include "engine/engine.h"

#include <algorithm>
#include <new>
#include <set>

#include "ops/null_ops.h"

namespace fire {
Engine::Engine(const EngineSpec& spec)
    : spec_(spec),
      config_(ModelConfig::load(spec.model)),
      file_(SafeTensors::open_checkpoint(spec.model)),
      ops_(open_device(spec.device)),
      arena_(std::make_unique<Arena>(ops_->arena_source())),
      weights_(Weights::load(file_, config_, *ops_)),
      decoder_(std::make_unique<Decoder>(*ops_, config_.text, weights_)),
      reference_cache_(spec.reference_cache_bytes) {
  if (!spec.adapter.empty()) {
    adapter_ = Adapter::load(*ops_, config_.text, spec.adapter);
  } else if (spec.lora) {
    adapter_ = std::make_unique<Adapter>(*ops_, config_.text, *spec.lora);
  }
}

Engine::~Engine() {
  images_.clear();  // before the device they live on
}

EngineInfo Engine::info() const {
  EngineInfo info{ops_->device_name(), ops_->gemm_name(),
                  ops_->isa_name(),    ops_->threads(),
                  weights_.parameters, 0,
                  file_.bytes(),       {}};
  if (adapter_) info.trainable_parameters = adapter_->parameter_count();
  std::set<std::string> dtypes;
  for (const auto& [name, tensor] : file_.tensors()) dtypes.insert(fire::name(tensor.dtype()));
  info.weight_dtypes.assign(dtypes.begin(), dtypes.end());
  return info;
}

int64_t Engine::image_tokens(int64_t width, int64_t height) const {
  return config_.vision->token_grid({height, width}).tokens();
}

EncodedImage Engine::encode_image(const std::string& id, const Rgb& rgb, CancelFlag cancel) {
  require_device();
  if (cancel && cancel->load(std::memory_order_relaxed)) throw Error(Code::aborted, "stopped on request");
  auto it = images_.find(id);
  if (it == images_.end()) {
    Image entry{config_.vision->preprocess(rgb), nullptr};
    entry.features = vision().encode(entry.patches, *arena_);
    it = images_.emplace(id, std::move(entry)).first;
  }
  const auto& [patches, features] = it->second;
  return {id, patches.grid_h, patches.grid_w, features->tokens()};
}

void Engine::release_image(const std::string& id) { images_.erase(id); }

const Engine::Image& Engine::image(const std::string& id) const {
  const auto it = images_.find(id);
  if (it == images_.end())
    throw Error(Code::invalid_argument, "image \"" + id + "\" has not been encoded (or was released)")
        .with("image", id);
  return it->second;
}

std::vector<const ImageFeatures*> Engine::features(const std::vector<std::string>& ids) const {
  std::vector<const ImageFeatures*> found;
  for (const std::string& id : ids) found.push_back(image(id).features.get());
  return found;
}

const Adapter* Engine::adapter_or_throw(const char* what) const {
  if (!adapter_)
    throw Error(Code::invalid_argument,
                std::string(what) + " needs an adapter; open the engine with `lora` or `adapter`");
  return adapter_.get();
}

void Engine::require_device() const {
  if (ops_->dry()) throw Error(Code::invalid_argument, "this engine was opened for plans only; it computes nothing");
}

Optimizer& Engine::optimizer() {
  require_device();
  adapter_or_throw("training");
  if (!optimizer_) optimizer_.emplace(*ops_, *adapter_);
  return *optimizer_;
}

StepStats Engine::run(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                      Adapter* gradients, CancelFlag cancel) {
  // The plain layout stands for a step that shares nothing: the tower runs for every sequence, and again for the
  // reference, as a trainer without a feature cache does.
  std::map<std::pair<std::string, int64_t>, std::unique_ptr<ImageFeatures>> fresh;
  const FeatureLookup lookup = [&](const std::string& id, int64_t occurrence) -> const ImageFeatures* {
    const Image& known = image(id);
    if (options.layout == Layout::packed) return known.features.get();
    if (objective.needs_reference()) vision().encode(known.patches, *arena_);
    auto& slot = fresh[{id, occurrence}];
    if (!slot) slot = vision().encode(known.patches, *arena_);
    return slot.get();
  };
  const auto pack_pairs = [&](std::span<const Pair> some) {
    return pack(some, objective, options.layout, config_, lookup);
  };
  const PackedBatch batch = pack_pairs(pairs);
  reserve(pairs, objective, options, batch);
  Arena::Scope scope(*arena_);
  StepSettings settings;
  if (objective.needs_reference() && options.layout == Layout::packed && spec_.reference_cache_bytes > 0)
    settings.reference = reference_cache_.rows(*ops_, *decoder_, config_.text.hidden_size, pairs, objective, batch,
                                               pack_pairs, *arena_, cancel);
  settings.normalizer = options.normalizer;
  settings.checkpointing = spec_.checkpointing;
  settings.cancel = cancel;
  if (gradients) settings.dropout_pass = optimizer().next_pass();
  try {
    StepStats stats = run_preference_step(*ops_, *decoder_, batch, objective, pairs, adapter_.get(), gradients,
                                          settings, config_.text.vocab_size, *arena_);
    if (settings.reference) reference_cache_.remember(*ops_);
    return stats;
  } catch (Error& e) {
    if (e.code() != Code::nonfinite) throw;
    const std::string culprit = find_nonfinite(file_);
    if (culprit.empty()) throw;
    // The culprit explains the loss: it goes behind the message, and the details stay.
    throw std::move(
        e.followed_by("the weight \"" + culprit + "\" of " + file_.origin() + " holds a value that is not finite")
            .with("tensor", culprit));
  }
}

StepStats Engine::accumulate(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                             CancelFlag cancel) {
  optimizer();
  try {
    return run(pairs, objective, options, adapter_.get(), cancel);
  } catch (const Error& e) {
    // Stops and bad numbers come before backward. Memory can also run out in the middle of it: half a gradient is worse
    // than none.
    if (e.code() == Code::out_of_memory) zero_grad();
    throw;
  } catch (const std::bad_alloc&) {
    zero_grad();
    throw;
  }
}

StepStats Engine::evaluate(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                           CancelFlag cancel) {
  return run(pairs, objective, options, nullptr, cancel);
}

double Engine::update(const UpdateSettings& settings) { return optimizer().update(settings); }

void Engine::zero_grad() { optimizer().zero_grad(); }

MemoryPlan Engine::plan(std::vector<Pair> pairs, const Objective& objective, const StepOptions& options) {
  adapter_or_throw("a training plan");
  // Only the number of placeholder tokens matters here, so every run of placeholders stands for one flat image and
  // nothing needs to be encoded.
  NullOps null(*ops_);
  std::map<std::string, std::unique_ptr<ImageFeatures>> flat;
  int64_t largest_image = 0;
  for (Pair& pair : pairs) {
    std::vector<std::string> runs;
    for (size_t i = 0; i < pair.prompt.size();) {
      size_t end = i;
      while (end < pair.prompt.size() && pair.prompt[end] == config_.image_token_id) ++end;
      if (end > i) {
        const TokenGrid grid{1, static_cast<int64_t>(end - i)};
        runs.push_back(std::to_string(grid.tokens()));
        largest_image = std::max(largest_image, grid.tokens());
        flat.try_emplace(runs.back(), std::make_unique<ImageFeatures>(null, grid, config_.text.hidden_size,
                                                                      config_.vision->deepstack_levels()));
      }
      i = std::max(end, i + 1);
    }
    if (pair.has_corrupted()) pair.corrupted_images = runs;
    pair.images = runs;
  }
  const PackedBatch batch = pack(pairs, objective, options.layout, config_,
                                 [&](const std::string& id, int64_t) { return flat.at(id).get(); });
  // A GPU gets one block (see `reserve`), so no end of a block goes unused.
  Arena arena(null.arena_source(), ops_->is_gpu() ? size_t{1} << 46 : Arena::default_block);
  const Decoder decoder(null, config_.text, weights_);
  Adapter shape(null, config_.text, adapter_->config());
  shape.enable_training();
  StepSettings settings;
  settings.checkpointing = spec_.checkpointing;
  const StepStats stats = run_preference_step(null, decoder, batch, objective, pairs, &shape, &shape, settings,
                                              config_.text.vocab_size, arena);

  MemoryPlan plan;
  plan.weight_bytes = weights_.bytes;
  plan.adapter_bytes = adapter_->param().bytes();
  plan.optimizer_bytes = 3 * plan.adapter_bytes;  // the gradient and both moments
  plan.activation_bytes = arena.peak_bytes();
  plan.logits_bytes =
      std::min(static_cast<size_t>(stats.rows * config_.text.vocab_size) * 2 * sizeof(float), settings.logits_budget);
  plan.scratch_bytes = null.scratch_bytes();
  plan.tokens = stats.tokens;
  plan.rows = stats.rows;

  const size_t activation = size_of(ops_->activation_type());
  const size_t hidden_bytes = static_cast<size_t>(config_.text.hidden_size) * activation;
  plan.feature_bytes_per_token = hidden_bytes * (config_.vision->deepstack_levels() + 1);
  plan.pixel_bytes_per_token =
      static_cast<size_t>(config_.vision->patches_per_token() * config_.vision->patch_length()) * sizeof(float);
  plan.reference_bytes_per_row = hidden_bytes;
  if (largest_image > 0) {
    Claims claims(file_, null);
    Arena tower_arena(null.arena_source(), ops_->is_gpu() ? size_t{1} << 46 : Arena::default_block);
    config_.vision->load(claims, null)->encode(config_.vision->blank(largest_image), tower_arena);
    plan.vision_bytes = tower_arena.peak_bytes();
  }
  return plan;
}

void Engine::reserve(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                     const PackedBatch& batch) {
  if (!ops_->is_gpu() || !adapter_) return;
  const std::array<int64_t, 2> size{batch.input.tokens(), static_cast<int64_t>(batch.input.read_rows.size())};
  const auto covers = [&](const auto& known) { return known[0] >= size[0] && known[1] >= size[1]; };
  if (std::any_of(reserved_.begin(), reserved_.end(), covers)) return;
  arena_->reserve(plan(pairs, objective, options).activation_bytes);
  reserved_.push_back(size);
}

std::vector<float> Engine::logprobs(const SequenceRef& sequence, bool use_adapter, CancelFlag cancel) {
  return token_logprobs(*ops_, *decoder_, config_, use_adapter ? adapter_.get() : nullptr,
                        {sequence.ids, features(sequence.images)}, *arena_, cancel);
}

std::vector<Generated> Engine::generate(const std::vector<PromptRef>& prompts, const Sampling& sampling,
                                        bool use_adapter, const GenerationEvents& events, CancelFlag cancel) {
  std::vector<GenerationPrompt> resolved;
  for (const PromptRef& p : prompts) resolved.push_back({p.sequence.ids, features(p.sequence.images), p.seed});
  return fire::generate(*ops_, *decoder_, config_, use_adapter ? adapter_.get() : nullptr, resolved, sampling, *arena_,
                        events, cancel);
}

std::vector<std::vector<float>> Engine::attention(const SequenceRef& sequence, const std::vector<int32_t>& positions,
                                                  bool use_adapter) {
  return image_attention(*decoder_, config_, use_adapter ? adapter_.get() : nullptr,
                         {sequence.ids, features(sequence.images)}, positions, *arena_);
}

void Engine::save_adapter(const std::string& directory, const std::string& base_model) const {
  adapter_or_throw("saving an adapter")->save(directory, base_model);
}

void Engine::save_state(const std::string& directory) const {
  adapter_or_throw("saving training state");
  if (!optimizer_) throw Error(Code::invalid_argument, "there is no training state to save yet");
  optimizer_->save(directory);
}

void Engine::load_state(const std::string& directory) { optimizer().load(directory); }

}  // namespace fire
