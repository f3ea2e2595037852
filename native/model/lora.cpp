#include "model/lora.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <span>

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

/// "…layers.3.self_attn.q_proj.lora_A.weight" -> (3, q, 'A'); nullopt for anything else. PEFT leaves the adapter's name
/// out of the files it saves; what others save has it ("….lora_A.default.weight").
struct ParsedKey {
  int64_t layer;
  Proj proj;
  char which;
  std::string_view adapter;
};

bool of_vision_tower(const std::string& key) {
  return key.find("visual") != std::string::npos || key.find("vision") != std::string::npos;
}

std::optional<ParsedKey> parse_key(const std::string& key) {
  const std::string_view text = key, marker = "layers.", ending = ".weight";
  const size_t at = text.rfind(marker);
  if (at == std::string::npos || of_vision_tower(key) || !text.ends_with(ending)) return std::nullopt;
  ParsedKey parsed{};
  const char *first = text.data() + at + marker.size(), *last = text.data() + text.size() - ending.size();
  const auto [end, error] = std::from_chars(first, last, parsed.layer);
  if (error != std::errc() || parsed.layer < 0) return std::nullopt;
  const std::string_view rest(end, static_cast<size_t>(last - end));
  for (const Proj p : all_projs)
    for (const char which : {'A', 'B'}) {
      const std::string matrix = "." + module_name(p) + ".lora_" + which;
      if (!rest.starts_with(matrix)) continue;
      parsed.proj = p;
      parsed.which = which;
      parsed.adapter = rest.substr(matrix.size());
      if (parsed.adapter.empty()) return parsed;
      parsed.adapter.remove_prefix(1);
      if (rest[matrix.size()] == '.' && !parsed.adapter.empty() && parsed.adapter.find('.') == std::string::npos)
        return parsed;
    }
  return std::nullopt;
}

/// What is wrong with a key that has no place in the adapter.
std::string describe_stranger(const std::string& key) {
  if (!of_vision_tower(key)) return "is not a LoRA matrix of the language model's attention or MLP linears";
  return "adapts the vision tower, which this engine keeps frozen. A plain list of target_modules matches the linears "
         "of "
         "the tower too; train with exclude_modules=\".*(vision|visual).*\"";
}

/// Null, and what is as good as null: PEFT and others write empty lists for settings that are not used.
bool is_set(const Json* value) {
  if (!value || value->is_null()) return false;
  if (value->type() == Json::Type::array) return !value->array().empty();
  if (value->type() == Json::Type::object) return !value->object().empty();
  if (value->type() == Json::Type::string) return !value->string().empty();
  return true;
}

/// Whether the configuration adapts all layers alike. Where it does not, a file may hold some layers only.
bool adapts_every_layer(const Json& config) {
  const Json* targets = config.find("target_modules");
  if (!is_set(targets) || is_set(config.find("layers_to_transform"))) return false;
  if (targets->type() == Json::Type::string)
    return targets->string() == "all-linear" || targets->string().find("layers\\.\\d+\\.") != std::string::npos;
  const auto& names = targets->array();
  return std::none_of(names.begin(), names.end(),
                      [](const Json& name) { return name.string().find("layers.") != std::string::npos; });
}

/// Settings of PEFT that would change the forward pass and that this engine does not implement.
void refuse_unsupported(const Json& config) {
  auto refuse = [](const Json& value, const std::string& why) {
    throw Error(Code::unsupported, value.path() + " " + why + "; this engine implements plain LoRA");
  };
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"})
    if (const Json* v = config.find(key); v && v->type() == Json::Type::boolean && v->boolean()) refuse(*v, "is true");
  for (const char* key : {"rank_pattern", "alpha_pattern"})
    if (const Json* v = config.find(key); is_set(v)) refuse(*v, "is not empty");
  for (const char* key :
       {"modules_to_save", "layer_replication", "trainable_token_indices", "target_parameters",
        "alora_invocation_tokens", "megatron_config", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config"})
    if (const Json* v = config.find(key); is_set(v) && !(v->type() == Json::Type::boolean && !v->boolean()))
      refuse(*v, "is set");
  // These leave the base weights as they are; the others (pissa, olora, corda, loftq, ...) belong to a changed base.
  if (const Json* v = config.find("init_lora_weights"); v && v->type() == Json::Type::string) {
    const std::set<std::string> plain{"gaussian", "eva", "orthogonal", "mica"};
    if (!plain.count(v->string())) refuse(*v, "is " + json_quote(v->string()));
  }
  if (const Json* v = config.find("bias"); is_set(v) && v->string() != "none")
    refuse(*v, "is " + json_quote(v->string()));
  if (config.at("peft_type").string() != "LORA") refuse(config.at("peft_type"), "is not LORA");
}

/// The spec itself, once it is known to describe an adapter of this decoder.
const LoraSpec& checked(const LoraSpec& spec, const TextConfig& text) {
  if (spec.targets.empty()) throw Error(Code::invalid_argument, "lora.targets names no linear to adapt");
  // Small models are trained with the ranks of large ones, which is no mistake.
  int64_t most = 1024;
  for (const Proj p : spec.targets) most = std::max(most, std::min(in_features(p, text), out_features(p, text)));
  if (spec.rank <= 0 || spec.rank > most)
    throw Error(Code::invalid_argument, "lora.rank is " + std::to_string(spec.rank) + "; it must lie between 1 and " +
                                            std::to_string(most) + " for this model");
  if (!std::isfinite(spec.alpha)) throw Error(Code::invalid_argument, "lora.alpha must be a finite number");
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
      parameters_(ops, modules_.back().b_begin + spec.rank * modules_.back().out) {
  index_.assign(static_cast<size_t>(text.layers), {});
  for (auto& row : index_) row.fill(-1);
  for (size_t i = 0; i < modules_.size(); ++i)
    index_[static_cast<size_t>(modules_[i].layer)][static_cast<size_t>(modules_[i].proj)] = static_cast<int32_t>(i);
}

Adapter::Adapter(Ops& ops, const TextConfig& text, const LoraSpec& spec)
    : Adapter(ops, text, spec, lay_out(all_places(text, checked(spec, text).targets), spec.rank, text)) {
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
    parameters_.assign(m.a_begin, spec.rank * m.in, host.data());  // B is zero already
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
                is_set(dropout) ? static_cast<float>(dropout->number()) : 0.0f,
                is_set(rslora) && rslora->boolean(),
                {},
                0};  // the file has no seed
  if (spec.rank <= 0) throw Error(Code::checkpoint, json.at("r").path() + " must be positive");
  if (!(spec.dropout >= 0 && spec.dropout < 1)) throw Error(Code::checkpoint, dropout->path() + " must lie in [0, 1)");

  const SafeTensors file = SafeTensors::open_file(directory + "/adapter_model.safetensors");
  return file.reading([&] { return read(ops, text, json, spec, file); });
}

std::unique_ptr<Adapter> Adapter::read(Ops& ops, const TextConfig& text, const Json& config, LoraSpec spec,
                                       const SafeTensors& file) {
  const auto bad = [&](const std::string& name, const std::string& why) {
    return Error(Code::checkpoint, file.origin() + ": \"" + name + "\" " + why).with("tensor", name);
  };
  std::map<std::pair<int64_t, Proj>, std::array<const Tensor*, 2>> found;
  std::optional<std::string> adapter_name;
  for (const auto& [name, tensor] : file.tensors()) {
    const auto key = parse_key(name);
    if (!key) throw bad(name, describe_stranger(name));
    if (key->layer >= text.layers)
      throw bad(name, "adapts layer " + std::to_string(key->layer) + ", the model has " + std::to_string(text.layers) +
                          ": the adapter belongs to a deeper model");
    if (!adapter_name) adapter_name = key->adapter;
    if (*adapter_name != key->adapter)
      throw bad(name, "is of an adapter \"" + std::string(key->adapter) + "\", others are of \"" + *adapter_name +
                          "\"; save each adapter to a folder of its own");
    const Tensor*& slot = found[{key->layer, key->proj}][key->which == 'A' ? 0 : 1];
    if (slot) throw bad(name, "gives a matrix a second time");
    slot = &tensor;
  }
  if (found.empty()) throw Error(Code::checkpoint, file.origin() + " holds no LoRA matrices");
  const int64_t deepest = found.rbegin()->first.first;
  if (deepest + 1 < text.layers && adapts_every_layer(config))
    throw Error(Code::checkpoint, file.origin() + " ends with layer " + std::to_string(deepest) + ", the model has " +
                                      std::to_string(text.layers) +
                                      " layers: the adapter belongs to another model (or its adapter_config.json lacks "
                                      "layers_to_transform)");
  Places places;
  std::set<Proj> targets;
  for (const auto& [place, matrices] : found) {
    const auto& [layer, proj] = place;
    places.push_back(place);
    targets.insert(proj);
    // All shapes are known before anything of their size is allocated.
    for (const char which : {'A', 'B'}) {
      const std::string name = key({layer, proj, 0, 0, 0, 0}, which);
      const Tensor* source = matrices[which == 'A' ? 0 : 1];
      if (!source) throw Error(Code::checkpoint, file.origin() + " lacks \"" + name + "\"");
      const Tensor want = which == 'A' ? Tensor(nullptr, DType::f32, {spec.rank, in_features(proj, text)})
                                       : Tensor(nullptr, DType::f32, {out_features(proj, text), spec.rank});
      if (!is_weight(source->dtype()) || source->rank() != 2 || source->dim(0) != want.dim(0) ||
          source->dim(1) != want.dim(1)) {
        const bool wide = source->rank() == 2 && is_weight(source->dtype()) &&
                          source->dim(which == 'A' ? 1 : 0) != want.dim(which == 'A' ? 1 : 0);
        throw bad(name, "is " + source->describe() + ", expected " + want.describe() +
                            (wide ? ": the adapter belongs to a model of another width" : ""));
      }
    }
  }
  spec.targets.assign(targets.begin(), targets.end());

  std::unique_ptr<Adapter> adapter(new Adapter(ops, text, spec, lay_out(places, spec.rank, text)));
  if (ops.dry()) return adapter;
  for (const LoraModule& m : adapter->modules_) {
    const auto& [a, b] = found[{m.layer, m.proj}];
    adapter->parameters_.assign(m.a_begin, a->size(), widen(*a).data());
    adapter->parameters_.assign(m.b_begin, b->size(), widen(*b).data());
  }
  adapter->require_finite("in " + file.origin());
  return adapter;
}

Sha256::Digest Adapter::content() const {
  Sha256 sha;
  const auto add = [&](const auto& values) { sha.add(std::as_bytes(std::span(values))); };
  add(std::array{spec_.scale()});
  for (const LoraModule& m : modules_) add(std::array{m.layer, static_cast<int64_t>(m.proj), m.a_begin, m.b_begin});
  std::vector<float> numbers(static_cast<size_t>(param().size()));
  ops_.download(param(), numbers.data());
  add(numbers);
  return sha.digest();
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
