// linear, LoRA and their backward in terms of one strided matrix product.
#include <vector>

#include "cpu/cpu_ops.h"
#include "tensor/rng.h"

namespace fire::cpu {
namespace {

/// x as [rows, cols].
Operand plain(const Tensor& x) { return {x.data(), x.dtype(), x.cols(), 1}; }
/// x^T as [cols, rows].
Operand transposed(const Tensor& x) { return {x.data(), x.dtype(), 1, x.cols()}; }

/// dst = x * mask / (1 - rate), or dst += with `accumulate`; four columns share one Philox block.
void apply_mask(const float* x, float* dst, int64_t row, int64_t cols, const Dropout& d, bool accumulate) {
  const float keep = 1.0f / (1.0f - d.rate);
  const uint32_t* key = d.row_keys + 2 * row;
  for (int64_t c = 0; c < cols; c += 4) {
    const Philox4 bits = philox(d.seed, {static_cast<uint32_t>(c / 4), key[0],
                                         d.module << 4 | static_cast<uint32_t>(RngStream::dropout), key[1]});
    for (int64_t i = c; i < std::min(c + 4, cols); ++i) {
      const float value = uniform24(bits[static_cast<size_t>(i - c)]) < d.rate ? 0.0f : x[i] * keep;
      dst[i] = accumulate ? dst[i] + value : value;
    }
  }
}

}  // namespace

Operand CpuOps::weight(const Tensor& w, WeightUse use) {
  const bool forward = use == WeightUse::forward;
  const auto operand = [&](const Tensor& matrix) { return forward ? transposed(matrix) : plain(matrix); };
  Operand b = operand(w);
  const Tensor* whole = packing_.find(w, use);
  if (!whole) return b;
  const std::pair key(static_cast<const void*>(whole->data()), use);
  auto at = packed_.find(key);
  if (at == packed_.end()) {
    const int64_t out = whole->rows(), in = whole->cols();
    at = packed_.emplace(key, gemm_.pack(forward ? in : out, forward ? out : in, operand(*whole))).first;
  }
  const auto offset = static_cast<const char*>(w.data()) - static_cast<const char*>(whole->data());
  const int64_t first = offset / static_cast<int64_t>(size_of(w.dtype())) / w.cols();
  b.packed = {&at->second, forward ? 0 : first, forward ? first : 0};
  return b;
}

void CpuOps::linear(Tensor x, Tensor w, Tensor bias, Tensor residual, Tensor y) {
  const int64_t m = x.rows(), n = w.rows(), k = w.cols();
  float beta = 0;
  if (bias) {
    const std::vector<float> b = widen(bias);
    for_rows(m, n, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) std::copy(b.begin(), b.end(), y.f32() + i * n);
    });
    beta = 1;
  }
  gemm_(m, n, k, 1.0f, plain(x), weight(w, WeightUse::forward), beta, y.f32(), n);
  if (residual) add(residual, y);
}

void CpuOps::linear_backward(Tensor dy, Tensor w, Tensor dx, bool accumulate) {
  gemm_(dy.rows(), w.cols(), w.rows(), 1.0f, plain(dy), weight(w, WeightUse::backward), accumulate ? 1.0f : 0.0f,
        dx.f32(), w.cols());
}

void CpuOps::lora_linear(Tensor x, Tensor w, Tensor bias, const LoraView& lora, const Dropout& dropout, Tensor,
                         Tensor residual, Tensor h, Tensor y) {
  linear(x, w, bias, {}, y);
  const int64_t tokens = x.rows(), in = x.cols(), r = lora.a.rows(), out = lora.b.rows();
  if (dropout.rate > 0) {
    float* dropped = scratch(0, Slot::lora_input, static_cast<size_t>(tokens * in));
    for_rows(tokens, in, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) apply_mask(x.f32() + i * in, dropped + i * in, i, in, dropout, false);
    });
    x = Tensor(dropped, DType::f32, {tokens, in});
  }
  gemm_(tokens, r, in, 1.0f, plain(x), transposed(lora.a), 0.0f, h.f32(), r);
  gemm_(tokens, out, r, lora.scale, plain(h), transposed(lora.b), 1.0f, y.f32(), out);
  if (residual) add(residual, y);
}

void CpuOps::lora_linear_backward(Tensor dy, Tensor x, Tensor w, const LoraView& lora, const Dropout& dropout, Tensor,
                                  Tensor h, Tensor dh, Tensor da, Tensor db, Tensor dx, bool accumulate) {
  if (dx) linear_backward(dy, w, dx, accumulate);
  const int64_t tokens = x.rows(), in = x.cols(), r = lora.a.rows(), out = lora.b.rows();
  gemm_(out, r, tokens, lora.scale, transposed(dy), plain(h), 1.0f, db.f32(), r);
  gemm_(tokens, r, out, lora.scale, plain(dy), plain(lora.b), 0.0f, dh.f32(), r);

  if (dropout.rate == 0) {
    gemm_(r, in, tokens, 1.0f, transposed(dh), plain(x), 1.0f, da.f32(), in);
    if (dx) gemm_(tokens, in, r, 1.0f, plain(dh), plain(lora.a), 1.0f, dx.f32(), in);
    return;
  }
  // The masked input is made again; its memory then holds dh A on the way to dx.
  float* buffer = scratch(0, Slot::lora_input, static_cast<size_t>(tokens * in));
  const Tensor dropped(buffer, DType::f32, {tokens, in});
  for_rows(tokens, in, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) apply_mask(x.f32() + i * in, buffer + i * in, i, in, dropout, false);
  });
  gemm_(r, in, tokens, 1.0f, transposed(dh), plain(dropped), 1.0f, da.f32(), in);
  if (!dx) return;
  gemm_(tokens, in, r, 1.0f, plain(dh), plain(lora.a), 0.0f, buffer, in);
  for_rows(tokens, in, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) apply_mask(buffer + i * in, dx.f32() + i * in, i, in, dropout, true);
  });
}

}  // namespace fire::cpu
