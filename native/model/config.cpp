#include "model/config.h"

#include "model/config_reader.h"
#include "model/families.h"
#include "tensor/error.h"
#include "tensor/file.h"

namespace fire {
namespace {

using namespace config;

struct Family {
  const char* model_type;
  ModelConfig (*read)(const Json& config, const std::string& directory);
};

constexpr Family families[] = {
    {"qwen3_vl", read_qwen3_vl},
    {"qwen2_5_vl", read_qwen2_5_vl},
    {"llava_qwen2", read_llava_qwen2},
    {"llava", read_llava},
};

void refuse_quantized(const Json& config) {
  const Json* quantization = config.find("quantization_config");
  if (!quantization || quantization->type() != Json::Type::object || quantization->object().empty()) return;
  const Json* method = quantization->find("quant_method");
  const bool named = method && method->type() == Json::Type::string;
  throw Error(Code::unsupported, quantization->path() + " says that the weights are quantised" +
                                     (named ? " (" + method->string().substr(0, 40) + ")" : "") +
                                     "; this engine reads f32, bf16 and f16. Take the model that was not quantised, or "
                                     "save it dequantised");
}

}  // namespace

ModelConfig ModelConfig::load(const std::string& directory) {
  const Json file = Json::load(directory + "/config.json");
  refuse_quantized(file);
  const Json& type = file.at("model_type");
  std::string known;
  for (const Family& family : families) {
    if (type.string() == family.model_type) {
      ModelConfig config = family.read(file, directory);
      config.family = family.model_type;
      return config;
    }
    known += (known.empty() ? "" : ", ") + json_quote(family.model_type);
  }
  unsupported(type, json_quote(type.string()), known);
}

TextConfig read_decoder(const Json& json) {
  require_text(json, "hidden_act", "silu");
  require_number(json, "attention_dropout", 0);
  TextConfig c{};
  c.hidden_size = positive(json, "hidden_size");
  c.layers = positive(json, "num_hidden_layers", max_layers);
  c.heads = positive(json, "num_attention_heads");
  c.kv_heads = positive(json, "num_key_value_heads");
  c.head_dim = positive_or(json, "head_dim", c.hidden_size / c.heads);
  c.intermediate_size = positive(json, "intermediate_size");
  c.vocab_size = positive(json, "vocab_size", max_rows);
  c.rms_norm_eps = small_number(json.at("rms_norm_eps"));
  check(c.rms_norm_eps >= 0, json.at("rms_norm_eps").path(), "must not be negative");
  check(c.heads % c.kv_heads == 0, json.path(), "num_attention_heads must be a multiple of num_key_value_heads");
  check(c.head_dim > 0 && c.head_dim % 2 == 0, json.path(), "the width of a head must be even and positive");
  check(c.heads * c.head_dim <= max_width, json.path(), "the heads together are too wide");
  return c;
}

const Json* read_rope(const Json& json, TextConfig& config) {
  const Json* rope = json.find("rope_parameters");
  if (!rope || rope->is_null()) rope = json.find("rope_scaling");
  if (rope && rope->is_null()) rope = nullptr;
  const Json* theta = rope ? rope->find("rope_theta") : nullptr;
  config.rope_theta = (theta ? *theta : json.at("rope_theta")).number();
  check(config.rope_theta > 0, json.path(), "rope_theta must be positive");
  if (rope) {
    require_text(*rope, "rope_type", "default");
    const Json* type = rope->find("type");
    // Qwen2.5-VL's published files say "mrope" where transformers has come to say "default".
    if (type && type->string() != "mrope") require_text(*rope, "type", "default");
  }
  return rope;
}

const Json& read_mrope(const Json& json, Mrope kind, TextConfig& config) {
  const Json* rope = read_rope(json, config);
  if (!rope) throw Error(Code::checkpoint, json.path() + ": rope_scaling is missing (it holds mrope_section)");
  const Json& sections = rope->at("mrope_section");
  const auto& section = sections.array();
  check(section.size() == 3, sections.path(), "must have 3 entries");
  int64_t total = 0;
  for (size_t i = 0; i < 3; ++i) {
    total += config.mrope_section[i] = section[i].integer();
    check(config.mrope_section[i] >= 0, section[i].path(), "must not be negative");
  }
  check(total == config.head_dim / 2, sections.path(),
        "must sum to head_dim / 2 = " + std::to_string(config.head_dim / 2));
  config.mrope = kind;
  return *rope;
}

void require_axial_rope(const Json& vision) {
  const Json* rope = vision.find("rope_parameters");
  if (!rope || rope->is_null()) return;
  require_text(*rope, "rope_type", "axial");
  require_number(*rope, "rope_theta", 10000);
}

bool read_tie(const Json& config, const Json& text) {
  const Json* tie = config.find("tie_word_embeddings");
  if (!tie) tie = text.find("tie_word_embeddings");
  return tie && tie->boolean();
}

bool read_either_tie(const Json& config, const Json& text) {
  const Json* tie = text.find("tie_word_embeddings");
  return read_tie(config, text) || (tie && tie->boolean());
}

TextConfig read_qwen2_decoder(const Json& json) {
  TextConfig c = read_decoder(json);
  require_flag(json, "use_sliding_window", false);
  if (const Json* types = json.find("layer_types"))
    for (const Json& type : types->array())
      if (type.string() != "full_attention") unsupported(type, json_quote(type.string()), "\"full_attention\"");
  c.qkv_bias = true;
  return c;
}

Json read_preprocessor(const std::string& directory) {
  const std::string path = directory + "/preprocessor_config.json", newer = directory + "/processor_config.json";
  if (file_exists(path) || !file_exists(newer)) return Json::load(path);
  return Json::load(newer).at("image_processor");
}

std::vector<int64_t> read_eos(const std::string& directory, const Json& fallback) {
  const std::string path = directory + "/generation_config.json";
  const Json generation = file_exists(path) ? Json::load(path) : Json();
  const Json* eos = generation.is_null() ? nullptr : generation.find("eos_token_id");
  if (!eos) eos = fallback.find("eos_token_id");
  std::vector<int64_t> ids;
  if (eos && eos->type() == Json::Type::array) {
    for (const Json& id : eos->array()) ids.push_back(id.integer());
  } else if (eos && !eos->is_null()) {
    ids.push_back(eos->integer());
  }
  return ids;
}

int64_t read_token(const Json& config, const char* key, const TextConfig& text) {
  const Json& value = config.at(key);
  check(value.integer() >= 0 && value.integer() < text.vocab_size, value.path(), "is outside the vocabulary");
  return value.integer();
}

}  // namespace fire
