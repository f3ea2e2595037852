#include "binding/convert.h"

#include <cmath>

#include "binding/cancel_token.h"
#include "binding/prepared_image.h"

namespace fire::binding {
namespace {

[[noreturn]] void expected(const std::string& what, const std::string& name, const Napi::Value& got) {
  throw Error(Code::invalid_argument,
              "expected " + what + " for " + name + (got.IsUndefined() ? ", which is missing" : ""));
}

template <class Typed>
Typed typed_array(const Napi::Value& value, napi_typedarray_type type, const char* what, const std::string& name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) expected(what, name, value);
  return value.As<Typed>();
}

std::vector<uint8_t> to_bytes(const Napi::Value& value, const std::string& name) {
  const auto array = typed_array<Napi::Uint8Array>(value, napi_uint8_array, "a Uint8Array", name);
  return {array.Data(), array.Data() + array.ElementLength()};
}

DeviceSpec to_device_spec(const Fields& o, GemmBackend gemm, bool plan_only) {
  const PackWeights pack = o.choice<PackWeights>(
      "packWeights", {{"auto", PackWeights::automatic}, {"on", PackWeights::on}, {"off", PackWeights::off}});
  const ComputeType dtype = o.choice<ComputeType>("dtype", {{"f32", ComputeType::f32}, {"bf16", ComputeType::bf16}});
  DeviceSpec spec{.kind = DeviceKind::cpu,
                  .index = 0,
                  .dtype = dtype,
                  .threads = static_cast<int>(o.integer("threads", 0)),
                  .gemm = gemm,
                  .plan_only = plan_only,
                  .pack_weights = pack,
                  .free_bytes = static_cast<size_t>(o.integer("freeBytes", 0))};
  set_device(spec, o.text("device"));
  return spec;
}

std::shared_ptr<const StopStrings> to_stop_strings(const Fields& o) {
  const std::vector<uint8_t> bytes = o.bytes("bytes");
  return std::make_shared<StopStrings>(StopStrings{o.texts("strings"), {bytes.begin(), bytes.end()}, o.ids("offsets")});
}

Proj to_proj(const std::string& text) {
  for (const Proj p : all_projs)
    if (text == short_name(p)) return p;
  throw Error(Code::invalid_argument,
              "lora.targets: \"" + text + "\" is not one of q_proj k_proj v_proj o_proj gate_proj up_proj down_proj");
}

LoraSpec to_lora(const Fields& o) {
  std::vector<Proj> targets;
  for (const std::string& target : o.texts("targets")) targets.push_back(to_proj(target));
  return {o.integer("rank"),   o.number("alpha"), static_cast<float>(o.number("dropout")),
          o.boolean("rslora"), targets,           static_cast<uint64_t>(o.integer("seed"))};
}

Napi::Value lora_to_js(Napi::Env env, const Adapter* adapter) {
  if (!adapter) return env.Null();
  const LoraSpec& c = adapter->spec();
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

std::string to_string(const Napi::Value& value, const std::string& name) {
  if (!value.IsString()) expected("a string", name, value);
  return value.As<Napi::String>().Utf8Value();
}

double to_number(const Napi::Value& value, const std::string& name) {
  if (!value.IsNumber()) expected("a number", name, value);
  return value.As<Napi::Number>().DoubleValue();
}

int64_t to_integer(const Napi::Value& value, const std::string& name, int64_t least) {
  const double number = to_number(value, name);
  if (number != std::floor(number) || std::abs(number) > 9007199254740992.0) expected("an integer", name, value);
  if (number < static_cast<double>(least)) expected("an integer >= " + std::to_string(least), name, value);
  return static_cast<int64_t>(number);
}

bool to_boolean(const Napi::Value& value, const std::string& name) {
  if (!value.IsBoolean()) expected("true or false", name, value);
  return value.As<Napi::Boolean>().Value();
}

Napi::Array to_array(const Napi::Value& value, const std::string& name) {
  if (!value.IsArray()) expected("an array", name, value);
  return value.As<Napi::Array>();
}

std::vector<std::string> to_strings(const Napi::Value& value, const std::string& name) {
  return to_vector(value, name, [&](const Napi::Value& v) { return to_string(v, name); });
}

std::vector<int32_t> to_ids(const Napi::Value& value, const std::string& name) {
  const auto array = typed_array<Napi::Int32Array>(value, napi_int32_array, "an Int32Array", name);
  return {array.Data(), array.Data() + array.ElementLength()};
}

SharedFlag cancel_flag(const Napi::Value& value) {
  if (value.IsNull()) return std::make_shared<std::atomic<bool>>(false);
  if (!value.IsObject()) expected("what createCancelToken() returned or null", "cancel", value);
  return CancelToken::flag_of(value.As<Napi::Object>());
}

Fields::Fields(const Napi::Value& value, std::string name) : name_(std::move(name)) {
  if (!value.IsObject()) expected("an object", name_, value);
  object_ = value.As<Napi::Object>();
}

std::vector<uint8_t> Fields::bytes(const char* key) const { return to_bytes(get(key), path(key)); }

std::optional<Fields> Fields::fields_or_null(const char* key) const {
  const Napi::Value value = get(key);
  if (value.IsNull()) return std::nullopt;
  return Fields(value, path(key));
}

EngineSpec to_engine_spec(const Napi::Value& value) {
  const Fields o(value, "spec");
  const GemmBackend gemm = o.choice<GemmBackend>("gemm", {{"auto", GemmBackend::automatic},
                                                          {"native", GemmBackend::native},
                                                          {"onednn", GemmBackend::onednn},
                                                          {"cublaslt", GemmBackend::cublaslt}});
  const auto lora = o.fields_or_null("lora");
  const auto store = o.fields_or_null("featureStore");
  return {o.text("model"),
          to_device_spec(o, gemm, o.boolean("planOnly")),
          lora ? std::optional(to_lora(*lora)) : std::nullopt,
          o.get("adapter").IsNull() ? "" : o.text("adapter"),
          o.get("referenceAdapter").IsNull() ? "" : o.text("referenceAdapter"),
          o.boolean("checkpointing"),
          static_cast<size_t>(o.integer("referenceCacheBytes", 0)),
          store ? std::optional(ContentStoreSpec{store->text("folder"), store->text("key"),
                                                 static_cast<size_t>(store->integer("maxBytes", 0))})
                : std::nullopt};
}

std::optional<GroupSpec> to_group_spec(const Napi::Value& value) {
  const auto o = Fields(value, "spec").fields_or_null("group");
  if (!o) return std::nullopt;
  return GroupSpec{o->choice<Transport>("transport", {{"nccl", Transport::nccl}, {"mpi", Transport::mpi}}),
                   static_cast<int>(o->integer("rank", 0)), static_cast<int>(o->integer("size", 1)), o->text("id")};
}

MergeSpec to_merge_spec(const Napi::Value& value) {
  const Fields o(value, "spec");
  const auto to_rename = [&](const Napi::Value& v) {
    const std::vector<std::string> pair = to_strings(v, o.path("rename"));
    if (pair.size() != 2) expected("pairs of prefixes", o.path("rename"), v);
    return std::pair(pair[0], pair[1]);
  };
  return {o.text("model"), o.text("adapter"), o.text("output"), static_cast<size_t>(o.integer("shardBytes", 1)),
          to_vector(o.get("rename"), o.path("rename"), to_rename)};
}

OwnedImage to_image(const Napi::Value& value) {
  const Fields o(value, "image");
  OwnedImage image{o.text("id"), o.integer("width", 1), o.integer("height", 1), o.bytes("rgb"), nullptr};
  if (image.width > (1 << 20) || image.height > (1 << 20) ||
      static_cast<int64_t>(image.rgb.size()) != image.width * image.height * 3)
    throw Error(Code::invalid_argument, "image \"" + image.id + "\": " + std::to_string(image.rgb.size()) +
                                            " bytes are not " + std::to_string(image.width) + " x " +
                                            std::to_string(image.height) + " RGB pixels")
        .with("image", image.id);
  return image;
}

OwnedImage to_image_or_prepared(const Napi::Value& value) {
  if (const NamedImage* image = PreparedImageWrap::find(value)) return {image->id, 0, 0, {}, image->prepared};
  return to_image(value);
}

Pair to_pair(const Napi::Value& value) {
  const Fields o(value, "pair");
  return {o.text("id"),
          o.ids("prompt"),
          o.ids("chosen"),
          o.ids("rejected"),
          o.bytes("chosenMask"),
          o.bytes("rejectedMask"),
          o.texts("images"),
          o.get("corruptedImages").IsNull() ? std::vector<std::string>() : o.texts("corruptedImages"),
          o.number("weight"),
          o.number("rejectedScore")};
}

Objective to_objective(const Napi::Value& value) {
  const Fields o(value, "objective");
  Coefficients k;
  for (const CoefficientName& c : coefficient_names()) k.*c.value = o.number(c.name);
  k.kl_reduction = o.choice<KlReduction>("klReduction", {{"sum", KlReduction::sum}, {"mean", KlReduction::mean}});
  return Objective::make(
      {o.text("name"), k, o.choice<Scope>("scope", {{"phrase", Scope::phrase}, {"completion", Scope::completion}})});
}

StepOptions to_step_options(const Napi::Value& value) {
  const Fields o(value, "step");
  const StepOptions options{
      o.number("normalizer"),
      o.choice<Layout>("layout", {{"packed", Layout::packed}, {"pair", Layout::pair}, {"plain", Layout::plain}}),
      o.integer("chosenTokens"), o.boolean("last")};
  if (!(options.normalizer > 0)) expected("a number > 0", o.path("normalizer"), o.get("normalizer"));
  return options;
}

AdamWSpec to_adamw_spec(const Napi::Value& value) {
  const Fields o(value, "optimizer");
  return {o.number("lr"),  o.number("beta1"),       o.number("beta2"),
          o.number("eps"), o.number("weightDecay"), o.number("maxGradNorm")};
}

SequenceRef to_sequence(const Napi::Value& value) {
  const Fields o(value, "sequence");
  return {o.ids("ids"), o.texts("images")};
}

PromptRef to_prompt(const Napi::Value& value) {
  return {to_sequence(value), static_cast<uint64_t>(Fields(value, "prompt").integer("seed"))};
}

SamplingSpec to_sampling_spec(const Fields& o) {
  const auto to_token = [&](const Napi::Value& v) { return static_cast<int32_t>(to_integer(v, o.path("stopTokens"))); };
  const auto stop_strings = o.fields_or_null("stopStrings");
  return {o.integer("maxNewTokens"),
          {o.number("temperature"), o.number("topP"), o.integer("topK")},
          to_vector(o.get("stopTokens"), o.path("stopTokens"), to_token),
          stop_strings ? to_stop_strings(*stop_strings) : nullptr,
          o.integer("batchSize")};
}

VerifySpec to_verify_spec(const Napi::Value& value) {
  const Fields o(value, "spec");
  return {o.text("directory"), to_device_spec(o, GemmBackend::automatic, false)};
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
  o.Set("maxPackedBytes", static_cast<double>(info.max_packed_bytes));
  o.Set("weightDTypes",
        js_array(env, info.weight_dtypes, [&](const std::string& s) { return Napi::String::New(env, s); }));
  o.Set("lora", lora_to_js(env, engine.adapter()));
  return o;
}

Napi::Object generation(Napi::Env env, const Generation& result) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("tokens", int_array(env, result.tokens));
  o.Set("logprob", result.logprob);
  o.Set("finish", result.stopped ? "stop" : "length");
  return o;
}

Napi::Object step_stats(Napi::Env env, const StepStats& stats, const Objective& objective, double seconds) {
  Napi::Array pairs = Napi::Array::New(env, stats.pairs.size());
  for (size_t i = 0; i < stats.pairs.size(); ++i) {
    const PairStats& s = stats.pairs[i];
    Napi::Object o = Napi::Object::New(env);
    o.Set("loss", s.loss.loss);
    o.Set("weight", s.weight);
    o.Set("base", s.loss.base);
    o.Set("visual", s.loss.visual);
    o.Set("anchor", s.loss.anchor);
    o.Set("nll", s.loss.nll);
    o.Set("bco", s.loss.bco);
    o.Set("anchorVisual", s.loss.anchor_visual);
    o.Set("consistency", s.loss.consistency);
    o.Set("margin", s.loss.margin);
    o.Set("visualMargin", s.loss.visual_margin);
    o.Set("forwardKl", s.kl.forward);
    o.Set("reverseKl", s.kl.reverse);
    o.Set("rejectedForwardKl", s.rejected_kl.forward);
    o.Set("policy", logps(env, s.logps.policy, objective, s.has_corrupted));
    o.Set("reference", logps(env, s.logps.reference, objective, s.has_corrupted));
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
