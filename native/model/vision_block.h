// What the blocks of different vision towers have in common.
#pragma once

#include <span>

#include "model/claims.h"
#include "model/positions.h"

namespace fire {

/// The linears of full multi-head attention, each [width, width].
struct VisionAttention {
  LinearWeights q, k, v, out;
};

/// `prefix`qkv holds q, k and v above each other, `prefix`proj the output, as the Qwen-VL families store them.
VisionAttention claim_fused_attention(Claims& claims, const std::string& prefix, int64_t width);

/// y[n, width] = x + attention of `normed`, which is x behind the block's norm. With `rotary` q and k are rotated.
void vision_attention(Ops& ops, const VisionAttention& w, Tensor normed, Tensor x, const RotaryTable* rotary,
                      const PreparedPlan& plan, int64_t heads, Arena& arena, Tensor y);

/// A pre-norm block of a ViT: LayerNorm and attention, LayerNorm and two linears with a GELU between.
struct VisionBlock {
  LinearWeights norm1;
  VisionAttention attention;
  LinearWeights norm2, fc1, fc2;
};

struct VisionBlockKind {
  int64_t heads;
  float norm_eps;
  Gelu gelu;
};

/// In place on x[n, width].
void run_block(Ops& ops, const VisionBlockKind& kind, const VisionBlock& w, const RotaryTable* rotary,
               const PreparedPlan& plan, Arena& arena, Tensor x);

/// Of each image, `rows` of them one behind the other, all rows see each other.
AttentionPlan attend_within(std::span<const int64_t> rows);

}  // namespace fire
