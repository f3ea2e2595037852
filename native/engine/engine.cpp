#include "engine/engine.h"

#include <algorithm>
#include <set>
#include <utility>

namespace fire {
namespace {

/// What the device computes decides the bits, so it is part of every key.
std::optional<ContentStore> open_store(const EngineSpec& spec, const Ops& ops) {
  if (!spec.feature_store || ops.dry()) return std::nullopt;
  const std::string arithmetic = ops.device_name() + '\0' + ops.gemm_name() + '\0' + ops.isa_name() + '\0' +
                                 (spec.device.dtype == ComputeType::bf16 ? "bf16" : "f32");
  return ContentStore(*spec.feature_store, arithmetic);
}

}  // namespace

Engine::Engine(const EngineSpec& spec, std::optional<SafeTensors> weights)
    : spec_(spec),
      config_(ModelConfig::load(spec.model)),
      file_(weights ? std::move(*weights) : SafeTensors::open_checkpoint(spec.model)),
      ops_(open_device(spec.device)),
      arena_(std::make_unique<Arena>(ops_->arena_source())),
      weights_(file_.reading([&] { return Weights::load(file_, config_, *ops_); })),
      reference_adapter_(spec.reference_adapter.empty() ? nullptr
                                                        : Adapter::load(*ops_, config_.text, spec.reference_adapter)),
      store_(open_store(spec, *ops_)),
      images_(context(), tower_batch_patches(context(), file_), store_ ? &*store_ : nullptr),
      reference_cache_(
          spec.reference_cache_bytes, store_ ? &*store_ : nullptr,
          [this](const std::string& id) { return hex(images_.at(id).prepared->content); }, reference_adapter_.get()) {
  if (!spec.adapter.empty()) {
    adapter_ = Adapter::load(*ops_, config_.text, spec.adapter);
    if (spec.lora) adapter_->train_with(spec.lora->dropout, spec.lora->seed);
  } else if (spec.lora) {
    adapter_ = std::make_unique<Adapter>(*ops_, config_.text, *spec.lora);
  }
}

// A transport that hangs may write to the gradient for as long as this process lives.
Engine::~Engine() {
  if (gradient_sum_ && !gradient_sum_->leave()) optimizer_->leak_gradient();
}

EngineInfo Engine::info() const {
  const WeightPacking& packing = ops_->weight_packing();
  EngineInfo info{.device = ops_->device_name(),
                  .gemm = ops_->gemm_name(),
                  .isa = ops_->isa_name(),
                  .threads = ops_->threads(),
                  .parameters = weights_.parameters,
                  .weight_bytes = file_.bytes(),
                  .max_packed_bytes = packing.bytes(WeightUse::forward),
                  .weight_dtypes = {}};
  if (adapter_) {
    info.trainable_parameters = adapter_->param().size();
    info.max_packed_bytes += packing.bytes(WeightUse::backward);
  }
  std::set<std::string> dtypes;
  for (const auto& [name, tensor] : file_.tensors()) dtypes.insert(fire::name(tensor.dtype()));
  info.weight_dtypes.assign(dtypes.begin(), dtypes.end());
  return info;
}

int64_t Engine::image_tokens(int64_t width, int64_t height) const {
  return config_.vision->token_grid({height, width}).tokens();
}

std::vector<EncodedImage> Engine::encode_images(const std::vector<NamedImage>& images, Cancel cancel) {
  require_device();
  return images_.encode(images, cancel, [&](auto&& encode) { on_weights(encode); });
}

std::vector<const ImageFeatures*> Engine::features(const std::vector<std::string>& ids) const {
  std::vector<const ImageFeatures*> found;
  for (const std::string& id : ids) found.push_back(images_.at(id).features.get());
  return found;
}

Adapter& Engine::adapter_or_throw(const char* what) const {
  if (!adapter_)
    throw Error(Code::invalid_argument,
                std::string(what) + " needs an adapter; open the engine with `lora` or `adapter`");
  return *adapter_;
}

void Engine::require_device() const {
  if (ops_->dry()) throw Error(Code::invalid_argument, "this engine was opened for plans only; it computes nothing");
}

Optimizer& Engine::optimizer() {
  require_device();
  Adapter& adapter = adapter_or_throw("training");
  if (!optimizer_) optimizer_.emplace(*ops_, adapter);
  return *optimizer_;
}

StepStats Engine::run(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                      Optimizer* training, Cancel cancel) {
  // The plain layout stands for a step that shares nothing: the tower runs for every sequence, and again for the
  // reference, as a trainer without a feature cache does.
  std::map<std::pair<std::string, int64_t>, std::unique_ptr<ImageFeatures>> fresh;
  const FeatureLookup lookup = [&](const std::string& id, int64_t occurrence) -> const ImageFeatures* {
    const EncodedImages::Image& known = images_.at(id);
    if (options.layout != Layout::plain) return known.features.get();
    if (objective.needs_reference()) images_.features_of(known.prepared->patches);
    auto& slot = fresh[{id, occurrence}];
    if (!slot) {
      slot = images_.features_of(known.prepared->patches);
      slot->content = known.features->content;
    }
    return slot.get();
  };
  const auto pack_pairs = [&](std::span<const Pair> some) {
    return pack(some, objective, options.layout, config_, lookup);
  };
  const PackedBatch batch = pack_pairs(pairs);
  make_room(pairs, objective, options, batch, training != nullptr);
  const Context context = this->context(cancel);
  Arena::Scope scope(context.arena);
  Tensor reference;
  if (objective.needs_reference() && options.layout != Layout::plain && (spec_.reference_cache_bytes > 0 || store_))
    reference = reference_cache_.rows(context, pairs, objective, batch, pack_pairs);
  StepSettings settings{.normalizer = options.normalizer,
                        .checkpointing = spec_.checkpointing,
                        .dropout_step = training ? training->step() : 0,
                        .logits_budget = logits_budget,
                        .reference = reference,
                        .reference_adapter = reference_adapter_.get(),
                        .chosen_tokens = options.chosen_tokens,
                        .on_losses =
                            [&] {
                              if (reference) reference_cache_.fetch(*ops_);
                            },
                        .layer_done = {},
                        .on_failure = {}};
  if (training && gradient_sum_ && options.last) {
    settings.layer_done = [this](int64_t layer) { gradient_sum_->layer_done(layer); };
    settings.on_failure = [this](const char* reason) { gradient_sum_->give_up(reason); };
  }
  try {
    StepStats stats = run_preference_step(context, adapter_.get(), pairs, objective, batch, settings,
                                          training ? training->gradient() : Tensor());
    if (reference) reference_cache_.remember();
    return stats;
  } catch (Error& e) {
    if (e.code() == Code::nonfinite) explain_nonfinite(e);
    throw;
  }
}

void Engine::explain_nonfinite(Error& error) const {
  const std::string culprit = find_nonfinite(file_);
  if (culprit.empty()) return;
  // The culprit explains the loss: it goes behind the message, and the details stay.
  error = error.followed_by("the weight \"" + culprit + "\" of " + file_.origin() + " holds a value that is not finite")
              .with("tensor", culprit);
}

StepStats Engine::accumulate(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                             Cancel cancel) {
  Optimizer& training = optimizer();
  if (gradient_sum_) gradient_sum_->require_whole();
  try {
    return on_weights([&] { return run(pairs, objective, options, &training, cancel); });
  } catch (const std::exception& e) {
    // Backward clears what it leaves half done. Weights that changed meanwhile spoil all of it, and so do other ranks.
    const Error* error = dynamic_cast<const Error*>(&e);
    if ((error && error->code() == Code::checkpoint) || (gradient_sum_ && gradient_sum_->give_up(e.what())))
      training.zero_grad();
    throw;
  }
}

StepStats Engine::evaluate(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                           Cancel cancel) {
  return on_weights([&] { return run(pairs, objective, options, nullptr, cancel); });
}

UpdateStats Engine::update(const AdamWSpec& spec, Cancel cancel) {
  Optimizer& training = optimizer();
  require_valid(spec);  // before other ranks wait for this one
  double waited = 0;
  if (gradient_sum_) {
    try {
      waited = gradient_sum_->finish(cancel);
    } catch (const std::exception& e) {
      gradient_sum_->give_up(e.what());
      training.zero_grad();
      throw;
    }
  }
  return {training.update(spec), waited};
}

void Engine::zero_grad() {
  Optimizer& training = optimizer();
  if (gradient_sum_) gradient_sum_->require_settled();
  training.zero_grad();
}

void Engine::join_group(const GroupSpec& spec, Cancel cancel) {
  if (spec.size == 1 || ops_->dry()) return;
  const Adapter& adapter = adapter_or_throw("a group of ranks");
  std::vector<int64_t> layer_begin(static_cast<size_t>(config_.text.layers), adapter.param().size());
  for (auto m = adapter.modules().rbegin(); m != adapter.modules().rend(); ++m)
    for (int64_t layer = m->layer; layer >= 0; --layer) layer_begin[static_cast<size_t>(layer)] = m->a_begin;
  const Tensor gradient = optimizer().gradient();
  gradient_sum_.emplace(fire::join_group(spec, *ops_, cancel, group_end_), group_end_, gradient,
                        cut_buckets(layer_begin, gradient.size(), bucket_bytes()));
}

PlanStats Engine::plan(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                       bool training) {
  return plan_step(context(), file_, {adapter_or_throw("a plan"), reference_adapter_.get()}, pairs, objective,
                   options.layout, {training, spec_.checkpointing});
}

void Engine::reserve(const std::vector<std::vector<Pair>>& batches, const Objective& objective,
                     const StepOptions& options, bool training, Cancel cancel) {
  require_device();
  if (!ops_->is_gpu() || batches.empty()) return;
  if (training) optimizer();
  std::vector<PlanStats> plans;
  for (const std::vector<Pair>& pairs : batches) {
    cancel.check();
    plans.push_back(plan(pairs, objective, options, training));
  }
  take_arena(plans, objective, training);
}

void Engine::reserve_images(const std::vector<int64_t>& tokens) {
  require_device();
  images_.reserve(tokens);
}

void Engine::make_room(const std::vector<Pair>& pairs, const Objective& objective, const StepOptions& options,
                       const PackedBatch& batch, bool training) {
  if (!ops_->is_gpu() || !adapter_) return;
  const Held step{batch.input.tokens(), static_cast<int64_t>(batch.input.read_rows.size()), objective.needs_reference(),
                  training};
  const auto covers = [&](const Held& known) { return known.covers(step); };
  if (std::none_of(held_.begin(), held_.end(), covers))
    take_arena({plan(pairs, objective, options, training)}, objective, training);
}

void Engine::take_arena(const std::vector<PlanStats>& plans, const Objective& objective, bool training) {
  size_t least = 0, with_room = 0;
  for (const PlanStats& plan : plans) {
    least = std::max({least, plan.activation_bytes, plan.vision_bytes});
    with_room = std::max(with_room, plan.arena_bytes);
  }
  if (!arena_->holds(least)) {
    const auto known = std::exchange(held_, {});  // nothing is held while there is no arena
    try {
      arena_->reserve(with_room);
    } catch (const Error& e) {
      if (e.code() != Code::out_of_memory) throw;
      arena_->reserve(least);
    }
    held_ = known;
  }
  for (const PlanStats& plan : plans) held_.push_back({plan.tokens, plan.rows, objective.needs_reference(), training});
}

Sequence Engine::resolve(const SequenceRef& sequence) const {
  return make_sequence(sequence.ids, features(sequence.images), sequence.ids.size(), config_);
}

std::vector<std::vector<float>> Engine::logprobs(const std::vector<SequenceRef>& sequences, bool use_adapter,
                                                 Cancel cancel) {
  std::vector<Sequence> resolved;
  for (const SequenceRef& s : sequences) resolved.push_back(resolve(s));
  return on_weights([&] { return token_logprobs(context(cancel), use_adapter ? adapter_.get() : nullptr, resolved); });
}

std::vector<Generation> Engine::generate(const std::vector<PromptRef>& prompts, const SamplingSpec& sampling,
                                         bool use_adapter, const GenerationEvents& events, Cancel cancel) {
  std::vector<Sequence> resolved;
  std::vector<uint64_t> seeds;
  for (const PromptRef& p : prompts) {
    resolved.push_back(resolve(p.sequence));
    seeds.push_back(p.seed);
  }
  return on_weights([&] {
    return fire::generate(context(cancel), use_adapter ? adapter_.get() : nullptr, resolved, seeds, sampling, events);
  });
}

std::vector<std::vector<float>> Engine::attention(const SequenceRef& sequence, const std::vector<int32_t>& positions,
                                                  bool use_adapter) {
  return on_weights(
      [&] { return image_attention(context(), use_adapter ? adapter_.get() : nullptr, resolve(sequence), positions); });
}

void Engine::save_adapter(const std::string& directory, const std::string& base_model) const {
  adapter_or_throw("saving an adapter").save(directory, base_model);
}

void Engine::save_state(const std::string& directory) const {
  adapter_or_throw("saving training state");
  if (!optimizer_) throw Error(Code::invalid_argument, "there is no training state to save yet");
  optimizer_->save(directory);
}

void Engine::load_state(const std::string& directory) {
  Optimizer& training = optimizer();
  if (gradient_sum_) gradient_sum_->require_settled();
  training.load(directory);
}

}  // namespace fire
