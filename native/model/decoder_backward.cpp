// Backward of the decoder. The base is frozen, so per linear there is dx (through W and through B A) and the adapter's
// dA, dB, nothing else; below the first layer there is nothing to train, so its dx is not computed. Cheap values (norm
// outputs, rotated heads, the SwiGLU product) are made again instead of kept.
#include "model/decoder.h"
#include "model/decoder_frame.h"

namespace fire {

void Decoder::backward(const DecoderInput& input, const DecoderPass& pass, DecoderActivations& kept, Tensor dhidden,
                       Tensor gradient, const std::function<void(int64_t)>& layer_done) const {
  Arena::Scope scope(arena_);
  const Frame frame{input, pass, kept, true, gradient};
  Tensor dy = ops_.activation(arena_, {frame.last_rows(), config_.hidden_size});
  Tensor buffers[2] = {ops_.activation(arena_, {input.tokens(), config_.hidden_size}),
                       ops_.activation(arena_, {input.tokens(), config_.hidden_size})};
  ops_.rms_norm_backward(dhidden, kept.x.back(), weights_.norm, kept.final_rstd, {}, dy);
  for (int64_t i = config_.layers - 1; i >= 0; --i) {
    cancel_.check();
    const size_t l = static_cast<size_t>(i);
    Tensor dx = i > 0 ? buffers[i % 2] : Tensor();
    if (kept.checkpointing) {
      Arena::Scope layer_scope(arena_);
      LayerActivations a = allocate_layer(frame, i);
      Tensor y = ops_.activation(arena_, {frame.rows(i), config_.hidden_size});
      layer_forward(frame, i, kept.x[l], a, y);
      layer_backward(frame, i, kept.x[l], a, dy, dx);
    } else {
      layer_backward(frame, i, kept.x[l], kept.layers[l], dy, dx);
    }
    if (layer_done) layer_done(i);
    dy = dx;
  }
}

void Decoder::layer_backward(const Frame& frame, int64_t layer, Tensor x, LayerActivations& a, Tensor dy,
                             Tensor dx) const {
  Arena::Scope scope(arena_);
  Tensor dx_mid = ops_.activation(arena_, {frame.rows(layer), config_.hidden_size});
  mlp_backward(frame, layer, a, dy, dx_mid);
  attention_backward(frame, layer, x, a, dx_mid, dx);
}

void Decoder::mlp_backward(const Frame& frame, int64_t layer, LayerActivations& a, Tensor dy, Tensor dx_mid) const {
  Arena::Scope scope(arena_);
  const Tensor norm = weights_.layers[static_cast<size_t>(layer)].post_attention_norm;
  const int64_t rows = a.x_mid.rows();
  {
    Arena::Scope inner(arena_);
    Tensor product = ops_.activation(arena_, {rows, config_.intermediate_size}),
           dproduct = ops_.activation(arena_, {rows, config_.intermediate_size});
    // From here on gate and up are their gradients.
    ops_.gated_backward(branch_backward(frame, layer, Proj::down, dy, a), a.gate, a.up, product, dproduct);
  }
  Tensor normed = ops_.activation(arena_, {rows, config_.hidden_size}),
         dnormed = ops_.activation(arena_, {rows, config_.hidden_size});
  ops_.rms_norm(a.x_mid, norm, config_.rms_norm_eps, normed, {});
  project_backward(frame, layer, {{Proj::gate, a.gate}, {Proj::up, a.up}}, normed, a, dnormed);
  ops_.rms_norm_backward(dnormed, a.x_mid, norm, a.rstd2, dy, dx_mid);
}

void Decoder::attention_backward(const Frame& frame, int64_t layer, Tensor x, LayerActivations& a, Tensor dx_mid,
                                 Tensor dx) const {
  const DecoderLayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  const int64_t tokens = x.rows(), rows = frame.rows(layer), width = config_.hidden_size;
  const int64_t n = config_.heads, n_kv = config_.kv_heads, d = config_.head_dim;
  Tensor dq = ops_.activation(arena_, {rows, n, d}), dk = ops_.activation(arena_, {tokens, n_kv, d}),
         dv = ops_.activation(arena_, {tokens, n_kv, d});
  {
    Arena::Scope inner(arena_);
    Tensor dout = ops_.activation(arena_, {rows, n, d});
    project_backward(frame, layer, {{Proj::o, dx_mid}}, a.o.reshape({rows, n * d}), a, dout.reshape({rows, n * d}));
    const RotaryTable asking = rotary(frame, layer), &all = frame.kept.rotary;
    const Tensor q = config_.head_norm ? rotate(a.q, w.q_norm, asking, {}) : a.q;
    const Tensor k = config_.head_norm ? rotate(a.k, w.k_norm, all, {}) : a.k;
    Tensor delta = arena_.f32({rows, n});
    ops_.attention_backward(dout, q, k, a.v, a.o, a.lse, frame.plan(layer), attention_scale(), delta, dq, dk, dv);
    if (config_.head_norm) {
      ops_.norm_rope_backward(dq, a.q, w.q_norm, a.q_rstd, asking.cos, asking.sin, dq);
      ops_.norm_rope_backward(dk, a.k, w.k_norm, a.k_rstd, all.cos, all.sin, dk);
    } else {
      ops_.rope_backward(dq, asking.cos, asking.sin);
      ops_.rope_backward(dk, all.cos, all.sin);
    }
  }

  Tensor normed = ops_.activation(arena_, {tokens, width});
  ops_.rms_norm(x, w.input_norm, config_.rms_norm_eps, normed, {});
  const Tensor dq_flat = dq.reshape({rows, n * d});
  const Tensor dk_flat = dk.reshape({tokens, n_kv * d}), dv_flat = dv.reshape({tokens, n_kv * d});
  Tensor dnormed = dx ? ops_.activation(arena_, {tokens, width}) : Tensor();
  if (frame.compact(layer)) {
    project_backward(frame, layer, {{Proj::k, dk_flat}, {Proj::v, dv_flat}}, normed, a, dnormed);
    const Tensor normed_read = read(frame, layer, normed);
    Tensor dnormed_read = dx ? ops_.activation(arena_, {rows, width}) : Tensor();
    project_backward(frame, layer, {{Proj::q, dq_flat}}, normed_read, a, dnormed_read);
    if (dx) ops_.scatter_add_rows(dnormed_read, frame.kept.read_rows, dnormed);
  } else {
    project_backward(frame, layer, {{Proj::k, dk_flat}, {Proj::v, dv_flat}, {Proj::q, dq_flat}}, normed, a, dnormed);
  }
  if (!dx) return;
  // In the last layer the residual stream reaches the read rows only.
  ops_.rms_norm_backward(dnormed, x, w.input_norm, a.rstd1, frame.compact(layer) ? Tensor() : dx_mid, dx);
  if (frame.compact(layer)) ops_.scatter_add_rows(dx_mid, frame.kept.read_rows, dx);
}

void Decoder::project_backward(const Frame& frame, int64_t layer, std::initializer_list<std::pair<Proj, Tensor>> dys,
                               Tensor x, const LayerActivations& a, Tensor dx) const {
  Arena::Scope scope(arena_);
  std::vector<LinearBranch> branches;
  for (const auto& [proj, dy] : dys) branches.push_back(branch_backward(frame, layer, proj, dy, a));
  ops_.linear_branches_backward(x, branches, dx);
}

LinearBranch Decoder::branch_backward(const Frame& frame, int64_t layer, Proj proj, Tensor dy,
                                      const LayerActivations& a) const {
  LinearBranch l = branch(frame, layer, proj, dy, a);
  if (const LoraModule* m = frame.module(layer, proj)) {
    l.dh = ops_.activation(arena_, {l.h.rows(), l.h.cols()});
    l.da = frame.pass.adapter->a_of(frame.gradient, *m);
    l.db = frame.pass.adapter->b_of(frame.gradient, *m);
  }
  return l;
}

}  // namespace fire
