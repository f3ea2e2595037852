// The NativeEngine of src/engine/native.ts: one Engine and its lanes.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>

#include "binding/convert.h"
#include "binding/js_error.h"
#include "binding/lane.h"

namespace fire::binding {

class EngineWrap final : public Napi::ObjectWrap<EngineWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  /// openEngine(spec, cancel).
  static Napi::Value open(const Napi::CallbackInfo& info);

  explicit EngineWrap(const Napi::CallbackInfo& info);

 private:
  /// Lives as long as any task that uses it; `engine` is gone after close.
  struct State {
    std::unique_ptr<Engine> engine;
    EngineInfo info;
    /// Of the engine, also while it is at work or gone.
    std::shared_ptr<GroupEnd> group_end;
    /// What preparing images needs, also while the engine is at work or gone.
    std::shared_ptr<const VisionSpec> vision;
    Spread spread;
    Engine& get() const;
  };
  using Work = std::function<ToJs(Engine&, Cancel)>;

  /// A method of the JavaScript class: bad arguments reject its promise.
  template <Napi::Value (EngineWrap::*method)(const Napi::CallbackInfo&)>
  Napi::Value promised(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return (this->*method)(info); });
  }
  /// Queues work on the lane; this object and the callbacks stay alive until it has settled. `cancel` is set when the
  /// environment goes away.
  Napi::Value run(const Napi::CallbackInfo& info, Work work, const SharedFlag& cancel = nullptr,
                  std::vector<std::shared_ptr<Callback>> callbacks = {});
  /// For work without a result.
  Napi::Value run(const Napi::CallbackInfo& info, std::function<void(Engine&)> work);

  Napi::Value info_value(const Napi::CallbackInfo& info);
  Napi::Value image_tokens(const Napi::CallbackInfo& info);
  Napi::Value view_image(const Napi::CallbackInfo& info);
  Napi::Value prepare_images(const Napi::CallbackInfo& info);
  Napi::Value encode_images(const Napi::CallbackInfo& info);
  Napi::Value release_images(const Napi::CallbackInfo& info);
  Napi::Value plan(const Napi::CallbackInfo& info);
  Napi::Value reserve(const Napi::CallbackInfo& info);
  Napi::Value reserve_images(const Napi::CallbackInfo& info);
  Napi::Value accumulate(const Napi::CallbackInfo& info);
  Napi::Value evaluate(const Napi::CallbackInfo& info);
  Napi::Value step(const Napi::CallbackInfo& info, bool backward);
  Napi::Value update(const Napi::CallbackInfo& info);
  Napi::Value abort_group(const Napi::CallbackInfo& info);
  Napi::Value zero_grad(const Napi::CallbackInfo& info);
  Napi::Value logprobs(const Napi::CallbackInfo& info);
  Napi::Value generate(const Napi::CallbackInfo& info);
  Napi::Value attention(const Napi::CallbackInfo& info);
  Napi::Value save_adapter(const Napi::CallbackInfo& info);
  Napi::Value save_state(const Napi::CallbackInfo& info);
  Napi::Value load_state(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<State> state_ = std::make_shared<State>();
  // Last: their threads are joined before the state they work on goes away. Images have a lane of their own, so that
  // the host prepares them while the engine is at work.
  Lane image_lane_, lane_;
};

}  // namespace fire::binding
