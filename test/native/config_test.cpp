// config.json and its companions as published, what must be refused by name, and weights that do not fit them.
#include "model/config.h"

#include "checkpoint_folder.h"
#include "model/vision.h"

using namespace fire;
using namespace fire::test;

namespace {

CheckpointFolder folder() {
  return {"qwen3_vl", {"config.json", "preprocessor_config.json", "generation_config.json"}};
}

void unsupported(const std::string& from, const std::string& to, const std::string& word) {
  CHECK_ERROR(Code::unsupported, ("config.json", word), folder().replace(from, to).load());
}
void broken(const std::string& from, const std::string& to, const std::string& word) {
  CHECK_ERROR(Code::checkpoint, ("config.json", word), folder().replace(from, to).load());
}

int64_t load_weights(const std::function<void(std::vector<NamedTensor>&)>& change) {
  return test::load_weights("qwen3_vl", change);
}

}  // namespace

TEST("config: a published file") {
  const ModelConfig c = folder().load();
  CHECK(c.text.hidden_size == 64 && c.text.layers == 4 && c.text.heads == 4 && c.text.kv_heads == 2 &&
        c.text.head_dim == 16);
  CHECK(c.text.rope_theta == 5e6 && (c.text.mrope_section == std::array<int64_t, 3>{4, 2, 2}) &&
        c.text.tie_word_embeddings);
  CHECK(c.family == "qwen3_vl" && c.text.mrope == Mrope::interleaved && c.text.head_norm && !c.text.qkv_bias);
  CHECK(c.vision->deepstack_levels() == 3);
  CHECK((c.vision->token_grid({1, 1}).tokens() == 4 && c.vision->token_grid({1000, 1000}).tokens() == 16));
  CHECK(c.image_token_id == 500 && (c.eos_token_ids == std::vector<int64_t>{504, 505}));
}

TEST("config: the newer spelling of the rotary settings, with the theta inside") {
  CheckpointFolder newer = folder();
  newer.replace("\"rope_scaling\"", "\"rope_parameters\"")
      .replace("\"rope_type\": \"default\"", "\"rope_type\": \"default\", \"rope_theta\": 1234.5")
      .replace("    \"rope_theta\": 5000000,\n", "");
  CHECK(newer.load().text.rope_theta == 1234.5);
  // and it wins over one outside
  CHECK(folder()
            .replace("\"rope_type\": \"default\"", "\"rope_type\": \"default\", \"rope_theta\": 77")
            .load()
            .text.rope_theta == 77);
}

TEST("config: other spellings that mean the same") {
  CHECK(folder().replace("    \"head_dim\": 16,\n", "").load().text.head_dim == 16);
  CHECK(!folder()
             .replace("\"tie_word_embeddings\": true,\n  \"text", "\"tie_word_embeddings\": false,\n  \"text")
             .load()
             .text.tie_word_embeddings);
  CHECK(folder().replace("  \"tie_word_embeddings\": true,\n", "").load().text.tie_word_embeddings);  // then
                                                                                                      // text_config's
  const std::string size = "\"size\": {\n    \"longest_edge\": 16384,\n    \"shortest_edge\": 4096\n  }";
  CHECK(folder()
            .replace("preprocessor_config.json", size, "\"max_pixels\": 9000, \"min_pixels\": 100")
            .load()
            .vision->token_grid({1000, 1000})
            .tokens() == 4);  // 64 x 64 pixels fit into 9000, 96 x 96 do not
  const std::string eos = "\"eos_token_id\": [\n    504,\n    505\n  ]";
  CHECK((folder().replace("generation_config.json", eos, "\"eos_token_id\": 7").load().eos_token_ids ==
         std::vector<int64_t>{7}));
  CHECK((folder().remove("generation_config.json").load().eos_token_ids == std::vector<int64_t>{504}));
}

TEST("config: what the engine does not implement is refused by name") {
  unsupported("\"model_type\": \"qwen3_vl\"", "\"model_type\": \"qwen2_vl\"", "qwen2_vl");
  unsupported("\"model_type\": \"qwen3_vl\"", "\"model_type\": \"qwen3_vl_moe\"", "model_type");
  unsupported("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "text_config.hidden_act");
  unsupported("\"attention_bias\": false", "\"attention_bias\": true", "text_config.attention_bias");
  unsupported("\"attention_dropout\": 0.0", "\"attention_dropout\": 0.1", "text_config.attention_dropout");
  unsupported("\"mrope_interleaved\": true", "\"mrope_interleaved\": false", "mrope_interleaved");
  unsupported("\"rope_type\": \"default\"", "\"rope_type\": \"yarn\"", "yarn");
  unsupported("\"rope_type\": \"default\"", "\"type\": \"linear\"", "linear");
  unsupported("\"gelu_pytorch_tanh\"", "\"relu\"", "vision_config.hidden_act");
  unsupported("\"in_channels\": 3", "\"in_channels\": 3, \"rope_parameters\": {\"rope_theta\": 5000}",
              "vision_config.rope_parameters.rope_theta");
  CHECK_ERROR(Code::unsupported, ("do_resize"),
              folder()
                  .replace("preprocessor_config.json", "\"merge_size\": 2", "\"merge_size\": 2, \"do_resize\": false")
                  .load());
}

TEST("config: missing keys and impossible values are named") {
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                          "intermediate_size", "vocab_size", "rms_norm_eps"})
    broken("\"" + std::string(key) + "\"", "\"x_" + std::string(key) + "\"", key);
  for (const char* key :
       {"depth", "patch_size", "temporal_patch_size", "spatial_merge_size", "in_channels", "num_position_embeddings",
        "out_hidden_size", "deepstack_visual_indexes", "num_heads", "image_token_id", "text_config", "vision_config",
        "model_type", "mrope_section", "rope_theta", "rope_scaling"})
    broken("\"" + std::string(key) + "\"", "\"x_" + std::string(key) + "\"", key);
  broken("\"hidden_size\": 64", "\"hidden_size\": 0", "text_config.hidden_size");
  broken("\"hidden_size\": 64", "\"hidden_size\": -64", "text_config.hidden_size");
  broken("\"hidden_size\": 64", "\"hidden_size\": 64.5", "text_config.hidden_size");
  broken("\"hidden_size\": 64", "\"hidden_size\": \"64\"", "text_config.hidden_size");
  broken("\"vocab_size\": 512", "\"vocab_size\": 9999999999", "vocab_size");
  broken("\"vocab_size\": 512", "\"vocab_size\": 500", "image_token_id");
  broken("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "num_key_value_heads");
  broken("        4,\n        2,\n        2", "4, 2", "mrope_section");
  broken("        4,\n        2,\n        2", "4, 4, 2", "mrope_section");
  broken("\"rope_theta\": 5000000", "\"rope_theta\": 0", "rope_theta");
  broken("\"out_hidden_size\": 64", "\"out_hidden_size\": 48", "out_hidden_size");
  broken("\"num_position_embeddings\": 64", "\"num_position_embeddings\": 63", "num_position_embeddings");
  broken("      2\n    ],\n    \"depth\"", "      4\n    ],\n    \"depth\"", "deepstack_visual_indexes");
  broken("\"in_channels\": 3", "\"in_channels\": 1", "in_channels");
  broken("\"num_heads\": 3", "\"num_heads\": 5", "num_heads");
  broken("{", "", "JSON");
  for (const auto& [from, to, word] :
       {std::array<const char*, 3>{"\"longest_edge\": 16384", "\"longest_edge\": 1", "largest"},
        {"\"longest_edge\"", "\"edge\"", "longest_edge"},
        {"\"merge_size\": 2", "\"merge_size\": 4", "merge_size"},
        {"\"patch_size\": 16", "\"patch_size\": 14", "patch_size"},
        {"\"image_mean\"", "\"mean\"", "image_mean"},
        {"\"image_std\": [\n    0.5", "\"image_std\": [\n    0", "image_std"}})
    CHECK_ERROR(Code::checkpoint, ("preprocessor_config.json", word),
                folder().replace("preprocessor_config.json", from, to).load());
  CHECK_ERROR(Code::io, ("config.json"), folder().remove("config.json").load());
  CHECK_ERROR(Code::io, ("preprocessor_config.json"), folder().remove("preprocessor_config.json").load());
}

TEST("weights: a tensor that is missing, left over or misshapen is named") {
  load_weights([](auto&) {});
  const std::string q = "model.language_model.layers.2.self_attn.q_proj.weight",
                    qkv = "model.visual.blocks.1.attn.qkv.bias";
  for (const std::string& name :
       {q, qkv, std::string("model.language_model.norm.weight"), std::string("model.visual.pos_embed.weight"),
        std::string("model.language_model.embed_tokens.weight")})
    CHECK_ERROR(Code::checkpoint, ("model.safetensors", name), load_weights([&](auto& t) { drop(t, name); }));
  CHECK_ERROR(Code::checkpoint, ("\"model.language_model.layers.4.extra\""), load_weights([&](auto& t) {
                t.push_back({"model.language_model.layers.4.extra", named(t, qkv)});
              }));
  CHECK_ERROR(Code::checkpoint, (q, "f32[64, 64]"),
              load_weights([&](auto& t) { named(t, q) = named(t, q).slice(0, 63); }));
  CHECK_ERROR(Code::checkpoint, (qkv), load_weights([&](auto& t) { named(t, qkv) = named(t, qkv).reshape({1, 144}); }));
  CHECK_ERROR(Code::unsupported, (qkv, "i32"),
              load_weights([&](auto& t) { named(t, qkv) = Tensor(named(t, qkv).data(), DType::i32, {144}); }));
}

TEST("weights: a stored copy of a tied head and old inverse frequencies do no harm") {
  const int64_t parameters = load_weights([](auto& t) {
    t.push_back({"lm_head.weight", named(t, "model.language_model.embed_tokens.weight")});
    t.push_back({"model.language_model.rotary_emb.inv_freq", named(t, "model.visual.blocks.1.attn.qkv.bias")});
  });
  CHECK(parameters == load_weights([](auto&) {}));
}

TEST("weights: a checkpoint that holds a NaN is told apart") {
  const SafeTensors file = SafeTensors::open_checkpoint(golden_directory("qwen3_vl"));
  CHECK(find_nonfinite(file).empty());
  TempDir dir;
  std::vector<float> fine(100, 1.0f), bad(100, 1.0f);
  bad[99] = -INFINITY;
  write_safetensors(dir / "model.safetensors", {{"a", view(fine)}, {"b", view(bad)}}, {});
  CHECK(find_nonfinite(SafeTensors::open_checkpoint(dir.path())) == "b");
}
