// Three-axis position ids (MRoPE) and the rotary tables of the decoder and of the vision tower.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"
#include "ops/ops.h"

namespace fire {

/// Merged grid of one image: rows and columns of placeholder tokens.
struct TokenGrid {
  int64_t h, w;
  int64_t tokens() const { return h * w; }
};

/// Temporal, height and width position of every token of one sequence.
using Positions = std::array<std::vector<int32_t>, 3>;

/// Walks the ids. Without `spread` every token counts one on all axes. With it text does, a run of image placeholders
/// spreads its grid over height and width, and text after it goes on from the largest position (Qwen2-VL's MRoPE).
/// Throws ERR_FIRE_INVALID_ARGUMENT when placeholders and grids differ.
Positions sequence_positions(std::span<const int32_t> ids, int64_t image_token_id, std::span<const TokenGrid> grids,
                             bool spread);

/// The position that the token after the sequence gets.
int32_t next_position(const Positions& positions);

/// Rotary frequencies of half a head and the position axis that each follows (see Ops::rotary_table).
struct Rotary {
  std::vector<int32_t> axis;
  std::vector<float> frequency;
};

/// Mrope::sections: the first section[0] frequencies follow the temporal axis, the next section[1] the height, the rest
/// the width. Mrope::interleaved: frequency i follows the width axis if i % 3 == 2 and i < 3 * section[2], the height
/// axis if i % 3 == 1 and i < 3 * section[1], else the temporal axis.
Rotary text_rotary(const TextConfig& config);

/// 2-D rotary of a vision tower, theta 10000: the first half of the angles follows the row, the second the column.
/// `head_dim` is a multiple of 4.
Rotary row_column_rotary(int64_t head_dim);

/// Row, then column of every patch of an image in merge order, [2, grid_h * grid_w].
std::vector<int32_t> patch_positions(int64_t grid_h, int64_t grid_w, int64_t merge);

/// cos and sin [tokens, 2 * frequencies] in `arena`.
struct RotaryTable {
  Tensor cos, sin;
};
/// `positions` [axes, tokens].
RotaryTable make_rotary_table(Ops& ops, const Rotary& rotary, std::span<const int32_t> positions, int64_t tokens,
                              Arena& arena);

}  // namespace fire
