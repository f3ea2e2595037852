// linear, LoRA and their backward as calls of one matrix product (gemm.h).
#include "cuda/checks.h"
#include "cuda/cublaslt.h"
#include "cuda/cuda_ops.h"
#include "cuda/dropout.h"
#include "cuda/gemm.h"

namespace fire::cuda {
namespace {

bool is(const Tensor& t, int64_t rows, int64_t cols, DType type) {
  return t.dtype() == type && t.size() == rows * cols && (t.size() == 0 || t.cols() == cols);
}

/// Of the activation type or f32, where ops.h leaves the choice.
bool is_either(const Tensor& t, int64_t rows, int64_t cols, DType activation) {
  return is(t, rows, cols, activation) || is(t, rows, cols, DType::f32);
}

GemmFactor factor(const Tensor& t, bool dropped = false) { return {t.data(), t.dtype(), dropped}; }

bool is_mask(const Tensor& mask, const Dropout& dropout, const Tensor& x) {
  return dropout.rate == 0 || is(mask, x.rows(), mask_words(x.cols()), DType::i32);
}

DropoutMask mask_of(const Dropout& dropout, const Tensor& mask) {
  return {static_cast<const uint32_t*>(mask.data()), static_cast<uint32_t>(mask.rows()),
          static_cast<uint32_t>(mask.cols()), 1.0f / (1.0f - dropout.rate)};
}

void add_residual(Gemm& gemm, const Tensor& residual) {
  if (!residual) return;
  gemm.residual = residual.data();
  gemm.residual_type = residual.dtype();
}

Gemm product(GemmForm form, int64_t m, int64_t n, int64_t k, GemmFactor a, GemmFactor b, const Tensor& y) {
  Gemm gemm;
  gemm.form = form;
  gemm.m = m, gemm.n = n, gemm.k = k;
  gemm.a = a, gemm.b = b;
  gemm.y = y.data();
  gemm.y_type = y.dtype();
  return gemm;
}

}  // namespace

void CudaOps::multiply(const Gemm& gemm) {
  // Asked for at each call: decoding may have let it grow, and move.
  const GemmDevice device{properties_.shared_bytes, static_cast<float*>(workspace(gpu_workspace)), gpu_workspace};
  launch_gemm(stream_, device, type_, gemm);
}

// cuBLASLt knows A B and a multiple of Y only, so everything else is laid into Y first, by our kernel.
void CudaOps::multiply_weight(const Gemm& gemm) {
  if (!cublaslt_ || gemm.a.type != DType::bf16 || gemm.b.type != DType::bf16) return multiply(gemm);
  const bool in_place = gemm.residual == gemm.y && gemm.residual_type == gemm.y_type;
  if (gemm.rank > 0 || gemm.bias != nullptr || (gemm.residual != nullptr && !in_place)) {
    Gemm rest = gemm;
    rest.k = 0;
    multiply(rest);
  }
  Gemm base = product(gemm.form, gemm.m, gemm.n, gemm.k, gemm.a, gemm.b, Tensor(gemm.y, gemm.y_type, {}));
  if (gemm.rank > 0 || gemm.bias != nullptr || gemm.residual != nullptr) {
    base.residual = gemm.y;
    base.residual_type = gemm.y_type;
  }
  const CublasLt::Operand layout = gemm.form == GemmForm::nt ? CublasLt::Operand::transposed : CublasLt::Operand::plain;
  const bool done =
      cublaslt_->matmul(static_cast<const bf16*>(gemm.a.data), static_cast<const bf16*>(gemm.b.data), layout, gemm.y,
                        gemm.y_type, gemm.m, gemm.n, gemm.k, base.residual == nullptr ? 0.0f : 1.0f, stream_);
  if (!done) multiply(base);
}

void CudaOps::linear(Tensor x, Tensor w, Tensor bias, Tensor residual, Tensor y) {
  const int64_t out = w.rows(), in = w.cols(), tokens = x.rows();
  require(is(x, tokens, in, type_) && is(w, out, in, type_) && is_either(y, tokens, out, type_) &&
              (!bias || is_f32(bias, out)) && (!residual || is_either(residual, tokens, out, type_)),
          "linear", {x, w, bias, residual, y});
  Gemm gemm = product(GemmForm::nt, tokens, out, in, factor(x), factor(w), y);
  if (bias) gemm.bias = bias.f32();
  add_residual(gemm, residual);
  multiply_weight(gemm);
}

void CudaOps::linear_backward(Tensor dy, Tensor w, Tensor dx, bool accumulate) {
  const int64_t out = w.rows(), in = w.cols(), tokens = dy.rows();
  require(is_either(dy, tokens, out, type_) && is(w, out, in, type_) && is_either(dx, tokens, in, type_),
          "linear_backward", {dy, w, dx});
  Gemm gemm = product(GemmForm::nn, tokens, in, out, factor(dy), factor(w), dx);
  if (accumulate) add_residual(gemm, dx);
  multiply_weight(gemm);
}

void CudaOps::draw_mask(const Dropout& dropout, Tensor mask) {
  launch_draw_mask(stream_, dropout, mask.rows(), mask.cols(), reinterpret_cast<uint32_t*>(mask.i32()));
}

void CudaOps::lora_linear(Tensor x, Tensor w, Tensor bias, const LoraView& lora, const Dropout& dropout, Tensor mask,
                          Tensor residual, Tensor h, Tensor y) {
  const int64_t out = w.rows(), in = w.cols(), tokens = x.rows(), rank = lora.a.rows();
  require(is(x, tokens, in, type_) && is(w, out, in, type_) && is(lora.a, rank, in, type_) &&
              is(lora.b, out, rank, type_) && is_either(h, tokens, rank, type_) && is_either(y, tokens, out, type_) &&
              (!bias || is_f32(bias, out)) && (!residual || is_either(residual, tokens, out, type_)) &&
              is_mask(mask, dropout, x),
          "lora_linear", {x, w, bias, lora.a, lora.b, mask, residual, h, y});

  Gemm down = product(GemmForm::nt, tokens, rank, in, factor(x, dropout.rate > 0), factor(lora.a), h);
  down.mask = mask_of(dropout, mask);
  multiply(down);

  Gemm gemm = product(GemmForm::nt, tokens, out, in, factor(x), factor(w), y);
  gemm.rank = rank;
  gemm.low_a = factor(h);
  gemm.low_b = factor(lora.b);
  gemm.low_scale = lora.scale;
  if (bias) gemm.bias = bias.f32();
  add_residual(gemm, residual);
  multiply_weight(gemm);
}

void CudaOps::lora_linear_backward(Tensor dy, Tensor x, Tensor w, const LoraView& lora, const Dropout& dropout,
                                   Tensor mask, Tensor h, Tensor dh, Tensor da, Tensor db, Tensor dx, bool accumulate) {
  const int64_t out = w.rows(), in = w.cols(), tokens = x.rows(), rank = lora.a.rows();
  require(is(dy, tokens, out, type_) && is(x, tokens, in, type_) && is(w, out, in, type_) &&
              is(lora.a, rank, in, type_) && is(lora.b, out, rank, type_) && is_either(h, tokens, rank, type_) &&
              is_either(dh, tokens, rank, type_) && is(da, rank, in, DType::f32) && is(db, out, rank, DType::f32) &&
              (!dx || is_either(dx, tokens, in, type_)) && is_mask(mask, dropout, x),
          "lora_linear_backward", {dy, x, w, lora.a, lora.b, mask, h, dh, da, db, dx});
  if (tokens == 0) return;  // nothing to add to dA and dB

  Gemm down = product(GemmForm::nn, tokens, rank, out, factor(dy), factor(lora.b), dh);
  down.alpha = lora.scale;
  multiply(down);

  Gemm b = product(GemmForm::tn, out, rank, tokens, factor(dy), factor(h), db);
  b.alpha = lora.scale;
  add_residual(b, db);
  multiply(b);

  Gemm a = product(GemmForm::tn, rank, in, tokens, factor(dh), factor(x, dropout.rate > 0), da);
  a.mask = mask_of(dropout, mask);
  add_residual(a, da);
  multiply(a);

  if (!dx) return;
  Gemm gemm = product(GemmForm::nn, tokens, in, out, factor(dy), factor(w), dx);
  gemm.rank = rank;
  gemm.low_a = factor(dh);
  gemm.low_b = factor(lora.a);
  gemm.low_masked = dropout.rate > 0;
  gemm.mask = mask_of(dropout, mask);
  if (accumulate) add_residual(gemm, dx);
  multiply_weight(gemm);
}

}  // namespace fire::cuda
