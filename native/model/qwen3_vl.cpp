// Qwen3-VL, dense: a vision tower with learned and rotary positions whose patches are merged 2 x 2, feature levels that
// are added to the first decoder layers ("deepstack"), a Qwen3 decoder with interleaved MRoPE.
// Source: transformers, models/qwen3_vl.
#include <cmath>

#include "model/config_reader.h"
#include "model/families.h"
#include "model/qwen_vl_image.h"
#include "model/vision.h"

namespace fire {
namespace {

using namespace config;

constexpr float norm_eps = 1e-6f;

struct TowerConfig {
  int64_t depth, hidden_size, heads, intermediate_size, num_position_embeddings, out_hidden_size;
  std::vector<int64_t> deepstack_indexes;  // blocks whose output becomes a level
  QwenVlImage image;

  int64_t head_dim() const { return hidden_size / heads; }
  int64_t merge_unit() const { return image.merge_size * image.merge_size; }
};

struct BlockWeights {
  LinearWeights norm1, qkv, proj, norm2, fc1, fc2;
};

/// LayerNorm, fc1, GELU, fc2 over merge_unit patches at once.
struct MergerWeights {
  LinearWeights norm, fc1, fc2;
};

class Tower final : public VisionTower {
 public:
  Tower(Ops& ops, const TowerConfig& config, Claims& claims) : ops_(ops), config_(config) {
    const TowerConfig& c = config_;
    const QwenVlImage& image = c.image;
    const std::string prefix = claims.prefix_of("pos_embed.weight", {"model.visual.", "visual."});
    patch_embed_.weight =
        claims.take_as(prefix + "patch_embed.proj.weight",
                       {c.hidden_size, 3, image.temporal_patch_size, image.patch_size, image.patch_size},
                       {c.hidden_size, image.patch_length()});
    patch_embed_.bias = claims.take(prefix + "patch_embed.proj.bias", {c.hidden_size});
    pos_embed_ = claims.take(prefix + "pos_embed.weight", {c.num_position_embeddings, c.hidden_size});
    for (int64_t i = 0; i < c.depth; ++i) {
      const std::string block = prefix + "blocks." + std::to_string(i) + ".";
      blocks_.push_back({claims.layer_norm(block + "norm1", c.hidden_size),
                         claims.linear(block + "attn.qkv", 3 * c.hidden_size, c.hidden_size),
                         claims.linear(block + "attn.proj", c.hidden_size, c.hidden_size),
                         claims.layer_norm(block + "norm2", c.hidden_size),
                         claims.linear(block + "mlp.linear_fc1", c.intermediate_size, c.hidden_size),
                         claims.linear(block + "mlp.linear_fc2", c.hidden_size, c.intermediate_size)});
    }
    merger_ = load_merger(claims, prefix + "merger.", c.hidden_size);
    for (size_t i = 0; i < c.deepstack_indexes.size(); ++i)
      deepstack_.push_back(load_merger(claims, prefix + "deepstack_merger_list." + std::to_string(i) + ".",
                                       c.hidden_size * c.merge_unit()));
  }

  std::unique_ptr<ImageFeatures> encode(const Patches& patches, Arena& arena, const Observer* observer) const override {
    Arena::Scope scope(arena);
    const int32_t count = static_cast<int32_t>(patches.count());
    const int64_t merge = config_.image.merge_size;
    auto features = std::make_unique<ImageFeatures>(ops_, TokenGrid{patches.grid_h / merge, patches.grid_w / merge},
                                                    config_.out_hidden_size, config_.deepstack_indexes.size());
    Tensor x = embed_patches(patches, arena, observer);
    const std::vector<int32_t> positions = patch_positions(patches.grid_h, patches.grid_w, merge);
    const RotaryTable rotary = make_rotary_table(ops_, row_column_rotary(config_.head_dim()), positions, count, arena);
    observe(observer, "vision.rope_cos", rotary.cos);
    observe(observer, "vision.rope_sin", rotary.sin);
    observe(observer, "vision.block_in.0", x);

    const AttentionPlan all{{{0, count, 0, 0, 0, count, false, 0}}, {}, 1};
    const PreparedPlan plan = ops_.prepare(all, arena);
    for (int64_t i = 0; i < config_.depth; ++i) {
      block(blocks_[static_cast<size_t>(i)], x, rotary, plan, arena);
      observe(observer, "vision.block_out." + std::to_string(i), x);
      for (size_t j = 0; j < config_.deepstack_indexes.size(); ++j) {
        if (config_.deepstack_indexes[j] != i) continue;
        merge_patches(deepstack_[j], x, true, features->deepstack[j], arena);
        observe(observer, "vision.deepstack." + std::to_string(j), features->deepstack[j]);
      }
    }
    merge_patches(merger_, x, false, features->merged, arena);
    observe(observer, "vision.merged", features->merged);
    return features;
  }

 private:
  MergerWeights load_merger(Claims& claims, const std::string& prefix, int64_t norm_width) const {
    const int64_t width = config_.hidden_size * config_.merge_unit();
    return {claims.layer_norm(prefix + "norm", norm_width), claims.linear(prefix + "linear_fc1", width, width),
            claims.linear(prefix + "linear_fc2", config_.out_hidden_size, width)};
  }

  Tensor embed_patches(const Patches& patches, Arena& arena, const Observer* observer) const {
    const int64_t count = patches.count();
    Tensor x = ops_.activation(arena, {count, config_.hidden_size});
    Arena::Scope scope(arena);
    const Tensor pixels = ops_.upload_activation(arena, patches.pixels, {count, config_.image.patch_length()});
    ops_.linear(pixels, patch_embed_.weight, patch_embed_.bias, {}, x);
    observe(observer, "vision.patch_embed", x);
    Tensor positions = ops_.activation(arena, {count, config_.hidden_size});
    ops_.interpolate_positions(pos_embed_, patches.grid_h, patches.grid_w, config_.image.merge_size, positions);
    observe(observer, "vision.pos_embeds", positions);
    ops_.add(positions, x);
    return x;
  }

  /// In place on x.
  void block(const BlockWeights& w, Tensor x, const RotaryTable& rotary, const PreparedPlan& plan, Arena& arena) const {
    Arena::Scope scope(arena);
    const int64_t n = x.rows(), width = config_.hidden_size, heads = config_.heads, d = config_.head_dim();
    Tensor normed = ops_.activation(arena, {n, width}), x_mid = ops_.activation(arena, {n, width});
    {
      Arena::Scope inner(arena);
      std::array<Tensor, 3> qkv;
      ops_.layer_norm(x, w.norm1.weight, w.norm1.bias, norm_eps, normed);
      for (int64_t i = 0; i < 3; ++i) {
        qkv[static_cast<size_t>(i)] = ops_.activation(arena, {n, heads, d});
        ops_.linear(normed, w.qkv.weight.slice(i * width, (i + 1) * width),
                    w.qkv.bias.slice(i * width, (i + 1) * width), {}, qkv[static_cast<size_t>(i)].reshape({n, width}));
      }
      ops_.rope(qkv[0], rotary.cos, rotary.sin);
      ops_.rope(qkv[1], rotary.cos, rotary.sin);
      Tensor o = ops_.activation(arena, {n, heads, d});
      ops_.attention(qkv[0], qkv[1], qkv[2], plan, 1.0f / std::sqrt(static_cast<float>(d)), o, {});
      ops_.linear(o.reshape({n, width}), w.proj.weight, w.proj.bias, x, x_mid);
    }
    Tensor hidden = ops_.activation(arena, {n, config_.intermediate_size});
    ops_.layer_norm(x_mid, w.norm2.weight, w.norm2.bias, norm_eps, normed);
    ops_.linear(normed, w.fc1.weight, w.fc1.bias, {}, hidden);
    ops_.gelu(hidden, Gelu::tanh);
    ops_.linear(hidden, w.fc2.weight, w.fc2.bias, x_mid, x);
  }

  void merge_patches(const MergerWeights& w, Tensor x, bool norm_after_shuffle, Tensor out, Arena& arena) const {
    Arena::Scope scope(arena);
    const int64_t tokens = x.rows() / config_.merge_unit(), width = config_.hidden_size * config_.merge_unit();
    Tensor normed = ops_.activation(arena, {tokens, width}), hidden = ops_.activation(arena, {tokens, width});
    const Tensor input = norm_after_shuffle ? x.reshape({tokens, width}) : x;
    ops_.layer_norm(input, w.norm.weight, w.norm.bias, norm_eps, normed);
    ops_.linear(normed, w.fc1.weight, w.fc1.bias, {}, hidden);
    ops_.gelu(hidden, Gelu::erf);
    ops_.linear(hidden, w.fc2.weight, w.fc2.bias, {}, out);
  }

  Ops& ops_;
  const TowerConfig config_;
  LinearWeights patch_embed_;
  Tensor pos_embed_;  // resampled to the grid of each image
  std::vector<BlockWeights> blocks_;
  MergerWeights merger_;
  std::vector<MergerWeights> deepstack_;
};

class Spec final : public VisionSpec {
 public:
  explicit Spec(TowerConfig config) : config_(std::move(config)) {}
  Patches preprocess(const Rgb& image) const override { return config_.image.preprocess(image); }
  TokenGrid token_grid(Size image) const override { return config_.image.token_grid(image); }
  Patches blank(int64_t tokens) const override { return config_.image.blank(tokens); }
  int64_t patch_length() const override { return config_.image.patch_length(); }
  int64_t patches_per_token() const override { return config_.merge_unit(); }
  size_t deepstack_levels() const override { return config_.deepstack_indexes.size(); }
  std::unique_ptr<VisionTower> load(Claims& claims, Ops& ops) const override {
    return std::make_unique<Tower>(ops, config_, claims);
  }

 private:
  TowerConfig config_;
};

TowerConfig read_tower(const Json& vision, const Json& preprocessor, const TextConfig& text) {
  require_text(vision, "hidden_act", "gelu_pytorch_tanh");
  require_axial_rope(vision);
  TowerConfig c{};
  c.depth = positive(vision, "depth");
  c.hidden_size = positive(vision, "hidden_size");
  c.heads = positive(vision, "num_heads");
  c.intermediate_size = positive(vision, "intermediate_size");
  c.num_position_embeddings = positive(vision, "num_position_embeddings");
  c.out_hidden_size = positive(vision, "out_hidden_size");
  for (const Json& index : vision.at("deepstack_visual_indexes").array()) {
    c.deepstack_indexes.push_back(index.integer());
    check(index.integer() >= 0 && index.integer() < c.depth, index.path(), "is not a block of the vision tower");
  }
  check(c.deepstack_indexes.size() <= static_cast<size_t>(text.layers), vision.path() + ".deepstack_visual_indexes",
        "has more levels than the decoder has layers");
  check(positive(vision, "in_channels") == 3, vision.path() + ".in_channels", "must be 3 (RGB)");
  check(c.hidden_size % c.heads == 0 && c.head_dim() % 4 == 0, vision.path(),
        "hidden_size / num_heads must be a multiple of 4 (two rotary axes)");
  check(c.out_hidden_size == text.hidden_size, vision.path() + ".out_hidden_size",
        "must equal text_config.hidden_size");
  int64_t side = 0;
  while (side * side < c.num_position_embeddings) ++side;
  check(side * side == c.num_position_embeddings, vision.path() + ".num_position_embeddings", "must be a square");
  c.image = QwenVlImage::read(preprocessor, positive(vision, "patch_size"), positive(vision, "temporal_patch_size"),
                              positive(vision, "spatial_merge_size"));
  return c;
}

TextConfig read_text(const Json& text) {
  require_flag(text, "attention_bias", false);
  TextConfig c = read_decoder(text);
  c.head_norm = true;
  const Json* rope = read_rope(text, c);
  if (!rope) throw Error(Code::checkpoint, text.path() + ": rope_scaling is missing (it holds mrope_section)");
  read_mrope(*rope, Mrope::interleaved, c);
  require_flag(*rope, "mrope_interleaved", true);
  return c;
}

}  // namespace

ModelConfig read_qwen3_vl(const Json& config, const std::string& directory) {
  ModelConfig c{};
  const Json& text = config.at("text_config");
  c.text = read_text(text);
  c.text.tie_word_embeddings = read_tie(config, text);
  c.names = {{"model.language_model.", "language_model.model.", "model."},
             {"lm_head.weight", "language_model.lm_head.weight"}};
  c.vision = std::make_shared<Spec>(read_tower(config.at("vision_config"), read_preprocessor(directory), c.text));
  c.image_token_id = read_token(config, "image_token_id", c.text);
  c.eos_token_ids = read_eos(directory, text);
  return c;
}

}  // namespace fire
