#include <algorithm>

#include "cuda/attention.h"
#include "cuda/checks.h"
#include "cuda/cuda_ops.h"
#include "ops/attention_tables.h"

namespace fire::cuda {
namespace {

static_assert(attention_tile_rows == attention_tile, "the tables are cut as the kernels work");

/// Rows that decode go through the device in portions that need no more workspace than this, unless one row does.
constexpr int64_t decoding_workspace = gpu_workspace;

/// The query tiles of a plan whose rows decode: the last `count`.
struct DecodingRows {
  int64_t count = 0, keys = 0;  // the most that one sees

  explicit DecodingRows(const AttentionPlan& plan) {
    for (const AttentionSpan& s : plan.spans) {
      if (!s.decodes) continue;
      ++count;
      keys = std::max<int64_t>(keys, keys_seen(plan, s, s.query_begin));
    }
  }
};

void check_like(const char* what, Tensor x, DType type, std::initializer_list<int64_t> dims) {
  const Tensor wanted(nullptr, type, dims);
  bool same = x.dtype() == type && x.rank() == wanted.rank();
  for (int i = 0; same && i < x.rank(); ++i) same = x.dim(i) == wanted.dim(i);
  if (!same)
    throw Error(Code::internal,
                std::string("attention: ") + what + " is " + x.describe() + " and not " + wanted.describe());
}

AttentionInputs inputs_of(DType type, Tensor q, Tensor k, const PreparedPlan& plan, float scale) {
  if (q.rank() != 3 || k.rank() != 3 || q.dim(2) != k.dim(2) || k.dim(1) == 0 || q.dim(1) % k.dim(1) != 0)
    throw Error(Code::internal, "attention of " + q.describe() + " over " + k.describe());
  check_like("q", q, type, {q.dim(0), q.dim(1), q.dim(2)});
  check_like("k", k, type, {k.dim(0), k.dim(1), k.dim(2)});
  if (plan.plan == nullptr || (!plan.plan->spans.empty() && !plan.spans))
    throw Error(Code::internal, "attention with a plan that was not prepared");
  return {type,
          static_cast<int>(q.dim(1)),
          static_cast<int>(k.dim(1)),
          static_cast<int>(q.dim(2)),
          scale,
          q.data(),
          k.data(),
          nullptr,
          plan.spans.i32(),
          plan.ranges.i32(),
          plan.key_row.i32()};
}

}  // namespace

void CudaOps::attention(Tensor q, Tensor k, Tensor v, const PreparedPlan& plan, float scale, Tensor o, Tensor lse) {
  AttentionInputs in = inputs_of(type_, q, k, plan, scale);
  check_like("v", v, type_, {k.dim(0), k.dim(1), k.dim(2)});
  check_like("o", o, type_, {q.dim(0), q.dim(1), q.dim(2)});
  if (lse) check_like("lse", lse, DType::f32, {q.dim(0), q.dim(1)});
  in.v = v.data();
  float* const lse_data = f32_or_null(lse);
  const DecodingRows decoding(*plan.plan);
  const int64_t tiled = plan.query_tiles.dim(0) - decoding.count;
  if (isa_ == Isa::sm_90a && takes_attention_hopper(in))
    launch_attention_hopper(stream_, in, plan.query_tiles.i32(), o.data(), lse_data, tiled,
                            properties_.multiprocessors);
  else
    launch_attention(stream_, in, plan.query_tiles.i32(), o.data(), lse_data, tiled);
  if (decoding.count == 0) return;
  const int64_t row_bytes = attention_partial_size(in, decoding.keys) * static_cast<int64_t>(sizeof(float));
  const int64_t portion = std::clamp(decoding_workspace / row_bytes, int64_t{1}, decoding.count);
  auto* const partial = static_cast<float*>(workspace(static_cast<size_t>(portion * row_bytes)));
  for (int64_t i = 0; i < decoding.count; i += portion)
    launch_attention_single(stream_, in, plan.query_tiles.slice(tiled + i, tiled + i + 1).i32(), partial, o.data(),
                            lse_data, std::min(portion, decoding.count - i), decoding.keys);
}

void CudaOps::attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse,
                                 const PreparedPlan& plan, float scale, Tensor delta, Tensor dq, Tensor dk, Tensor dv) {
  AttentionInputs in = inputs_of(type_, q, k, plan, scale);
  for (const auto& [what, x] : {std::pair("dout", dout), std::pair("o", o), std::pair("dq", dq)})
    check_like(what, x, type_, {q.dim(0), q.dim(1), q.dim(2)});
  for (const auto& [what, x] : {std::pair("v", v), std::pair("dk", dk), std::pair("dv", dv)})
    check_like(what, x, type_, {k.dim(0), k.dim(1), k.dim(2)});
  for (const auto& [what, x] : {std::pair("lse", lse), std::pair("delta", delta)})
    check_like(what, x, DType::f32, {q.dim(0), q.dim(1)});
  in.v = v.data();
  zero(dk);  // keys that no query sees
  zero(dv);
  launch_attention_delta(stream_, type_, dout.data(), o.data(), delta.f32(), q.dim(0) * q.dim(1), q.dim(2));
  const int32_t *const query_tiles = plan.query_tiles.i32(), *const key_tiles = plan.key_tiles.i32();
  const int64_t query_count = plan.query_tiles.dim(0), key_count = plan.key_tiles.dim(0);
  if (isa_ == Isa::sm_90a && takes_attention_hopper(in)) {
    launch_attention_dq_hopper(stream_, in, dout.data(), lse.f32(), delta.f32(), query_tiles, dq.data(), query_count,
                               properties_.multiprocessors);
    launch_attention_dkv_hopper(stream_, in, dout.data(), lse.f32(), delta.f32(), key_tiles, plan.key_spans.i32(),
                                dk.data(), dv.data(), key_count, properties_.multiprocessors);
  } else {
    launch_attention_dq(stream_, in, dout.data(), lse.f32(), delta.f32(), query_tiles, dq.data(), query_count);
    launch_attention_dkv(stream_, in, dout.data(), lse.f32(), delta.f32(), key_tiles, plan.key_spans.i32(), dk.data(),
                         dv.data(), key_count);
  }
}

std::vector<float> CudaOps::attention_weights(Tensor q, Tensor k, const PreparedPlan& plan, float scale,
                                              int32_t query) {
  const AttentionInputs in = inputs_of(type_, q, k, plan, scale);
  const auto& spans = plan.plan->spans;
  const auto span = std::find_if(spans.begin(), spans.end(),
                                 [&](const AttentionSpan& s) { return query >= s.query_begin && query < s.query_end; });
  const Tensor weights(workspace(static_cast<size_t>(q.dim(1) * k.dim(0)) * sizeof(float)), DType::f32,
                       {q.dim(1), k.dim(0)});
  zero(weights);
  if (span != spans.end())
    launch_attention_weights(stream_, in, weights.f32(), k.dim(0), static_cast<int32_t>(span - spans.begin()), query);
  return download_f32(weights);
}

}  // namespace fire::cuda
