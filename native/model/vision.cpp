#include "model/vision.h"

#include <algorithm>
#include <cmath>

namespace fire {
namespace {

constexpr float norm_eps = 1e-6f;

void observe(const Observer* observer, const std::string& name, const Tensor& value) {
  if (observer) (*observer)(name, value);
}

}  // namespace

ImageFeatures::ImageFeatures(Ops& ops, int64_t grid_h_, int64_t grid_w_, int64_t tokens_, int64_t hidden, size_t levels)
    : grid_h(grid_h_), grid_w(grid_w_), tokens(tokens_), ops_(ops) {
  const int64_t parts = static_cast<int64_t>(levels) + 1;
  storage_ = Tensor(nullptr, ops.activation_type(), {parts, tokens, hidden});
  storage_ = Tensor(ops.allocate(storage_.bytes()), ops.activation_type(), {parts, tokens, hidden});
  merged = storage_.slice(0, 1).reshape({tokens, hidden});
  for (int64_t j = 1; j < parts; ++j) deepstack.push_back(storage_.slice(j, j + 1).reshape({tokens, hidden}));
}

ImageFeatures::~ImageFeatures() { ops_.release(storage_.data(), storage_.bytes()); }

Tensor VisionTower::embed_patches(const Patches& patches, Arena& arena, const Observer* observer) const {
  const int64_t count = patches.count();
  Tensor x = ops_.activation(arena, {count, config_.hidden_size});
  Arena::Scope scope(arena);
  const Tensor pixels = ops_.upload_activation(arena, patches.pixels, {count, config_.patch_length()});
  ops_.linear(pixels, weights_.patch_embed.weight, weights_.patch_embed.bias, {}, x);
  observe(observer, "vision.patch_embed", x);
  Tensor positions = ops_.activation(arena, {count, config_.hidden_size});
  ops_.interpolate_positions(weights_.pos_embed, patches.grid_h, patches.grid_w, config_.spatial_merge_size, positions);
  observe(observer, "vision.pos_embeds", positions);
  ops_.add(positions, x);
  return x;
}

void VisionTower::block(const VisionBlockWeights& w, Tensor x, const RotaryTable& rotary, const PreparedPlan& plan,
                        Arena& arena) const {
  Arena::Scope scope(arena);
  const int64_t n = x.rows(), width = config_.hidden_size, heads = config_.heads, d = config_.head_dim();
  Tensor normed = ops_.activation(arena, {n, width}), x_mid = ops_.activation(arena, {n, width});
  {
    Arena::Scope inner(arena);
    std::array<Tensor, 3> qkv;
    ops_.layer_norm(x, w.norm1.weight, w.norm1.bias, norm_eps, normed);
    for (int64_t i = 0; i < 3; ++i) {
      qkv[static_cast<size_t>(i)] = ops_.activation(arena, {n, heads, d});
      ops_.linear(normed, w.qkv.weight.slice(i * width, (i + 1) * width), w.qkv.bias.slice(i * width, (i + 1) * width),
                  {}, qkv[static_cast<size_t>(i)].reshape({n, width}));
    }
    ops_.rope(qkv[0], rotary.cos, rotary.sin);
    ops_.rope(qkv[1], rotary.cos, rotary.sin);
    Tensor o = ops_.activation(arena, {n, heads, d});
    ops_.attention(qkv[0], qkv[1], qkv[2], plan, 1.0f / std::sqrt(static_cast<float>(d)), o, {});
    ops_.linear(o.reshape({n, width}), w.proj.weight, w.proj.bias, x, x_mid);
  }
  Tensor hidden = ops_.activation(arena, {n, config_.intermediate_size});
  ops_.layer_norm(x_mid, w.norm2.weight, w.norm2.bias, norm_eps, normed);
  ops_.linear(normed, w.fc1.weight, w.fc1.bias, {}, hidden);
  ops_.gelu(hidden, Gelu::tanh);
  ops_.linear(hidden, w.fc2.weight, w.fc2.bias, x_mid, x);
}

void VisionTower::merge(const MergerWeights& w, Tensor x, bool norm_after_shuffle, Tensor out, Arena& arena) const {
  Arena::Scope scope(arena);
  const int64_t tokens = x.rows() / config_.merge_unit(), width = config_.hidden_size * config_.merge_unit();
  Tensor normed = ops_.activation(arena, {tokens, width}), hidden = ops_.activation(arena, {tokens, width});
  const Tensor input = norm_after_shuffle ? x.reshape({tokens, width}) : x;
  ops_.layer_norm(input, w.norm.weight, w.norm.bias, norm_eps, normed);
  ops_.linear(normed, w.fc1.weight, w.fc1.bias, {}, hidden);
  ops_.gelu(hidden, Gelu::erf);
  ops_.linear(hidden, w.fc2.weight, w.fc2.bias, {}, out);
}

std::unique_ptr<ImageFeatures> VisionTower::encode(const Patches& patches, Arena& arena,
                                                   const Observer* observer) const {
  Arena::Scope scope(arena);
  const int32_t count = static_cast<int32_t>(patches.count());
  auto features = std::make_unique<ImageFeatures>(ops_, patches.grid_h, patches.grid_w, count / config_.merge_unit(),
                                                  config_.out_hidden_size, weights_.deepstack.size());
  Tensor x = embed_patches(patches, arena, observer);
  const std::vector<int32_t> positions = patch_positions(patches.grid_h, patches.grid_w, config_.spatial_merge_size);
  const RotaryTable rotary = make_rotary_table(ops_, vision_rotary(config_), positions, count, arena);
  observe(observer, "vision.rope_cos", rotary.cos);
  observe(observer, "vision.rope_sin", rotary.sin);
  observe(observer, "vision.block_in.0", x);

  const AttentionPlan all{{{0, count, 0, 0, 0, count, false, 0}}, {}, 1};
  const PreparedPlan plan = ops_.prepare(all, arena);
  for (int64_t i = 0; i < config_.depth; ++i) {
    block(weights_.blocks[static_cast<size_t>(i)], x, rotary, plan, arena);
    observe(observer, "vision.block_out." + std::to_string(i), x);
    for (size_t j = 0; j < config_.deepstack_indexes.size(); ++j) {
      if (config_.deepstack_indexes[j] != i) continue;
      merge(weights_.deepstack[j], x, true, features->deepstack[j], arena);
      observe(observer, "vision.deepstack." + std::to_string(j), features->deepstack[j]);
    }
  }
  merge(weights_.merger, x, false, features->merged, arena);
  observe(observer, "vision.merged", features->merged);
  return features;
}

}  // namespace fire
