// Operations that do nothing on memory that is not there: the model and the objective run as always, and the arena's
// high-water mark is then the exact memory plan of the real run. Results of value-returning operations are zeros.
#pragma once

#include "ops/ops.h"

namespace fire {

class NullOps final : public Ops {
 public:
  std::string device_name() const override { return "none"; }
  std::string gemm_name() const override { return "none"; }
  std::string isa_name() const override { return "none"; }
  int threads() const override { return 1; }
  bool dry() const override { return true; }

  Tensor adopt(Tensor host) override { return host; }
  void* allocate(size_t) override { return reinterpret_cast<void*>(uintptr_t{64}); }
  void release(void*, size_t) override {}
  void upload(const void*, Tensor) override {}
  void download(Tensor, void*) override {}
  void copy(Tensor, Tensor) override {}
  void zero(Tensor) override {}
  void linear(Tensor, Tensor, Tensor, Tensor) override {}
  void linear_backward(Tensor, Tensor, Tensor, bool) override {}
  void lora(Tensor, const LoraView&, const Dropout&, Tensor, Tensor) override {}
  void lora_backward(Tensor, Tensor, Tensor, const LoraView&, const Dropout&, Tensor, Tensor, Tensor) override {}
  void embedding(Tensor, Tensor, Tensor) override {}
  void gather_rows(Tensor, Tensor, Tensor) override {}
  void scatter_rows(Tensor, Tensor, Tensor) override {}
  void scatter_add_rows(Tensor, Tensor, Tensor) override {}
  void add(Tensor, Tensor) override {}
  void rms_norm(Tensor, Tensor, float, Tensor, Tensor) override {}
  void rms_norm_backward(Tensor, Tensor, Tensor, Tensor, Tensor, bool) override {}
  void layer_norm(Tensor, Tensor, Tensor, float, Tensor) override {}
  void rope(Tensor, Tensor, Tensor, float) override {}
  void swiglu(Tensor, Tensor, Tensor) override {}
  void swiglu_backward(Tensor, Tensor, Tensor, Tensor, Tensor) override {}
  void gelu(Tensor, Gelu) override {}
  void attention(Tensor, Tensor, Tensor, const AttentionPlan&, float, Tensor, Tensor) override {}
  void attention_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, const AttentionPlan&, float, Tensor, Tensor,
                          Tensor) override {}
  std::vector<float> attention_weights(Tensor q, Tensor k, const AttentionPlan&, float, int32_t) override {
    return std::vector<float>(static_cast<size_t>(q.dim(1) * k.dim(0)));
  }
  void log_sum_exp(Tensor, Tensor) override {}
  std::vector<double> target_logprobs(Tensor, Tensor, std::span<const RowTarget> targets) override {
    return std::vector<double>(targets.size());
  }
  void token_kl(Tensor, Tensor, Tensor, Tensor, std::span<const int32_t> rows, std::vector<double>& forward,
                std::vector<double>& reverse) override {
    forward.assign(rows.size(), 0);
    reverse.assign(rows.size(), 0);
  }
  void preference_backward(Tensor, Tensor, Tensor, Tensor, std::span<const int32_t>, std::span<const double>,
                           const RowGradient&, std::span<const RowTarget>, std::span<const float>) override {}
  double sum_of_squares(Tensor) override { return 0; }
  void adamw(const AdamW&, Tensor, Tensor, Tensor, Tensor) override {}
};

}  // namespace fire
