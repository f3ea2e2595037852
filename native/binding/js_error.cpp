#include "binding/js_error.h"

namespace fire::binding {

Napi::Value to_js(Napi::Env env, const Error& error) {
  Napi::Object detail = Napi::Object::New(env);
  for (const auto& [key, value] : error.details()) detail.Set(key, value);
  AddonState* state = env.GetInstanceData<AddonState>();
  if (state && !state->error_class.IsEmpty())
    return state->error_class.New(
        {Napi::String::New(env, to_string(error.code())), Napi::String::New(env, error.what()), detail});
  Napi::Error plain = Napi::Error::New(env, error.what());
  plain.Set("code", to_string(error.code()));
  plain.Set("detail", detail);
  return plain.Value();
}

Napi::Value throwing(Napi::Env env, const std::function<Napi::Value()>& body) {
  try {
    return body();
  } catch (const Error& e) {
    throw Napi::Error(env, to_js(env, e));
  }
}

Napi::Value guarded(Napi::Env env, const std::function<Napi::Value()>& body) {
  auto rejected = [&](Napi::Value reason) -> Napi::Value {
    const Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(reason);
    return deferred.Promise();
  };
  try {
    return body();
  } catch (const Error& e) {
    return rejected(to_js(env, e));
  } catch (const Napi::Error& e) {
    return rejected(e.Value());
  }
}

}  // namespace fire::binding
