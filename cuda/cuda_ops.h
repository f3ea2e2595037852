// The operations of ops.h on a GPU. One file per family, as on a CPU: matmul, rows, norm, activation, attention,
// preference, sample, optimizer. This class checks shapes and picks launchers; the arithmetic is in the .cu files.
//
// Everything is queued on one stream. Host memory reaches the device through a pinned ring, so nothing inside a step
// allocates, stops the host or copies from pageable memory; only operations that return values to the host wait.
#pragma once

#include <memory>

#include "cuda/isa.h"
#include "cuda/runtime.h"
#include "ops/ops.h"

namespace fire::cuda {

class PinnedRing;
class CublasLt;
struct Gemm;
struct GemmDevice;
enum class GemmJoin : uint8_t;

/// Makes the device current for the calling thread. Throws ERR_FIRE_NO_DEVICE when there is no such device, or it
/// cannot be used.
DeviceProperties open(int device);

/// `type` is the activation type, f32 or bf16; `spread` is what the host's work runs on. Throws ERR_FIRE_NO_DEVICE when
/// there is no such device.
class CudaOps final : public Ops {
 public:
  enum class GemmChoice : uint8_t { native, cublaslt };
  CudaOps(int device, DType type, GemmChoice gemm, Spread spread = one_by_one);
  ~CudaOps() override;

  std::string device_name() const override;
  std::string gemm_name() const override;
  std::string isa_name() const override;
  int threads() const override { return 1; }  // that queues; the device's own are its business
  DType activation_type() const override { return type_; }
  bool is_gpu() const override { return true; }
  /// Where everything is queued, for who times it with events.
  Stream stream() const { return stream_; }

  size_t workspace_bytes() const override;
  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) override;
  void reserve_weights(size_t bytes) override;
  Tensor adopt(Tensor host) override;
  void upload(const void* host, Tensor device) override;
  void upload_made(Tensor device, const Make& make) override;
  void spread(int64_t tasks, const std::function<void(int64_t)>& task) override { spread_(tasks, task); }
  void download(Tensor device, void* host) override;
  void copy(Tensor from, Tensor to) override;
  void zero(Tensor x) override;
  std::unique_ptr<SideQueue> side_queue() override;

  void linear(Tensor x, Tensor w, Tensor bias, Tensor residual, Tensor y) override;
  void linear_backward(Tensor dy, Tensor w, Tensor dx, bool accumulate) override;
  void draw_mask(const Dropout& dropout, Tensor mask) override;
  void lora_linear(Tensor x, Tensor w, Tensor bias, const LoraView& lora, const Dropout& dropout, Tensor mask,
                   Tensor residual, Tensor h, Tensor y) override;
  void lora_linear_backward(Tensor dy, Tensor x, Tensor w, const LoraView& lora, const Dropout& dropout, Tensor mask,
                            Tensor h, Tensor dh, Tensor da, Tensor db, Tensor dx, bool accumulate) override;
  void linear_branches(Tensor x, std::span<const LinearBranch> branches) override;
  void linear_branches_backward(Tensor x, std::span<const LinearBranch> branches, Tensor dx) override;
  void gated_branches(Tensor x, const LinearBranch& gate, const LinearBranch& up, Tensor product, bool keeps) override;
  void gated_backward(const LinearBranch& down, Tensor gate, Tensor up, Tensor product, Tensor dproduct) override;

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
  double adamw(const AdamW& settings, Tensor param, Tensor rounded, Tensor grad, Tensor m, Tensor v) override;
  double norm(Tensor x) override;

 private:
  /// Device memory of at least `bytes` that outlives the call; grows, never shrinks. A training step asks for at most
  /// gpu_workspace; decoding, sampling and probes may ask for more.
  void* workspace(size_t bytes);
  /// What adapters make of x is queued; the products with W that use it are returned.
  std::vector<Gemm> queue_adapters(Tensor x, std::span<const LinearBranch> branches, Tensor residual);
  void forward(Tensor x, std::span<const LinearBranch> branches, Tensor residual);
  /// The same of dy, and of the products back to dx.
  std::vector<Gemm> queue_adapters_backward(Tensor x, std::span<const LinearBranch> branches, Tensor dx,
                                            bool accumulate);
  void backward(Tensor x, std::span<const LinearBranch> branches, Tensor dx, bool accumulate);
  void add_gradients(const Tensor& x, const LinearBranch& branch);
  /// Asked for at each call: decoding may have let the workspace grow, and move.
  GemmDevice gemm_device();
  void multiply(const Gemm& gemm);
  /// In one launch where they can be.
  void multiply(std::span<const Gemm> gemms, GemmJoin join);
  /// Products with frozen weights: by cuBLASLt, one by one, where it is used and takes the shape.
  void multiply_weight(const Gemm& gemm);
  void multiply_weights(std::span<const Gemm> gemms, GemmJoin join);

  int device_;
  DType type_;
  Spread spread_;
  DeviceProperties properties_;
  Isa isa_;
  Stream stream_ = nullptr;
  std::unique_ptr<PinnedRing> ring_;
  std::unique_ptr<CublasLt> cublaslt_;  // nullptr = our own kernels
  std::unique_ptr<Arena> weights_;      // what adopt copied
  void* workspace_ = nullptr;
  size_t workspace_bytes_ = 0;
};

}  // namespace fire::cuda
