#include "model/decoder.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/decoder_frame.h"
#include "model/row_keys.h"

namespace fire {

KvCache::KvCache(Ops& ops, const TextConfig& config, int64_t rows)
    : storage_(ops, ops.activation_type(), {2 * config.layers, rows, config.kv_heads * config.head_dim}) {
  const auto part = [&](int64_t i) { return storage_.view().slice(i, i + 1).reshape({rows, storage_.view().cols()}); };
  for (int64_t i = 0; i < config.layers; ++i) {
    k.push_back(part(2 * i));
    v.push_back(part(2 * i + 1));
  }
}

namespace {

/// The same attention, asked by the read rows alone (query i of the new plan is packed row read_rows[i]).
AttentionPlan restrict_plan(const AttentionPlan& plan, const std::vector<int32_t>& rows) {
  AttentionPlan out;
  out.groups = plan.groups;
  out.ranges = plan.ranges;
  for (const int32_t row : rows)
    out.key_row.push_back(plan.key_row.empty() ? 0 : plan.key_row[static_cast<size_t>(row)]);
  for (AttentionSpan span : plan.spans) {
    const auto first = std::lower_bound(rows.begin(), rows.end(), span.query_begin);
    const auto last = std::lower_bound(first, rows.end(), span.query_end);
    if (first == last) continue;
    span.query_begin = static_cast<int32_t>(first - rows.begin());
    span.query_end = static_cast<int32_t>(last - rows.begin());
    out.spans.push_back(span);
  }
  return out;
}

}  // namespace

float Decoder::attention_scale() const { return 1.0f / std::sqrt(static_cast<float>(config_.head_dim)); }

Tensor Decoder::read(const Frame& frame, int64_t layer, Tensor x) const {
  if (!frame.compact(layer)) return x;
  const Tensor some = arena_.take(x.dtype(), {frame.last_rows(), x.cols()});
  ops_.gather_rows(x, frame.kept.read_rows, some);
  return some;
}

RotaryTable Decoder::rotary(const Frame& frame, int64_t layer) const {
  return {read(frame, layer, frame.kept.rotary.cos), read(frame, layer, frame.kept.rotary.sin)};
}

Tensor Decoder::forward(const DecoderInput& input, const DecoderPass& pass, DecoderActivations* keep) const {
  const int64_t tokens = input.tokens(), read = static_cast<int64_t>(input.read_rows.size()),
                width = config_.hidden_size;
  DecoderActivations transient;
  DecoderActivations& kept = keep ? *keep : transient;
  Tensor hidden = ops_.activation(arena_, {read, width});
  std::optional<Arena::Scope> scope;
  if (!keep) scope.emplace(arena_);

  std::vector<int32_t> positions;
  for (const auto& axis : input.positions) positions.insert(positions.end(), axis.begin(), axis.end());
  kept.rotary = make_rotary_table(ops_, text_rotary(config_), positions, tokens, arena_);
  kept.read_rows = ops_.upload_i32(arena_, input.read_rows);
  kept.image_rows = upload_image_rows(input);
  kept.restricted = restrict_plan(input.plan, input.read_rows);
  kept.plan = ops_.prepare(input.plan, arena_);
  kept.read_plan = ops_.prepare(kept.restricted, arena_);
  kept.final_rstd = arena_.f32({read});
  observe(pass.observer, "text.rope_cos", kept.rotary.cos);
  observe(pass.observer, "text.rope_sin", kept.rotary.sin);
  const Frame frame{input, pass, kept, keep != nullptr, {}};
  upload_row_keys(frame);

  // Kept: every layer has its own memory. Checkpointing: only the layer inputs. Neither: two inputs in turn.
  const bool keep_layers = keep && !kept.checkpointing;
  for (int64_t i = 0; i < config_.layers; ++i)
    kept.x.push_back(keep || i < 2 ? ops_.activation(arena_, {tokens, width}) : kept.x[static_cast<size_t>(i - 2)]);
  kept.x.push_back(ops_.activation(arena_, {frame.last_rows(), width}));
  embed(frame, kept.x[0]);
  observe(pass.observer, "text.layer_in.0", kept.x[0]);

  for (int64_t i = 0; i < config_.layers; ++i) {
    cancel_.check();
    const size_t l = static_cast<size_t>(i);
    if (keep_layers) {
      kept.layers.push_back(allocate_layer(frame, i));
      layer_forward(frame, i, kept.x[l], kept.layers.back(), kept.x[l + 1]);
    } else {
      Arena::Scope layer_scope(arena_);
      LayerActivations a = allocate_layer(frame, i);
      layer_forward(frame, i, kept.x[l], a, kept.x[l + 1]);
    }
    observe(pass.observer, "text.layer_out." + std::to_string(i), kept.x[l + 1]);
    add_deepstack(frame, i, kept.x[l + 1]);
    if (i + 1 < config_.layers) observe(pass.observer, "text.layer_in." + std::to_string(i + 1), kept.x[l + 1]);
  }
  ops_.rms_norm(kept.x.back(), weights_.norm, config_.rms_norm_eps, hidden, kept.final_rstd);
  observe(pass.observer, "text.final_norm", hidden);
  return hidden;
}

/// In one transfer; the embedding and every level of features use them.
std::vector<Tensor> Decoder::upload_image_rows(const DecoderInput& input) const {
  std::vector<int32_t> all;
  for (const ImagePlacement& image : input.images) all.insert(all.end(), image.rows.begin(), image.rows.end());
  std::vector<Tensor> parts;
  if (input.images.empty()) return parts;
  const Tensor device = ops_.upload_i32(arena_, all);
  int64_t begin = 0;
  for (const ImagePlacement& image : input.images) {
    const int64_t end = begin + static_cast<int64_t>(image.rows.size());
    parts.push_back(device.slice(begin, end));
    begin = end;
  }
  return parts;
}

void Decoder::embed(const Frame& frame, Tensor x) const {
  Arena::Scope scope(arena_);
  // Where a placeholder is no token of the vocabulary any row will do: the image's features go over it.
  std::vector<int32_t> ids = frame.input.ids;
  for (int32_t& id : ids) id = std::max(id, 0);
  ops_.embedding(ops_.upload_i32(arena_, ids), weights_.embed_tokens, x);
  const auto& images = frame.input.images;
  for (size_t i = 0; i < images.size(); ++i) ops_.scatter_rows(images[i].features->merged, frame.kept.image_rows[i], x);
}

void Decoder::add_deepstack(const Frame& frame, int64_t layer, Tensor x) const {
  for (size_t at = 0; at < frame.input.images.size(); ++at) {
    const ImagePlacement& image = frame.input.images[at];
    if (static_cast<size_t>(layer) >= image.features->deepstack.size()) continue;
    const Tensor features = image.features->deepstack[static_cast<size_t>(layer)];
    if (!frame.compact(layer)) {
      ops_.scatter_add_rows(features, frame.kept.image_rows[at], x);
      continue;
    }
    Arena::Scope scope(arena_);
    // The last layer holds the read rows only: take those that are image rows (as a rule none).
    std::vector<int32_t> from, to;
    for (size_t i = 0; i < image.rows.size(); ++i) {
      const auto& read = frame.input.read_rows;
      const auto row = std::lower_bound(read.begin(), read.end(), image.rows[i]);
      if (row == read.end() || *row != image.rows[i]) continue;
      from.push_back(static_cast<int32_t>(i));
      to.push_back(static_cast<int32_t>(row - read.begin()));
    }
    if (from.empty()) continue;
    Tensor some = ops_.activation(arena_, {static_cast<int64_t>(from.size()), config_.hidden_size});
    ops_.gather_rows(features, ops_.upload_i32(arena_, from), some);
    ops_.scatter_add_rows(some, ops_.upload_i32(arena_, to), x);
  }
}

LayerActivations Decoder::allocate_layer(const Frame& frame, int64_t layer) const {
  const int64_t tokens = frame.input.tokens(), rows = frame.rows(layer);
  const bool drops = ops_.is_gpu() && frame.drops();
  const int64_t n = config_.heads, n_kv = config_.kv_heads, d = config_.head_dim;
  LayerActivations a;
  a.rstd1 = arena_.f32({tokens});
  a.rstd2 = arena_.f32({rows});
  a.q = ops_.activation(arena_, {rows, n, d});
  a.k = ops_.activation(arena_, {tokens, n_kv, d});
  a.v = ops_.activation(arena_, {tokens, n_kv, d});
  if (config_.head_norm) {
    a.q_rstd = arena_.f32({rows * n});
    a.k_rstd = arena_.f32({tokens * n_kv});
  }
  a.o = ops_.activation(arena_, {rows, n, d});
  a.lse = arena_.f32({rows, n});
  a.x_mid = ops_.activation(arena_, {rows, config_.hidden_size});
  a.gate = ops_.activation(arena_, {rows, config_.intermediate_size});
  a.up = ops_.activation(arena_, {rows, config_.intermediate_size});
  for (const Proj p : all_projs) {
    if (!frame.module(layer, p)) continue;
    const int64_t inputs = p == Proj::k || p == Proj::v ? tokens : rows;
    a.h[static_cast<size_t>(p)] = ops_.activation(arena_, {inputs, frame.pass.adapter->spec().rank});
    if (drops) a.mask[static_cast<size_t>(p)] = arena_.take(DType::i32, {inputs, mask_words(in_features(p, config_))});
  }
  return a;
}

void Decoder::layer_forward(const Frame& frame, int64_t layer, Tensor x, LayerActivations& a, Tensor y) const {
  attention_forward(frame, layer, x, a);
  mlp_forward(frame, layer, a, y);
}

void Decoder::attention_forward(const Frame& frame, int64_t layer, Tensor x, LayerActivations& a) const {
  Arena::Scope scope(arena_);
  const DecoderLayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  const int64_t tokens = x.rows(), rows = frame.rows(layer), width = config_.hidden_size;
  const int64_t q_width = config_.heads * config_.head_dim, kv_width = config_.kv_heads * config_.head_dim;

  Tensor normed = ops_.activation(arena_, {tokens, width});
  ops_.rms_norm(x, w.input_norm, config_.rms_norm_eps, normed, a.rstd1);
  const Tensor normed_read = read(frame, layer, normed);
  const LinearBranch branches[] = {branch(frame, layer, Proj::q, a.q.reshape({rows, q_width}), a),
                                   branch(frame, layer, Proj::k, a.k.reshape({tokens, kv_width}), a),
                                   branch(frame, layer, Proj::v, a.v.reshape({tokens, kv_width}), a)};
  if (frame.compact(layer)) {
    project(normed_read, {branches, 1});
    project(normed, {branches + 1, 2});
  } else {
    project(normed, branches);
  }

  const RotaryTable asking = rotary(frame, layer), &all = frame.kept.rotary;
  const Tensor q = rotate(a.q, w.q_norm, asking, a.q_rstd), k = rotate(a.k, w.k_norm, all, a.k_rstd);

  Tensor keys = k, values = a.v;
  if (KvCache* cache = frame.pass.cache) {
    const size_t l = static_cast<size_t>(layer);
    const Tensor at = ops_.upload_i32(arena_, frame.input.cache_rows);
    ops_.scatter_rows(k.reshape({tokens, kv_width}), at, cache->k[l]);
    ops_.scatter_rows(a.v.reshape({tokens, kv_width}), at, cache->v[l]);
    keys = cache->k[l].reshape({cache->k[l].rows(), config_.kv_heads, config_.head_dim});
    values = cache->v[l].reshape({cache->v[l].rows(), config_.kv_heads, config_.head_dim});
  }
  if (frame.pass.attention) probe(frame, layer, q, keys);
  ops_.attention(q, keys, values, frame.plan(layer), attention_scale(), a.o, a.lse);

  project(frame, layer, Proj::o, a.o.reshape({rows, q_width}), read(frame, layer, x), a.x_mid, a);
}

Tensor Decoder::rotate(Tensor x, Tensor norm, const RotaryTable& rotary, Tensor rstd) const {
  if (!config_.head_norm) {
    ops_.rope(x, rotary.cos, rotary.sin);
    return x;
  }
  const Tensor y = ops_.activation(arena_, {x.dim(0), x.dim(1), x.dim(2)});
  ops_.norm_rope(x, norm, config_.rms_norm_eps, rotary.cos, rotary.sin, y, rstd);
  return y;
}

void Decoder::mlp_forward(const Frame& frame, int64_t layer, LayerActivations& a, Tensor y) const {
  Arena::Scope scope(arena_);
  const int64_t rows = a.x_mid.rows();
  Tensor normed = ops_.activation(arena_, {rows, config_.hidden_size});
  ops_.rms_norm(a.x_mid, weights_.layers[static_cast<size_t>(layer)].post_attention_norm, config_.rms_norm_eps, normed,
                a.rstd2);
  Tensor product = ops_.activation(arena_, {rows, config_.intermediate_size});
  const LinearBranch branches[] = {branch(frame, layer, Proj::gate, a.gate, a),
                                   branch(frame, layer, Proj::up, a.up, a)};
  draw_masks(branches);
  ops_.gated_branches(normed, branches[0], branches[1], product, frame.keeps_layers());
  project(frame, layer, Proj::down, product, a.x_mid, y, a);
}

void Decoder::probe(const Frame& frame, int64_t layer, Tensor q, Tensor k) const {
  for (AttentionRequest& request : *frame.pass.attention) {
    int32_t query = request.query_row;
    if (frame.compact(layer)) {
      const auto& read = frame.input.read_rows;
      query = static_cast<int32_t>(std::lower_bound(read.begin(), read.end(), query) - read.begin());
    }
    const std::vector<float> all = ops_.attention_weights(q, k, frame.plan(layer), attention_scale(), query);
    for (int64_t head = 0; head < config_.heads; ++head)
      for (const int32_t column : request.columns)
        request.weights.push_back(all[static_cast<size_t>(head * k.dim(0) + column)]);
  }
}

Dropout Decoder::dropout(const Frame& frame, int64_t layer, Proj proj) const {
  if (!frame.drops()) return {};
  const LoraSpec& lora = frame.pass.adapter->spec();
  const Tensor& keys = frame.reads(layer, proj) ? frame.kept.read_row_keys : frame.kept.row_keys;
  return {lora.dropout, lora.seed,
          static_cast<uint32_t>(layer * static_cast<int64_t>(proj_count)) + static_cast<uint32_t>(proj),
          reinterpret_cast<const uint32_t*>(keys.i32())};
}

/// In one transfer.
void Decoder::upload_row_keys(const Frame& frame) const {
  if (!frame.drops()) return;
  const DecoderInput& input = frame.input;
  if (input.row_keys.size() != input.ids.size()) throw Error(Code::internal, "dropout needs a key for each row");
  const std::vector<int32_t> words = key_words(input.row_keys, input.read_rows, frame.pass.dropout_step);
  const int64_t tokens = input.tokens(), all = static_cast<int64_t>(words.size()) / 2;
  const Tensor device = ops_.upload_i32(arena_, words).reshape({all, 2});
  frame.kept.row_keys = device.slice(0, tokens);
  frame.kept.read_row_keys = device.slice(tokens, all);
}

LinearBranch Decoder::branch(const Frame& frame, int64_t layer, Proj proj, Tensor y, const LayerActivations& a) const {
  const LinearWeights& w = weights_.layers[static_cast<size_t>(layer)][proj];
  LinearBranch l{.w = w.weight, .bias = w.bias, .y = y};
  if (const LoraModule* m = frame.module(layer, proj)) {
    l.lora = frame.pass.adapter->view(*m);
    l.dropout = dropout(frame, layer, proj);
    l.mask = a.mask[static_cast<size_t>(proj)], l.h = a.h[static_cast<size_t>(proj)];
  }
  return l;
}

void Decoder::project(const Frame& frame, int64_t layer, Proj proj, Tensor x, Tensor residual, Tensor y,
                      LayerActivations& a) const {
  const LinearBranch l = branch(frame, layer, proj, y, a);
  if (!l.lora.a) return ops_.linear(x, l.w, l.bias, residual, y);
  draw_masks({&l, 1});
  ops_.lora_linear(x, l.w, l.bias, l.lora, l.dropout, l.mask, residual, l.h, y);
}

void Decoder::project(Tensor x, std::span<const LinearBranch> branches) const {
  draw_masks(branches);
  ops_.linear_branches(x, branches);
}

void Decoder::draw_masks(std::span<const LinearBranch> branches) const {
  for (const LinearBranch& l : branches)
    if (l.mask) ops_.draw_mask(l.dropout, l.mask);
}

}  // namespace fire
