#include "model/positions.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "tensor/error.h"

namespace fire {
namespace {

std::vector<float> inverse_frequencies(double theta, int64_t count, int64_t dim) {
  std::vector<float> f(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    f[static_cast<size_t>(i)] = 1.0f / static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
  }
  return f;
}

}  // namespace

Positions sequence_positions(std::span<const int32_t> ids, int64_t image_token_id, std::span<const TokenGrid> grids,
                             bool spread) {
  Positions positions;
  auto push = [&](int64_t t, int64_t h, int64_t w) {
    positions[0].push_back(static_cast<int32_t>(t));
    positions[1].push_back(static_cast<int32_t>(h));
    positions[2].push_back(static_cast<int32_t>(w));
  };
  int64_t next = 0;
  size_t image = 0;
  for (size_t i = 0; i < ids.size();) {
    if (ids[i] != image_token_id) {
      push(next, next, next);
      ++next;
      ++i;
      continue;
    }
    size_t run = i;
    while (run < ids.size() && ids[run] == image_token_id) ++run;
    // Images that follow each other without a token between them share one run of placeholders.
    while (i < run) {
      if (image == grids.size())
        throw Error(Code::invalid_argument, "the prompt has more image placeholders than its " +
                                                std::to_string(grids.size()) + " image(s) fill");
      const TokenGrid& grid = grids[image++];
      if (static_cast<int64_t>(run - i) < grid.tokens())
        throw Error(Code::invalid_argument, "image " + std::to_string(image) + " of the prompt fills " +
                                                std::to_string(grid.tokens()) + " placeholder tokens, the prompt has " +
                                                std::to_string(run - i) + " there");
      for (int64_t y = 0; y < grid.h; ++y)
        for (int64_t x = 0; x < grid.w; ++x) {
          if (spread) {
            push(next, next + y, next + x);
          } else {
            const int64_t at = next + y * grid.w + x;
            push(at, at, at);
          }
        }
      next += spread ? std::max(grid.h, grid.w) : grid.tokens();
      i += static_cast<size_t>(grid.tokens());
    }
  }
  if (image != grids.size())
    throw Error(Code::invalid_argument, "the prompt has placeholders for " + std::to_string(image) + " image(s), " +
                                            std::to_string(grids.size()) + " were given");
  return positions;
}

int32_t next_position(const Positions& positions) {
  int32_t last = -1;
  for (const auto& axis : positions)
    for (const int32_t p : axis) last = std::max(last, p);
  return last + 1;
}

Rotary text_rotary(const TextConfig& config) {
  const int64_t half = config.head_dim / 2;
  const auto& section = config.mrope_section;
  Rotary rotary{{}, inverse_frequencies(config.rope_theta, half, config.head_dim)};
  for (int64_t i = 0; i < half; ++i) {
    int32_t axis = 0;
    if (config.mrope == Mrope::sections) {
      axis = i < section[0] ? 0 : i < section[0] + section[1] ? 1 : 2;
    } else if (config.mrope == Mrope::interleaved) {
      for (int32_t a = 1; a < 3; ++a)
        if (i % 3 == a && i < 3 * section[static_cast<size_t>(a)]) axis = a;
    }
    rotary.axis.push_back(axis);
  }
  return rotary;
}

Rotary row_column_rotary(int64_t head_dim) {
  const std::vector<float> inverse = inverse_frequencies(10000.0, head_dim / 4, head_dim / 2);
  Rotary rotary;
  for (int32_t axis = 0; axis < 2; ++axis) {
    rotary.axis.insert(rotary.axis.end(), inverse.size(), axis);
    rotary.frequency.insert(rotary.frequency.end(), inverse.begin(), inverse.end());
  }
  return rotary;
}

std::vector<int32_t> patch_positions(int64_t grid_h, int64_t grid_w, int64_t merge) {
  std::vector<int32_t> rows, columns;
  for (int64_t block_y = 0; block_y < grid_h; block_y += merge)
    for (int64_t block_x = 0; block_x < grid_w; block_x += merge)
      for (int64_t y = block_y; y < block_y + merge; ++y)
        for (int64_t x = block_x; x < block_x + merge; ++x) {
          rows.push_back(static_cast<int32_t>(y));
          columns.push_back(static_cast<int32_t>(x));
        }
  rows.insert(rows.end(), columns.begin(), columns.end());
  return rows;
}

RotaryTable make_rotary_table(Ops& ops, const Rotary& rotary, std::span<const int32_t> positions, int64_t tokens,
                              Arena& arena) {
  const int64_t half = static_cast<int64_t>(rotary.frequency.size());
  const RotaryTable table{arena.f32({tokens, 2 * half}), arena.f32({tokens, 2 * half})};
  Arena::Scope scope(arena);
  const Tensor at = ops.upload_i32(arena, positions);
  ops.rotary_table(at.reshape({at.size() / tokens, tokens}), ops.upload_i32(arena, rotary.axis),
                   ops.upload_f32(arena, rotary.frequency, {half}), table.cos, table.sin);
  return table;
}

}  // namespace fire
