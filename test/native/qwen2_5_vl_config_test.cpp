// Qwen2.5-VL: config.json with the decoder at the top, as published, and under text_config, as transformers 5 saves it.
#include "checkpoint_folder.h"
#include "model/vision.h"

using namespace fire;
using namespace fire::test;

namespace {

CheckpointFolder published() {
  return {"qwen2_5_vl", {"config.json", "preprocessor_config.json", "generation_config.json"}};
}

/// The same file with the keys of the decoder one level down and the spellings of transformers 5.
CheckpointFolder nested() {
  return published()
      .replace("\"attention_dropout\": 0.0", "\"text_config\": {\n  \"attention_dropout\": 0.0")
      .replace("\"rope_theta\": 1000000.0,\n  \"rope_scaling\": {\n    \"type\": \"mrope\"",
               "\"layer_types\": [\"full_attention\"], \"rope_parameters\": {\n    \"rope_theta\": 1000000.0, "
               "\"rope_type\": \"default\", \"type\": \"mrope\"")
      .replace("\"sliding_window\": 4096,", "\"sliding_window\": null },")
      .replace("\"in_chans\": 3",
               "\"in_channels\": 3, \"rope_parameters\": {\"rope_theta\": 10000.0, \"rope_type\": \"axial\"}");
}

void check_same(const ModelConfig& c) {
  CHECK(c.family == "qwen2_5_vl" && c.image_token_id == 321 && (c.eos_token_ids == std::vector<int64_t>{325, 326}));
  CHECK(c.text.hidden_size == 56 && c.text.layers == 3 && c.text.heads == 4 && c.text.kv_heads == 2 &&
        c.text.head_dim == 14 && c.text.vocab_size == 333);
  CHECK(c.text.qkv_bias && !c.text.head_norm && !c.text.tie_word_embeddings && c.text.rope_theta == 1e6);
  CHECK(c.text.mrope == Mrope::sections && (c.text.mrope_section == std::array<int64_t, 3>{1, 3, 3}));
  CHECK(c.vision->deepstack_levels() == 0 && c.vision->token_grid({84, 90}).tokens() == 9);
}

}  // namespace

TEST("qwen2.5-vl config: published and nested files say the same") {
  check_same(published().load());
  check_same(nested().load());
}

TEST("qwen2.5-vl config: areas of images that are stated twice") {
  // as in transformers the older keys win, each for itself
  const std::string images = "preprocessor_config.json",
                    both = "\"size\": {\"shortest_edge\": 1, \"longest_edge\": 784}";
  CHECK(
      published().replace(images, "\"merge_size\"", both + ", \"merge_size\"").load().vision->token_grid({84, 90}).h ==
      3);
  CHECK(published().replace(images, "\"max_pixels\": 25088", both).load().vision->token_grid({84, 90}).tokens() == 1);
}

TEST("qwen2.5-vl config: what the engine does not implement is refused by name") {
  for (CheckpointFolder (*folder)() : {published, nested}) {
    const auto refused = [&](const std::string& from, const std::string& to, const std::string& word) {
      CHECK_ERROR(Code::unsupported, ("config.json", word), folder().replace(from, to).load());
    };
    refused("\"use_sliding_window\": false", "\"use_sliding_window\": true", "use_sliding_window");
    refused("\"type\": \"mrope\"", "\"type\": \"yarn\"", "yarn");
    refused("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "hidden_act");
    refused("\"depth\": 3,\n    \"hidden_act\": \"silu\"", "\"depth\": 3,\n    \"hidden_act\": \"gelu\"",
            "vision_config.hidden_act");
    refused("\"attention_dropout\": 0.0", "\"attention_dropout\": 0.5", "attention_dropout");
  }
  CHECK_ERROR(Code::unsupported, ("in_chans"), published().replace("\"in_chans\": 3", "\"in_chans\": 1").load());
  CHECK_ERROR(Code::unsupported, ("vision_config.rope_parameters.rope_theta"),
              nested().replace("\"rope_theta\": 10000.0", "\"rope_theta\": 500.0").load());
  CHECK_ERROR(Code::unsupported, ("layer_types[0]", "sliding_attention"),
              nested().replace("\"full_attention\"", "\"sliding_attention\"").load());
}

TEST("qwen2.5-vl config: missing keys and impossible values are named") {
  const auto broken = [](const std::string& from, const std::string& to, const std::string& word) {
    CHECK_ERROR(Code::checkpoint, ("config.json", word), published().replace(from, to).load());
  };
  for (const char* key : {"window_size", "fullatt_block_indexes", "depth", "num_heads", "patch_size", "vision_config",
                          "temporal_patch_size", "spatial_merge_size", "out_hidden_size", "rope_scaling", "rope_theta",
                          "mrope_section", "image_token_id", "num_key_value_heads"})
    broken("\"" + std::string(key) + "\"", "\"x_" + std::string(key) + "\"", key);
  broken("\"window_size\": 56", "\"window_size\": 27", "window_size");
  broken("\"fullatt_block_indexes\": [\n      1", "\"fullatt_block_indexes\": [\n      3", "fullatt_block_indexes[0]");
  broken("\"fullatt_block_indexes\": [\n      1", "\"fullatt_block_indexes\": [\n      -1", "fullatt_block_indexes[0]");
  broken("\"num_heads\": 2", "\"num_heads\": 4", "num_heads");  // 40 / 4 = 10 is no multiple of 4
  broken("\"out_hidden_size\": 56", "\"out_hidden_size\": 40", "out_hidden_size");
  broken("      1,\n      3,\n      3", "1, 3, 2", "mrope_section");
  broken("\"image_token_id\": 321", "\"image_token_id\": 333", "image_token_id");
  CHECK_ERROR(Code::checkpoint, ("preprocessor_config.json", "min_pixels"),
              published().replace("preprocessor_config.json", "\"min_pixels\"", "\"pixels\"").load());
}

TEST("qwen2.5-vl weights: both spellings of the names load, a missing tensor is named") {
  const auto newer = [](auto& tensors) {
    for (NamedTensor& t : tensors) {
      if (t.name.starts_with("visual."))
        t.name = "model." + t.name;
      else if (t.name.starts_with("model."))
        t.name = "model.language_model." + t.name.substr(6);
    }
  };
  CHECK(load_weights("qwen2_5_vl", newer) == load_weights("qwen2_5_vl", [](auto&) {}));
  for (const char* name :
       {"visual.blocks.2.mlp.up_proj.bias", "visual.merger.ln_q.weight", "visual.merger.mlp.2.weight",
        "visual.patch_embed.proj.weight", "model.layers.0.self_attn.k_proj.bias", "lm_head.weight"})
    CHECK_ERROR(Code::checkpoint, (name), load_weights("qwen2_5_vl", [&](auto& t) { drop(t, name); }));
}
