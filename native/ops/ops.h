// The one list of operations. A device implements this interface (cpu/, cuda/); the model, the objective and the
// generator are written against it and against nothing else.
//
// Conventions
//   - Matrices are row-major. T tokens (packed, no padding), H hidden, V vocabulary, P gathered rows, r LoRA rank,
//     n heads, n_kv key/value heads, d head width.
//   - Activations and their gradients have the device's `activation_type()`: f32 on a CPU; f32, or bf16 in bf16
//     mode, on a GPU. Adapters, their gradients, statistics (rstd, lse, delta) and all loss math are f32 or wider;
//     products read adapters rounded to the activation type (model/parameters.h).
//   - A weight is used as `adopt` left it. In bf16 mode the operands of matrix products are rounded to bf16; their sums
//     are f32.
//   - An output is overwritten unless the comment says `+=`.
//   - Index tensors (`i32`) live on the device: see `upload`.
//   - Operations return before a GPU has run them; those that hand values to the host (`download`, and whatever returns
//     a std::vector or a number) wait for them. Workspaces are the caller's, so the arena knows all memory of a step.
//   - Results do not depend on the number of threads, and row i of an output depends only on row i of the inputs
//     (and what it attends to), bit for bit: a sequence gets the same numbers alone and in any batch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ops/settings.h"
#include "ops/side_queue.h"
#include "ops/weight_packing.h"
#include "tensor/arena.h"
#include "tensor/spread.h"
#include "tensor/tensor.h"

namespace fire {

/// Rows [begin, end) of k and v.
struct KeyRange {
  int32_t begin, end;
  int32_t size() const { return end - begin; }
};

/// Which rows of q see which rows of k and v. Every query row of a span sees the keys of its context, the ranges
/// [context_begin, context_end) of the plan, and of [own_begin, own_end) all (`causal` false) or those up to its own
/// key row `key_row[q]` (`causal` true). In this order they are the sequence that its sums run over: the sums of a row
/// are the same bits however its sequence is cut into ranges. Spans of one `group` may read the same keys; different
/// groups never do (backward relies on it).
struct AttentionSpan {
  int32_t query_begin, query_end;
  int32_t context_begin, context_end;
  int32_t own_begin, own_end;
  bool causal;
  int32_t group;
  /// A single row that decodes: a GPU may split its keys (flash-decoding), in parts whose borders depend on nothing but
  /// its number of keys.
  bool decodes = false;
};

struct AttentionPlan {
  std::vector<AttentionSpan> spans;
  /// Contexts, one behind the other. Those of one span are not empty, and apart from each other and from its own keys.
  std::vector<KeyRange> ranges;
  /// Per query row, the key row at the same place of its sequence. Used by causal spans only.
  std::vector<int32_t> key_row;
  int32_t groups = 0;

  /// Appends a context; returns its place [begin, end) in `ranges`.
  KeyRange add_context(std::span<const KeyRange> context) {
    const int32_t begin = static_cast<int32_t>(ranges.size());
    ranges.insert(ranges.end(), context.begin(), context.end());
    return {begin, static_cast<int32_t>(ranges.size())};
  }
  std::span<const KeyRange> context(const AttentionSpan& span) const {
    return std::span(ranges).subspan(static_cast<size_t>(span.context_begin),
                                     static_cast<size_t>(span.context_end - span.context_begin));
  }
};

/// A plan in the form its device reads, made once per pass (`prepare`) and shared by all layers. `plan` must outlive
/// it; the tables are empty on a CPU (their layout: attention_tables.h).
struct PreparedPlan {
  const AttentionPlan* plan = nullptr;
  Tensor spans, ranges, key_row, query_tiles, key_tiles, key_spans;
};

/// One adapted linear: A [r, in], B [out, r] of the activation type; `scale` is alpha/r or alpha/sqrt(r).
struct LoraView {
  Tensor a, b;
  float scale = 0;
};

/// One of several linears that read the same x: q, k, v; gate, up. Without `lora.a` it is not adapted, and `dropout`
/// and what follows are not used.
struct LinearBranch {
  Tensor w, bias = {};
  Tensor y = {};  ///< in backward dy
  LoraView lora = {};
  Dropout dropout = {};
  Tensor mask = {}, h = {};
  Tensor dh = {}, da = {}, db = {};  ///< backward only
};

/// x Phi(x) as tanh approximation or exactly, or CLIP's x sigmoid(1.702 x).
enum class Gelu : uint8_t { tanh, erf, quick };

/// A drawn token and its log-probability under the whole distribution at temperature 1; NaN when a logit of the row is
/// not finite.
struct SampledToken {
  int32_t token;
  double logprob;
};

/// What a GPU's operations have beside the arena from the start, so that a training step need not allocate: single
/// query rows in the last layer, the partial sums of the optimizer and of matrix products in parts, gradients that are
/// rounded for them. And what cuBLASLt has where it is used.
constexpr size_t gpu_workspace = size_t{32} << 20;
constexpr size_t cublaslt_workspace = size_t{32} << 20;

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
  virtual DType activation_type() const { return DType::f32; }
  /// True where memory belongs to a device of its own: the arena is then sized once before the first step, plans need
  /// tables, and dropout masks are drawn once and stored.
  virtual bool is_gpu() const { return false; }
  /// Which weights are packed once for its products; a GPU packs none.
  virtual const WeightPacking& weight_packing() const {
    static const WeightPacking none;
    return none;
  }

  /// What an open GPU holds beside what it is asked for: its workspaces.
  virtual size_t workspace_bytes() const { return 0; }
  /// 64-byte aligned; throws ERR_FIRE_OUT_OF_MEMORY with the bytes asked for and free, and which setting to lower.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data, size_t bytes) = 0;
  /// Makes room for all that `adopt` will copy, each tensor as Arena::rounded has it. Once a device, before it adopts.
  virtual void reserve_weights(size_t) {}
  /// A frozen weight as this device uses it. On a CPU the mapped bytes themselves, f16 widened to f32. On a GPU a copy:
  /// matrices (rank 2 and more) in the activation type, vectors in f32. Copies live as long as the device.
  virtual Tensor adopt(Tensor host) = 0;
  /// `host` may be reused when this returns.
  virtual void upload(const void* host, Tensor device) = 0;
  /// The same of elements that are made on the way, where the device copies them from: `make(begin, end, to)` writes
  /// the elements [begin, end) of `device` to `to`. It is called from several threads at once, never twice for an
  /// element.
  using Make = std::function<void(int64_t begin, int64_t end, void* to)>;
  virtual void upload_made(Tensor device, const Make& make) = 0;
  /// Work of the host, on the threads that `upload_made` uses.
  virtual void spread(int64_t tasks, const std::function<void(int64_t)>& task) { one_by_one(tasks, task); }
  virtual void download(Tensor device, void* host) = 0;
  /// nullptr where there is no second queue: on a CPU, which does one thing after the other.
  virtual std::unique_ptr<SideQueue> side_queue() { return nullptr; }
  virtual void copy(Tensor from, Tensor to) = 0;
  virtual void zero(Tensor x) = 0;

  // --- matrix products ----------------------------------------------------------------------------------------
  /// y[T,out] = x[T,in] W[out,in]^T + bias[out] + residual[T,out]; `bias` and `residual` may be empty. y may be f32
  /// (the logits) whatever the activation type; it must not overlap x or residual.
  virtual void linear(Tensor x, Tensor w, Tensor bias, Tensor residual, Tensor y) = 0;
  /// dx[T,in] = dy[T,out] W[out,in] + (accumulate ? dx : 0). W is frozen: there is no dW. dy and dx may be f32 whatever
  /// the activation type (dL/dlogits, and the sum over vocabulary chunks).
  virtual void linear_backward(Tensor dy, Tensor w, Tensor dx, bool accumulate) = 0;
  /// The mask of `dropout` on x[T,in] for a GPU, forward and backward: i32 [T, mask_words(in)], where bit j % 32 of
  /// word j / 32 is set when element j of its row is kept. A CPU has none.
  virtual void draw_mask(const Dropout&, Tensor mask) {
    throw Error(Code::internal, "this device draws dropout masks again and stores none: " + mask.describe());
  }
  /// h[T,r] = drop(x) A^T;  y[T,out] = x W^T + bias + scale * h B^T + residual. `h` and `mask` (of draw_mask; empty on
  /// a CPU and without dropout) are kept for backward; `bias` and `residual` may be empty.
  virtual void lora_linear(Tensor x, Tensor w, Tensor bias, const LoraView& lora, const Dropout& dropout, Tensor mask,
                           Tensor residual, Tensor h, Tensor y) = 0;
  /// dh[T,r] = scale * dy B (a workspace);  dB += scale * dy^T h;  dA += dh^T drop(x);
  /// dx = dy W + mask * (dh A) + (accumulate ? dx : 0) unless `dx` is empty.
  virtual void lora_linear_backward(Tensor dy, Tensor x, Tensor w, const LoraView& lora, const Dropout& dropout,
                                    Tensor mask, Tensor h, Tensor dh, Tensor da, Tensor db, Tensor dx,
                                    bool accumulate) = 0;
  /// `linear` or `lora_linear` of every branch, none with a residual, and with the same bits: on a GPU as one product.
  virtual void linear_branches(Tensor x, std::span<const LinearBranch> branches) {
    for (const LinearBranch& b : branches)
      b.lora.a ? lora_linear(x, b.w, b.bias, b.lora, b.dropout, b.mask, {}, b.h, b.y) : linear(x, b.w, b.bias, {}, b.y);
  }
  /// `linear_backward` or `lora_linear_backward` of every branch. dx, which may be empty, is the sum of theirs: branch
  /// by branch, or, on a GPU and without dropout, in one product that is rounded once.
  virtual void linear_branches_backward(Tensor x, std::span<const LinearBranch> branches, Tensor dx) {
    for (const LinearBranch& b : branches) {
      const bool accumulate = &b != &branches.front();
      if (b.lora.a)
        lora_linear_backward(b.y, x, b.w, b.lora, b.dropout, b.mask, b.h, b.dh, b.da, b.db, dx, accumulate);
      else if (dx)
        linear_backward(b.y, b.w, dx, accumulate);
    }
  }
  /// product[T,out] = silu(gate.y) * up.y, of `linear_branches` of these two. gate.y and up.y are workspaces unless
  /// `keeps`.
  virtual void gated_branches(Tensor x, const LinearBranch& gate, const LinearBranch& up, Tensor product,
                              [[maybe_unused]] bool keeps) {
    const LinearBranch both[] = {gate, up};
    linear_branches(x, both);
    swiglu(gate.y, up.y, product);
  }
  /// Backward of `down`, a linear of product = silu(gate) * up [T,in], and of that: gate and up become their gradients,
  /// `linear_branches_backward` of down alone between `swiglu` and `swiglu_backward`. `product` and `dproduct` are
  /// workspaces.
  virtual void gated_backward(const LinearBranch& down, Tensor gate, Tensor up, Tensor product, Tensor dproduct) {
    swiglu(gate, up, product);
    linear_branches_backward(product, {&down, 1}, dproduct);
    swiglu_backward(dproduct, gate, up, gate, up);
  }

  // --- rows ---------------------------------------------------------------------------------------------------
  /// y[i] = table[ids[i]].
  virtual void embedding(Tensor ids, Tensor table, Tensor y) = 0;
  /// y[i] = x[rows[i]].
  virtual void gather_rows(Tensor x, Tensor rows, Tensor y) = 0;
  /// y[rows[i]] = x[i]; rows are distinct.
  virtual void scatter_rows(Tensor x, Tensor rows, Tensor y) = 0;
  /// y[rows[i]] += x[i]; rows are distinct.
  virtual void scatter_add_rows(Tensor x, Tensor rows, Tensor y) = 0;
  /// y += x.
  virtual void add(Tensor x, Tensor y) = 0;
  /// y[grid_h * grid_w, H]: the learned position table [side * side, H] resampled bilinearly with corners aligned,
  /// patches in blocks of merge x merge.
  virtual void interpolate_positions(Tensor table, int64_t grid_h, int64_t grid_w, int64_t merge, Tensor y) = 0;

  // --- normalisation, activations, positions --------------------------------------------------------------------
  /// y = w * x * rstd, rstd = 1 / sqrt(mean(x^2) + eps), per row; `rstd` [rows] may be empty.
  virtual void rms_norm(Tensor x, Tensor w, float eps, Tensor y, Tensor rstd) = 0;
  /// dx = rstd * (g - x * rstd^2 * mean(g * x)) + residual with g = w * dy; `residual` may be empty. dx may be dy or
  /// residual. dy may be f32 whatever the activation type.
  virtual void rms_norm_backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor residual, Tensor dx) = 0;
  /// y = w * (x - mean) / sqrt(var + eps) + b, per row.
  virtual void layer_norm(Tensor x, Tensor w, Tensor b, float eps, Tensor y) = 0;
  /// cos and sin [T, d] (f32) of angle[t, i] = positions[axis[i], t] * frequency[i], i < d / 2, both halves alike.
  /// positions i32 [axes, T], axis i32 [d / 2], frequency f32 [d / 2].
  virtual void rotary_table(Tensor positions, Tensor axis, Tensor frequency, Tensor cos, Tensor sin) = 0;
  /// In place on x[T, n, d]: x * cos + rotate_half(x) * sin, cos and sin [T, d], rotate_half(a, b) = (-b, a).
  virtual void rope(Tensor x, Tensor cos, Tensor sin) = 0;
  /// Its transpose, in place on dx: rotated back.
  virtual void rope_backward(Tensor dx, Tensor cos, Tensor sin) = 0;
  /// rope(rms_norm(x)) over the heads of x[T, n, d]; w [d], rstd [T * n] may be empty.
  virtual void norm_rope(Tensor x, Tensor w, float eps, Tensor cos, Tensor sin, Tensor y, Tensor rstd) = 0;
  /// Its transpose: dy is rotated back and taken through the norm. dx may be dy.
  virtual void norm_rope_backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor cos, Tensor sin, Tensor dx) = 0;
  /// y = silu(gate) * up.
  virtual void swiglu(Tensor gate, Tensor up, Tensor y) = 0;
  /// dgate = dy * up * silu'(gate); dup = dy * silu(gate). May run in place (dgate = gate, dup = up).
  virtual void swiglu_backward(Tensor dy, Tensor gate, Tensor up, Tensor dgate, Tensor dup) = 0;
  /// In place.
  virtual void gelu(Tensor x, Gelu kind) = 0;

  // --- attention ------------------------------------------------------------------------------------------------
  /// o = softmax(scale * q k^T) v with q[Q,n,d], k,v[K,n_kv,d]; lse[Q,n] (may be empty) keeps log-sum-exp for backward.
  virtual void attention(Tensor q, Tensor k, Tensor v, const PreparedPlan& plan, float scale, Tensor o, Tensor lse) = 0;
  /// dq, dk, dv from do; every key row outside the plan gets 0. `delta` [Q,n] is a workspace and receives do . o.
  virtual void attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse,
                                  const PreparedPlan& plan, float scale, Tensor delta, Tensor dq, Tensor dk,
                                  Tensor dv) = 0;
  /// softmax(scale * q[query] k^T) of one query row, to the host: [n, K] with 0 where the row does not see.
  virtual std::vector<float> attention_weights(Tensor q, Tensor k, const PreparedPlan& plan, float scale,
                                               int32_t query) = 0;

  // --- preference loss over gathered rows -------------------------------------------------------------------------
  // z and zr [P,C] f32 hold columns [first_column, first_column + C) of the logits, first_column a multiple of
  // vocabulary_slice; targets i32 [K,2] holds (row, token) of every scored token.
  /// One pass: fills the slices of these columns in statistics f64 [P, slices, 6] (see SliceStatistics) and
  /// target_logits f32 [2,K] (policy, reference) of the targets among the columns. Without zr the reference's places
  /// are left alone.
  virtual void preference_statistics(Tensor z, Tensor zr, int64_t first_column, Tensor targets, Tensor statistics,
                                     Tensor target_logits) = 0;
  /// Turns z into dL/dz in place. rows f32 [P,6] holds a RowGradient a row; coefficients f32 [K]. zr may be empty where
  /// no row has a KL weight.
  virtual void preference_backward(Tensor z, Tensor zr, int64_t first_column, Tensor rows, Tensor targets,
                                   Tensor coefficients) = 0;

  // --- sampling ---------------------------------------------------------------------------------------------------
  /// One draw a row of logits f32 [B,V] by inverse transform over the kept tokens in order of falling logit (smaller id
  /// first among equals): top_k keeps the first k, then top_p the shortest prefix with that share of their mass.
  virtual std::vector<SampledToken> sample(Tensor logits, const SamplingRule& rule,
                                           std::span<const double> uniforms) = 0;

  // --- optimizer --------------------------------------------------------------------------------------------------
  /// AdamW with decoupled weight decay (Loshchilov & Hutter 2019, as torch.optim.AdamW) on gradients clipped by their
  /// global L2 norm (as torch.nn.utils.clip_grad_norm_); all tensors flat f32 of one size, but for `rounded`, which is
  /// of the activation type and receives the new param; empty where that is f32. The norm is summed in float64 in a
  /// fixed order and returned as it was before clipping; when it is not finite nothing changes.
  virtual double adamw(const AdamW& settings, Tensor param, Tensor rounded, Tensor grad, Tensor m, Tensor v) = 0;
  /// L2 norm of x [n] f32, summed in float64 in a fixed order: finite exactly when every element is.
  virtual double norm(Tensor x) = 0;

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
  /// A tensor of the activation type.
  Tensor activation(Arena& arena, std::initializer_list<int64_t> dims) { return arena.take(activation_type(), dims); }
  Tensor upload_activation(Arena& arena, std::span<const float> values, std::initializer_list<int64_t> dims) {
    if (activation_type() == DType::f32) return upload_f32(arena, values, dims);
    std::vector<bf16> rounded(values.size());
    for (size_t i = 0; i < values.size(); ++i) rounded[i] = to_bf16(values[i]);
    Tensor t = activation(arena, dims);
    upload(rounded.data(), t);
    return t;
  }
  /// f32 values of an f32 or bf16 tensor.
  std::vector<float> download_f32(Tensor device) {
    std::vector<float> values(static_cast<size_t>(device.size()));
    if (device.dtype() != DType::bf16) {
      if (device.dtype() != DType::f32) throw Error(Code::internal, "download_f32 of " + device.describe());
      download(device, values.data());
      return values;
    }
    std::vector<bf16> narrow(values.size());
    download(device, narrow.data());
    for (size_t i = 0; i < values.size(); ++i) values[i] = to_float(narrow[i]);
    return values;
  }
  /// `plan` must outlive the result, whose tables (if this device needs any) live in `arena`.
  PreparedPlan prepare(const AttentionPlan& plan, Arena& arena);
  Arena::Source arena_source() {
    return {[this](size_t bytes) { return allocate(bytes); }, [this](void* p, size_t bytes) { release(p, bytes); }};
  }
};

}  // namespace fire
