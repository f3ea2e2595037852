// Qwen2.5-VL: a vision tower with RMSNorm, SwiGLU and rotary positions whose blocks attend inside windows of the image,
// all but a few, patches merged 2 x 2, a Qwen2 decoder with MRoPE in sections.
// Source: transformers, models/qwen2_5_vl.
#include <algorithm>

#include "model/config_reader.h"
#include "model/families.h"
#include "model/qwen_vl_tower.h"

namespace fire {
namespace {

using namespace config;

struct TowerConfig : QwenVlTower {
  int64_t window;                    // side of a window, in merged tokens
  std::vector<int64_t> full_blocks;  // blocks that attend to the whole image

  size_t deepstack_levels() const { return 0; }
  bool attends_to_all(int64_t block) const {
    return std::find(full_blocks.begin(), full_blocks.end(), block) != full_blocks.end();
  }
};

/// The patches of some images, window by window. Windows at the right and lower edge are smaller.
struct Windows {
  std::vector<std::vector<int32_t>> order;  // of each image: its token i in this order is token order[i] of its grid
  std::vector<int32_t> rows;                // patch i in this order is row `rows[i]` of the patches as they come
  AttentionPlan plan;                       // over patches in this order
};

/// `merge_unit` patches are a token; `side` of a window, in tokens.
Windows cut_windows(std::span<ImageFeatures* const> images, int64_t side, int64_t merge_unit) {
  Windows w;
  int64_t first = 0;  // patch of the image
  for (const ImageFeatures* image : images) {
    const TokenGrid grid = image->grid;
    std::vector<int32_t>& order = w.order.emplace_back();
    for (int64_t top = 0; top < grid.h; top += side)
      for (int64_t left = 0; left < grid.w; left += side) {
        const int32_t begin = static_cast<int32_t>(w.rows.size());
        for (int64_t y = top; y < std::min(top + side, grid.h); ++y)
          for (int64_t x = left; x < std::min(left + side, grid.w); ++x) {
            const int64_t token = y * grid.w + x;
            order.push_back(static_cast<int32_t>(token));
            for (int64_t i = 0; i < merge_unit; ++i)
              w.rows.push_back(static_cast<int32_t>(first + token * merge_unit + i));
          }
        const int32_t end = static_cast<int32_t>(w.rows.size());
        w.plan.spans.push_back({begin, end, 0, 0, begin, end, false, w.plan.groups++});
      }
    first += grid.tokens() * merge_unit;
  }
  return w;
}

struct BlockWeights {
  Tensor norm1, norm2;
  VisionAttention attention;
  LinearWeights gate, up, down;
};

class Tower final : public VisionTower {
 public:
  Tower(Ops& ops, const TowerConfig& config, Claims& claims) : ops_(ops), config_(config), rows_(config.image.rows()) {
    const TowerConfig& c = config_;
    const std::string prefix = claims.prefix_of("patch_embed.proj.weight", {"visual.", "model.visual."});
    patch_embed_ = c.claim_patch_embedding(claims, prefix + "patch_embed.proj.weight");
    for (int64_t i = 0; i < c.depth; ++i) {
      const std::string block = prefix + "blocks." + std::to_string(i) + ".";
      blocks_.push_back({claims.take(block + "norm1.weight", {c.hidden_size}),
                         claims.take(block + "norm2.weight", {c.hidden_size}),
                         claim_fused_attention(claims, block + "attn.", c.hidden_size),
                         claims.linear(block + "mlp.gate_proj", c.intermediate_size, c.hidden_size),
                         claims.linear(block + "mlp.up_proj", c.intermediate_size, c.hidden_size),
                         claims.linear(block + "mlp.down_proj", c.hidden_size, c.intermediate_size)});
    }
    const int64_t width = c.hidden_size * c.merge_unit();
    merger_norm_ = claims.take(prefix + "merger.ln_q.weight", {c.hidden_size});
    merger_[0] = claims.linear(prefix + "merger.mlp.0", width, width);
    merger_[1] = claims.linear(prefix + "merger.mlp.2", c.out_hidden_size, width);
  }

  void encode(std::span<const Patches* const> images, std::span<ImageFeatures* const> features, Arena& arena,
              const Observer* observer) const override {
    Arena::Scope scope(arena);
    // Patches stay in the order of their windows until they are merged tokens.
    const Windows windows = cut_windows(features, config_.window, config_.merge_unit());
    const std::vector<int32_t>& rows = windows.rows;
    Tensor x = embed_patches(images, rows, arena, observer);
    const std::vector<int32_t> in_order = config_.positions(images);
    std::vector<int32_t> positions;
    for (const int32_t* axis : {in_order.data(), in_order.data() + rows.size()})
      for (const int32_t row : rows) positions.push_back(axis[row]);
    const RotaryTable rotary = config_.rotary(ops_, positions, arena, observer);
    observe(observer, "vision.block_in.0", x);

    const AttentionPlan within = attend_within(patch_counts(images));
    const PreparedPlan whole = ops_.prepare(within, arena), windowed = ops_.prepare(windows.plan, arena);
    for (int64_t i = 0; i < config_.depth; ++i) {
      block(blocks_[static_cast<size_t>(i)], x, rotary, config_.attends_to_all(i) ? whole : windowed, arena);
      observe(observer, "vision.block_out." + std::to_string(i), x);
    }
    merge_patches(x, windows.order, features, arena);
    observe(observer, "vision.merged", features[0]->merged);
  }

 private:
  Tensor embed_patches(std::span<const Patches* const> images, const std::vector<int32_t>& rows, Arena& arena,
                       const Observer* observer) const {
    const int64_t count = static_cast<int64_t>(rows.size());
    Tensor x = ops_.activation(arena, {count, config_.hidden_size});
    Arena::Scope scope(arena);
    const Tensor pixels = rows_.upload(ops_, arena, images);
    Tensor in_order = ops_.activation(arena, {count, config_.hidden_size});
    ops_.linear(pixels, patch_embed_, {}, {}, in_order);
    observe(observer, "vision.patch_embed", in_order);
    ops_.gather_rows(in_order, ops_.upload_i32(arena, rows), x);
    return x;
  }

  /// In place on x.
  void block(const BlockWeights& w, Tensor x, const RotaryTable& rotary, const PreparedPlan& plan, Arena& arena) const {
    Arena::Scope scope(arena);
    const int64_t n = x.rows(), width = config_.hidden_size, inner_width = config_.intermediate_size;
    Tensor normed = ops_.activation(arena, {n, width}), x_mid = ops_.activation(arena, {n, width});
    ops_.rms_norm(x, w.norm1, config_.norm_eps, normed, {});
    vision_attention(ops_, w.attention, normed, x, &rotary, plan, config_.heads, arena, x_mid);
    Tensor gate = ops_.activation(arena, {n, inner_width}), up = ops_.activation(arena, {n, inner_width}),
           product = ops_.activation(arena, {n, inner_width});
    ops_.rms_norm(x_mid, w.norm2, config_.norm_eps, normed, {});
    ops_.gated_branches(normed, {.w = w.gate.weight, .bias = w.gate.bias, .y = gate},
                        {.w = w.up.weight, .bias = w.up.bias, .y = up}, product, false);
    ops_.linear(product, w.down.weight, w.down.bias, x_mid, x);
  }

  /// `order` says where in its image's grid a token belongs.
  void merge_patches(Tensor x, const std::vector<std::vector<int32_t>>& order, std::span<ImageFeatures* const> features,
                     Arena& arena) const {
    Arena::Scope scope(arena);
    const int64_t tokens = x.rows() / config_.merge_unit(), width = config_.hidden_size * config_.merge_unit();
    Tensor normed = ops_.activation(arena, {x.rows(), config_.hidden_size});
    Tensor hidden = ops_.activation(arena, {tokens, width}),
           merged = ops_.activation(arena, {tokens, config_.out_hidden_size});
    ops_.rms_norm(x, merger_norm_, config_.norm_eps, normed, {});
    ops_.linear(normed.reshape({tokens, width}), merger_[0].weight, merger_[0].bias, {}, hidden);
    ops_.gelu(hidden, Gelu::erf);
    ops_.linear(hidden, merger_[1].weight, merger_[1].bias, {}, merged);
    int64_t begin = 0;
    for (size_t i = 0; i < features.size(); ++i) {
      const int64_t end = begin + features[i]->tokens();
      ops_.scatter_rows(merged.slice(begin, end), ops_.upload_i32(arena, order[i]), features[i]->merged);
      begin = end;
    }
  }

  Ops& ops_;
  const TowerConfig config_;
  const PatchRows rows_;
  Tensor patch_embed_, merger_norm_;
  std::vector<BlockWeights> blocks_;
  std::array<LinearWeights, 2> merger_;
};

TowerConfig read_tower(const Json& vision, const Json& preprocessor, const TextConfig& text) {
  require_text(vision, "hidden_act", "silu");
  for (const char* channels : {"in_channels", "in_chans"}) require_number(vision, channels, 3);
  TowerConfig c{QwenVlTower::read(vision, preprocessor, text), 0, {}};
  c.full_blocks = c.read_blocks(vision.at("fullatt_block_indexes"));
  c.window = positive(vision, "window_size") / c.image.merge_size / c.image.patch_size;
  check(c.window > 0, vision.path() + ".window_size", "must hold at least one merged patch");
  return c;
}

}  // namespace

ModelConfig read_qwen2_5_vl(const Json& config, const std::string& directory) {
  ModelConfig c{};
  // Published files have the decoder's keys at the top, those that transformers 5 saves under text_config.
  const Json* nested = config.find("text_config");
  const Json& text = nested ? *nested : config;
  c.text = read_qwen2_decoder(text);
  read_mrope(text, Mrope::sections, c.text);
  c.text.tie_word_embeddings = read_either_tie(config, text);
  c.names = {{"model.", "model.language_model.", "language_model.model."},
             {"lm_head.weight", "language_model.lm_head.weight"}};
  c.vision = std::make_shared<QwenVlSpec<Tower, TowerConfig>>(
      read_tower(config.at("vision_config"), read_preprocessor(directory), c.text));
  c.image_token_id = read_token(config, "image_token_id", c.text);
  c.eos_token_ids = read_eos(directory, text);
  return c;
}

}  // namespace fire
