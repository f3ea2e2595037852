// Qwen3-VL, dense: a vision tower with learned and rotary positions whose patches are merged 2 x 2, feature levels that
// are added to the first decoder layers ("deepstack"), a Qwen3 decoder with interleaved MRoPE.
// Source: transformers, models/qwen3_vl.
#include <numeric>

#include "model/config_reader.h"
#include "model/families.h"
#include "model/qwen_vl_tower.h"

namespace fire {
namespace {

using namespace config;

struct TowerConfig : QwenVlTower {
  int64_t num_position_embeddings;
  std::vector<int64_t> deepstack_indexes;  // blocks whose output becomes a level

  size_t deepstack_levels() const { return deepstack_indexes.size(); }
};

/// LayerNorm, fc1, GELU, fc2 over merge_unit patches at once.
struct MergerWeights {
  LinearWeights norm, fc1, fc2;
};

class Tower final : public VisionTower {
 public:
  Tower(Ops& ops, const TowerConfig& config, Claims& claims) : ops_(ops), config_(config), rows_(config.image.rows()) {
    const TowerConfig& c = config_;
    const std::string prefix = claims.prefix_of("pos_embed.weight", {"model.visual.", "visual."});
    patch_embed_ = {c.claim_patch_embedding(claims, prefix + "patch_embed.proj.weight"),
                    claims.take(prefix + "patch_embed.proj.bias", {c.hidden_size})};
    pos_embed_ = claims.take(prefix + "pos_embed.weight", {c.num_position_embeddings, c.hidden_size});
    for (int64_t i = 0; i < c.depth; ++i) {
      const std::string block = prefix + "blocks." + std::to_string(i) + ".";
      blocks_.push_back({claims.layer_norm(block + "norm1", c.hidden_size),
                         claim_fused_attention(claims, block + "attn.", c.hidden_size),
                         claims.layer_norm(block + "norm2", c.hidden_size),
                         claims.linear(block + "mlp.linear_fc1", c.intermediate_size, c.hidden_size),
                         claims.linear(block + "mlp.linear_fc2", c.hidden_size, c.intermediate_size)});
    }
    merger_ = load_merger(claims, prefix + "merger.", c.hidden_size);
    for (size_t i = 0; i < c.deepstack_indexes.size(); ++i)
      deepstack_.push_back(load_merger(claims, prefix + "deepstack_merger_list." + std::to_string(i) + ".",
                                       c.hidden_size * c.merge_unit()));
  }

  void encode(std::span<const Patches* const> images, std::span<ImageFeatures* const> features, Arena& arena,
              const Observer* observer) const override {
    Arena::Scope scope(arena);
    Tensor x = embed_patches(images, arena, observer);
    const RotaryTable rotary = config_.rotary(ops_, config_.positions(images), arena, observer);
    observe(observer, "vision.block_in.0", x);

    const AttentionPlan within = attend_within(patch_counts(images));
    const PreparedPlan plan = ops_.prepare(within, arena);
    const VisionBlockKind kind{config_.heads, config_.norm_eps, Gelu::tanh};
    for (int64_t i = 0; i < config_.depth; ++i) {
      run_block(ops_, kind, blocks_[static_cast<size_t>(i)], &rotary, plan, arena, x);
      observe(observer, "vision.block_out." + std::to_string(i), x);
      for (size_t j = 0; j < config_.deepstack_levels(); ++j) {
        if (config_.deepstack_indexes[j] != i) continue;
        merge_patches(
            deepstack_[j], x, true, [j](ImageFeatures& f) { return f.deepstack[j]; }, features, arena);
        observe(observer, "vision.deepstack." + std::to_string(j), features[0]->deepstack[j]);
      }
    }
    merge_patches(
        merger_, x, false, [](ImageFeatures& f) { return f.merged; }, features, arena);
    observe(observer, "vision.merged", features[0]->merged);
  }

 private:
  MergerWeights load_merger(Claims& claims, const std::string& prefix, int64_t norm_width) const {
    const int64_t width = config_.hidden_size * config_.merge_unit();
    return {claims.layer_norm(prefix + "norm", norm_width), claims.linear(prefix + "linear_fc1", width, width),
            claims.linear(prefix + "linear_fc2", config_.out_hidden_size, width)};
  }

  Tensor embed_patches(std::span<const Patches* const> images, Arena& arena, const Observer* observer) const {
    const std::vector<int64_t> counts = patch_counts(images);
    const int64_t count = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    Tensor x = ops_.activation(arena, {count, config_.hidden_size});
    Arena::Scope scope(arena);
    ops_.linear(rows_.upload(ops_, arena, images), patch_embed_.weight, patch_embed_.bias, {}, x);
    observe(observer, "vision.patch_embed", x);
    Tensor positions = ops_.activation(arena, {count, config_.hidden_size});
    int64_t begin = 0;
    for (const Patches* image : images) {
      const int64_t end = begin + image->count();
      ops_.interpolate_positions(pos_embed_, image->grid_h, image->grid_w, config_.image.merge_size,
                                 positions.slice(begin, end));
      begin = end;
    }
    observe(observer, "vision.pos_embeds", positions);
    ops_.add(positions, x);
    return x;
  }

  /// All images at once, then to each what is its own: `part` of its features.
  template <class Part>
  void merge_patches(const MergerWeights& w, Tensor x, bool norm_after_shuffle, Part part,
                     std::span<ImageFeatures* const> features, Arena& arena) const {
    Arena::Scope scope(arena);
    const int64_t tokens = x.rows() / config_.merge_unit(), width = config_.hidden_size * config_.merge_unit();
    Tensor normed = ops_.activation(arena, {tokens, width}), hidden = ops_.activation(arena, {tokens, width});
    const Tensor input = norm_after_shuffle ? x.reshape({tokens, width}) : x;
    ops_.layer_norm(input, w.norm.weight, w.norm.bias, config_.norm_eps, normed);
    ops_.linear(normed, w.fc1.weight, w.fc1.bias, {}, hidden);
    ops_.gelu(hidden, Gelu::erf);
    const Tensor out = ops_.activation(arena, {tokens, config_.out_hidden_size});
    ops_.linear(hidden, w.fc2.weight, w.fc2.bias, {}, out);
    share_rows(ops_, out, features, part);
  }

  Ops& ops_;
  const TowerConfig config_;
  const PatchRows rows_;
  LinearWeights patch_embed_;
  Tensor pos_embed_;  // resampled to the grid of each image
  std::vector<VisionBlock> blocks_;
  MergerWeights merger_;
  std::vector<MergerWeights> deepstack_;
};

TowerConfig read_tower(const Json& vision, const Json& preprocessor, const TextConfig& text) {
  require_text(vision, "hidden_act", "gelu_pytorch_tanh");
  TowerConfig c{
      QwenVlTower::read(vision, preprocessor, text), positive(vision, "num_position_embeddings", max_rows), {}};
  c.deepstack_indexes = c.read_blocks(vision.at("deepstack_visual_indexes"));
  check(c.deepstack_levels() <= static_cast<size_t>(text.layers), vision.path() + ".deepstack_visual_indexes",
        "has more levels than the decoder has layers");
  check(positive(vision, "in_channels") == 3, vision.path() + ".in_channels", "must be 3 (RGB)");
  int64_t side = 0;
  while (side * side < c.num_position_embeddings) ++side;
  check(side * side == c.num_position_embeddings, vision.path() + ".num_position_embeddings", "must be a square");
  return c;
}

TextConfig read_text(const Json& text) {
  require_flag(text, "attention_bias", false);
  TextConfig c = read_decoder(text);
  c.head_norm = true;
  require_flag(read_mrope(text, Mrope::interleaved, c), "mrope_interleaved", true);
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
  c.vision = std::make_shared<QwenVlSpec<Tower, TowerConfig>>(
      read_tower(config.at("vision_config"), read_preprocessor(directory), c.text));
  c.image_token_id = read_token(config, "image_token_id", c.text);
  c.eos_token_ids = read_eos(directory, text);
  return c;
}

}  // namespace fire
