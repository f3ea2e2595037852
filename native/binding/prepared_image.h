// What prepareImages() gave: an opaque object that encodeImages() takes in place of pixels.
#pragma once

#include <napi.h>

#include "binding/convert.h"

namespace fire::binding {

class PreparedImageWrap final : public Napi::ObjectWrap<PreparedImageWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object wrap(Napi::Env env, NamedImage image);
  /// nullptr for anything that `wrap` did not make.
  static const NamedImage* find(const Napi::Value& value);

  explicit PreparedImageWrap(const Napi::CallbackInfo& info);
  void Finalize(Napi::Env env) override;

 private:
  Napi::Value id(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), image_.id); }
  /// Its pixels, for the collector, which sees only the object around them.
  int64_t bytes() const;

  NamedImage image_;
};

}  // namespace fire::binding
