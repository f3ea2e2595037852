// Three-axis position ids (MRoPE) and the rotary tables of the decoder and of the vision tower.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"

namespace fire {

/// Merged grid of one image: rows and columns of placeholder tokens.
struct TokenGrid {
  int64_t h, w;
  int64_t tokens() const { return h * w; }
};

/// Temporal, height and width position of every token of one sequence.
using Positions = std::array<std::vector<int32_t>, 3>;

/// Walks the ids: text counts on all axes, a run of image placeholders spreads its grid over height and width, text
/// after it goes on from the largest position. Throws ERR_FIRE_INVALID_ARGUMENT when placeholders and grids differ.
Positions sequence_positions(std::span<const int32_t> ids, int64_t image_token_id, std::span<const TokenGrid> grids);

/// The position that the token after the sequence gets.
int32_t next_position(const Positions& positions);

/// cos and sin, each [T, width], halves duplicated.
struct RotaryTable {
  std::vector<float> cos, sin;
};

/// Interleaved MRoPE: frequency i follows the width axis if i % 3 == 2 and i < 3 * section[2], the height axis if
/// i % 3 == 1 and i < 3 * section[1], else the temporal axis. Angles are products in f32, as in the reference.
RotaryTable text_rotary(const Positions& positions, const TextConfig& config);

/// 2-D rotary of the vision tower, theta 10000: the first half of the angles follows the row, the second the column.
/// Patches of one image in merge order.
RotaryTable vision_rotary(int64_t grid_h, int64_t grid_w, const VisionConfig& config);

/// Row and column of every patch of an image in merge order.
std::vector<std::pair<int64_t, int64_t>> patch_places(int64_t grid_h, int64_t grid_w, int64_t merge);

}  // namespace fire
