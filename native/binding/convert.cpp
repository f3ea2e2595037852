#include "binding/convert.h"

#include <cmath>

#include "binding/cancel_token.h"

namespace fire::binding {
namespace {

[[noreturn]] void expected(const char* what, const char* name) {
  throw Error(Code::invalid_argument, std::string("expected ") + what + " for " + name);
}

Napi::Value get(const Napi::Object& object, const char* key) { return object.Get(key); }

template <class Typed>
Typed typed_array(const Napi::Value& value, napi_typedarray_type type, const char* what, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) expected(what, name);
  return value.As<Typed>();
}

std::vector<uint8_t> to_bytes(const Napi::Value& value, const char* name) {
  const auto array = typed_array<Napi::Uint8Array>(value, napi_uint8_array, "a Uint8Array", name);
  return {array.Data(), array.Data() + array.ElementLength()};
}

GemmBackend to_gemm(const std::string& text) {
  if (text == "auto") return GemmBackend::automatic;
  if (text == "native") return GemmBackend::native;
  if (text == "onednn") return GemmBackend::onednn;
  if (text == "cublaslt") return GemmBackend::cublaslt;
  throw Error(Code::invalid_argument, "gemm must be auto, native, onednn or cublaslt, not \"" + text + "\"");
}

DeviceSpec to_device_spec(const Napi::Object& o) {
  DeviceSpec spec;
  set_device(spec, to_string(get(o, "device"), "device"));
  spec.dtype = to_compute_type(get(o, "dtype"));
  spec.threads = static_cast<int>(to_integer(get(o, "threads"), "threads"));
  return spec;
}

std::shared_ptr<const StopStrings> to_stop_strings(const Napi::Object& o) {
  auto stops = std::make_shared<StopStrings>();
  stops->strings = to_strings(get(o, "strings"), "stopStrings.strings");
  const std::vector<uint8_t> bytes = to_bytes(get(o, "bytes"), "stopStrings.bytes");
  stops->bytes.assign(bytes.begin(), bytes.end());
  stops->offsets = to_ids(get(o, "offsets"), "stopStrings.offsets");
  return stops;
}

Proj to_proj(const std::string& text) {
  for (const Proj p : all_projs)
    if (text == short_name(p)) return p;
  throw Error(Code::invalid_argument,
              "lora.targets: \"" + text + "\" is not one of q_proj k_proj v_proj o_proj gate_proj up_proj down_proj");
}

LoraConfig to_lora(const Napi::Object& o) {
  LoraConfig lora;
  lora.rank = to_integer(get(o, "rank"), "lora.rank");
  lora.alpha = to_number(get(o, "alpha"), "lora.alpha");
  lora.dropout = static_cast<float>(to_number(get(o, "dropout"), "lora.dropout"));
  lora.rslora = to_boolean(get(o, "rslora"), "lora.rslora");
  lora.seed = static_cast<uint64_t>(to_integer(get(o, "seed"), "lora.seed"));
  lora.targets.clear();
  for (const std::string& t : to_strings(get(o, "targets"), "lora.targets")) lora.targets.push_back(to_proj(t));
  if (!(lora.dropout >= 0 && lora.dropout < 1)) throw Error(Code::invalid_argument, "lora.dropout must lie in [0, 1)");
  return lora;
}

Napi::Value lora_to_js(Napi::Env env, const Adapter* adapter) {
  if (!adapter) return env.Null();
  const LoraConfig& c = adapter->config();
  Napi::Object o = Napi::Object::New(env);
  o.Set("rank", static_cast<double>(c.rank));
  o.Set("alpha", c.alpha);
  o.Set("dropout", static_cast<double>(c.dropout));
  o.Set("rslora", c.rslora);
  o.Set("seed", static_cast<double>(c.seed));
  o.Set("targets", js_array(env, c.targets, [&](Proj p) { return Napi::String::New(env, short_name(p)); }));
  return o;
}

Napi::Object logps(Napi::Env env, const PerBranch<double>& values, const Objective& objective, bool has_corrupted) {
  static constexpr std::pair<Branch, const char*> names[] = {{Branch::chosen, "chosen"},
                                                             {Branch::rejected, "rejected"},
                                                             {Branch::corrupted_chosen, "corruptedChosen"},
                                                             {Branch::corrupted_rejected, "corruptedRejected"}};
  Napi::Object o = Napi::Object::New(env);
  for (const auto& [branch, name] : names)
    o.Set(name, objective.runs(branch, has_corrupted) ? values[at(branch)] : NAN);
  return o;
}

}  // namespace

std::string to_string(const Napi::Value& value, const char* name) {
  if (!value.IsString()) expected("a string", name);
  return value.As<Napi::String>().Utf8Value();
}

double to_number(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) expected("a number", name);
  return value.As<Napi::Number>().DoubleValue();
}

int64_t to_integer(const Napi::Value& value, const char* name) {
  const double number = to_number(value, name);
  if (number != std::floor(number) || std::abs(number) > 9007199254740992.0) expected("an integer", name);
  return static_cast<int64_t>(number);
}

bool to_boolean(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) expected("true or false", name);
  return value.As<Napi::Boolean>().Value();
}

Napi::Object to_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) expected("an object", name);
  return value.As<Napi::Object>();
}

std::vector<std::string> to_strings(const Napi::Value& value, const char* name) {
  return to_vector(value, name, [&](const Napi::Value& v) { return to_string(v, name); });
}

std::vector<int32_t> to_ids(const Napi::Value& value, const char* name) {
  const auto array = typed_array<Napi::Int32Array>(value, napi_int32_array, "an Int32Array", name);
  return {array.Data(), array.Data() + array.ElementLength()};
}

SharedFlag cancel_flag(const Napi::Value& value) {
  if (value.IsNull() || value.IsUndefined()) return std::make_shared<std::atomic<bool>>(false);
  return CancelToken::flag_of(to_object(value, "cancel"));
}

ComputeType to_compute_type(const Napi::Value& value) {
  const std::string text = to_string(value, "dtype");
  if (text == "f32") return ComputeType::f32;
  if (text == "bf16") return ComputeType::bf16;
  throw Error(Code::invalid_argument, "dtype must be f32 or bf16, not \"" + text + "\"");
}

EngineSpec to_engine_spec(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "spec");
  EngineSpec spec;
  spec.model = to_string(get(o, "model"), "model");
  spec.device = to_device_spec(o);
  spec.device.gemm = to_gemm(to_string(get(o, "gemm"), "gemm"));
  if (!get(o, "lora").IsNull()) spec.lora = to_lora(to_object(get(o, "lora"), "lora"));
  if (!get(o, "adapter").IsNull()) spec.adapter = to_string(get(o, "adapter"), "adapter");
  spec.device.imaginary = to_boolean(get(o, "planOnly"), "planOnly");
  spec.checkpointing = to_boolean(get(o, "checkpointing"), "checkpointing");
  const int64_t cache = to_integer(get(o, "referenceCacheBytes"), "referenceCacheBytes");
  if (cache < 0) throw Error(Code::invalid_argument, "referenceCacheBytes must not be negative");
  spec.reference_cache_bytes = static_cast<size_t>(cache);
  return spec;
}

MergeSpec to_merge_spec(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "spec");
  MergeSpec spec;
  spec.model = to_string(get(o, "model"), "model");
  spec.adapter = to_string(get(o, "adapter"), "adapter");
  spec.output = to_string(get(o, "output"), "output");
  const int64_t shard = to_integer(get(o, "shardBytes"), "shardBytes");
  if (shard <= 0) throw Error(Code::invalid_argument, "shardBytes must be positive");
  spec.shard_bytes = static_cast<size_t>(shard);
  const auto pairs =
      to_vector(get(o, "rename"), "rename", [](const Napi::Value& v) { return to_strings(v, "rename"); });
  for (const auto& pair : pairs) {
    if (pair.size() != 2) expected("pairs of prefixes", "rename");
    spec.rename.emplace_back(pair[0], pair[1]);
  }
  return spec;
}

OwnedImage to_image(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "image");
  OwnedImage image{to_string(get(o, "id"), "image.id"), to_integer(get(o, "width"), "image.width"),
                   to_integer(get(o, "height"), "image.height"), to_bytes(get(o, "rgb"), "image.rgb")};
  if (image.width <= 0 || image.height <= 0 || image.width > (1 << 20) || image.height > (1 << 20) ||
      static_cast<int64_t>(image.rgb.size()) != image.width * image.height * 3)
    throw Error(Code::invalid_argument, "image \"" + image.id + "\": " + std::to_string(image.rgb.size()) +
                                            " bytes are not " + std::to_string(image.width) + " x " +
                                            std::to_string(image.height) + " RGB pixels")
        .with("image", image.id);
  return image;
}

Pair to_pair(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "pair");
  Pair pair;
  pair.id = to_string(get(o, "id"), "pair.id");
  pair.prompt = to_ids(get(o, "prompt"), "pair.prompt");
  pair.chosen = to_ids(get(o, "chosen"), "pair.chosen");
  pair.rejected = to_ids(get(o, "rejected"), "pair.rejected");
  pair.chosen_mask = to_bytes(get(o, "chosenMask"), "pair.chosenMask");
  pair.rejected_mask = to_bytes(get(o, "rejectedMask"), "pair.rejectedMask");
  pair.images = to_strings(get(o, "images"), "pair.images");
  if (!get(o, "corruptedImages").IsNull())
    pair.corrupted_images = to_strings(get(o, "corruptedImages"), "pair.corruptedImages");
  return pair;
}

Objective to_objective(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "objective");
  const std::string reduction = to_string(get(o, "klReduction"), "objective.klReduction");
  if (reduction != "sum" && reduction != "mean")
    throw Error(Code::invalid_argument, "objective.klReduction must be sum or mean");
  return Objective::make(to_string(get(o, "name"), "objective.name"), to_number(get(o, "beta"), "objective.beta"),
                         to_number(get(o, "alpha"), "objective.alpha"), to_number(get(o, "gamma"), "objective.gamma"),
                         to_number(get(o, "lambda"), "objective.lambda"), reduction == "mean");
}

StepOptions to_step_options(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "options");
  StepOptions options;
  options.normalizer = to_number(get(o, "normalizer"), "normalizer");
  if (!(options.normalizer > 0)) throw Error(Code::invalid_argument, "normalizer must be positive");
  const std::string layout = to_string(get(o, "layout"), "layout");
  if (layout != "packed" && layout != "plain") throw Error(Code::invalid_argument, "layout must be packed or plain");
  options.layout = layout == "plain" ? Layout::plain : Layout::packed;
  return options;
}

UpdateSettings to_update_settings(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "settings");
  return {to_number(get(o, "lr"), "lr"),
          to_number(get(o, "beta1"), "beta1"),
          to_number(get(o, "beta2"), "beta2"),
          to_number(get(o, "eps"), "eps"),
          to_number(get(o, "weightDecay"), "weightDecay"),
          to_number(get(o, "maxGradNorm"), "maxGradNorm")};
}

SequenceRef to_sequence(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "sequence");
  return {to_ids(get(o, "ids"), "ids"), to_strings(get(o, "images"), "images")};
}

PromptRef to_prompt(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "prompt");
  return {to_sequence(value), static_cast<uint64_t>(to_integer(get(o, "seed"), "seed"))};
}

Sampling to_sampling(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "sampling");
  Sampling s;
  s.max_new_tokens = to_integer(get(o, "maxNewTokens"), "maxNewTokens");
  s.rule.temperature = to_number(get(o, "temperature"), "temperature");
  s.rule.top_p = to_number(get(o, "topP"), "topP");
  s.rule.top_k = to_integer(get(o, "topK"), "topK");
  s.batch_size = to_integer(get(o, "batchSize"), "batchSize");
  s.stop_tokens = to_vector(get(o, "stopTokens"), "stopTokens",
                            [](const Napi::Value& v) { return static_cast<int32_t>(to_integer(v, "stopTokens")); });
  if (!get(o, "stopStrings").IsNull())
    s.stop_strings = to_stop_strings(to_object(get(o, "stopStrings"), "stopStrings"));
  return s;
}

VerifySpec to_verify_spec(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "spec");
  return {to_string(get(o, "directory"), "directory"), to_device_spec(o)};
}

Napi::Object model_info(Napi::Env env, const Engine& engine, const EngineInfo& info) {
  const ModelConfig& c = engine.config();
  Napi::Object o = Napi::Object::New(env);
  o.Set("family", c.family);
  o.Set("device", info.device);
  o.Set("dtype", engine.spec().device.dtype == ComputeType::bf16 ? "bf16" : "f32");
  o.Set("threads", info.threads);
  o.Set("gemm", info.gemm);
  o.Set("isa", info.isa);
  o.Set("hiddenSize", static_cast<double>(c.text.hidden_size));
  o.Set("layers", static_cast<double>(c.text.layers));
  o.Set("vocabSize", static_cast<double>(c.text.vocab_size));
  o.Set("imageTokenId", static_cast<double>(c.image_token_id));
  o.Set("eosTokenIds",
        js_array(env, c.eos_token_ids, [&](int64_t id) { return Napi::Number::New(env, static_cast<double>(id)); }));
  o.Set("parameters", static_cast<double>(info.parameters));
  o.Set("trainableParameters", static_cast<double>(info.trainable_parameters));
  o.Set("weightBytes", static_cast<double>(info.weight_bytes));
  o.Set("weightDTypes",
        js_array(env, info.weight_dtypes, [&](const std::string& s) { return Napi::String::New(env, s); }));
  o.Set("lora", lora_to_js(env, engine.adapter()));
  return o;
}

Napi::Object generation(Napi::Env env, const Generated& result) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("tokens", int_array(env, result.tokens));
  o.Set("logprob", result.logprob);
  o.Set("finish", result.stopped ? "stop" : "length");
  return o;
}

Napi::Object step_stats(Napi::Env env, const StepStats& stats, const Objective& objective,
                        const std::vector<bool>& has_corrupted, double seconds) {
  Napi::Array pairs = Napi::Array::New(env, stats.pairs.size());
  for (size_t i = 0; i < stats.pairs.size(); ++i) {
    const PairStats& s = stats.pairs[i];
    Napi::Object o = Napi::Object::New(env);
    o.Set("loss", s.loss.loss);
    o.Set("base", s.loss.base);
    o.Set("visual", s.loss.visual);
    o.Set("anchor", s.loss.anchor);
    o.Set("margin", s.loss.margin);
    o.Set("visualMargin", s.loss.visual_margin);
    o.Set("forwardKl", s.kl.forward);
    o.Set("reverseKl", s.kl.reverse);
    o.Set("policy", logps(env, s.logps.policy, objective, has_corrupted[i]));
    o.Set("reference", logps(env, s.logps.reference, objective, has_corrupted[i]));
    o.Set("chosenTokens", static_cast<double>(s.chosen_tokens));
    o.Set("rejectedTokens", static_cast<double>(s.rejected_tokens));
    pairs.Set(static_cast<uint32_t>(i), o);
  }
  Napi::Object o = Napi::Object::New(env);
  o.Set("pairs", pairs);
  o.Set("tokens", static_cast<double>(stats.tokens));
  o.Set("rows", static_cast<double>(stats.rows));
  o.Set("seconds", seconds);
  return o;
}

Napi::Object verify_row(Napi::Env env, const VerifyRow& row) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("group", row.group);
  o.Set("tensors", static_cast<double>(row.tensors));
  o.Set("maxAbs", row.max_abs);
  o.Set("maxRel", row.max_rel);
  o.Set("worst", row.worst);
  o.Set("tolerance", row.tolerance);
  o.Set("pass", row.pass);
  return o;
}

Napi::Float32Array float_array(Napi::Env env, const std::vector<float>& values) {
  Napi::Float32Array array = Napi::Float32Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

Napi::Int32Array int_array(Napi::Env env, const std::vector<int32_t>& values) {
  Napi::Int32Array array = Napi::Int32Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

}  // namespace fire::binding
