// JavaScript values to engine types (src/engine/native.ts) and back. Typed arrays are copied at once, so JavaScript may
// reuse its memory. A value of the wrong type throws ERR_FIRE_INVALID_ARGUMENT with its name.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/merge.h"
#include "verify/verify.h"

namespace fire::binding {

/// Shared by the JavaScript CancelToken and the call that polls it.
using SharedFlag = std::shared_ptr<std::atomic<bool>>;

/// The flag of a CancelToken; for null one that only the end of the environment sets.
SharedFlag cancel_flag(const Napi::Value& value);

std::string to_string(const Napi::Value& value, const char* name);
double to_number(const Napi::Value& value, const char* name);
int64_t to_integer(const Napi::Value& value, const char* name);
bool to_boolean(const Napi::Value& value, const char* name);
Napi::Object to_object(const Napi::Value& value, const char* name);
std::vector<std::string> to_strings(const Napi::Value& value, const char* name);
/// An Int32Array.
std::vector<int32_t> to_ids(const Napi::Value& value, const char* name);
/// Applies `convert` to every element of an array.
template <class F>
auto to_vector(const Napi::Value& value, const char* name, F&& convert) {
  if (!value.IsArray()) throw Error(Code::invalid_argument, std::string("expected an array for ") + name);
  const Napi::Array array = value.As<Napi::Array>();
  std::vector<decltype(convert(array.Get(0u)))> out;
  for (uint32_t i = 0; i < array.Length(); ++i) out.push_back(convert(array.Get(i)));
  return out;
}

/// An image with its own copy of the bytes.
struct OwnedImage {
  std::string id;
  int64_t width, height;
  std::vector<uint8_t> rgb;
};

MergeSpec to_merge_spec(const Napi::Value& value);
EngineSpec to_engine_spec(const Napi::Value& value);
OwnedImage to_image(const Napi::Value& value);
Pair to_pair(const Napi::Value& value);
Objective to_objective(const Napi::Value& value);
StepOptions to_step_options(const Napi::Value& value);
UpdateSettings to_update_settings(const Napi::Value& value);
SequenceRef to_sequence(const Napi::Value& value);
PromptRef to_prompt(const Napi::Value& value);
Sampling to_sampling(const Napi::Value& value);
VerifySpec to_verify_spec(const Napi::Value& value);
ComputeType to_compute_type(const Napi::Value& value);

Napi::Object model_info(Napi::Env env, const Engine& engine, const EngineInfo& info);
Napi::Object generation(Napi::Env env, const Generated& result);
Napi::Object step_stats(Napi::Env env, const StepStats& stats, const Objective& objective,
                        const std::vector<bool>& has_corrupted, double seconds);
Napi::Object verify_row(Napi::Env env, const VerifyRow& row);
Napi::Float32Array float_array(Napi::Env env, const std::vector<float>& values);
Napi::Int32Array int_array(Napi::Env env, const std::vector<int32_t>& values);
/// JavaScript array of what `convert(item)` gives.
template <class T, class F>
Napi::Array js_array(Napi::Env env, const std::vector<T>& items, F&& convert) {
  Napi::Array array = Napi::Array::New(env, items.size());
  for (size_t i = 0; i < items.size(); ++i) array.Set(static_cast<uint32_t>(i), convert(items[i]));
  return array;
}

}  // namespace fire::binding
