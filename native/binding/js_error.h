// Per-environment state of the addon and the way C++ errors become JavaScript errors.
#pragma once

#include <napi.h>

#include <functional>

#include "tensor/error.h"

namespace fire::binding {

/// One per Node environment (main thread and each worker have their own); no globals.
struct AddonState {
  Napi::FunctionReference error_class;
  Napi::FunctionReference engine_class;
  Napi::FunctionReference prepared_class;
};

/// An instance of the class given to setErrorClass, or an Error with a `code` before that.
Napi::Value to_js(Napi::Env env, const Error& error);

/// The value of `body`; what it throws is thrown in JavaScript.
Napi::Value throwing(Napi::Env env, const std::function<Napi::Value()>& body);

/// A promise rejected with the error that `body` throws, or its value: bad arguments reject instead of throwing.
Napi::Value guarded(Napi::Env env, const std::function<Napi::Value()>& body);

}  // namespace fire::binding
