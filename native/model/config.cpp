#include "model/config.h"

#include "tensor/error.h"
#include "tensor/file.h"

namespace fire {
namespace {

[[noreturn]] void unsupported(const Json& value, const std::string& have, const std::string& want) {
  throw Error(Code::unsupported, value.path() + " is " + have + "; this engine implements " + want);
}

void require_text(const Json& parent, const char* key, const std::string& want) {
  const Json* value = parent.find(key);
  if (value && value->string() != want) unsupported(*value, json_quote(value->string()), json_quote(want));
}

void require_flag(const Json& parent, const char* key, bool want) {
  const Json* value = parent.find(key);
  if (value && !value->is_null() && value->boolean() != want)
    unsupported(*value, value->boolean() ? "true" : "false", want ? "true" : "false");
}

void require_zero(const Json& parent, const char* key) {
  const Json* value = parent.find(key);
  if (value && value->number() != 0) unsupported(*value, std::to_string(value->number()), "0");
}

int64_t positive(const Json& parent, const char* key) {
  const Json& value = parent.at(key);
  const int64_t n = value.integer();
  if (n <= 0 || n > (int64_t{1} << 31))
    throw Error(Code::checkpoint, value.path() + " is " + std::to_string(n) + "; it must be positive");
  return n;
}

void check(bool ok, const std::string& where, const std::string& rule) {
  if (!ok) throw Error(Code::checkpoint, where + ": " + rule);
}

TextConfig parse_text(const Json& text) {
  require_text(text, "hidden_act", "silu");
  require_flag(text, "attention_bias", false);
  require_zero(text, "attention_dropout");
  TextConfig c{};
  c.hidden_size = positive(text, "hidden_size");
  c.layers = positive(text, "num_hidden_layers");
  c.heads = positive(text, "num_attention_heads");
  c.kv_heads = positive(text, "num_key_value_heads");
  c.head_dim = text.find("head_dim") ? positive(text, "head_dim") : c.hidden_size / c.heads;
  c.intermediate_size = positive(text, "intermediate_size");
  c.vocab_size = positive(text, "vocab_size");
  c.rms_norm_eps = static_cast<float>(text.at("rms_norm_eps").number());
  // transformers 4 writes rope_scaling beside rope_theta, transformers 5 rope_parameters with the theta inside.
  const Json* rope = text.find("rope_parameters");
  if (!rope) rope = &text.at("rope_scaling");
  c.rope_theta = (rope->find("rope_theta") ? rope->at("rope_theta") : text.at("rope_theta")).number();
  require_text(*rope, "rope_type", "default");
  require_text(*rope, "type", "default");
  require_flag(*rope, "mrope_interleaved", true);
  const auto& section = rope->at("mrope_section").array();
  check(section.size() == 3, rope->path() + ".mrope_section", "must have 3 entries");
  int64_t total = 0;
  for (size_t i = 0; i < 3; ++i) {
    total += c.mrope_section[i] = section[i].integer();
    check(c.mrope_section[i] >= 0, section[i].path(), "must not be negative");
  }
  check(c.head_dim % 2 == 0 && total == c.head_dim / 2, rope->path() + ".mrope_section",
        "must sum to head_dim / 2 = " + std::to_string(c.head_dim / 2));
  check(c.heads % c.kv_heads == 0, text.path(), "num_attention_heads must be a multiple of num_key_value_heads");
  check(c.rope_theta > 0, text.path(), "rope_theta must be positive");
  return c;
}

VisionConfig parse_vision(const Json& vision, const TextConfig& text) {
  require_text(vision, "hidden_act", "gelu_pytorch_tanh");
  VisionConfig c{};
  c.depth = positive(vision, "depth");
  c.hidden_size = positive(vision, "hidden_size");
  c.heads = positive(vision, "num_heads");
  c.intermediate_size = positive(vision, "intermediate_size");
  c.patch_size = positive(vision, "patch_size");
  c.temporal_patch_size = positive(vision, "temporal_patch_size");
  c.spatial_merge_size = positive(vision, "spatial_merge_size");
  c.in_channels = positive(vision, "in_channels");
  c.num_position_embeddings = positive(vision, "num_position_embeddings");
  c.out_hidden_size = positive(vision, "out_hidden_size");
  for (const Json& index : vision.at("deepstack_visual_indexes").array()) {
    c.deepstack_indexes.push_back(index.integer());
    check(index.integer() >= 0 && index.integer() < c.depth, index.path(), "is not a block of the vision tower");
  }
  check(c.deepstack_indexes.size() <= static_cast<size_t>(text.layers), vision.path() + ".deepstack_visual_indexes",
        "has more levels than the decoder has layers");
  check(c.in_channels == 3, vision.path() + ".in_channels", "must be 3 (RGB)");
  check(c.hidden_size % c.heads == 0 && c.head_dim() % 4 == 0, vision.path(),
        "hidden_size / num_heads must be a multiple of 4 (two rotary axes)");
  check(c.out_hidden_size == text.hidden_size, vision.path() + ".out_hidden_size",
        "must equal text_config.hidden_size");
  int64_t side = 0;
  while (side * side < c.num_position_embeddings) ++side;
  check(side * side == c.num_position_embeddings, vision.path() + ".num_position_embeddings", "must be a square");
  return c;
}

std::array<float, 3> three(const Json& value) {
  const auto& items = value.array();
  check(items.size() == 3, value.path(), "must have 3 entries");
  return {static_cast<float>(items[0].number()), static_cast<float>(items[1].number()),
          static_cast<float>(items[2].number())};
}

ImageConfig parse_image(const Json& file, const VisionConfig& vision) {
  ImageConfig c{};
  if (const Json* size = file.find("size")) {
    c.min_pixels = positive(*size, "shortest_edge");
    c.max_pixels = positive(*size, "longest_edge");
  } else {
    c.min_pixels = positive(file, "min_pixels");
    c.max_pixels = positive(file, "max_pixels");
  }
  check(c.min_pixels <= c.max_pixels, file.path(), "the smallest image area exceeds the largest");
  c.mean = three(file.at("image_mean"));
  c.std = three(file.at("image_std"));
  for (const float s : c.std) check(s > 0, file.path(), "image_std must be positive");
  const std::pair<const char*, int64_t> same[] = {{"patch_size", vision.patch_size},
                                                  {"temporal_patch_size", vision.temporal_patch_size},
                                                  {"merge_size", vision.spatial_merge_size}};
  for (const auto& [key, want] : same)
    if (const Json* value = file.find(key))
      check(value->integer() == want, value->path(), "differs from vision_config (" + std::to_string(want) + ")");
  require_flag(file, "do_rescale", true);
  require_flag(file, "do_normalize", true);
  require_flag(file, "do_resize", true);
  return c;
}

}  // namespace

ModelConfig ModelConfig::load(const std::string& directory) {
  const Json file = Json::load(directory + "/config.json");
  const std::string& family = file.at("model_type").string();
  if (family != "qwen3_vl") unsupported(file.at("model_type"), json_quote(family), "\"qwen3_vl\"");

  ModelConfig c{};
  const Json& text = file.at("text_config");
  c.text = parse_text(text);
  const Json* tie = file.find("tie_word_embeddings");
  if (!tie) tie = text.find("tie_word_embeddings");
  c.text.tie_word_embeddings = tie && tie->boolean();
  c.vision = parse_vision(file.at("vision_config"), c.text);
  c.image = parse_image(Json::load(directory + "/preprocessor_config.json"), c.vision);

  auto token = [&](const char* key) {
    const Json& value = file.at(key);
    check(value.integer() >= 0 && value.integer() < c.text.vocab_size, value.path(), "is outside the vocabulary");
    return value.integer();
  };
  c.image_token_id = token("image_token_id");
  c.vision_start_token_id = token("vision_start_token_id");
  c.vision_end_token_id = token("vision_end_token_id");

  const std::string generation_path = directory + "/generation_config.json";
  const Json generation = file_exists(generation_path) ? Json::load(generation_path) : Json();
  const Json* eos = generation.is_null() ? nullptr : generation.find("eos_token_id");
  if (!eos) eos = text.find("eos_token_id");
  if (eos && eos->type() == Json::Type::array) {
    for (const Json& id : eos->array()) c.eos_token_ids.push_back(id.integer());
  } else if (eos && !eos->is_null()) {
    c.eos_token_ids.push_back(eos->integer());
  }
  return c;
}

}  // namespace fire
