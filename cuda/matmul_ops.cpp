// linear, LoRA and their backward as calls of one matrix product (gemm.h).
#include "cuda/checks.h"
#include "cuda/cublaslt.h"
#include "cuda/cuda_ops.h"
#include "cuda/dropout.h"
#include "cuda/gemm.h"
#include "cuda/gemm_gated.h"

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

/// Of a sum, each adds to what is there.
template <class F>
void in_turn(std::span<const Gemm> gemms, GemmJoin join, const F& multiply) {
  for (size_t i = 0; i < gemms.size(); ++i) {
    Gemm gemm = gemms[i];
    if (join == GemmJoin::summed && i > 0) gemm.residual = gemm.y, gemm.residual_type = gemm.y_type;
    multiply(gemm);
  }
}

}  // namespace

void CudaOps::multiply(const Gemm& gemm) { multiply({&gemm, 1}, GemmJoin::beside); }

void CudaOps::multiply(std::span<const Gemm> gemms, GemmJoin join) {
  if (gemms.empty()) return;
  const GemmDevice device = gemm_device();
  const int count = static_cast<int>(gemms.size());
  if (gemm_joins(gemms.data(), count, join)) return launch_gemm(stream_, device, type_, gemms.data(), count, join);
  in_turn(gemms, join, [&](const Gemm& gemm) { launch_gemm(stream_, device, type_, &gemm, 1, join); });
}

GemmDevice CudaOps::gemm_device() {
  return {properties_.shared_bytes, static_cast<float*>(workspace(gpu_workspace)), gpu_workspace, isa_ == Isa::sm_90a,
          properties_.multiprocessors};
}

void CudaOps::multiply_weights(std::span<const Gemm> gemms, GemmJoin join) {
  if (!cublaslt_) return multiply(gemms, join);
  in_turn(gemms, join, [&](const Gemm& gemm) { multiply_weight(gemm); });
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

std::vector<Gemm> CudaOps::queue_adapters(Tensor x, std::span<const LinearBranch> branches, Tensor residual) {
  std::vector<Gemm> down, up;
  for (const auto& [w, bias, y, lora, dropout, mask, h, dh, da, db] : branches) {
    const int64_t out = w.rows(), in = w.cols(), tokens = x.rows(), rank = lora.a ? lora.a.rows() : 0;
    require(is(x, tokens, in, type_) && is(w, out, in, type_) && is_either(y, tokens, out, type_) &&
                (!bias || is_f32(bias, out)) && (!residual || is_either(residual, tokens, out, type_)),
            "linear", {x, w, bias, residual, y});
    Gemm gemm = product(GemmForm::nt, tokens, out, in, factor(x), factor(w), y);
    if (bias) gemm.bias = bias.f32();
    add_residual(gemm, residual);
    if (lora.a) {
      require(is(lora.a, rank, in, type_) && is(lora.b, out, rank, type_) && is_either(h, tokens, rank, type_) &&
                  is_mask(mask, dropout, x),
              "lora_linear", {x, w, lora.a, lora.b, mask, h});
      down.push_back(product(GemmForm::nt, tokens, rank, in, factor(x, dropout.rate > 0), factor(lora.a), h));
      down.back().mask = mask_of(dropout, mask);
      gemm.rank = rank;
      gemm.low_a = factor(h);
      gemm.low_b = factor(lora.b);
      gemm.low_scale = lora.scale;
    }
    up.push_back(gemm);
  }
  multiply(down, GemmJoin::beside);
  return up;
}

void CudaOps::forward(Tensor x, std::span<const LinearBranch> branches, Tensor residual) {
  multiply_weights(queue_adapters(x, branches, residual), GemmJoin::beside);
}

std::vector<Gemm> CudaOps::queue_adapters_backward(Tensor x, std::span<const LinearBranch> branches, Tensor dx,
                                                   bool accumulate) {
  std::vector<Gemm> down, back;
  for (const auto& [w, bias, dy, lora, dropout, mask, h, dh, da, db] : branches) {
    const int64_t out = w.rows(), in = w.cols(), tokens = dy.rows();
    require(is_either(dy, tokens, out, type_) && is(w, out, in, type_) && (!dx || is_either(dx, tokens, in, type_)),
            "linear_backward", {dy, w, dx});
    Gemm gemm = product(GemmForm::nn, tokens, in, out, factor(dy), factor(w), dx);
    if (accumulate) add_residual(gemm, dx);
    if (lora.a) {
      const int64_t rank = lora.a.rows();
      require(is(dy, tokens, out, type_) && is(x, tokens, in, type_) && is(lora.a, rank, in, type_) &&
                  is(lora.b, out, rank, type_) && is_either(h, tokens, rank, type_) &&
                  is_either(dh, tokens, rank, type_) && is(da, rank, in, DType::f32) && is(db, out, rank, DType::f32) &&
                  is_mask(mask, dropout, x),
              "lora_linear_backward", {dy, x, w, lora.a, lora.b, mask, h, dh, da, db});
      down.push_back(product(GemmForm::nn, tokens, rank, out, factor(dy), factor(lora.b), dh));
      down.back().alpha = lora.scale;
      gemm.rank = rank;
      gemm.low_a = factor(dh);
      gemm.low_b = factor(lora.a);
      gemm.low_masked = dropout.rate > 0;
      gemm.mask = mask_of(dropout, mask);
    }
    back.push_back(gemm);
  }
  multiply(down, GemmJoin::beside);
  return back;
}

void CudaOps::backward(Tensor x, std::span<const LinearBranch> branches, Tensor dx, bool accumulate) {
  const std::vector<Gemm> back = queue_adapters_backward(x, branches, dx, accumulate);
  for (const LinearBranch& branch : branches)
    if (branch.lora.a) add_gradients(x, branch);
  if (dx) multiply_weights(back, GemmJoin::summed);
}

// Each by itself: cut into parts (gemm_chunk) they have blocks enough.
void CudaOps::add_gradients(const Tensor& x, const LinearBranch& branch) {
  const auto& [w, bias, dy, lora, dropout, mask, h, dh, da, db] = branch;
  const int64_t out = w.rows(), in = w.cols(), tokens = x.rows(), rank = lora.a.rows();
  if (tokens == 0) return;
  Gemm b = product(GemmForm::tn, out, rank, tokens, factor(dy), factor(h), db);
  b.alpha = lora.scale;
  add_residual(b, db);
  multiply(b);

  Gemm a = product(GemmForm::tn, rank, in, tokens, factor(dh), factor(x, dropout.rate > 0), da);
  a.mask = mask_of(dropout, mask);
  add_residual(a, da);
  multiply(a);
}

void CudaOps::linear(Tensor x, Tensor w, Tensor bias, Tensor residual, Tensor y) {
  const LinearBranch one{.w = w, .bias = bias, .y = y};
  forward(x, {&one, 1}, residual);
}

void CudaOps::linear_backward(Tensor dy, Tensor w, Tensor dx, bool accumulate) {
  const LinearBranch one{.w = w, .y = dy};
  backward({}, {&one, 1}, dx, accumulate);
}

void CudaOps::draw_mask(const Dropout& dropout, Tensor mask) {
  launch_draw_mask(stream_, dropout, mask.rows(), mask.cols(), reinterpret_cast<uint32_t*>(mask.i32()));
}

void CudaOps::lora_linear(Tensor x, Tensor w, Tensor bias, const LoraView& lora, const Dropout& dropout, Tensor mask,
                          Tensor residual, Tensor h, Tensor y) {
  const LinearBranch one{w, bias, y, lora, dropout, mask, h};
  forward(x, {&one, 1}, residual);
}

void CudaOps::lora_linear_backward(Tensor dy, Tensor x, Tensor w, const LoraView& lora, const Dropout& dropout,
                                   Tensor mask, Tensor h, Tensor dh, Tensor da, Tensor db, Tensor dx, bool accumulate) {
  const LinearBranch one{w, {}, dy, lora, dropout, mask, h, dh, da, db};
  backward(x, {&one, 1}, dx, accumulate);
}

void CudaOps::linear_branches(Tensor x, std::span<const LinearBranch> branches) { forward(x, branches, {}); }

void CudaOps::linear_branches_backward(Tensor x, std::span<const LinearBranch> branches, Tensor dx) {
  backward(x, branches, dx, false);
}

void CudaOps::gated_branches(Tensor x, const LinearBranch& gate, const LinearBranch& up, Tensor product, bool keeps) {
  require(alike(gate.y, up.y) && alike(gate.y, product), "gated_branches", {gate.y, up.y, product});
  const LinearBranch both[] = {gate, up};
  const std::vector<Gemm> products = queue_adapters(x, both, {});
  if (!cublaslt_ && launch_gated_gemm(stream_, gemm_device(), type_, products[0], products[1], product.data(), keeps))
    return;
  multiply_weights(products, GemmJoin::beside);
  swiglu(gate.y, up.y, product);
}

void CudaOps::gated_backward(const LinearBranch& down, Tensor gate, Tensor up, Tensor product, Tensor dproduct) {
  require(alike(gate, up) && alike(gate, product) && alike(gate, dproduct), "gated_backward",
          {gate, up, product, dproduct});
  const std::vector<Gemm> back = queue_adapters_backward(product, {&down, 1}, dproduct, false);
  const bool adapted = static_cast<bool>(down.lora.a);
  if (cublaslt_ || !launch_gated_backward(stream_, gemm_device(), type_, back[0], gate.data(), up.data(),
                                          adapted ? product.data() : nullptr)) {
    if (adapted) swiglu(gate, up, product);
    multiply_weights(back, GemmJoin::summed);
    swiglu_backward(dproduct, gate, up, gate, up);
  }
  if (adapted) add_gradients(product, down);
}

}  // namespace fire::cuda
