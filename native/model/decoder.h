// The LoRA-adapted decoder over packed sequences: forward, and backward written by hand.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "model/context.h"
#include "model/lora.h"
#include "model/positions.h"
#include "model/vision.h"

namespace fire {

/// Where the features of one image go: row i of the features to packed row rows[i].
struct ImagePlacement {
  const ImageFeatures* features;
  std::vector<int32_t> rows;
};

/// T packed tokens. Without a cache the keys are the packed rows themselves; with one, token i's key and value are
/// stored at cache row cache_rows[i] first and `plan` speaks of cache rows.
struct DecoderInput {
  std::vector<int32_t> ids;
  Positions positions;
  AttentionPlan plan;
  std::vector<ImagePlacement> images;
  /// Rows whose final hidden state is wanted, ascending and distinct. The last layer computes nothing else.
  std::vector<int32_t> read_rows;
  std::vector<int32_t> cache_rows;
  /// What each row sees (row_keys.h), for dropout.
  std::vector<uint64_t> row_keys;

  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
};

/// Post-rotary keys and raw values of every layer, [rows, n_kv * d].
class KvCache {
 public:
  KvCache(Ops& ops, const TextConfig& config, int64_t rows);
  std::vector<Tensor> k, v;

 private:
  DeviceTensor storage_;
};

/// Softmax weights of some query rows towards some packed rows, collected layer by layer: [layers][heads][columns].
struct AttentionRequest {
  int32_t query_row;
  std::vector<int32_t> columns;
  std::vector<float> weights;
};

/// How one pass runs.
struct DecoderPass {
  /// nullptr = the reference model: the same weights without the adapter.
  const Adapter* adapter = nullptr;
  /// Optimizer step whose dropout masks are drawn; only a pass that keeps activations drops.
  int64_t dropout_step = 0;
  KvCache* cache = nullptr;
  const Observer* observer = nullptr;
  std::vector<AttentionRequest>* attention = nullptr;
};

/// What backward needs of one layer. R = T, except in the last layer, where it is the number of rows read.
struct LayerActivations {
  Tensor rstd1, rstd2;    // [T], [R]
  Tensor q, k, v;         // [R, n, d], [T, n_kv, d]; q, k before head norm and rotation, or, without norm, rotated
  Tensor q_rstd, k_rstd;  // [R * n], [T * n_kv], with a head norm
  Tensor o, lse;          // [R, n, d], [R, n]
  Tensor x_mid;           // [R, H] after the attention residual
  Tensor gate, up;        // [R, I]
  std::array<Tensor, proj_count> h;     // LoRA's x A^T, [rows, r]
  std::array<Tensor, proj_count> mask;  // of dropout, where it is stored: see Ops::draw_mask
};

/// Activations of a whole pass, in arena order.
struct DecoderActivations {
  bool checkpointing = false;
  std::vector<Tensor> x;  // input of each layer, and the last output
  std::vector<LayerActivations> layers;
  RotaryTable rotary;              // [T, d]
  Tensor read_rows;                // [P] i32
  Tensor row_keys, read_row_keys;  // of dropout, [T, 2] and [P, 2] i32; empty without
  std::vector<Tensor> image_rows;  // of each image, [tokens] i32
  Tensor final_rstd;               // [P]
  AttentionPlan restricted;        // the plan of the last layer: only the read rows ask
  PreparedPlan plan, read_plan;    // of the input and of `restricted`
};

class Decoder {
 public:
  explicit Decoder(const Context& context)
      : ops_(context.ops),
        config_(context.config.text),
        weights_(context.weights),
        arena_(context.arena),
        cancel_(context.cancel) {}

  /// Final hidden states after the last norm, [P, H], in the arena. With `keep`, activations for backward are taken
  /// from the arena before the result and stay; without, only the result stays. Asks between layers whether to stop.
  Tensor forward(const DecoderInput& input, const DecoderPass& pass, DecoderActivations* keep) const;

  /// Adds dL/dparameter of the pass's adapter to `gradient`, flat as its parameters, from dL/dhidden [P, H] (f32).
  /// `pass` and `input` must be those of the forward that filled `kept`. `layer_done(i)`, where there is one, is called
  /// when all that this pass adds to layer i and those above has been queued.
  void backward(const DecoderInput& input, const DecoderPass& pass, DecoderActivations& kept, Tensor dhidden,
                Tensor gradient, const std::function<void(int64_t)>& layer_done = {}) const;

  /// logits[P, C] (f32) = hidden W^T for the C columns of the vocabulary that begin at `first_column`.
  void head(Tensor hidden, int64_t first_column, Tensor logits) const {
    ops_.linear(hidden, head_rows(first_column, logits.cols()), {}, {}, logits);
  }
  /// dhidden[P, H] (f32) (+)= dlogits W for the same columns.
  void head_backward(Tensor dlogits, int64_t first_column, Tensor dhidden, bool accumulate) const {
    ops_.linear_backward(dlogits, head_rows(first_column, dlogits.cols()), dhidden, accumulate);
  }

 private:
  struct Frame;
  Tensor head_rows(int64_t first, int64_t count) const { return weights_.lm_head.slice(first, first + count); }
  float attention_scale() const;
  /// The rows of x that this layer's queries and MLP work on, x itself where that is all.
  Tensor read(const Frame& frame, int64_t layer, Tensor x) const;
  /// The rotary table of those rows.
  RotaryTable rotary(const Frame& frame, int64_t layer) const;
  LayerActivations allocate_layer(const Frame& frame, int64_t layer) const;
  void layer_forward(const Frame& frame, int64_t layer, Tensor x, LayerActivations& a, Tensor y) const;
  void attention_forward(const Frame& frame, int64_t layer, Tensor x, LayerActivations& a) const;
  /// q or k as attention takes it. With a head norm x stays as it is, without it x itself is rotated.
  Tensor rotate(Tensor x, Tensor norm, const RotaryTable& rotary, Tensor rstd) const;
  void mlp_forward(const Frame& frame, int64_t layer, LayerActivations& a, Tensor y) const;
  void layer_backward(const Frame& frame, int64_t layer, Tensor x, LayerActivations& a, Tensor dy, Tensor dx) const;
  void mlp_backward(const Frame& frame, int64_t layer, LayerActivations& a, Tensor dy, Tensor dx_mid) const;
  void attention_backward(const Frame& frame, int64_t layer, Tensor x, LayerActivations& a, Tensor dx_mid,
                          Tensor dx) const;

  /// A linear of this pass; `y` is what it makes, or in backward its gradient.
  LinearBranch branch(const Frame& frame, int64_t layer, Proj proj, Tensor y, const LayerActivations& a) const;
  /// y = x W^T + LoRA + residual, where `residual` may be empty.
  void project(const Frame& frame, int64_t layer, Proj proj, Tensor x, Tensor residual, Tensor y,
               LayerActivations& a) const;
  /// The same of several linears of one x.
  void project(Tensor x, std::span<const LinearBranch> branches) const;
  void draw_masks(std::span<const LinearBranch> branches) const;
  /// A linear on its way back; its `dh` is taken from the arena.
  LinearBranch branch_backward(const Frame& frame, int64_t layer, Proj proj, Tensor dy,
                               const LayerActivations& a) const;
  /// Adds the gradients of their adapters and sets dx, which may be empty.
  void project_backward(const Frame& frame, int64_t layer, std::initializer_list<std::pair<Proj, Tensor>> dys, Tensor x,
                        const LayerActivations& a, Tensor dx) const;
  Dropout dropout(const Frame& frame, int64_t layer, Proj proj) const;
  void upload_row_keys(const Frame& frame) const;
  std::vector<Tensor> upload_image_rows(const DecoderInput& input) const;
  void embed(const Frame& frame, Tensor x) const;
  void add_deepstack(const Frame& frame, int64_t layer, Tensor x) const;
  void probe(const Frame& frame, int64_t layer, Tensor q, Tensor k) const;

  Ops& ops_;
  const TextConfig& config_;
  const Weights& weights_;
  Arena& arena_;
  Cancel cancel_;
};

}  // namespace fire
