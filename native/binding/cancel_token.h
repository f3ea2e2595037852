// The per-call stop flag: JavaScript sets it, the engine polls it.
#pragma once

#include <napi.h>

#include "binding/convert.h"

namespace fire::binding {

class CancelToken final : public Napi::ObjectWrap<CancelToken> {
 public:
  static Napi::Value create(const Napi::CallbackInfo& info);
  static SharedFlag flag_of(const Napi::Object& object);

  explicit CancelToken(const Napi::CallbackInfo& info);

 private:
  void cancel(const Napi::CallbackInfo&) { flag_->store(true, std::memory_order_relaxed); }
  SharedFlag flag_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace fire::binding
