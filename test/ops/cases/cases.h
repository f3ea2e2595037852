// The cases that other tests and bench/gpu build too: one function an operation, its arguments the shape.
#pragma once

#include <initializer_list>

#include "objective/row_summary.h"
#include "ops/case.h"

namespace fire::test::cases {

// activation.cpp: `size` elements.
Case swiglu(DType type, int64_t size);
Case swiglu_backward(DType type, int64_t size);
Case gelu(DType type, Gelu kind, int64_t size);

// norm.cpp: rows of `columns`.
Case rms_norm(const Target& target, int64_t rows, int64_t columns);
Case rms_norm_backward(const Target& target, DType dy_type, bool residual, int64_t rows, int64_t columns);
Case layer_norm(const Target& target, int64_t rows, int64_t columns);

// rope.cpp: heads of width `d`.
struct Heads {
  int64_t tokens, heads, d;
};
Case rotary_table(int64_t tokens, int64_t half);
Case rope(DType type, Heads s);
Case rope_backward(DType type, Heads s);
Case norm_rope(const Target& target, Heads s);
Case norm_rope_backward(const Target& target, Heads s);

// rows.cpp: rows of `width` by index; of `many` rows, those of `index`.
Case embedding(const Target& target, int64_t vocab, int64_t width, const std::vector<int32_t>& ids);
Case gather_rows(DType type, int64_t many, int64_t width, const std::vector<int32_t>& index);
Case scatter_rows(DType type, int64_t many, int64_t width, const std::vector<int32_t>& index);
Case scatter_add_rows(DType type, int64_t many, int64_t width, const std::vector<int32_t>& index);
struct Grid {
  int64_t side, h, w, merge, columns;
};
Case interpolate_positions(const Target& target, Grid g);
/// (row, column) of the patches in blocks of merge x merge, walked as the model's host code does.
std::vector<std::pair<int64_t, int64_t>> merge_order(int64_t grid_h, int64_t grid_w, int64_t merge);

// matmul.cpp and lora.cpp: [tokens, in] to [tokens, out].
struct Linear {
  int64_t tokens, out, in;
};
Case linear(const Target& target, Linear s, bool bias, bool residual, DType y_type);
Case linear_backward(const Target& target, Linear s, DType dy_type, DType dx_type, bool accumulate);
Case lora_linear(const Target& target, Linear s, int64_t rank, const Dropout& dropout, bool bias, bool residual,
                 DType y_type);
enum class Dx : uint8_t { none, overwritten, accumulated };
Case lora_linear_backward(const Target& target, Linear s, int64_t rank, const Dropout& dropout, Dx dx, DType dx_type);
/// alpha / r, or alpha / sqrt(r).
constexpr float lora_scale = 1.5f;

// branches.cpp: linears of one x [tokens, in]; rank 0: not adapted.
struct Branches {
  struct Branch {
    int64_t out, rank;
  };
  int64_t tokens, in;
  std::vector<Branch> branches;
  float rate;  ///< of their dropouts, which count the modules from `first_module` on
  bool bias;
  uint32_t first_module = 0;
};
Case linear_branches(const Target& target, const Branches& s, DType y_type);
Case linear_branches_backward(const Target& target, const Branches& s, DType dx_type);
/// Of two branches, gate and up, of as many outputs.
Case gated_branches(const Target& target, const Branches& s, bool keeps);
/// Of down, to [tokens, out] from [tokens, in]; rank 0: not adapted.
Case gated_backward(const Target& target, Linear down, int64_t rank, float rate);

// attention.cpp
struct AttentionShape {
  int64_t heads, kv_heads, d;
};
/// Keys that no row sees are NaN, so that a read of them shows.
Case attention(const Target& target, const AttentionPlan& plan, int64_t keys, AttentionShape shape, bool lse = true);
Case attention_backward(const Target& target, const AttentionPlan& plan, int64_t keys, AttentionShape shape);
/// A sequence of its own group at the end of a plan.
void add_sequence(AttentionPlan& plan, int32_t length, bool causal);
/// A prefix with two tails in one group.
void add_block(AttentionPlan& plan, int32_t prefix, int32_t first, int32_t second);
/// `length` rows that follow those of node `parent`; -1: the first.
struct TreeNode {
  int32_t parent, length;
};
/// A tree of causal rows, parents first: every row sees the nodes above its own, and its own up to itself.
void add_tree(AttentionPlan& plan, const std::vector<TreeNode>& nodes);
/// The same attention asked by these rows alone, as the last layer does (query i is row rows[i]; rows ascend).
AttentionPlan restricted(const AttentionPlan& plan, const std::vector<int32_t>& rows);
/// One query a slot of a cache; slot i holds lengths[i] keys at the start of its `capacity` rows.
AttentionPlan decode_plan(const std::vector<int32_t>& lengths, int32_t capacity);
/// Queries that decode beside others with their prefix: prefixes at rows 0..69 and 70..74, then ten rows for each.
AttentionPlan shared_prefixes(int32_t count);

// preference.cpp: targets are (row, token).
/// A row of logits, and of the reference's where there is one, in float64.
RowSummary exact_row(const double* z, const double* zr, size_t n);
/// Widths around the accesses (4), the threads and the slice (8192); some not a multiple of 4. (rows, vocab)
std::vector<std::pair<int64_t, int64_t>> logit_shapes(bool large);
Case preference_statistics(int64_t rows, int64_t vocab, float distance, const std::vector<int32_t>& targets);
Case preference_backward(int64_t rows, int64_t vocab, const std::vector<int32_t>& targets);

// sample.cpp
/// `tolerance` is that of log-probabilities.
Case sample(int64_t rows, int64_t vocab, const SamplingRule& rule, double tolerance = 1e-12);

// optimizer.cpp
/// `rounded`: with the parameters in bf16 beside them.
Case adamw(const AdamW& settings, int64_t size, bool rounded);

}  // namespace fire::test::cases
