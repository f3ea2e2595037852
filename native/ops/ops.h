// The one list of operations. A device implements this interface (cpu/, cuda/); the model, the objective and the
// generator are written against it and against nothing else.
//
// Conventions
//   - Matrices are row-major. T tokens (packed, no padding), H hidden, V vocabulary, P gathered rows, r LoRA rank,
//     n heads, n_kv key/value heads, d head width.
//   - Activations, gradients, adapters and all loss math are f32. Weights are f32 or bf16 and used as they are stored.
//     In bf16 mode the operands of matrix products are rounded to bf16 and accumulated in f32.
//   - An output is overwritten unless the comment says `+=`.
//   - Index tensors (`i32`) live on the device: see `upload`.
//   - Results do not depend on the number of threads, and row i of an output depends only on row i of the inputs
//     (and what it attends to), bit for bit: a sequence gets the same numbers alone and in any batch.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace fire {

/// Which rows of q see which rows of k and v. Every query row of a span sees the keys [prefix_begin, prefix_end) and,
/// of [own_begin, own_end), all (`causal` false) or those up to its own key row `key_row[q]` (`causal` true).
/// Spans of one `group` may read the same keys; different groups never do (backward relies on it).
struct AttentionSpan {
  int32_t query_begin, query_end;
  int32_t prefix_begin, prefix_end;
  int32_t own_begin, own_end;
  bool causal;
  int32_t group;
};

struct AttentionPlan {
  std::vector<AttentionSpan> spans;
  /// Per query row, the key row at the same place of its sequence. Used by causal spans only.
  std::vector<int32_t> key_row;
  int32_t groups = 0;
};

/// Inverted dropout on the input of a LoRA A matrix. The mask of element (row, column) is a Philox value keyed by
/// `seed` and counted by (row, column, module, pass); `rate` 0 switches it off.
struct Dropout {
  float rate = 0;
  uint64_t seed = 0;
  uint32_t module = 0;
  uint32_t pass = 0;
};

/// One adapted linear: A [r, in], B [out, r], f32; `scale` is alpha/r or alpha/sqrt(r).
struct LoraView {
  Tensor a, b;
  float scale = 0;
};

enum class Gelu : uint8_t { tanh, erf };

/// One scored token: `target` read from gathered row `row`.
struct RowTarget {
  int32_t row, target;
};

/// What backward of the loss needs per gathered row p, besides the targets (derivation: docs/objectives.md).
///   dz[p] = sum_{targets k of p} coefficient_k * onehot(k) - mass[p] * softmax(z[p])
///         + forward_kl[p] * (softmax(z[p]) - softmax(zr[p]))
///         + reverse_kl[p] * softmax(z[p]) * ((log softmax(z[p]) - log softmax(zr[p])) - KL(policy || ref)[p])
/// with mass[p] = sum of the coefficients at p.
struct RowGradient {
  std::vector<float> mass, forward_kl, reverse_kl;  // each [P]
};

struct AdamW {
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;       // 1 for the first update
  double grad_scale;  // clipping: every gradient is multiplied by it
};

class Ops {
 public:
  virtual ~Ops() = default;

  // --- device -------------------------------------------------------------------------------------------------
  virtual std::string device_name() const = 0;
  virtual std::string gemm_name() const = 0;
  virtual std::string isa_name() const = 0;
  virtual int threads() const = 0;
  /// True when the operations only pretend (see null_ops.h): results must not be looked at.
  virtual bool dry() const { return false; }

  /// 64-byte aligned; throws ERR_FIRE_OUT_OF_MEMORY with the bytes asked for and free.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data, size_t bytes) = 0;
  /// A frozen weight as this device uses it: on a CPU the mapped bytes themselves, on a GPU a copy owned by the device.
  virtual Tensor adopt(Tensor host) = 0;
  virtual void upload(const void* host, Tensor device) = 0;
  virtual void download(Tensor device, void* host) = 0;
  virtual void copy(Tensor from, Tensor to) = 0;
  virtual void zero(Tensor x) = 0;

  // --- matrix products ----------------------------------------------------------------------------------------
  /// y[T,out] = x[T,in] W[out,in]^T + bias[out]; `bias` may be empty.
  virtual void linear(Tensor x, Tensor w, Tensor bias, Tensor y) = 0;
  /// dx[T,in] = dy[T,out] W[out,in] + (accumulate ? dx : 0). W is frozen: there is no dW.
  virtual void linear_backward(Tensor dy, Tensor w, Tensor dx, bool accumulate) = 0;
  /// h[T,r] = drop(x) A^T;  y[T,out] += scale * h B^T. `h` is kept for backward.
  virtual void lora(Tensor x, const LoraView& lora, const Dropout& dropout, Tensor h, Tensor y) = 0;
  /// dB += scale * dy^T h;  dh = scale * dy B;  dA += dh^T drop(x);  dx += mask * (dh A) unless `dx` is empty.
  virtual void lora_backward(Tensor dy, Tensor x, Tensor h, const LoraView& lora, const Dropout& dropout, Tensor da,
                             Tensor db, Tensor dx) = 0;

  // --- rows ---------------------------------------------------------------------------------------------------
  /// y[i] = table[ids[i]], widened to f32.
  virtual void embedding(Tensor ids, Tensor table, Tensor y) = 0;
  /// y[i] = x[rows[i]].
  virtual void gather_rows(Tensor x, Tensor rows, Tensor y) = 0;
  /// y[rows[i]] = x[i]; rows are distinct.
  virtual void scatter_rows(Tensor x, Tensor rows, Tensor y) = 0;
  /// y[rows[i]] += x[i]; rows are distinct.
  virtual void scatter_add_rows(Tensor x, Tensor rows, Tensor y) = 0;
  /// y += x.
  virtual void add(Tensor x, Tensor y) = 0;

  // --- normalisation, activations, positions --------------------------------------------------------------------
  /// y = w * x * rstd, rstd = 1 / sqrt(mean(x^2) + eps), per row; `rstd` [rows] may be empty.
  virtual void rms_norm(Tensor x, Tensor w, float eps, Tensor y, Tensor rstd) = 0;
  /// dx (+)= rstd * (g - x * rstd^2 * mean(g * x)) with g = w * dy. May run in place (dx = dy).
  virtual void rms_norm_backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor dx, bool accumulate) = 0;
  /// y = w * (x - mean) / sqrt(var + eps) + b, per row.
  virtual void layer_norm(Tensor x, Tensor w, Tensor b, float eps, Tensor y) = 0;
  /// In place on x[T, n, d]: x * cos + rotate_half(x) * sin * direction, cos and sin [T, d], rotate_half(a, b) = (-b,
  /// a). `direction` -1 is the transpose, which is what backward needs.
  virtual void rope(Tensor x, Tensor cos, Tensor sin, float direction) = 0;
  /// y = silu(gate) * up.
  virtual void swiglu(Tensor gate, Tensor up, Tensor y) = 0;
  /// dgate = dy * up * silu'(gate); dup = dy * silu(gate). May run in place (dgate = gate, dup = up).
  virtual void swiglu_backward(Tensor dy, Tensor gate, Tensor up, Tensor dgate, Tensor dup) = 0;
  /// In place.
  virtual void gelu(Tensor x, Gelu kind) = 0;

  // --- attention ------------------------------------------------------------------------------------------------
  /// o = softmax(scale * q k^T) v with q[Q,n,d], k,v[K,n_kv,d]; lse[Q,n] (may be empty) keeps log-sum-exp for backward.
  virtual void attention(Tensor q, Tensor k, Tensor v, const AttentionPlan& plan, float scale, Tensor o,
                         Tensor lse) = 0;
  /// dq, dk, dv from do; every key row outside the plan gets 0.
  virtual void attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse,
                                  const AttentionPlan& plan, float scale, Tensor dq, Tensor dk, Tensor dv) = 0;
  /// softmax(scale * q[query] k^T) of one query row, to the host: [n, K] with 0 where the row does not see.
  virtual std::vector<float> attention_weights(Tensor q, Tensor k, const AttentionPlan& plan, float scale,
                                               int32_t query) = 0;

  // --- preference loss over gathered rows -------------------------------------------------------------------------
  /// lse[P] = log sum exp z[P,V].
  virtual void log_sum_exp(Tensor z, Tensor lse) = 0;
  /// log softmax(z)[row, target] for each pair, to the host in float64.
  virtual std::vector<double> target_logprobs(Tensor z, Tensor lse, std::span<const RowTarget> targets) = 0;
  /// KL(ref || policy) and KL(policy || ref) of the listed rows, to the host in float64. zr has one row per listed row.
  virtual void token_kl(Tensor z, Tensor lse, Tensor zr, Tensor lse_r, std::span<const int32_t> rows,
                        std::vector<double>& forward, std::vector<double>& reverse) = 0;
  /// Turns z[P,V] into dL/dz in place; `kl_rows[i]` is the row that ref row i belongs to.
  virtual void preference_backward(Tensor z, Tensor lse, Tensor zr, Tensor lse_r, std::span<const int32_t> kl_rows,
                                   std::span<const double> reverse_kl_values, const RowGradient& gradient,
                                   std::span<const RowTarget> targets, std::span<const float> coefficients) = 0;

  // --- optimizer --------------------------------------------------------------------------------------------------
  /// Sum of squares in float64, in a fixed order.
  virtual double sum_of_squares(Tensor x) = 0;
  /// Decoupled weight decay (Loshchilov & Hutter 2019, as torch.optim.AdamW): all tensors flat f32 of one size.
  virtual void adamw(const AdamW& settings, Tensor param, Tensor grad, Tensor m, Tensor v) = 0;

  // --- helpers in terms of the above ------------------------------------------------------------------------------
  Tensor upload_i32(Arena& arena, std::span<const int32_t> values) {
    Tensor t = arena.take(DType::i32, {static_cast<int64_t>(values.size())});
    upload(values.data(), t);
    return t;
  }
  Tensor upload_f32(Arena& arena, std::span<const float> values, std::initializer_list<int64_t> dims) {
    Tensor t = arena.take(DType::f32, dims);
    upload(values.data(), t);
    return t;
  }
  Arena::Source arena_source() {
    return {[this](size_t bytes) { return allocate(bytes); }, [this](void* p, size_t bytes) { release(p, bytes); }};
  }
};

}  // namespace fire
