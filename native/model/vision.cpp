#include "model/vision.h"

#include <algorithm>
#include <cmath>

#include "model/positions.h"

namespace fire {
namespace {

constexpr float norm_eps = 1e-6f;

void observe(const Observer* observer, const std::string& name, const Tensor& value) {
  if (observer) (*observer)(name, value);
}

float element(const Tensor& t, int64_t i) { return t.dtype() == DType::f32 ? t.f32()[i] : to_float(t.b16()[i]); }

/// The learned position table resampled bilinearly (corners aligned) to the patch grid, patches in merge order.
std::vector<float> resample_positions(const Tensor& table, int64_t grid_h, int64_t grid_w, int64_t merge) {
  const int64_t width = table.cols();
  int64_t side = 0;
  while (side * side < table.rows()) ++side;
  struct Tap {
    int64_t low, high;
    float weight;
  };
  auto tap = [side](int64_t at, int64_t count) {
    const float place =
        static_cast<float>(at) * static_cast<float>(side - 1) / static_cast<float>(std::max<int64_t>(count - 1, 1));
    const int64_t low = static_cast<int64_t>(place);
    return Tap{low, std::min(low + 1, side - 1), place - static_cast<float>(low)};
  };
  std::vector<float> out;
  out.reserve(static_cast<size_t>(grid_h * grid_w * width));
  for (const auto& [y, x] : patch_places(grid_h, grid_w, merge)) {
    const Tap v = tap(y, grid_h), h = tap(x, grid_w);
    for (int64_t c = 0; c < width; ++c) {
      auto at = [&](int64_t row, int64_t col) { return element(table, (row * side + col) * width + c); };
      out.push_back((1 - v.weight) * (1 - h.weight) * at(v.low, h.low) + (1 - v.weight) * h.weight * at(v.low, h.high) +
                    v.weight * (1 - h.weight) * at(v.high, h.low) + v.weight * h.weight * at(v.high, h.high));
    }
  }
  return out;
}

}  // namespace

ImageFeatures::ImageFeatures(Ops& ops, int64_t grid_h_, int64_t grid_w_, int64_t tokens_, int64_t hidden, size_t levels)
    : grid_h(grid_h_), grid_w(grid_w_), tokens(tokens_), ops_(ops) {
  const int64_t parts = static_cast<int64_t>(levels) + 1;
  storage_ = Tensor(nullptr, DType::f32, {parts, tokens, hidden});
  storage_ = Tensor(ops.allocate(storage_.bytes()), DType::f32, {parts, tokens, hidden});
  merged = storage_.slice(0, 1).reshape({tokens, hidden});
  for (int64_t j = 1; j < parts; ++j) deepstack.push_back(storage_.slice(j, j + 1).reshape({tokens, hidden}));
}

ImageFeatures::~ImageFeatures() { ops_.release(storage_.data(), storage_.bytes()); }

Tensor VisionTower::embed_patches(const Patches& patches, Arena& arena, const Observer* observer) const {
  const int64_t count = patches.count();
  Tensor x = arena.f32({count, config_.hidden_size});
  Arena::Scope scope(arena);
  const Tensor pixels = ops_.upload_f32(arena, patches.pixels, {count, config_.patch_length()});
  ops_.linear(pixels, weights_.patch_embed.weight, weights_.patch_embed.bias, x);
  observe(observer, "vision.patch_embed", x);
  const std::vector<float> positions =
      resample_positions(weights_.pos_embed, patches.grid_h, patches.grid_w, config_.spatial_merge_size);
  const Tensor pos = ops_.upload_f32(arena, positions, {count, config_.hidden_size});
  observe(observer, "vision.pos_embeds", pos);
  ops_.add(pos, x);
  return x;
}

void VisionTower::block(const VisionBlockWeights& w, Tensor x, Tensor cos, Tensor sin, const AttentionPlan& plan,
                        Arena& arena) const {
  Arena::Scope scope(arena);
  const int64_t n = x.rows(), width = config_.hidden_size, heads = config_.heads, d = config_.head_dim();
  Tensor normed = arena.f32({n, width}), out = arena.f32({n, width});
  {
    Arena::Scope inner(arena);
    std::array<Tensor, 3> qkv;
    ops_.layer_norm(x, w.norm1.weight, w.norm1.bias, norm_eps, normed);
    for (int64_t i = 0; i < 3; ++i) {
      qkv[static_cast<size_t>(i)] = arena.f32({n, heads, d});
      ops_.linear(normed, w.qkv.weight.slice(i * width, (i + 1) * width), w.qkv.bias.slice(i * width, (i + 1) * width),
                  qkv[static_cast<size_t>(i)].reshape({n, width}));
    }
    ops_.rope(qkv[0], cos, sin, 1);
    ops_.rope(qkv[1], cos, sin, 1);
    Tensor o = arena.f32({n, heads, d});
    ops_.attention(qkv[0], qkv[1], qkv[2], plan, 1.0f / std::sqrt(static_cast<float>(d)), o, {});
    ops_.linear(o.reshape({n, width}), w.proj.weight, w.proj.bias, out);
    ops_.add(out, x);
  }
  Tensor hidden = arena.f32({n, config_.intermediate_size});
  ops_.layer_norm(x, w.norm2.weight, w.norm2.bias, norm_eps, normed);
  ops_.linear(normed, w.fc1.weight, w.fc1.bias, hidden);
  ops_.gelu(hidden, Gelu::tanh);
  ops_.linear(hidden, w.fc2.weight, w.fc2.bias, out);
  ops_.add(out, x);
}

void VisionTower::merge(const MergerWeights& w, Tensor x, bool norm_after_shuffle, Tensor out, Arena& arena) const {
  Arena::Scope scope(arena);
  const int64_t tokens = x.rows() / config_.merge_unit(), width = config_.hidden_size * config_.merge_unit();
  Tensor normed = arena.f32({tokens, width}), hidden = arena.f32({tokens, width});
  const Tensor input = norm_after_shuffle ? x.reshape({tokens, width}) : x;
  ops_.layer_norm(input, w.norm.weight, w.norm.bias, norm_eps, normed);
  ops_.linear(normed, w.fc1.weight, w.fc1.bias, hidden);
  ops_.gelu(hidden, Gelu::erf);
  ops_.linear(hidden, w.fc2.weight, w.fc2.bias, out);
}

std::unique_ptr<ImageFeatures> VisionTower::encode(const Patches& patches, Arena& arena,
                                                   const Observer* observer) const {
  Arena::Scope scope(arena);
  const int32_t count = static_cast<int32_t>(patches.count());
  auto features = std::make_unique<ImageFeatures>(ops_, patches.grid_h, patches.grid_w, count / config_.merge_unit(),
                                                  config_.out_hidden_size, weights_.deepstack.size());
  Tensor x = embed_patches(patches, arena, observer);
  const RotaryTable table = vision_rotary(patches.grid_h, patches.grid_w, config_);
  const Tensor cos = ops_.upload_f32(arena, table.cos, {count, config_.head_dim()});
  const Tensor sin = ops_.upload_f32(arena, table.sin, {count, config_.head_dim()});
  observe(observer, "vision.rope_cos", cos);
  observe(observer, "vision.rope_sin", sin);
  observe(observer, "vision.block_in.0", x);

  const AttentionPlan plan{{{0, count, 0, 0, 0, count, false, 0}}, {}, 1};
  for (int64_t i = 0; i < config_.depth; ++i) {
    block(weights_.blocks[static_cast<size_t>(i)], x, cos, sin, plan, arena);
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
