// Embedding look-up, row gathers and scatters, addition, resampled position tables.
#include <algorithm>
#include <cstring>

#include "cpu/cpu_ops.h"

namespace fire::cpu {

void CpuOps::embedding(Tensor ids, Tensor table, Tensor y) {
  const int64_t n = ids.size(), width = table.cols();
  const int32_t* id = ids.i32();
  for_rows(n, width, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* out = y.f32() + i * width;
      if (table.dtype() == DType::f32) {
        std::memcpy(out, table.f32() + id[i] * width, static_cast<size_t>(width) * sizeof(float));
      } else {
        const bf16* in = table.b16() + id[i] * width;
        for (int64_t c = 0; c < width; ++c) out[c] = to_float(in[c]);
      }
    }
  });
}

void CpuOps::gather_rows(Tensor x, Tensor rows, Tensor y) {
  const int64_t width = x.cols();
  const int32_t* row = rows.i32();
  for_rows(rows.size(), width, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(y.f32() + i * width, x.f32() + row[i] * width, static_cast<size_t>(width) * sizeof(float));
  });
}

void CpuOps::scatter_rows(Tensor x, Tensor rows, Tensor y) {
  const int64_t width = x.cols();
  const int32_t* row = rows.i32();
  for_rows(rows.size(), width, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(y.f32() + row[i] * width, x.f32() + i * width, static_cast<size_t>(width) * sizeof(float));
  });
}

void CpuOps::scatter_add_rows(Tensor x, Tensor rows, Tensor y) {
  const int64_t width = x.cols();
  const int32_t* row = rows.i32();
  for_rows(rows.size(), width, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* in = x.f32() + i * width;
      float* out = y.f32() + row[i] * width;
      for (int64_t c = 0; c < width; ++c) out[c] += in[c];
    }
  });
}

void CpuOps::add(Tensor x, Tensor y) {
  const float* in = x.f32();
  float* out = y.f32();
  for_slices(x.size(), 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] += in[i];
  });
}

void CpuOps::interpolate_positions(Tensor table, int64_t grid_h, int64_t grid_w, int64_t merge, Tensor y) {
  const int64_t width = table.cols(), per_block = merge * merge, blocks_wide = grid_w / merge;
  int64_t side = 0;
  while (side * side < table.rows()) ++side;
  struct Tap {
    int64_t low, high;
    float weight;
  };
  auto tap = [side](int64_t at, int64_t count) {
    const float place =
        static_cast<float>(at) * static_cast<float>(side - 1) / static_cast<float>(std::max<int64_t>(count - 1, 1));
    const int64_t low = static_cast<int64_t>(place);
    return Tap{low, std::min(low + 1, side - 1), place - static_cast<float>(low)};
  };
  for_rows(grid_h * grid_w, width, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = i / per_block, inside = i % per_block;
      const Tap v = tap(block / blocks_wide * merge + inside / merge, grid_h);
      const Tap h = tap(block % blocks_wide * merge + inside % merge, grid_w);
      for (int64_t c = 0; c < width; ++c) {
        auto at = [&](int64_t row, int64_t col) {
          const int64_t place = (row * side + col) * width + c;
          return table.dtype() == DType::f32 ? table.f32()[place] : to_float(table.b16()[place]);
        };
        y.f32()[i * width + c] =
            (1 - v.weight) * (1 - h.weight) * at(v.low, h.low) + (1 - v.weight) * h.weight * at(v.low, h.high) +
            v.weight * (1 - h.weight) * at(v.high, h.low) + v.weight * h.weight * at(v.high, h.high);
      }
    }
  });
}

}  // namespace fire::cpu
