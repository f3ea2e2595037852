#include "model/weights.h"

#include <cmath>
#include <set>

namespace fire {
namespace {

/// Hands out tensors by name and remembers which were taken.
class Claims {
 public:
  Claims(const SafeTensors& file, Ops& ops) : file_(file), ops_(ops) {}

  Tensor take(const std::string& name, std::initializer_list<int64_t> shape) {
    const Tensor& t = file_.at(name);
    const Tensor want(nullptr, t.dtype(), shape);
    bool same = t.rank() == want.rank();
    for (int i = 0; same && i < t.rank(); ++i) same = t.dim(i) == want.dim(i);
    if (!same)
      throw Error(Code::checkpoint, file_.origin() + ": tensor \"" + name + "\" is " + t.describe() +
                                        ", config.json asks for " + want.describe())
          .with("tensor", name);
    if (t.dtype() != DType::f32 && t.dtype() != DType::bf16)
      throw Error(Code::unsupported, file_.origin() + ": weight \"" + name + "\" is stored as " +
                                         fire::name(t.dtype()) + "; f32 and bf16 are supported")
          .with("tensor", name);
    taken_.insert(name);
    parameters_ += t.size();
    const Tensor adopted = ops_.adopt(t);
    bytes_ += adopted.bytes();
    return adopted;
  }

  LinearWeights linear(const std::string& name, int64_t out, int64_t in) {
    return {take(name + ".weight", {out, in}), take(name + ".bias", {out})};
  }
  LinearWeights layer_norm(const std::string& name, int64_t width) {
    return {take(name + ".weight", {width}), take(name + ".bias", {width})};
  }

  void skip(const std::string& name) { taken_.insert(name); }

  void refuse_leftovers() const {
    std::string names;
    int count = 0;
    for (const auto& [name, t] : file_.tensors()) {
      if (taken_.count(name) || name.ends_with(".inv_freq")) continue;
      if (++count <= 3) names += (count > 1 ? ", \"" : "\"") + name + "\"";
    }
    if (count > 0)
      throw Error(Code::checkpoint, file_.origin() + " holds " + std::to_string(count) +
                                        " tensor(s) that the architecture in config.json does not use: " + names +
                                        (count > 3 ? ", ..." : ""));
  }

  int64_t parameters() const { return parameters_; }
  size_t bytes() const { return bytes_; }

 private:
  const SafeTensors& file_;
  Ops& ops_;
  std::set<std::string> taken_;
  int64_t parameters_ = 0;
  size_t bytes_ = 0;
};

std::string find_prefix(const SafeTensors& file, const std::string& probe,
                        std::initializer_list<const char*> prefixes) {
  for (const char* prefix : prefixes)
    if (file.find(prefix + probe)) return prefix;
  throw Error(Code::checkpoint, file.origin() + " lacks the tensor \"" + *prefixes.begin() + probe + "\"")
      .with("tensor", probe);
}

DecoderLayerWeights load_layer(Claims& claims, const std::string& prefix, const TextConfig& c) {
  DecoderLayerWeights layer;
  layer.input_norm = claims.take(prefix + "input_layernorm.weight", {c.hidden_size});
  layer.post_attention_norm = claims.take(prefix + "post_attention_layernorm.weight", {c.hidden_size});
  layer.q_norm = claims.take(prefix + "self_attn.q_norm.weight", {c.head_dim});
  layer.k_norm = claims.take(prefix + "self_attn.k_norm.weight", {c.head_dim});
  for (const Proj p : all_projs)
    layer.proj[static_cast<size_t>(p)] =
        claims.take(prefix + module_name(p) + ".weight", {out_features(p, c), in_features(p, c)});
  return layer;
}

MergerWeights load_merger(Claims& claims, const std::string& prefix, int64_t norm_width, const VisionConfig& c) {
  const int64_t width = c.hidden_size * c.merge_unit();
  return {claims.layer_norm(prefix + "norm", norm_width), claims.linear(prefix + "linear_fc1", width, width),
          claims.linear(prefix + "linear_fc2", c.out_hidden_size, width)};
}

VisionWeights load_vision(Claims& claims, const std::string& prefix, const VisionConfig& c) {
  VisionWeights v;
  v.patch_embed.weight = claims
                             .take(prefix + "patch_embed.proj.weight",
                                   {c.hidden_size, c.in_channels, c.temporal_patch_size, c.patch_size, c.patch_size})
                             .reshape({c.hidden_size, c.patch_length()});
  v.patch_embed.bias = claims.take(prefix + "patch_embed.proj.bias", {c.hidden_size});
  v.pos_embed = claims.take(prefix + "pos_embed.weight", {c.num_position_embeddings, c.hidden_size});
  for (int64_t i = 0; i < c.depth; ++i) {
    const std::string block = prefix + "blocks." + std::to_string(i) + ".";
    v.blocks.push_back({claims.layer_norm(block + "norm1", c.hidden_size),
                        claims.linear(block + "attn.qkv", 3 * c.hidden_size, c.hidden_size),
                        claims.linear(block + "attn.proj", c.hidden_size, c.hidden_size),
                        claims.layer_norm(block + "norm2", c.hidden_size),
                        claims.linear(block + "mlp.linear_fc1", c.intermediate_size, c.hidden_size),
                        claims.linear(block + "mlp.linear_fc2", c.hidden_size, c.intermediate_size)});
  }
  v.merger = load_merger(claims, prefix + "merger.", c.hidden_size, c);
  for (size_t i = 0; i < c.deepstack_indexes.size(); ++i)
    v.deepstack.push_back(load_merger(claims, prefix + "deepstack_merger_list." + std::to_string(i) + ".",
                                      c.hidden_size * c.merge_unit(), c));
  return v;
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
  const TextConfig& c = config.text;
  Claims claims(file, ops);
  const std::string text =
      find_prefix(file, "embed_tokens.weight", {"model.language_model.", "language_model.model.", "model."});
  const std::string visual = find_prefix(file, "pos_embed.weight", {"model.visual.", "visual."});

  Weights w;
  w.embed_tokens = claims.take(text + "embed_tokens.weight", {c.vocab_size, c.hidden_size});
  w.norm = claims.take(text + "norm.weight", {c.hidden_size});
  for (int64_t i = 0; i < c.layers; ++i)
    w.layers.push_back(load_layer(claims, text + "layers." + std::to_string(i) + ".", c));
  w.vision = load_vision(claims, visual, config.vision);
  const std::string head =
      file.find("language_model.lm_head.weight") ? "language_model.lm_head.weight" : "lm_head.weight";
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

std::string find_nonfinite(const SafeTensors& file) {
  for (const auto& [name, t] : file.tensors())
    for (int64_t i = 0; i < t.size(); ++i) {
      const float value = t.dtype() == DType::f32 ? t.f32()[i] : t.dtype() == DType::bf16 ? to_float(t.b16()[i]) : 0.0f;
      if (!std::isfinite(value)) return name;
    }
  return "";
}

}  // namespace fire
