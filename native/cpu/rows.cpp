// Embedding look-up, row gathers and scatters, addition.
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

}  // namespace fire::cpu
