// LLaVA's two layouts: config.json and its companions as published, what must be refused by name, and weights that do
// not fit them.
#include "checkpoint_folder.h"
#include "model/vision.h"

using namespace fire;
using namespace fire::test;

namespace {

const char* const tower = "vit/clip_tiny/config.json";
const char* const tower_images = "vit/clip_tiny/preprocessor_config.json";
const char* const images = "preprocessor_config.json";

CheckpointFolder published() { return {"llava_qwen2", {"config.json", tower, tower_images}}; }
CheckpointFolder transformers() { return {"llava", {"config.json", images, "generation_config.json"}}; }

struct Change {
  std::string file, from, to;
  std::vector<std::string> words;
};

void refused(CheckpointFolder (*folder)(), Code code, const std::vector<Change>& changes) {
  for (const Change& change : changes)
    for (const std::string& word : change.words)
      CHECK_ERROR(code, (word), folder().replace(change.file, change.from, change.to).load());
}

}  // namespace

TEST("llava config: as published") {
  const ModelConfig c = published().load();
  CHECK(c.family == "llava_qwen2" && c.image_token_id == -200 && (c.eos_token_ids == std::vector<int64_t>{504}));
  CHECK(c.text.qkv_bias && !c.text.head_norm && c.text.mrope == Mrope::none && !c.text.tie_word_embeddings);
  CHECK(c.text.rope_theta == 1e6 && c.text.head_dim == 16 && c.vision->deepstack_levels() == 0);
  // whatever the image, it is padded to a square of 4 x 4 patches
  CHECK(c.vision->token_grid({1, 1}).tokens() == 16 && c.vision->token_grid({10, 3000}).h == 4);
}

TEST("llava config: as transformers saves it") {
  const ModelConfig c = transformers().load();
  CHECK(c.family == "llava" && c.image_token_id == 321 && (c.eos_token_ids == std::vector<int64_t>{325}));
  CHECK(c.text.qkv_bias && c.text.mrope == Mrope::none && c.text.tie_word_embeddings && c.text.heads == 6);
  CHECK(c.vision->token_grid({100, 20}).tokens() == 9);
}

TEST("llava config: what the tower is shown, and where the image lies in it") {
  const std::vector<uint8_t> white(100 * 20 * 3, 255);
  // padded to 100 x 100, which becomes 56 x 56
  const View padded = published().load().vision->view({20, 100, white.data()}, one_by_one);
  CHECK(padded.size == (Size{56, 56}) && padded.pixels.size() == 3 * 56 * 56);
  CHECK(padded.scale_x == 0.56 && padded.scale_y == 0.56 && padded.left == 0 && padded.top == 40 * 0.56);
  // resized to 250 x 50, of which the middle 42 x 42 are shown
  const View cropped = transformers().load().vision->view({20, 100, white.data()}, one_by_one);
  CHECK(cropped.size == (Size{42, 42}) && cropped.pixels == std::vector<uint8_t>(3 * 42 * 42, 255));
  CHECK(cropped.scale_x == 2.5 && cropped.scale_y == 2.5 && cropped.left == -104 && cropped.top == -4);
}

TEST("llava config: other spellings that mean the same") {
  CHECK(transformers().replace("image_token_index", "image_token_id").load().image_token_id == 321);
  CHECK(transformers().replace("\"vision_feature_layer\": -1", "\"vision_feature_layer\": 3").load().vision != nullptr);
  // a tie of the decoder alone is one, as transformers has it
  CHECK(transformers()
            .replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false")
            .replace("\"model_type\": \"qwen2\"", "\"model_type\": \"qwen2\", \"tie_word_embeddings\": true")
            .load()
            .text.tie_word_embeddings);
  CHECK(!transformers()
             .replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false")
             .load()
             .text.tie_word_embeddings);
  // sizes as numbers, and a processor inside the processor's file
  CHECK(transformers().replace(images, "{\n    \"shortest_edge\": 50\n  }", "50").load().vision != nullptr);
  const std::string square = "{\n    \"height\": 56,\n    \"width\": 56\n  }";
  CHECK(published().replace(tower_images, square, "56").load().vision != nullptr);
  CHECK(published().replace(tower_images, "{\n    \"shortest_edge\": 56\n  }", square).load().vision != nullptr);
  // a tower's path of the machine it was trained on, and a tower's config without the text half around it
  CHECK(published().replace("\"vit/clip_tiny\"", "\"/home/someone/clip_tiny\"").load().vision != nullptr);
  CHECK(published().replace("\"vit/clip_tiny\"", "\"../elsewhere/clip_tiny\"").load().vision != nullptr);
}

TEST("llava config: what the engine does not implement is refused by name") {
  const std::string config = "config.json";
  refused(published, Code::unsupported,
          {{config, "\"mlp2x_gelu\"", "\"linear\"", {"mm_projector_type", "linear", "mlp2x_gelu"}},
           {config, "\"image_aspect_ratio\": \"pad\"", "\"image_aspect_ratio\": \"anyres\"", {"image_aspect_ratio"}},
           {config,
            "\"mm_vision_select_feature\": \"patch\"",
            "\"mm_vision_select_feature\": \"cls_patch\"",
            {"mm_vision_select_feature", "cls_patch"}},
           {config,
            "\"mm_vision_select_layer\": -2",
            "\"mm_vision_select_layer\": [-2, -5]",
            {"mm_vision_select_layer", "a list"}},
           {config, "\"use_mm_proj\": true", "\"mm_use_im_start_end\": true", {"mm_use_im_start_end"}},
           {config, "\"use_mm_proj\": true", "\"mm_use_im_patch_token\": true", {"mm_use_im_patch_token"}},
           {config, "\"use_sliding_window\": false", "\"use_sliding_window\": true", {"use_sliding_window"}},
           {config,
            "\"use_cache\": true",
            "\"layer_types\": [\"full_attention\", \"sliding_attention\"]",
            {"layer_types[1]", "sliding_attention"}},
           {config, "\"use_cache\": true", "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}", {"yarn"}},
           {config, "\"use_cache\": true", "\"rope_scaling\": {\"rope_type\": \"linear\"}", {"linear"}},
           {config, "\"use_cache\": true", "\"rope_scaling\": {\"mrope_section\": [2, 3, 3]}", {"mrope_section"}},
           {config, "\"silu\"", "\"gelu\"", {"hidden_act"}},
           {tower, "\"quick_gelu\"", "\"gelu\"", {tower, "hidden_act"}},
           {tower, "clip_vision_model", "siglip_vision_model", {tower, "siglip_vision_model"}},
           {tower, "\"num_channels\": 3", "\"num_channels\": 1", {tower, "num_channels"}},
           {tower_images, "\"resample\": 3", "\"resample\": 2", {tower_images, "resample"}},
           {tower_images, "\"rescale_factor\": 0.00392156862745098", "\"rescale_factor\": 1", {"rescale_factor"}},
           {tower_images, "\"do_center_crop\": true", "\"do_center_crop\": false", {"do_center_crop"}}});
  refused(
      transformers, Code::unsupported,
      {{config, "\"projector_hidden_act\": \"gelu\"", "\"projector_hidden_act\": \"relu\"", {"projector_hidden_act"}},
       {config,
        "\"multimodal_projector_bias\": true",
        "\"multimodal_projector_bias\": false",
        {"multimodal_projector_bias"}},
       {config,
        "\"vision_feature_select_strategy\": \"default\"",
        "\"vision_feature_select_strategy\": \"full\"",
        {"vision_feature_select_strategy", "full"}},
       {config, "\"vision_feature_layer\": -1", "\"vision_feature_layer\": [-1, 2]", {"vision_feature_layer"}},
       {config, "\"model_type\": \"qwen2\"", "\"model_type\": \"llama\"", {"text_config.model_type", "llama"}},
       {config, "\"rope_type\": \"default\"", "\"rope_type\": \"llama3\"", {"rope_type", "llama3"}},
       {images,
        "\"do_pad\": false,\n  \"image_processor_type\": \"LlavaImageProcessor\"",
        "\"do_pad\": true, \"image_processor_type\": \"CLIPImageProcessor\"",
        {"do_pad", "CLIPImageProcessor"}},
       {images, "\"shortest_edge\": 50", "\"height\": 50, \"width\": 50", {images, "shortest_edge"}}});
}

TEST("llava config: missing keys and impossible values are named") {
  const std::string config = "config.json";
  for (const char* key : {"mm_projector_type", "image_aspect_ratio", "mm_vision_tower", "mm_vision_select_layer",
                          "mm_hidden_size", "rope_theta", "hidden_size", "rms_norm_eps"})
    CHECK_ERROR(Code::checkpoint, (config, key),
                published().replace("\"" + std::string(key) + "\"", "\"x_" + std::string(key) + "\"").load());
  for (const char* key : {"image_token_index", "vision_feature_layer", "vision_config", "text_config", "patch_size"})
    CHECK_ERROR(Code::checkpoint, (config, key[0] == 'i' ? "image_token" : key),
                transformers().replace("\"" + std::string(key) + "\"", "\"x_" + std::string(key) + "\"").load());
  refused(published, Code::checkpoint,
          {{config, "\"mm_hidden_size\": 48", "\"mm_hidden_size\": 64", {"mm_hidden_size", "48"}},
           {config, "\"mm_vision_select_layer\": -2", "\"mm_vision_select_layer\": -6", {"mm_vision_select_layer"}},
           {config, "\"mm_vision_select_layer\": -2", "\"mm_vision_select_layer\": 5", {"mm_vision_select_layer"}},
           {config,
            "\"mm_vision_select_layer\": -2",
            "\"mm_vision_select_layer\": -9007199254740992",
            {"mm_vision_select_layer"}},
           {tower, "\"patch_size\": 14", "\"patch_size\": 15", {tower, "patch_size"}},
           {tower, "\"num_attention_heads\": 3", "\"num_attention_heads\": 5", {tower, "num_attention_heads"}},
           {tower_images, "\"height\": 56", "\"height\": 42", {tower_images, "crop_size", "square"}},
           {tower_images, "\"shortest_edge\": 56", "\"shortest_edge\": 55", {tower_images, "crop_size"}},
           {tower_images, "0.26862954", "0", {tower_images, "image_std"}},
           {tower_images, "0.48145466", "1.5", {tower_images, "image_mean"}}});
  refused(transformers, Code::checkpoint,
          {{images, "\"height\": 42,\n    \"width\": 42", "\"height\": 50, \"width\": 50", {images, "image_size, 42"}},
           {config, "\"image_token_index\": 321", "\"image_token_index\": 333", {"image_token_index", "vocabulary"}},
           {config, "\"image_token_index\": 321", "\"image_token_index\": -200", {"image_token_index"}}});
}

TEST("llava config: a tower outside the folder is not looked for") {
  // Each of these files exists; none of them may be read.
  TempDir outer;
  const std::string inside = outer / "model", outside = outer / "other";
  std::filesystem::copy(golden_directory("llava_qwen2"), inside, std::filesystem::copy_options::recursive);
  std::filesystem::rename(inside + "/vit/clip_tiny", outside);
  const std::string text = read_file(inside + "/config.json", 1 << 20);
  for (const std::string& name : {std::string("../other"), outside, std::string("vit/../../other"), std::string(".."),
                                  std::string("vit/.."), std::string()}) {
    write_file(inside + "/config.json", {replaced(text, "\"vit/clip_tiny\"", json_quote(name))});
    CHECK_ERROR(Code::checkpoint, ("mm_vision_tower"), ModelConfig::load(inside));
  }
}

TEST("llava weights: a tensor that is missing, left over or of another shape is named") {
  for (const auto& [golden, names] : std::map<std::string, std::vector<std::string>>{
           {"llava_qwen2",
            {"model.mm_projector.2.bias", "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding",
             "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias", "model.layers.1.self_attn.q_proj.bias",
             "model.embed_tokens.weight", "lm_head.weight"}},
           {"llava",
            {"multi_modal_projector.linear_1.weight", "vision_tower.encoder.layers.2.mlp.fc2.bias",
             "language_model.model.layers.0.self_attn.v_proj.bias", "vision_tower.post_layernorm.weight"}}}) {
    CHECK(load_weights(golden, [](auto&) {}) > 0);
    for (const std::string& name : names)
      CHECK_ERROR(Code::checkpoint, (name), load_weights(golden, [&](auto& tensors) { drop(tensors, name); }));
  }
  // another model's tensor under a name that is not used, and two that changed places
  CHECK_ERROR(Code::checkpoint, ("model.layers.1.self_attn.q_norm.weight"), load_weights("llava_qwen2", [](auto& t) {
                t.push_back({"model.layers.1.self_attn.q_norm.weight", named(t, "model.norm.weight")});
              }));
  const std::string gate = "language_model.model.layers.1.mlp.gate_proj.weight",
                    down = "language_model.model.layers.1.mlp.down_proj.weight";
  CHECK_ERROR(Code::checkpoint, ("gate_proj.weight", "[72, 104]", "[104, 72]"),
              load_weights("llava", [&](auto& t) { std::swap(named(t, gate), named(t, down)); }));
}

TEST("llava weights: a shard that is cut, of another type, or not there is named") {
  const std::string shard = "model-00002-of-00002.safetensors";
  const auto broken = [&](Code code, const std::string& word, const std::function<std::string(std::string)>& change) {
    TempDir dir;
    std::filesystem::copy(golden_directory("llava"), dir.path(), std::filesystem::copy_options::recursive);
    const std::string changed = change(read_file(dir / shard, 1 << 22));
    std::filesystem::remove(dir / shard);
    if (!changed.empty()) write_file(dir / shard, {changed});
    EngineSpec spec = engine_spec(dir.path());
    spec.adapter = "";
    CHECK_ERROR(code, (shard, word), Engine{spec});
  };
  broken(Code::checkpoint, "", [](std::string bytes) { return bytes.substr(0, bytes.size() - 1); });
  broken(Code::checkpoint, "", [](std::string bytes) { return bytes.substr(0, 5); });
  broken(Code::unsupported, "\"I16\"", [](std::string bytes) { return replaced(bytes, "\"BF16\"", "\"I16\" "); });
  broken(Code::checkpoint, "", [](const std::string&) { return std::string(); });
}
