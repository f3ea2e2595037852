// Attention over packed sequences (see AttentionPlan): exact softmax on blocks of query rows, matrix products by Gemm.
// Forward runs one task per block of queries and head. Backward runs one task per (group, key/value head), because only
// queries of one group write the same rows of dk and dv: no atomics, and sums in a fixed order.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"
#include "cpu/vector_math.h"

namespace fire::cpu {
namespace {

constexpr int32_t query_block = 64;

struct Shape {
  int64_t heads, kv_heads, d;
  int64_t q_stride() const { return heads * d; }
  int64_t kv_stride() const { return kv_heads * d; }
  int64_t kv_head(int64_t head) const { return head / (heads / kv_heads); }
};

Shape shape_of(const Tensor& q, const Tensor& k) { return {q.dim(1), k.dim(1), q.dim(2)}; }

/// A block of query rows of one span, and how many keys of each range its rows see.
struct Block {
  const AttentionSpan& span;
  const AttentionPlan& plan;
  int32_t begin, end;

  int64_t rows() const { return end - begin; }
  int64_t prefix() const { return span.prefix_end - span.prefix_begin; }
  /// Keys of the own range seen by row `i` of the block.
  int64_t own(int64_t i) const {
    if (!span.causal) return span.own_end - span.own_begin;
    return plan.key_row[static_cast<size_t>(begin + i)] + 1 - span.own_begin;
  }
  int64_t max_own() const {
    int64_t most = 0;
    for (int64_t i = 0; i < rows(); ++i) most = std::max(most, own(i));
    return most;
  }
};

/// Most queries of a bundle: enough that packing the keys costs little, few enough that there are tasks for all
/// threads.
constexpr int64_t bundle_queries = 16;

/// Decoding: spans of one query row each, one behind the other in the plan, with the same prefix. They and all heads of
/// a key/value head are the rows of one product with the prefix, so its keys are read and packed once for all of them.
/// A product's rows do not depend on each other, so the bits are those of a block of one row.
struct Bundle {
  const AttentionSpan* first;
  int64_t count;

  int64_t prefix() const { return first->prefix_end - first->prefix_begin; }
  /// False when the span, the next one of the plan with a single query, does not belong here.
  bool add(const AttentionSpan& span) {
    const bool fits = &span == first + count && count < bundle_queries && span.prefix_begin == first->prefix_begin &&
                      span.prefix_end == first->prefix_end;
    if (fits) ++count;
    return fits;
  }
};

/// S = exp(S - max), returns the sum and sets `max`. Rows see at least one key.
FIRE_CLONES float exp_row(float* s, int64_t n, float* max) {
  float m = -INFINITY;
#pragma omp simd reduction(max : m)
  for (int64_t i = 0; i < n; ++i) m = s[i] > m ? s[i] : m;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    s[i] = exp_approx(s[i] - m);
    sum += s[i];
  }
  *max = m;
  return sum;
}

FIRE_CLONES void scale_row(float* s, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) s[i] *= factor;
}

FIRE_CLONES void exp_minus(float* s, float lse, int64_t n) {
  for (int64_t i = 0; i < n; ++i) s[i] = exp_approx(s[i] - lse);
}

FIRE_CLONES void score_gradient_row(const float* p, float* dp, float dot, float scale, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dp[i] = p[i] * (dp[i] - dot) * scale;
}

FIRE_CLONES float dot_row(const float* a, const float* b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

Operand rows_of(const float* x, int64_t stride) { return {x, DType::f32, stride, 1}; }
Operand columns_of(const float* x, int64_t stride) { return {x, DType::f32, 1, stride}; }

/// out[rows, prefix + own] = alpha * a[rows, d] b^T over the keys of a block; `b` is k or v of one head.
void against_keys(Gemm& gemm, int worker, const Block& block, int64_t own, float alpha, const float* a,
                  int64_t a_stride, const float* b, int64_t b_stride, int64_t d, float* out) {
  const int64_t width = block.prefix() + own;
  if (block.prefix() > 0)
    gemm.serial(worker, block.rows(), block.prefix(), d, alpha, rows_of(a, a_stride),
                columns_of(b + block.span.prefix_begin * b_stride, b_stride), 0, out, width);
  gemm.serial(worker, block.rows(), own, d, alpha, rows_of(a, a_stride),
              columns_of(b + block.span.own_begin * b_stride, b_stride), 0, out + block.prefix(), width);
}

/// out[rows, d] = s[rows, prefix + own] b over the keys of a block.
void times_keys(Gemm& gemm, int worker, const Block& block, int64_t own, const float* s, const float* b,
                int64_t b_stride, int64_t d, float* out, int64_t out_stride) {
  const int64_t width = block.prefix() + own;
  if (block.prefix() > 0)
    gemm.serial(worker, block.rows(), d, block.prefix(), 1, rows_of(s, width),
                rows_of(b + block.span.prefix_begin * b_stride, b_stride), 0, out, out_stride);
  gemm.serial(worker, block.rows(), d, own, 1, rows_of(s + block.prefix(), width),
              rows_of(b + block.span.own_begin * b_stride, b_stride), block.prefix() > 0 ? 1.0f : 0.0f, out,
              out_stride);
}

/// db[key, d] += s^T a over the keys of a block.
void into_keys(Gemm& gemm, int worker, const Block& block, int64_t own, const float* s, const float* a,
               int64_t a_stride, int64_t d, float* db, int64_t db_stride) {
  const int64_t width = block.prefix() + own;
  if (block.prefix() > 0)
    gemm.serial(worker, block.prefix(), d, block.rows(), 1, columns_of(s, width), rows_of(a, a_stride), 1,
                db + block.span.prefix_begin * db_stride, db_stride);
  gemm.serial(worker, own, d, block.rows(), 1, columns_of(s + block.prefix(), width), rows_of(a, a_stride), 1,
              db + block.span.own_begin * db_stride, db_stride);
}

}  // namespace

void CpuOps::attention(Tensor q, Tensor k, Tensor v, const PreparedPlan& prepared, float scale, Tensor o, Tensor lse) {
  const AttentionPlan& plan = *prepared.plan;
  const Shape shape = shape_of(q, k);
  std::vector<Block> blocks;
  std::vector<Bundle> bundles;
  for (const AttentionSpan& span : plan.spans) {
    if (span.query_end - span.query_begin == 1) {
      if (bundles.empty() || !bundles.back().add(span)) bundles.push_back({&span, 1});
      continue;
    }
    for (int32_t b = span.query_begin; b < span.query_end; b += query_block)
      blocks.push_back({span, plan, b, std::min(b + query_block, span.query_end)});
  }

  /// Rows of scores to weights, each over the keys it sees.
  const auto normalize = [&](float* s, int64_t width, int64_t seen, int64_t query, int64_t head) {
    float max;
    const float sum = exp_row(s, seen, &max);
    scale_row(s, 1.0f / sum, seen);
    std::fill(s + seen, s + width, 0.0f);
    if (lse) lse.f32()[query * shape.heads + head] = max + std::log(sum);
  };

  const auto run_block = [&](int worker, const Block& block, int64_t head) {
    const int64_t kv = shape.kv_head(head), own = block.max_own();
    const int64_t width = block.prefix() + own;
    float* s = scratch(worker, 0, static_cast<size_t>(block.rows() * width));
    const int64_t q_at = block.begin * shape.q_stride() + head * shape.d;
    against_keys(gemm_, worker, block, own, scale, q.f32() + q_at, shape.q_stride(), k.f32() + kv * shape.d,
                 shape.kv_stride(), shape.d, s);
    for (int64_t i = 0; i < block.rows(); ++i)
      normalize(s + i * width, width, block.prefix() + block.own(i), block.begin + i, head);
    times_keys(gemm_, worker, block, own, s, v.f32() + kv * shape.d, shape.kv_stride(), shape.d, o.f32() + q_at,
               shape.q_stride());
  };

  const auto run_bundle = [&](int worker, const Bundle& bundle, int64_t kv) {
    const int64_t d = shape.d, stride = shape.kv_stride(), heads = shape.heads / shape.kv_heads;
    const int64_t rows = bundle.count * heads, prefix = bundle.prefix();
    const auto own = [&](int64_t i) { return Block{bundle.first[i], plan, bundle.first[i].query_begin, 0}.own(0); };
    /// The heads of query i that share this key/value head, [heads, d].
    const auto heads_of = [&](const Tensor& x, int64_t i) {
      return x.f32() + bundle.first[i].query_begin * shape.q_stride() + kv * heads * d;
    };
    int64_t width = 0;
    for (int64_t i = 0; i < bundle.count; ++i) width = std::max(width, prefix + own(i));
    float* s = scratch(worker, 0, static_cast<size_t>(rows * width));
    float* packed = scratch(worker, 1, static_cast<size_t>(rows * d));
    const float *keys = k.f32() + kv * d, *values = v.f32() + kv * d;

    if (prefix > 0) {
      for (int64_t i = 0; i < bundle.count; ++i) std::copy_n(heads_of(q, i), heads * d, packed + i * heads * d);
      gemm_.serial(worker, rows, prefix, d, scale, rows_of(packed, d),
                   columns_of(keys + bundle.first->prefix_begin * stride, stride), 0, s, width);
    }
    for (int64_t i = 0; i < bundle.count; ++i) {
      const int64_t seen = prefix + own(i);
      float* scores = s + i * heads * width;
      gemm_.serial(worker, heads, own(i), d, scale, rows_of(heads_of(q, i), d),
                   columns_of(keys + bundle.first[i].own_begin * stride, stride), 0, scores + prefix, width);
      for (int64_t h = 0; h < heads; ++h)
        normalize(scores + h * width, seen, seen, bundle.first[i].query_begin, kv * heads + h);
    }
    if (prefix > 0)
      gemm_.serial(worker, rows, d, prefix, 1, rows_of(s, width),
                   rows_of(values + bundle.first->prefix_begin * stride, stride), 0, packed, d);
    for (int64_t i = 0; i < bundle.count; ++i) {
      if (prefix > 0) std::copy_n(packed + i * heads * d, heads * d, heads_of(o, i));
      gemm_.serial(worker, heads, d, own(i), 1, rows_of(s + i * heads * width + prefix, width),
                   rows_of(values + bundle.first[i].own_begin * stride, stride), prefix > 0 ? 1.0f : 0.0f,
                   heads_of(o, i), d);
    }
  };

  const int64_t block_tasks = static_cast<int64_t>(blocks.size()) * shape.heads;
  const int64_t bundle_tasks = static_cast<int64_t>(bundles.size()) * shape.kv_heads;
  pool_.parallel_for(block_tasks + bundle_tasks, [&](int64_t task, int worker) {
    if (task < block_tasks)
      return run_block(worker, blocks[static_cast<size_t>(task / shape.heads)], task % shape.heads);
    task -= block_tasks;
    run_bundle(worker, bundles[static_cast<size_t>(task / shape.kv_heads)], task % shape.kv_heads);
  });
}

void CpuOps::attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse,
                                const PreparedPlan& prepared, float scale, Tensor delta, Tensor dq, Tensor dk,
                                Tensor dv) {
  const AttentionPlan& plan = *prepared.plan;
  const Shape shape = shape_of(q, k);
  zero(dk);
  zero(dv);
  std::vector<std::vector<const AttentionSpan*>> groups(static_cast<size_t>(plan.groups));
  for (const AttentionSpan& span : plan.spans) groups[static_cast<size_t>(span.group)].push_back(&span);

  auto run_block = [&](int worker, const Block& block, int64_t head) {
    const int64_t kv = shape.kv_head(head), own = block.max_own(), width = block.prefix() + own;
    const int64_t q_at = block.begin * shape.q_stride() + head * shape.d, kv_at = kv * shape.d;
    float* p = scratch(worker, 0, static_cast<size_t>(block.rows() * width));
    float* ds = scratch(worker, 1, static_cast<size_t>(block.rows() * width));
    against_keys(gemm_, worker, block, own, scale, q.f32() + q_at, shape.q_stride(), k.f32() + kv_at, shape.kv_stride(),
                 shape.d, p);
    against_keys(gemm_, worker, block, own, 1, dout.f32() + q_at, shape.q_stride(), v.f32() + kv_at, shape.kv_stride(),
                 shape.d, ds);
    for (int64_t i = 0; i < block.rows(); ++i) {
      const int64_t seen = block.prefix() + block.own(i), row = q_at + i * shape.q_stride();
      exp_minus(p + i * width, lse.f32()[(block.begin + i) * shape.heads + head], seen);
      // sum_j p_j dp_j = o . do
      const float dot = dot_row(dout.f32() + row, o.f32() + row, shape.d);
      delta.f32()[(block.begin + i) * shape.heads + head] = dot;
      score_gradient_row(p + i * width, ds + i * width, dot, scale, seen);
      std::fill(p + i * width + seen, p + (i + 1) * width, 0.0f);
      std::fill(ds + i * width + seen, ds + (i + 1) * width, 0.0f);
    }
    times_keys(gemm_, worker, block, own, ds, k.f32() + kv_at, shape.kv_stride(), shape.d, dq.f32() + q_at,
               shape.q_stride());
    into_keys(gemm_, worker, block, own, ds, q.f32() + q_at, shape.q_stride(), shape.d, dk.f32() + kv_at,
              shape.kv_stride());
    into_keys(gemm_, worker, block, own, p, dout.f32() + q_at, shape.q_stride(), shape.d, dv.f32() + kv_at,
              shape.kv_stride());
  };

  pool_.parallel_for(plan.groups * shape.kv_heads, [&](int64_t task, int worker) {
    const int64_t kv = task % shape.kv_heads, heads_per_kv = shape.heads / shape.kv_heads;
    for (const AttentionSpan* span : groups[static_cast<size_t>(task / shape.kv_heads)])
      for (int64_t head = kv * heads_per_kv; head < (kv + 1) * heads_per_kv; ++head)
        for (int32_t b = span->query_begin; b < span->query_end; b += query_block)
          run_block(worker, {*span, plan, b, std::min(b + query_block, span->query_end)}, head);
  });
}

std::vector<float> CpuOps::attention_weights(Tensor q, Tensor k, const PreparedPlan& prepared, float scale,
                                             int32_t query) {
  const AttentionPlan& plan = *prepared.plan;
  const Shape shape = shape_of(q, k);
  const int64_t keys = k.dim(0);
  std::vector<float> weights(static_cast<size_t>(shape.heads * keys), 0.0f);
  for (const AttentionSpan& span : plan.spans) {
    if (query < span.query_begin || query >= span.query_end) continue;
    const Block block{span, plan, query, query + 1};
    for (int64_t head = 0; head < shape.heads; ++head) {
      const int64_t own = block.own(0), width = block.prefix() + own;
      std::vector<float> s(static_cast<size_t>(width));
      against_keys(gemm_, 0, block, own, scale, q.f32() + query * shape.q_stride() + head * shape.d, shape.q_stride(),
                   k.f32() + shape.kv_head(head) * shape.d, shape.kv_stride(), shape.d, s.data());
      float max;
      scale_row(s.data(), 1.0f / exp_row(s.data(), width, &max), width);
      float* row = weights.data() + head * keys;
      std::copy_n(s.begin(), block.prefix(), row + span.prefix_begin);
      std::copy_n(s.begin() + block.prefix(), own, row + span.own_begin);
    }
  }
  return weights;
}

}  // namespace fire::cpu
