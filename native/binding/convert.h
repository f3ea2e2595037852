// JavaScript values to engine types (src/engine/native.ts) and back. Typed arrays are copied at once, so JavaScript may
// reuse its memory. A value that is missing or of the wrong type throws ERR_FIRE_INVALID_ARGUMENT with its name.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>
#include <optional>
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

std::string to_string(const Napi::Value& value, const std::string& name);
double to_number(const Napi::Value& value, const std::string& name);
int64_t to_integer(const Napi::Value& value, const std::string& name, int64_t least = INT64_MIN);
bool to_boolean(const Napi::Value& value, const std::string& name);
Napi::Array to_array(const Napi::Value& value, const std::string& name);
std::vector<std::string> to_strings(const Napi::Value& value, const std::string& name);
/// An Int32Array.
std::vector<int32_t> to_ids(const Napi::Value& value, const std::string& name);
/// Applies `convert` to every element of an array.
template <class F>
auto to_vector(const Napi::Value& value, const std::string& name, F&& convert) {
  const Napi::Array array = to_array(value, name);
  std::vector<decltype(convert(array.Get(0u)))> out;
  for (uint32_t i = 0; i < array.Length(); ++i) out.push_back(convert(array.Get(i)));
  return out;
}

/// An object whose fields are read by name. None has a default: one that is missing or of another type is refused as
/// "spec.threads".
class Fields {
 public:
  Fields(const Napi::Value& value, std::string name);

  Napi::Value get(const char* key) const { return object_.Get(key); }
  std::string path(const char* key) const { return name_ + "." + key; }
  std::string text(const char* key) const { return to_string(get(key), path(key)); }
  std::vector<std::string> texts(const char* key) const { return to_strings(get(key), path(key)); }
  double number(const char* key) const { return to_number(get(key), path(key)); }
  int64_t integer(const char* key, int64_t least = INT64_MIN) const { return to_integer(get(key), path(key), least); }
  bool boolean(const char* key) const { return to_boolean(get(key), path(key)); }
  /// An Int32Array.
  std::vector<int32_t> ids(const char* key) const { return to_ids(get(key), path(key)); }
  /// A Uint8Array.
  std::vector<uint8_t> bytes(const char* key) const;
  /// An object, or null.
  std::optional<Fields> fields_or_null(const char* key) const;
  /// One of some texts.
  template <class T>
  T choice(const char* key, std::initializer_list<std::pair<const char*, T>> choices) const {
    const std::string value = text(key);
    std::string names;
    for (const auto& [name, meaning] : choices) {
      if (value == name) return meaning;
      names += (names.empty() ? "" : ", ") + std::string(name);
    }
    throw Error(Code::invalid_argument, "expected one of " + names + " for " + path(key) + ", not \"" + value + "\"");
  }

 private:
  Napi::Object object_;
  std::string name_;
};

/// An image with its own copy of the bytes, or one that was prepared and needs none.
struct OwnedImage {
  std::string id;
  int64_t width, height;
  std::vector<uint8_t> rgb;
  std::shared_ptr<const PreparedImage> prepared;

  Rgb pixels() const { return {height, width, rgb.data()}; }
};

MergeSpec to_merge_spec(const Napi::Value& value);
EngineSpec to_engine_spec(const Napi::Value& value);
/// `group` of the same.
std::optional<GroupSpec> to_group_spec(const Napi::Value& value);
/// As pixels.
OwnedImage to_image(const Napi::Value& value);
/// Either.
OwnedImage to_image_or_prepared(const Napi::Value& value);
Pair to_pair(const Napi::Value& value);
Objective to_objective(const Napi::Value& value);
StepOptions to_step_options(const Napi::Value& value);
AdamWSpec to_adamw_spec(const Napi::Value& value);
SequenceRef to_sequence(const Napi::Value& value);
PromptRef to_prompt(const Napi::Value& value);
SamplingSpec to_sampling_spec(const Fields& o);
VerifySpec to_verify_spec(const Napi::Value& value);

Napi::Object model_info(Napi::Env env, const Engine& engine, const EngineInfo& info);
Napi::Object generation(Napi::Env env, const Generation& result);
Napi::Object step_stats(Napi::Env env, const StepStats& stats, const Objective& objective, double seconds);
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
