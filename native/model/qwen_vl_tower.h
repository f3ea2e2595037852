// What the vision towers of the Qwen-VL families share: their sizes, the embedding of patches, and the spec around
// them.
#pragma once

#include "model/qwen_vl_image.h"
#include "model/vision.h"
#include "model/vision_block.h"

namespace fire {

struct QwenVlTower {
  static constexpr float norm_eps = 1e-6f;

  int64_t depth, hidden_size, heads, intermediate_size, out_hidden_size;
  QwenVlImage image;

  int64_t head_dim() const { return hidden_size / heads; }
  /// Patches behind one token.
  int64_t merge_unit() const { return image.merge_size * image.merge_size; }

  static QwenVlTower read(const Json& vision, const Json& preprocessor, const TextConfig& text);
  /// `indexes` names blocks of the tower; each must exist.
  std::vector<int64_t> read_blocks(const Json& indexes) const;

  /// [hidden_size, patch length], stored as a convolution.
  Tensor claim_patch_embedding(Claims& claims, const std::string& name) const;
  /// Of the patches of all images, one image behind the other, [2, patches]: row, then column.
  std::vector<int32_t> positions(std::span<const Patches* const> images) const;
  RotaryTable rotary(Ops& ops, const std::vector<int32_t>& positions, Arena& arena, const Observer* observer) const;
};

/// The spec of a family whose `Tower(ops, config, claims)` is made from a config that adds to QwenVlTower.
template <class Tower, class Config>
class QwenVlSpec : public VisionSpec {
 public:
  explicit QwenVlSpec(Config config) : config_(std::move(config)) {}
  View view(const Rgb& image, const Spread& spread) const override { return config_.image.view(image, spread); }
  std::string preprocessing() const override { return config_.image.preprocessing(); }
  PatchRows rows() const override { return config_.image.rows(); }
  TokenGrid token_grid(Size image) const override { return config_.image.token_grid(image); }
  Patches blank(int64_t tokens) const override { return config_.image.blank(tokens); }
  int64_t merge() const override { return config_.image.merge_size; }
  size_t deepstack_levels() const override { return config_.deepstack_levels(); }
  std::unique_ptr<VisionTower> load(Claims& claims, Ops& ops) const override {
    return std::make_unique<Tower>(ops, config_, claims);
  }

 private:
  Config config_;
};

}  // namespace fire
