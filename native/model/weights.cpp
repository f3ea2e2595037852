#include "model/weights.h"

#include <algorithm>
#include <cmath>

#include "ops/null_ops.h"

namespace fire {
namespace {

DecoderLayerWeights load_layer(Claims& claims, const std::string& prefix, const TextConfig& c) {
  DecoderLayerWeights layer;
  layer.input_norm = claims.take(prefix + "input_layernorm.weight", {c.hidden_size});
  layer.post_attention_norm = claims.take(prefix + "post_attention_layernorm.weight", {c.hidden_size});
  if (c.head_norm) {
    layer.q_norm = claims.take(prefix + "self_attn.q_norm.weight", {c.head_dim});
    layer.k_norm = claims.take(prefix + "self_attn.k_norm.weight", {c.head_dim});
  }
  for (const Proj p : all_projs) {
    const std::string name = prefix + module_name(p);
    LinearWeights& linear = layer.proj[static_cast<size_t>(p)];
    linear.weight = claims.take(name + ".weight", {out_features(p, c), in_features(p, c)});
    if (c.qkv_bias && p <= Proj::v) linear.bias = claims.take(name + ".bias", {out_features(p, c)});
  }
  return layer;
}

/// Whose config.json does not say so: GPTQ and AWQ (qweight), bitsandbytes (absmax, SCB), compressed-tensors, fp8.
void refuse_quantized(const SafeTensors& file) {
  for (const auto& [name, tensor] : file.tensors())
    for (const char* ending : {".qweight", ".absmax", ".SCB", ".weight_packed", ".weight_scale", ".weight_scale_inv"})
      if (name.ends_with(ending))
        throw Error(Code::unsupported, file.origin() + ": \"" + name +
                                           "\" belongs to a quantised weight; take the model that was not quantised")
            .with("tensor", name);
}

Weights claim(const SafeTensors& file, const ModelConfig& config, Ops& ops) {
  const TextConfig& c = config.text;
  Claims claims(file, ops);
  const std::string text = claims.prefix_of("embed_tokens.weight", config.names.prefixes);
  Weights w;
  w.embed_tokens = claims.take(text + "embed_tokens.weight", {c.vocab_size, c.hidden_size});
  w.norm = claims.take(text + "norm.weight", {c.hidden_size});
  for (int64_t i = 0; i < c.layers; ++i)
    w.layers.push_back(load_layer(claims, text + "layers." + std::to_string(i) + ".", c));
  w.vision = config.vision->load(claims, ops);
  const auto& heads = config.names.heads;
  const auto stored = std::find_if(heads.begin(), heads.end(), [&](const auto& name) { return claims.has(name); });
  const std::string head = stored == heads.end() ? heads.front() : *stored;
  if (c.tie_word_embeddings) {
    w.lm_head = w.embed_tokens;
    claims.skip(head);  // some writers store the tied head a second time
  } else {
    w.lm_head = claims.take(head, {c.vocab_size, c.hidden_size});
  }
  claims.refuse_leftovers();
  w.parameters = claims.parameters();
  w.bytes = claims.bytes();
  return w;
}

}  // namespace

const char* short_name(Proj proj) {
  static constexpr const char* names[] = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  return names[static_cast<size_t>(proj)];
}

std::string module_name(Proj proj) { return (proj <= Proj::o ? "self_attn." : "mlp.") + std::string(short_name(proj)); }

int64_t in_features(Proj proj, const TextConfig& c) {
  if (proj == Proj::o) return c.heads * c.head_dim;
  return proj == Proj::down ? c.intermediate_size : c.hidden_size;
}

int64_t out_features(Proj proj, const TextConfig& c) {
  switch (proj) {
    case Proj::q:
      return c.heads * c.head_dim;
    case Proj::k:
    case Proj::v:
      return c.kv_heads * c.head_dim;
    case Proj::gate:
    case Proj::up:
      return c.intermediate_size;
    case Proj::o:
    case Proj::down:
      return c.hidden_size;
  }
  return 0;
}

Weights Weights::load(const SafeTensors& file, const ModelConfig& config, Ops& ops) {
  refuse_quantized(file);
  if (ops.is_gpu() && !ops.dry()) {
    NullOps sizes(ops);
    ops.reserve_weights(claim(file, config, sizes).bytes);
  }
  return claim(file, config, ops);
}

std::string find_nonfinite(const SafeTensors& file) {
  constexpr int64_t piece = 4096;
  float values[piece];
  for (const auto& [name, t] : file.tensors())
    for (int64_t begin = 0; is_weight(t.dtype()) && begin < t.size(); begin += piece) {
      const int64_t end = std::min(begin + piece, t.size());
      widen(t, begin, end, values);
      if (!std::all_of(values, values + (end - begin), [](float value) { return std::isfinite(value); })) return name;
    }
  return "";
}

}  // namespace fire
