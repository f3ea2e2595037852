#include "model/qwen_vl_tower.h"

#include "model/config_reader.h"
#include "model/families.h"

namespace fire {

using namespace config;

QwenVlTower QwenVlTower::read(const Json& vision, const Json& preprocessor, const TextConfig& text) {
  require_axial_rope(vision);
  QwenVlTower c{};
  c.depth = positive(vision, "depth", max_layers);
  c.hidden_size = positive(vision, "hidden_size");
  c.heads = positive(vision, "num_heads");
  c.intermediate_size = positive(vision, "intermediate_size");
  c.out_hidden_size = positive(vision, "out_hidden_size");
  check(c.hidden_size % c.heads == 0 && c.head_dim() > 0 && c.head_dim() % 4 == 0, vision.path(),
        "hidden_size / num_heads must be a multiple of 4 (two rotary axes)");
  check(c.out_hidden_size == text.hidden_size, vision.path() + ".out_hidden_size",
        "must equal the decoder's hidden_size");
  // Far beyond any model; the smallest image is one patch of patches.
  c.image = QwenVlImage::read(preprocessor, positive(vision, "patch_size", 256),
                              positive(vision, "temporal_patch_size", 16), positive(vision, "spatial_merge_size", 16));
  return c;
}

std::vector<int64_t> QwenVlTower::read_blocks(const Json& indexes) const {
  std::vector<int64_t> blocks;
  for (const Json& index : indexes.array()) {
    blocks.push_back(index.integer());
    check(index.integer() >= 0 && index.integer() < depth, index.path(), "is not a block of the vision tower");
  }
  return blocks;
}

Tensor QwenVlTower::claim_patch_embedding(Claims& claims, const std::string& name) const {
  return claims.take_as(name, {hidden_size, 3, image.temporal_patch_size, image.patch_size, image.patch_size},
                        {hidden_size, image.rows().length()});
}

std::vector<int32_t> QwenVlTower::positions(std::span<const Patches* const> images) const {
  std::vector<int32_t> rows, columns;
  for (const Patches* image : images) {
    const std::vector<int32_t> both = patch_positions(image->grid_h, image->grid_w, this->image.merge_size);
    const auto middle = both.begin() + image->count();
    rows.insert(rows.end(), both.begin(), middle);
    columns.insert(columns.end(), middle, both.end());
  }
  rows.insert(rows.end(), columns.begin(), columns.end());
  return rows;
}

RotaryTable QwenVlTower::rotary(Ops& ops, const std::vector<int32_t>& positions, Arena& arena,
                                const Observer* observer) const {
  const int64_t patches = static_cast<int64_t>(positions.size()) / 2;
  const RotaryTable table = make_rotary_table(ops, row_column_rotary(head_dim()), positions, patches, arena);
  observe(observer, "vision.rope_cos", table.cos);
  observe(observer, "vision.rope_sin", table.sin);
  return table;
}

}  // namespace fire
