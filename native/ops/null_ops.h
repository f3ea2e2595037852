// Operations that do nothing on memory that is not there: the model and the objective run as always, and the arena's
// high-water mark is then the exact memory plan of the real run. Results of value-returning operations are zeros.
#pragma once

#include "ops/ops.h"

namespace fire {

class NullOps final : public Ops {
 public:
  NullOps(DType activation_type, bool is_gpu, WeightPacking packing = {}, size_t workspace_bytes = 0)
      : activation_type_(activation_type),
        is_gpu_(is_gpu),
        packing_(std::move(packing)),
        workspace_bytes_(workspace_bytes) {}
  /// Pretends to be a device like `device`: the same types, the same tables, the same packed weights.
  explicit NullOps(const Ops& device)
      : NullOps(device.activation_type(), device.is_gpu(), device.weight_packing(), device.workspace_bytes()) {}

  /// What a device takes beside the arena: a GPU its workspaces, a CPU the inputs that dropout makes again
  /// (cpu/matmul.cpp).
  size_t scratch_bytes() const { return is_gpu_ ? workspace_bytes_ : scratch_bytes_; }
  /// And the weights that were used and are packed.
  size_t packed_bytes() const {
    size_t bytes = 0;
    for (const auto& [key, taken] : packed_) bytes += taken;
    return bytes;
  }

  std::string device_name() const override { return is_gpu_ ? "cuda (plan)" : "cpu (plan)"; }
  std::string gemm_name() const override { return "none"; }
  std::string isa_name() const override { return "none"; }
  int threads() const override { return 1; }
  bool dry() const override { return true; }
  DType activation_type() const override { return activation_type_; }
  bool is_gpu() const override { return is_gpu_; }

  const WeightPacking& weight_packing() const override { return packing_; }
  size_t workspace_bytes() const override { return workspace_bytes_; }

  Tensor adopt(Tensor host) override {
    if (is_gpu_) return host.of(allocate(0), host.rank() >= 2 ? activation_type_ : DType::f32);
    // Twice the address for twice the bytes: copies of different weights do not overlap, those of one weight are one.
    if (host.dtype() == DType::f16)
      host = host.of(reinterpret_cast<void*>(2 * reinterpret_cast<uintptr_t>(host.data())), DType::f32);
    packing_.add(host);
    return host;
  }
  void* allocate(size_t) override { return reinterpret_cast<void*>(uintptr_t{64}); }
  void release(void*, size_t) override {}
  void upload(const void*, Tensor) override {}
  void upload_made(Tensor, const Make&) override {}
  void download(Tensor, void*) override {}
  void copy(Tensor, Tensor) override {}
  void zero(Tensor) override {}
  void linear(Tensor, Tensor w, Tensor, Tensor, Tensor) override { use(w, WeightUse::forward); }
  void linear_backward(Tensor, Tensor w, Tensor, bool) override { use(w, WeightUse::backward); }
  void lora_linear(Tensor x, Tensor w, Tensor, const LoraView&, const Dropout& dropout, Tensor, Tensor,
                   Tensor) override {
    use(w, WeightUse::forward);
    if (dropout.rate > 0)
      scratch_bytes_ = std::max(scratch_bytes_, static_cast<size_t>(x.rows() * x.cols()) * sizeof(float));
  }
  void lora_linear_backward(Tensor, Tensor, Tensor w, const LoraView&, const Dropout&, Tensor, Tensor, Tensor, Tensor,
                            Tensor dx, bool) override {
    if (dx) use(w, WeightUse::backward);
  }
  void embedding(Tensor, Tensor, Tensor) override {}
  void gather_rows(Tensor, Tensor, Tensor) override {}
  void scatter_rows(Tensor, Tensor, Tensor) override {}
  void scatter_add_rows(Tensor, Tensor, Tensor) override {}
  void add(Tensor, Tensor) override {}
  void interpolate_positions(Tensor, int64_t, int64_t, int64_t, Tensor) override {}
  void rms_norm(Tensor, Tensor, float, Tensor, Tensor) override {}
  void rms_norm_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor) override {}
  void layer_norm(Tensor, Tensor, Tensor, float, Tensor) override {}
  void rotary_table(Tensor, Tensor, Tensor, Tensor, Tensor) override {}
  void rope(Tensor, Tensor, Tensor) override {}
  void rope_backward(Tensor, Tensor, Tensor) override {}
  void norm_rope(Tensor, Tensor, float, Tensor, Tensor, Tensor, Tensor) override {}
  void norm_rope_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor) override {}
  void swiglu(Tensor, Tensor, Tensor) override {}
  void swiglu_backward(Tensor, Tensor, Tensor, Tensor, Tensor) override {}
  void gelu(Tensor, Gelu) override {}
  void attention(Tensor, Tensor, Tensor, const PreparedPlan&, float, Tensor, Tensor) override {}
  void attention_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, const PreparedPlan&, float, Tensor, Tensor,
                          Tensor, Tensor) override {}
  std::vector<float> attention_weights(Tensor q, Tensor k, const PreparedPlan&, float, int32_t) override {
    return std::vector<float>(static_cast<size_t>(q.dim(1) * k.dim(0)));
  }
  void preference_statistics(Tensor, Tensor, int64_t, Tensor, Tensor, Tensor) override {}
  void preference_backward(Tensor, Tensor, int64_t, Tensor, Tensor, Tensor) override {}
  std::vector<SampledToken> sample(Tensor logits, const SamplingRule&, std::span<const double>) override {
    return std::vector<SampledToken>(static_cast<size_t>(logits.rows()));
  }
  double adamw(const AdamW&, Tensor, Tensor, Tensor, Tensor) override { return 0; }
  double norm(Tensor) override { return 0; }

 private:
  void use(const Tensor& w, WeightUse use) {
    if (const Tensor* whole = packing_.find(w, use)) packed_[{whole->data(), use}] = packing_.bytes(*whole, use);
  }

  DType activation_type_;
  bool is_gpu_;
  WeightPacking packing_;
  size_t workspace_bytes_;
  std::map<std::pair<const void*, WeightUse>, size_t> packed_;
  size_t scratch_bytes_ = 0;
};

}  // namespace fire
