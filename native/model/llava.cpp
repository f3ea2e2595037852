// LLaVA with a Qwen2 decoder: CLIP, a two-layer projector, a decoder that sees an image as 576 ordinary tokens. The
// same model comes in two layouts: LlavaQwen2ForCausalLM, as HuatuoGPT-Vision is published, and transformers'
// LlavaForConditionalGeneration.
#include "model/clip.h"
#include "model/config_reader.h"
#include "model/families.h"
#include "tensor/error.h"
#include "tensor/file.h"

namespace fire {
namespace {

using namespace config;

/// The value that LLaVA's own code puts where an image goes; the vocabulary has no token for it.
constexpr int64_t image_sentinel = -200;

/// The folder of the tower's config inside the model folder. The published path is relative to it; a path of the
/// machine the model was trained on is taken by its last part.
std::string tower_folder(const Json& name, const std::string& directory) {
  const std::string& tower = name.string();
  const std::string last = tower.substr(tower.find_last_of('/') + 1);
  check(!last.empty() && last != "." && last != "..", name.path(), "names no folder: " + json_quote(tower));
  std::vector<std::string> candidates{directory + "/vit/" + last};
  if (!tower.starts_with('/') && tower.find("..") == std::string::npos)
    candidates.insert(candidates.begin(), directory + "/" + tower);
  for (const std::string& folder : candidates)
    if (file_exists(folder + "/config.json")) return folder;
  throw Error(Code::checkpoint,
              name.path() + " is " + json_quote(tower) + ", but there is no " + candidates.front() + "/config.json");
}

/// Of an image processor. Only LLaVA's own pads to a square; others take do_pad for padding to a common size.
bool pads_to_square(const Json& preprocessor) {
  const Json* pad = preprocessor.find("do_pad");
  if (!pad || pad->is_null() || !pad->boolean()) return false;
  const Json* type = preprocessor.find("image_processor_type");
  if (type && !type->string().starts_with("LlavaImageProcessor"))
    unsupported(*pad, "true for " + json_quote(type->string()), "it for \"LlavaImageProcessor\"");
  return true;
}

const Json& required(const Json& parent, const char* key, const std::string& want) {
  const Json& value = parent.at(key);
  if (value.string() != want) unsupported(value, json_quote(value.string()), json_quote(want));
  return value;
}

}  // namespace

ModelConfig read_llava_qwen2(const Json& config, const std::string& directory) {
  ModelConfig c{};
  c.text = read_qwen2_decoder(config);
  if (const Json* rope = read_rope(config, c.text)) require_unset(*rope, "mrope_section");
  c.text.tie_word_embeddings = read_tie(config, config);
  c.names = {{"model."}, {"lm_head.weight"}};

  required(config, "mm_projector_type", "mlp2x_gelu");
  required(config, "image_aspect_ratio", "pad");
  require_text(config, "mm_vision_select_feature", "patch");
  for (const char* key : {"mm_use_im_start_end", "mm_use_im_patch_token"}) require_flag(config, key, false);
  const std::string tower = tower_folder(config.at("mm_vision_tower"), directory);
  const Json vision_file = Json::load(tower + "/config.json");
  const Json* vision = vision_file.find("vision_config");
  ClipConfig clip =
      ClipConfig::read(vision ? *vision : vision_file, config.at("mm_vision_select_layer"), c.text.hidden_size);
  check(positive(config, "mm_hidden_size") == clip.hidden_size, config.at("mm_hidden_size").path(),
        "differs from the tower's hidden_size, " + std::to_string(clip.hidden_size));
  clip.image = ClipImage::read(Json::load(tower + "/preprocessor_config.json"), clip.image_size, true);
  c.vision = make_clip_spec(
      clip, {{"model.vision_tower.vision_tower.vision_model."}, {{"model.mm_projector.0", "model.mm_projector.2"}}});
  c.image_token_id = image_sentinel;
  c.eos_token_ids = read_eos(directory, config);
  return c;
}

ModelConfig read_llava(const Json& config, const std::string& directory) {
  ModelConfig c{};
  const Json& text = config.at("text_config");
  required(text, "model_type", "qwen2");
  c.text = read_qwen2_decoder(text);
  if (const Json* rope = read_rope(text, c.text)) require_unset(*rope, "mrope_section");
  c.text.tie_word_embeddings = read_either_tie(config, text);
  // transformers writes the older names; its modules have the newer ones.
  c.names = {{"language_model.model.", "model.language_model."}, {"language_model.lm_head.weight", "lm_head.weight"}};

  require_text(config, "projector_hidden_act", "gelu");
  require_flag(config, "multimodal_projector_bias", true);
  require_text(config, "vision_feature_select_strategy", "default");
  const Json& vision = config.at("vision_config");
  ClipConfig clip = ClipConfig::read(vision, config.at("vision_feature_layer"), c.text.hidden_size);
  const Json preprocessor = read_preprocessor(directory);
  clip.image = ClipImage::read(preprocessor, clip.image_size, pads_to_square(preprocessor));
  c.vision = make_clip_spec(
      clip, {{"vision_tower.vision_model.", "vision_tower.", "model.vision_tower.", "model.vision_tower.vision_model."},
             {{"multi_modal_projector.linear_1", "multi_modal_projector.linear_2"},
              {"model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"}}});
  c.image_token_id = read_token(config, config.find("image_token_id") ? "image_token_id" : "image_token_index", c.text);
  c.eos_token_ids = read_eos(directory, text);
  return c;
}

}  // namespace fire
