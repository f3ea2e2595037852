#include "model/vision_block.h"

#include <cmath>

namespace fire {

VisionAttention claim_fused_attention(Claims& claims, const std::string& prefix, int64_t width) {
  const LinearWeights qkv = claims.linear(prefix + "qkv", 3 * width, width);
  const auto part = [&](int64_t i) {
    return LinearWeights{qkv.weight.slice(i * width, (i + 1) * width), qkv.bias.slice(i * width, (i + 1) * width)};
  };
  return {part(0), part(1), part(2), claims.linear(prefix + "proj", width, width)};
}

void vision_attention(Ops& ops, const VisionAttention& w, Tensor normed, Tensor x, const RotaryTable* rotary,
                      const PreparedPlan& plan, int64_t heads, Arena& arena, Tensor y) {
  Arena::Scope scope(arena);
  const int64_t n = x.rows(), width = x.cols(), d = width / heads;
  const auto part = [&] { return ops.activation(arena, {n, heads, d}); };
  const Tensor q = part(), k = part(), v = part(), o = part();
  const auto branch = [&](const LinearWeights& linear, const Tensor& y) {
    return LinearBranch{.w = linear.weight, .bias = linear.bias, .y = y.reshape({n, width})};
  };
  const LinearBranch branches[] = {branch(w.q, q), branch(w.k, k), branch(w.v, v)};
  ops.linear_branches(normed, branches);
  if (rotary)
    for (const Tensor& rotated : {q, k}) ops.rope(rotated, rotary->cos, rotary->sin);
  ops.attention(q, k, v, plan, 1.0f / std::sqrt(static_cast<float>(d)), o, {});
  ops.linear(o.reshape({n, width}), w.out.weight, w.out.bias, x, y);
}

void run_block(Ops& ops, const VisionBlockKind& kind, const VisionBlock& w, const RotaryTable* rotary,
               const PreparedPlan& plan, Arena& arena, Tensor x) {
  Arena::Scope scope(arena);
  const int64_t n = x.rows(), width = x.cols();
  const Tensor normed = ops.activation(arena, {n, width}), x_mid = ops.activation(arena, {n, width});
  ops.layer_norm(x, w.norm1.weight, w.norm1.bias, kind.norm_eps, normed);
  vision_attention(ops, w.attention, normed, x, rotary, plan, kind.heads, arena, x_mid);
  const Tensor hidden = ops.activation(arena, {n, w.fc1.weight.rows()});
  ops.layer_norm(x_mid, w.norm2.weight, w.norm2.bias, kind.norm_eps, normed);
  ops.linear(normed, w.fc1.weight, w.fc1.bias, {}, hidden);
  ops.gelu(hidden, kind.gelu);
  ops.linear(hidden, w.fc2.weight, w.fc2.bias, x_mid, x);
}

AttentionPlan attend_within(std::span<const int64_t> rows) {
  AttentionPlan plan;
  int32_t begin = 0;
  for (const int64_t count : rows) {
    const int32_t end = begin + static_cast<int32_t>(count);
    plan.spans.push_back({begin, end, 0, 0, begin, end, false, plan.groups++});
    begin = end;
  }
  return plan;
}

}  // namespace fire
