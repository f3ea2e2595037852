// The operations of ops.h on a CPU. One file per family: matmul, rows, norm, activation, attention, preference,
// sample, optimizer. Work is cut into tasks whose results do not depend on which thread runs them.
#pragma once

#include <array>
#include <map>
#include <utility>

#include "cpu/gemm.h"
#include "cpu/thread_pool.h"
#include "ops/ops.h"

namespace fire::cpu {

class CpuOps final : public Ops {
 public:
  /// `threads` 0 = every core this process may run on.
  CpuOps(int threads, Precision precision, Backend backend, WeightPacking packing = {});

  std::string device_name() const override { return "cpu"; }
  std::string gemm_name() const override { return gemm_.backend_name(); }
  std::string isa_name() const override { return gemm_.kernel_name(); }
  int threads() const override { return pool_.size(); }
  const WeightPacking& weight_packing() const override { return packing_; }
  /// Of the weights packed so far.
  size_t packed_bytes() const;

  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) override;
  Tensor adopt(Tensor host) override;
  void upload(const void* host, Tensor device) override;
  void upload_made(Tensor device, const Make& make) override;
  void spread(int64_t tasks, const std::function<void(int64_t)>& task) override;
  void download(Tensor device, void* host) override;
  void copy(Tensor from, Tensor to) override;
  void zero(Tensor x) override;

  // Every operation of ops.h, as in cuda/cuda_ops.h: the compiler holds both lists against it.
  void linear(Tensor x, Tensor w, Tensor bias, Tensor residual, Tensor y) override;
  void linear_backward(Tensor dy, Tensor w, Tensor dx, bool accumulate) override;
  void lora_linear(Tensor x, Tensor w, Tensor bias, const LoraView& lora, const Dropout& dropout, Tensor residual,
                   Tensor h, Tensor y) override;
  void lora_linear_backward(Tensor dy, Tensor x, Tensor w, const LoraView& lora, const Dropout& dropout, Tensor h,
                            Tensor dh, Tensor da, Tensor db, Tensor dx, bool accumulate) override;

  void embedding(Tensor ids, Tensor table, Tensor y) override;
  void gather_rows(Tensor x, Tensor rows, Tensor y) override;
  void scatter_rows(Tensor x, Tensor rows, Tensor y) override;
  void scatter_add_rows(Tensor x, Tensor rows, Tensor y) override;
  void add(Tensor x, Tensor y) override;
  void interpolate_positions(Tensor table, int64_t grid_h, int64_t grid_w, int64_t merge, Tensor y) override;

  void rms_norm(Tensor x, Tensor w, float eps, Tensor y, Tensor rstd) override;
  void rms_norm_backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor residual, Tensor dx) override;
  void layer_norm(Tensor x, Tensor w, Tensor b, float eps, Tensor y) override;
  void rotary_table(Tensor positions, Tensor axis, Tensor frequency, Tensor cos, Tensor sin) override;
  void rope(Tensor x, Tensor cos, Tensor sin) override;
  void rope_backward(Tensor dx, Tensor cos, Tensor sin) override;
  void norm_rope(Tensor x, Tensor w, float eps, Tensor cos, Tensor sin, Tensor y, Tensor rstd) override;
  void norm_rope_backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor cos, Tensor sin, Tensor dx) override;
  void swiglu(Tensor gate, Tensor up, Tensor y) override;
  void swiglu_backward(Tensor dy, Tensor gate, Tensor up, Tensor dgate, Tensor dup) override;
  void gelu(Tensor x, Gelu kind) override;

  void attention(Tensor q, Tensor k, Tensor v, const PreparedPlan& plan, float scale, Tensor o, Tensor lse) override;
  void attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, const PreparedPlan& plan,
                          float scale, Tensor delta, Tensor dq, Tensor dk, Tensor dv) override;
  std::vector<float> attention_weights(Tensor q, Tensor k, const PreparedPlan& plan, float scale,
                                       int32_t query) override;

  void preference_statistics(Tensor z, Tensor zr, int64_t first_column, Tensor targets, Tensor statistics,
                             Tensor target_logits) override;
  void preference_backward(Tensor z, Tensor zr, int64_t first_column, Tensor rows, Tensor targets,
                           Tensor coefficients) override;
  std::vector<SampledToken> sample(Tensor logits, const SamplingRule& rule, std::span<const double> uniforms) override;
  double adamw(const AdamW& settings, Tensor param, Tensor grad, Tensor m, Tensor v) override;
  double norm(Tensor x) override;

 private:
  /// Runs body(begin, end) over [0, n) in slices of `grain`.
  template <class F>
  void for_slices(int64_t n, int64_t grain, F&& body) {
    const int64_t tasks = (n + grain - 1) / grain;
    pool_.parallel_for(tasks, [&](int64_t task, int) { body(task * grain, std::min(n, (task + 1) * grain)); });
  }
  /// Like for_slices over rows of `cols` elements, with slices of about 16 Ki elements.
  template <class F>
  void for_rows(int64_t rows, int64_t cols, F&& body) {
    for_slices(rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, cols)), body);
  }
  /// What a worker keeps memory for; buffers that are used together have a name each.
  enum class Slot : uint8_t { lora_input, scores, score_gradients, queries, gradients, sums, gathered, count };
  /// At least n floats, kept for reuse.
  float* scratch(int worker, Slot slot, size_t n);

  /// W[out, in] as the B of a product, packed now where it is to be and was not yet.
  Operand weight(const Tensor& w, WeightUse use);

  ThreadPool pool_;
  Gemm gemm_;
  WeightPacking packing_;
  std::map<std::pair<const void*, WeightUse>, PackedMatrix> packed_;
  std::vector<std::array<std::vector<float>, static_cast<size_t>(Slot::count)>> scratch_;  // of each worker
  std::vector<std::vector<float>> widened_;                                                // what adopt copied
};

}  // namespace fire::cpu
