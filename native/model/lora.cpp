#include "model/lora.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tensor/json.h"
#include "tensor/rng.h"

namespace fire {
namespace {

using Places = std::vector<std::pair<int64_t, Proj>>;

Places all_places(const TextConfig& text, const std::vector<Proj>& targets) {
  Places places;
  for (int64_t layer = 0; layer < text.layers; ++layer)
    for (const Proj p : all_projs)
      if (std::find(targets.begin(), targets.end(), p) != targets.end()) places.emplace_back(layer, p);
  return places;
}

/// A, then B of each place, one behind the other.
std::vector<LoraModule> lay_out(const Places& places, int64_t rank, const TextConfig& text) {
  std::vector<LoraModule> modules;
  int64_t at = 0;
  for (const auto& [layer, proj] : places) {
    LoraModule m{layer, proj, at, 0, out_features(proj, text), in_features(proj, text)};
    m.b_begin = m.a_begin + rank * m.in;
    at = m.b_begin + rank * m.out;
    modules.push_back(m);
  }
  return modules;
}

/// "…layers.3.self_attn.q_proj.lora_A.weight" -> (3, q, 'A'); nullopt for anything else.
struct ParsedKey {
  int64_t layer;
  Proj proj;
  char which;
};

bool of_vision_tower(const std::string& key) {
  return key.find("visual") != std::string::npos || key.find("vision") != std::string::npos;
}

std::optional<ParsedKey> parse_key(const std::string& key, const TextConfig& text) {
  const size_t at = key.rfind("layers.");
  if (at == std::string::npos || of_vision_tower(key)) return std::nullopt;
  size_t dot = 0;
  int64_t layer = 0;
  try {
    layer = std::stoll(key.substr(at + 7), &dot);
  } catch (const std::exception&) {
    return std::nullopt;
  }
  if (layer < 0 || layer >= text.layers) return std::nullopt;
  const std::string rest = key.substr(at + 7 + dot);
  for (const Proj p : all_projs)
    for (const char which : {'A', 'B'})
      if (rest == "." + module_name(p) + ".lora_" + which + ".weight") return ParsedKey{layer, p, which};
  return std::nullopt;
}

/// What is wrong with a key that has no place in the adapter.
std::string describe_stranger(const std::string& key) {
  if (!of_vision_tower(key)) return "is not a LoRA matrix of the language model's attention or MLP linears";
  return "adapts the vision tower, which this engine keeps frozen. A plain list of target_modules matches the linears "
         "of "
         "the tower too; train with exclude_modules=\".*(vision|visual).*\"";
}

/// Settings of PEFT that would change the forward pass and that this engine does not implement.
void refuse_unsupported(const Json& config) {
  auto refuse = [](const Json& value, const std::string& why) {
    throw Error(Code::unsupported, value.path() + " " + why + "; this engine implements plain LoRA");
  };
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"})
    if (const Json* v = config.find(key); v && v->type() == Json::Type::boolean && v->boolean()) refuse(*v, "is true");
  for (const char* key : {"rank_pattern", "alpha_pattern"})
    if (const Json* v = config.find(key); v && !v->is_null() && !v->object().empty()) refuse(*v, "is not empty");
  for (const char* key :
       {"modules_to_save", "layer_replication", "trainable_token_indices", "target_parameters",
        "alora_invocation_tokens", "megatron_config", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config"})
    if (const Json* v = config.find(key); v && !v->is_null()) refuse(*v, "is set");
  // These leave the base weights as they are; the others (pissa, olora, corda, loftq, ...) belong to a changed base.
  if (const Json* v = config.find("init_lora_weights"); v && v->type() == Json::Type::string) {
    const std::set<std::string> plain{"gaussian", "eva", "orthogonal", "mica"};
    if (!plain.count(v->string())) refuse(*v, "is " + json_quote(v->string()));
  }
  if (const Json* v = config.find("bias"); v && v->string() != "none") refuse(*v, "is " + json_quote(v->string()));
  if (config.at("peft_type").string() != "LORA") refuse(config.at("peft_type"), "is not LORA");
}

/// The spec itself, once it is known to describe an adapter.
const LoraSpec& checked(const LoraSpec& spec) {
  if (spec.rank <= 0) throw Error(Code::invalid_argument, "lora.rank must be positive");
  if (spec.targets.empty()) throw Error(Code::invalid_argument, "lora.targets names no linear to adapt");
  if (!(spec.dropout >= 0 && spec.dropout < 1)) throw Error(Code::invalid_argument, "lora.dropout must lie in [0, 1)");
  return spec;
}

}  // namespace

double LoraSpec::scale() const {
  const double r = static_cast<double>(rank);
  return rslora ? alpha / std::sqrt(r) : alpha / r;
}

Adapter::Adapter(Ops& ops, const TextConfig& text, const LoraSpec& spec, std::vector<LoraModule> modules)
    : ops_(ops),
      spec_(spec),
      modules_(std::move(modules)),
      param_(ops, DType::f32, {modules_.back().b_begin + spec.rank * modules_.back().out}) {
  index_.assign(static_cast<size_t>(text.layers), {});
  for (auto& row : index_) row.fill(-1);
  for (size_t i = 0; i < modules_.size(); ++i)
    index_[static_cast<size_t>(modules_[i].layer)][static_cast<size_t>(modules_[i].proj)] = static_cast<int32_t>(i);
  ops_.zero(param());
}

Adapter::Adapter(Ops& ops, const TextConfig& text, const LoraSpec& spec)
    : Adapter(ops, text, checked(spec), lay_out(all_places(text, spec.targets), spec.rank, text)) {
  if (ops_.dry()) return;
  std::vector<float> host;
  for (size_t index = 0; index < modules_.size(); ++index) {
    const LoraModule& m = modules_[index];
    const float bound = 1.0f / std::sqrt(static_cast<float>(m.in));
    host.resize(static_cast<size_t>(spec.rank * m.in));
    for (size_t i = 0; i < host.size(); ++i) {
      const Philox4 bits =
          philox(spec.seed, {static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32),
                             static_cast<uint32_t>(RngStream::lora_init), static_cast<uint32_t>(index)});
      host[i] = (2.0f * uniform24(bits[0]) - 1.0f) * bound;
    }
    ops_.upload(host.data(), a_of(param(), m));  // B is zero already
  }
}

const LoraModule* Adapter::find(int64_t layer, Proj proj) const {
  const int32_t i = index_[static_cast<size_t>(layer)][static_cast<size_t>(proj)];
  return i < 0 ? nullptr : &modules_[static_cast<size_t>(i)];
}

Tensor Adapter::a_of(const Tensor& flat, const LoraModule& m) const {
  return flat.slice(m.a_begin, m.b_begin).reshape({spec_.rank, m.in});
}

Tensor Adapter::b_of(const Tensor& flat, const LoraModule& m) const {
  return flat.slice(m.b_begin, m.b_begin + spec_.rank * m.out).reshape({m.out, spec_.rank});
}

std::string Adapter::key(const LoraModule& m, char which) {
  return "base_model.model.model.language_model.layers." + std::to_string(m.layer) + "." + module_name(m.proj) +
         ".lora_" + which + ".weight";
}

std::unique_ptr<Adapter> Adapter::load(Ops& ops, const TextConfig& text, const std::string& directory) {
  const Json json = Json::load(directory + "/adapter_config.json");
  refuse_unsupported(json);
  const Json *dropout = json.find("lora_dropout"), *rslora = json.find("use_rslora");
  LoraSpec spec{json.at("r").integer(),
                json.at("lora_alpha").number(),
                dropout ? static_cast<float>(dropout->number()) : 0.0f,
                rslora && rslora->boolean(),
                {},
                0};  // the file has no seed
  if (spec.rank <= 0) throw Error(Code::checkpoint, json.at("r").path() + " must be positive");
  if (!(spec.dropout >= 0 && spec.dropout < 1)) throw Error(Code::checkpoint, dropout->path() + " must lie in [0, 1)");

  const SafeTensors file = SafeTensors::open_file(directory + "/adapter_model.safetensors");
  std::map<std::pair<int64_t, Proj>, std::array<const Tensor*, 2>> found;
  for (const auto& [name, tensor] : file.tensors()) {
    const auto key = parse_key(name, text);
    if (!key)
      throw Error(Code::checkpoint, file.origin() + ": \"" + name + "\" " + describe_stranger(name))
          .with("tensor", name);
    const Tensor*& slot = found[{key->layer, key->proj}][key->which == 'A' ? 0 : 1];
    if (slot) throw Error(Code::checkpoint, file.origin() + ": \"" + name + "\" gives a matrix a second time");
    slot = &tensor;
  }
  Places places;
  std::set<Proj> targets;
  for (const auto& [place, matrices] : found) {
    places.push_back(place);
    targets.insert(place.second);
  }
  if (places.empty()) throw Error(Code::checkpoint, file.origin() + " holds no LoRA matrices");
  spec.targets.assign(targets.begin(), targets.end());

  std::unique_ptr<Adapter> adapter(new Adapter(ops, text, spec, lay_out(places, spec.rank, text)));
  std::vector<float> host;
  for (const LoraModule& m : adapter->modules_) {
    for (const char which : {'A', 'B'}) {
      const Tensor* source = found[{m.layer, m.proj}][which == 'A' ? 0 : 1];
      const Tensor want = which == 'A' ? Tensor(nullptr, DType::f32, {spec.rank, m.in})
                                       : Tensor(nullptr, DType::f32, {m.out, spec.rank});
      if (!source) throw Error(Code::checkpoint, file.origin() + " lacks \"" + key(m, which) + "\"");
      if (source->rank() != 2 || source->dim(0) != want.dim(0) || source->dim(1) != want.dim(1) ||
          (source->dtype() != DType::f32 && source->dtype() != DType::bf16))
        throw Error(Code::checkpoint, file.origin() + ": \"" + key(m, which) + "\" is " + source->describe() +
                                          ", expected " + want.describe());
      if (ops.dry()) continue;
      host.resize(static_cast<size_t>(source->size()));
      for (int64_t i = 0; i < source->size(); ++i)
        host[static_cast<size_t>(i)] = source->dtype() == DType::f32 ? source->f32()[i] : to_float(source->b16()[i]);
      ops.upload(host.data(), which == 'A' ? adapter->a_of(adapter->param(), m) : adapter->b_of(adapter->param(), m));
    }
  }
  adapter->require_finite("in " + file.origin());
  return adapter;
}

void Adapter::require_finite(const std::string& when) const {
  if (std::isfinite(ops_.norm(param()))) return;
  for (const LoraModule& m : modules_)
    for (const char which : {'A', 'B'})
      if (!std::isfinite(ops_.norm(which == 'A' ? a_of(param(), m) : b_of(param(), m))))
        throw Error(Code::nonfinite, "the adapter's \"" + key(m, which) + "\" holds a value that is not finite " + when)
            .with("tensor", key(m, which));
}

void Adapter::save(const std::string& directory, const std::string& base_model) const {
  require_finite("and is not saved");
  make_directories(directory);
  std::vector<NamedTensor> tensors;
  for (const LoraModule& m : modules_) {
    tensors.push_back({key(m, 'A'), a_of(param(), m)});
    tensors.push_back({key(m, 'B'), b_of(param(), m)});
  }
  write_safetensors(directory + "/adapter_model.safetensors", tensors, {{"format", "pt"}},
                    [this](const Tensor& piece, void* host) { ops_.download(piece, host); });

  // A regular expression, because a plain suffix list would also hit vision towers with q_proj and the like. An adapter
  // of some layers only is spelled out: PEFT would give the others new matrices.
  const bool everywhere = modules_.size() == index_.size() * spec_.targets.size();
  std::string places;
  const auto add = [&](const std::string& place) {
    if (!places.empty()) places += "|";
    for (const char c : place) places += c == '.' ? "\\." : std::string(1, c);
  };
  if (everywhere) {
    for (const Proj p : spec_.targets) add(module_name(p));
  } else {
    for (const LoraModule& m : modules_) add(std::to_string(m.layer) + "." + module_name(m.proj));
  }
  const std::string targets =
      std::string(".*language_model\\.layers\\.") + (everywhere ? "\\d+\\." : "") + "(" + places + ")";
  char numbers[160];
  std::snprintf(numbers, sizeof numbers, "  \"r\": %lld,\n  \"lora_alpha\": %.17g,\n  \"lora_dropout\": %.9g,\n",
                static_cast<long long>(spec_.rank), spec_.alpha, static_cast<double>(spec_.dropout));
  const std::string json =
      "{\n  \"peft_type\": \"LORA\",\n  \"task_type\": \"CAUSAL_LM\",\n  \"base_model_name_or_path\": " +
      json_quote(base_model) + ",\n" + numbers + "  \"use_rslora\": " + (spec_.rslora ? "true" : "false") +
      ",\n  \"bias\": \"none\",\n  \"target_modules\": " + json_quote(targets) + ",\n  \"inference_mode\": true\n}\n";
  write_file(directory + "/adapter_config.json", {json});
}

}  // namespace fire
