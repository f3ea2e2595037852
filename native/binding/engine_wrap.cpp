#include "binding/engine_wrap.h"

#include <algorithm>
#include <chrono>

#include "binding/prepared_image.h"

namespace fire::binding {
namespace {

ToJs undefined() {
  return [](Napi::Env env) { return env.Undefined(); };
}

}  // namespace

Engine& EngineWrap::State::get() const {
  if (!engine) throw Error(Code::closed, "the engine is closed");
  return *engine;
}

EngineWrap::EngineWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<EngineWrap>(info), image_lane_(info.Env()), lane_(info.Env()) {}

Napi::Function EngineWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeEngine",
                     {
                         InstanceAccessor<&EngineWrap::info_value>("info"),
                         InstanceMethod<&EngineWrap::image_tokens>("imageTokens"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::view_image>>("viewImage"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::prepare_images>>("prepareImages"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::encode_images>>("encodeImages"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::release_images>>("releaseImages"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::plan>>("plan"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::reserve>>("reserve"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::reserve_images>>("reserveImages"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::accumulate>>("accumulate"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::evaluate>>("evaluate"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::update>>("update"),
                         InstanceMethod<&EngineWrap::abort_group>("abortGroup"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::zero_grad>>("zeroGrad"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::logprobs>>("logprobs"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::generate>>("generate"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::attention>>("attention"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::save_adapter>>("saveAdapter"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::save_state>>("saveState"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::load_state>>("loadState"),
                         InstanceMethod<&EngineWrap::promised<&EngineWrap::close>>("close"),
                     });
}

Napi::Value EngineWrap::open(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const EngineSpec spec = to_engine_spec(info[0]);
    const std::optional<GroupSpec> group = to_group_spec(info[0]);
    const SharedFlag cancel = cancel_flag(info[1]);
    const Napi::Object object = info.Env().GetInstanceData<AddonState>()->engine_class.New({});
    EngineWrap* self = Unwrap(object);
    Lane::Held held;
    held.objects.push_back(Napi::Persistent(object));
    held.cancel = cancel;
    return self->lane_.run(
        info.Env(),
        [self, spec, group, cancel]() -> ToJs {
          Cancel(cancel.get()).check();
          self->state_->engine = std::make_unique<Engine>(spec);
          self->state_->group_end = self->state_->engine->group_end();
          self->state_->info = self->state_->engine->info();
          self->state_->vision = self->state_->engine->config().vision;
          self->state_->spread = host_spread(spec.device);
          if (group) self->state_->engine->join_group(*group, cancel.get());
          return [self](Napi::Env) { return self->Value(); };
        },
        std::move(held));
  });
}

Napi::Value EngineWrap::run(const Napi::CallbackInfo& info, Work work, const SharedFlag& cancel,
                            std::vector<std::shared_ptr<Callback>> callbacks) {
  Lane::Held held;
  held.objects.push_back(Napi::Persistent(Value()));
  held.callbacks = std::move(callbacks);
  held.cancel = cancel;
  return lane_.run(
      info.Env(), [state = state_, work = std::move(work), cancel] { return work(state->get(), cancel.get()); },
      std::move(held));
}

Napi::Value EngineWrap::run(const Napi::CallbackInfo& info, std::function<void(Engine&)> work) {
  return run(info, [work = std::move(work)](Engine& engine, Cancel) {
    work(engine);
    return undefined();
  });
}

Napi::Value EngineWrap::info_value(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), [&] { return model_info(info.Env(), state_->get(), state_->info); });
}

Napi::Value EngineWrap::image_tokens(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), [&] {
    const int64_t tokens = state_->get().image_tokens(to_integer(info[0], "width"), to_integer(info[1], "height"));
    return Napi::Number::New(info.Env(), static_cast<double>(tokens));
  });
}

Napi::Value EngineWrap::view_image(const Napi::CallbackInfo& info) {
  return run(info, [image = to_image(info[0])](Engine& engine, Cancel) -> ToJs {
    View view = engine.view_image(image.pixels());
    return [view = std::move(view)](Napi::Env env) {
      Napi::Object o = Napi::Object::New(env);
      for (const auto& [name, value] : {std::pair<const char*, double>{"width", static_cast<double>(view.size.width)},
                                        {"height", static_cast<double>(view.size.height)},
                                        {"scaleX", view.scale_x},
                                        {"scaleY", view.scale_y},
                                        {"left", view.left},
                                        {"top", view.top}})
        o.Set(name, value);
      Napi::Uint8Array rgb = Napi::Uint8Array::New(env, view.pixels.size());
      std::copy(view.pixels.begin(), view.pixels.end(), rgb.Data());
      o.Set("rgb", rgb);
      return o;
    };
  });
}

Napi::Value EngineWrap::prepare_images(const Napi::CallbackInfo& info) {
  auto images = to_vector(info[0], "images", to_image);
  Lane::Held held;
  held.objects.push_back(Napi::Persistent(Value()));
  held.cancel = cancel_flag(info[1]);
  auto work = [state = state_, images = std::move(images), cancel = held.cancel]() -> ToJs {
    std::vector<NamedImage> prepared;
    for (const OwnedImage& image : images) {
      Cancel(cancel.get()).check();
      prepared.push_back({image.id, {}, prepare_image(*state->vision, image.pixels(), state->spread)});
    }
    return [prepared = std::move(prepared)](Napi::Env env) {
      return js_array(env, prepared, [&](const NamedImage& image) { return PreparedImageWrap::wrap(env, image); });
    };
  };
  return image_lane_.run(info.Env(), std::move(work), std::move(held));
}

Napi::Value EngineWrap::encode_images(const Napi::CallbackInfo& info) {
  auto images = to_vector(info[0], "images", to_image_or_prepared);
  Work work = [images = std::move(images)](Engine& engine, Cancel cancel) -> ToJs {
    std::vector<NamedImage> named;
    for (const OwnedImage& image : images) named.push_back({image.id, image.pixels(), image.prepared});
    return [encoded = engine.encode_images(named, cancel)](Napi::Env env) {
      return js_array(env, encoded, [&](const EncodedImage& e) {
        Napi::Object o = Napi::Object::New(env);
        o.Set("id", e.id);
        o.Set("grid", js_array(env, std::vector<int64_t>{1, e.grid_h, e.grid_w},
                               [&](int64_t n) { return Napi::Number::New(env, static_cast<double>(n)); }));
        o.Set("tokens", static_cast<double>(e.tokens));
        return o;
      });
    };
  };
  return run(info, std::move(work), cancel_flag(info[1]));
}

Napi::Value EngineWrap::release_images(const Napi::CallbackInfo& info) {
  auto ids = to_strings(info[0], "ids");
  return run(info, [ids = std::move(ids)](Engine& engine) {
    for (const std::string& id : ids) engine.release_image(id);
  });
}

Napi::Value EngineWrap::plan(const Napi::CallbackInfo& info) {
  auto pairs = to_vector(info[0], "pairs", to_pair);
  const Objective objective = to_objective(info[1]);
  const StepOptions options = to_step_options(info[2]);
  const bool training = to_boolean(info[3], "training");
  return run(info, [pairs = std::move(pairs), objective, options, training](Engine& engine, Cancel) -> ToJs {
    return [plan = engine.plan(pairs, objective, options, training)](Napi::Env env) {
      Napi::Object o = Napi::Object::New(env);
      for (const auto& [name, bytes] : {std::pair<const char*, size_t>{"weightBytes", plan.weight_bytes},
                                        {"packedBytes", plan.packed_bytes},
                                        {"adapterBytes", plan.adapter_bytes},
                                        {"optimizerBytes", plan.optimizer_bytes},
                                        {"activationBytes", plan.activation_bytes},
                                        {"visionBytes", plan.vision_bytes},
                                        {"arenaBytes", plan.arena_bytes},
                                        {"logitsBytes", plan.logits_bytes},
                                        {"scratchBytes", plan.scratch_bytes},
                                        {"featureBytesPerToken", plan.feature_bytes_per_token},
                                        {"featureUnitBytes", plan.feature_unit_bytes},
                                        {"pixelBytesPerToken", plan.pixel_bytes_per_token},
                                        {"referenceBytes", plan.reference_bytes}})
        o.Set(name, static_cast<double>(bytes));
      o.Set("tokens", static_cast<double>(plan.tokens));
      o.Set("rows", static_cast<double>(plan.rows));
      return o;
    };
  });
}

Napi::Value EngineWrap::reserve(const Napi::CallbackInfo& info) {
  const auto to_pairs = [](const Napi::Value& value) { return to_vector(value, "pairs", to_pair); };
  auto batches = to_vector(info[0], "batches", to_pairs);
  const Objective objective = to_objective(info[1]);
  const StepOptions options = to_step_options(info[2]);
  const bool training = to_boolean(info[3], "training");
  Work work = [batches = std::move(batches), objective, options, training](Engine& engine, Cancel cancel) -> ToJs {
    engine.reserve(batches, objective, options, training, cancel);
    return undefined();
  };
  return run(info, std::move(work), cancel_flag(info[4]));
}

Napi::Value EngineWrap::reserve_images(const Napi::CallbackInfo& info) {
  auto tokens = to_vector(info[0], "tokens", [](const Napi::Value& value) { return to_integer(value, "tokens"); });
  return run(info, [tokens = std::move(tokens)](Engine& engine) { engine.reserve_images(tokens); });
}

Napi::Value EngineWrap::accumulate(const Napi::CallbackInfo& info) { return step(info, true); }
Napi::Value EngineWrap::evaluate(const Napi::CallbackInfo& info) { return step(info, false); }

Napi::Value EngineWrap::step(const Napi::CallbackInfo& info, bool backward) {
  auto pairs = to_vector(info[0], "pairs", to_pair);
  const Objective objective = to_objective(info[1]);
  const StepOptions options = to_step_options(info[2]);
  Work work = [pairs = std::move(pairs), objective, options, backward](Engine& engine, Cancel cancel) -> ToJs {
    const auto start = std::chrono::steady_clock::now();
    StepStats stats = backward ? engine.accumulate(pairs, objective, options, cancel)
                               : engine.evaluate(pairs, objective, options, cancel);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return [stats = std::move(stats), objective, seconds](Napi::Env env) {
      return step_stats(env, stats, objective, seconds);
    };
  };
  return run(info, std::move(work), cancel_flag(info[3]));
}

Napi::Value EngineWrap::update(const Napi::CallbackInfo& info) {
  // The flag is the lane's: a process that leaves does not wait for other ranks.
  const auto leaving = std::make_shared<std::atomic<bool>>(false);
  Work work = [spec = to_adamw_spec(info[0])](Engine& engine, Cancel cancel) -> ToJs {
    return [stats = engine.update(spec, cancel), step = engine.step()](Napi::Env env) {
      Napi::Object o = Napi::Object::New(env);
      o.Set("gradNorm", stats.grad_norm);
      o.Set("step", static_cast<double>(step));
      o.Set("secondsWaited", stats.seconds_waited);
      return o;
    };
  };
  return run(info, std::move(work), leaving);
}

Napi::Value EngineWrap::abort_group(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), [&] {
    state_->group_end->ask(to_string(info[0], "reason"));
    return info.Env().Undefined();
  });
}

Napi::Value EngineWrap::zero_grad(const Napi::CallbackInfo& info) {
  return run(info, [](Engine& engine) { engine.zero_grad(); });
}

Napi::Value EngineWrap::logprobs(const Napi::CallbackInfo& info) {
  auto sequences = to_vector(info[0], "sequences", to_sequence);
  const bool adapter = to_boolean(info[1], "adapter");
  Work work = [sequences = std::move(sequences), adapter](Engine& engine, Cancel cancel) -> ToJs {
    return [all = engine.logprobs(sequences, adapter, cancel)](Napi::Env env) {
      return js_array(env, all, [&](const std::vector<float>& v) { return float_array(env, v); });
    };
  };
  return run(info, std::move(work), cancel_flag(info[2]));
}

Napi::Value EngineWrap::generate(const Napi::CallbackInfo& info) {
  auto prompts = to_vector(info[0], "prompts", to_prompt);
  const Fields fields(info[1], "sampling");
  const SamplingSpec sampling = to_sampling_spec(fields);
  const bool adapter = fields.boolean("adapter");
  const auto on_token = to_callback(info[2], "onToken"), on_end = to_callback(info[3], "onEnd");
  std::vector<std::shared_ptr<Callback>> callbacks;
  for (const auto& callback : {on_token, on_end})
    if (callback) callbacks.push_back(callback);
  Work work = [this, prompts = std::move(prompts), sampling, adapter, on_token, on_end](Engine& engine,
                                                                                        Cancel cancel) -> ToJs {
    GenerationEvents events;
    if (on_token)
      events.on_token = [&](size_t prompt, int32_t token) {
        lane_.call(on_token, [prompt, token](Napi::Env env) -> std::vector<napi_value> {
          return {Napi::Number::New(env, static_cast<double>(prompt)), Napi::Number::New(env, token)};
        });
      };
    if (on_end)
      events.on_end = [&](size_t prompt, const Generation& result) {
        lane_.call(on_end, [prompt, result](Napi::Env env) -> std::vector<napi_value> {
          return {Napi::Number::New(env, static_cast<double>(prompt)), generation(env, result)};
        });
      };
    std::vector<Generation> all = engine.generate(prompts, sampling, adapter, events, cancel);
    return [all = std::move(all)](Napi::Env env) {
      return js_array(env, all, [&](const Generation& g) { return generation(env, g); });
    };
  };
  return run(info, std::move(work), cancel_flag(info[4]), std::move(callbacks));
}

Napi::Value EngineWrap::attention(const Napi::CallbackInfo& info) {
  const SequenceRef sequence = to_sequence(info[0]);
  const auto positions = to_vector(
      info[1], "positions", [](const Napi::Value& v) { return static_cast<int32_t>(to_integer(v, "positions")); });
  const bool adapter = to_boolean(info[2], "adapter");
  return run(info, [sequence, positions, adapter](Engine& engine, Cancel) -> ToJs {
    const auto weights = engine.attention(sequence, positions, adapter);
    const int64_t layers = engine.config().text.layers, heads = engine.config().text.heads;
    return [weights, layers, heads](Napi::Env env) {
      return js_array(env, weights, [&](const std::vector<float>& w) {
        Napi::Object o = Napi::Object::New(env);
        o.Set("layers", static_cast<double>(layers));
        o.Set("heads", static_cast<double>(heads));
        o.Set("tokens", static_cast<double>(static_cast<int64_t>(w.size()) / (layers * heads)));
        o.Set("weights", float_array(env, w));
        return o;
      });
    };
  });
}

Napi::Value EngineWrap::save_adapter(const Napi::CallbackInfo& info) {
  const std::string directory = to_string(info[0], "directory"), base = to_string(info[1], "baseModel");
  return run(info, [directory, base](Engine& engine) { engine.save_adapter(directory, base); });
}

Napi::Value EngineWrap::save_state(const Napi::CallbackInfo& info) {
  return run(info, [directory = to_string(info[0], "directory")](Engine& engine) { engine.save_state(directory); });
}

Napi::Value EngineWrap::load_state(const Napi::CallbackInfo& info) {
  return run(info, [directory = to_string(info[0], "directory")](Engine& engine) { engine.load_state(directory); });
}

Napi::Value EngineWrap::close(const Napi::CallbackInfo& info) {
  Lane::Held held;
  held.objects.push_back(Napi::Persistent(Value()));
  return lane_.run(
      info.Env(),
      [state = state_] {
        state->engine.reset();
        return undefined();
      },
      std::move(held));
}

}  // namespace fire::binding
