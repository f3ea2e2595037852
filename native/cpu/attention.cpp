// Attention over packed sequences (see AttentionPlan): exact softmax on blocks of query rows, matrix products by Gemm.
//
// Pieces of spans with the same context are one unit of work. Their queries, times the heads that share a key/value
// head, are the rows of one product with the context, so its keys are read and packed once for all of them. Where the
// sums of a row run over keys they do so in blocks of `key_block` places of the row's sequence, added in order: the
// bits do not depend on how the sequence is cut into ranges or on what else is in the unit.
//
// Forward runs one task per unit and key/value head. Backward runs one task per (group, key/value head), because only
// queries of one group write the same rows of dk and dv: no atomics, and sums in a fixed order.
#include <algorithm>
#include <cmath>
#include <map>

#include "cpu/cpu_ops.h"
#include "cpu/vector_math.h"

namespace fire::cpu {
namespace {

/// Rows of a unit, about: enough that packing the keys costs little, few enough that there are tasks for all threads.
constexpr int64_t unit_rows = 64;
/// Keys that one chain of multiply-adds sums; part of the definition of the result.
constexpr int64_t key_block = 64;

struct Shape {
  int64_t heads, kv_heads, d;
  int64_t q_stride() const { return heads * d; }
  int64_t kv_stride() const { return kv_heads * d; }
  int64_t kv_head(int64_t head) const { return head / (heads / kv_heads); }
};

Shape shape_of(const Tensor& q, const Tensor& k) { return {q.dim(1), k.dim(1), q.dim(2)}; }

/// Query rows [begin, end) of one span.
struct Piece {
  const AttentionSpan* span;
  int32_t begin, end;
  int64_t queries() const { return end - begin; }
};

/// Own keys of the span that a query row sees.
int64_t own_seen(const AttentionPlan& plan, const AttentionSpan& span, int32_t query) {
  if (!span.causal) return span.own_end - span.own_begin;
  return plan.key_row[static_cast<size_t>(query)] + 1 - span.own_begin;
}

/// The most that a row of the piece sees. Key rows of a span do not fall.
int64_t own_seen(const AttentionPlan& plan, const Piece& piece) { return own_seen(plan, *piece.span, piece.end - 1); }

/// What one task works on: pieces with the same context.
struct Unit {
  std::span<const KeyRange> context;
  std::vector<Piece> pieces;
  int64_t queries = 0;

  int64_t context_keys() const {
    int64_t keys = 0;
    for (const KeyRange& range : context) keys += range.size();
    return keys;
  }
  /// Columns of scores that hold the keys of every row.
  int64_t width(const AttentionPlan& plan) const {
    int64_t own = 0;
    for (const Piece& piece : pieces) own = std::max(own, own_seen(plan, piece));
    return context_keys() + own;
  }
};

/// Cuts spans into units, in their order. Spans without a context share no keys: each has units of its own.
std::vector<Unit> cut_units(const AttentionPlan& plan, std::span<const AttentionSpan* const> spans,
                            const Shape& shape) {
  const int64_t most = std::max<int64_t>(1, unit_rows / (shape.heads / shape.kv_heads));
  std::vector<Unit> units;
  std::map<std::pair<int32_t, int32_t>, size_t> open;  // units with room, by context
  for (const AttentionSpan* span : spans) {
    const std::pair context(span->context_begin, span->context_end);
    for (int32_t begin = span->query_begin; begin < span->query_end;) {
      const auto known = open.find(context);
      const bool joins = known != open.end() && !plan.context(*span).empty();
      if (!joins) units.push_back({plan.context(*span), {}, 0});
      const size_t at = joins ? known->second : units.size() - 1;
      Unit& unit = units[at];
      const int32_t end = std::min(begin + static_cast<int32_t>(most - unit.queries), span->query_end);
      unit.pieces.push_back({span, begin, end});
      unit.queries += end - begin;
      begin = end;
      open[context] = at;
      if (unit.queries == most) open.erase(context);
    }
  }
  return units;
}

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

/// One unit and one key/value head: the products of its rows [queries * heads, d] with keys and values. Row
/// (query, head) is the query's place among the unit's queries times `heads`, plus the head's among those that share
/// the key/value head.
class UnitProducts {
 public:
  /// `gathered` holds key_block rows of d.
  UnitProducts(Gemm& gemm, int worker, const AttentionPlan& plan, const Shape& shape, const Unit& unit, int64_t kv,
               float* gathered)
      : gemm_(gemm),
        worker_(worker),
        plan_(plan),
        shape_(shape),
        unit_(unit),
        kv_(kv),
        heads_(shape.heads / shape.kv_heads),
        context_(unit.context_keys()),
        width_(unit.width(plan)),
        gathered_(gathered) {}

  int64_t rows() const { return unit_.queries * heads_; }
  int64_t width() const { return width_; }

  /// f(row, query, head, keys seen) of every row.
  template <class F>
  void for_rows(F&& f) const {
    int64_t row = 0;
    for (const Piece& piece : unit_.pieces)
      for (int32_t query = piece.begin; query < piece.end; ++query) {
        const int64_t seen = context_ + own_seen(plan_, *piece.span, query);
        for (int64_t h = 0; h < heads_; ++h) f(row++, query, kv_ * heads_ + h, seen);
      }
  }

  /// The unit's rows of x [Q, heads, d] to `packed` [rows, d].
  void collect(const float* x, float* packed) const {
    for_queries([&](int64_t at, int64_t row) { std::copy_n(x + at, heads_ * shape_.d, packed + row * shape_.d); });
  }
  /// And back.
  void spread(const float* packed, float* x) const {
    for_queries([&](int64_t at, int64_t row) { std::copy_n(packed + row * shape_.d, heads_ * shape_.d, x + at); });
  }

  /// out[rows, width] = alpha * a[rows, d] b^T; `b` is k or v.
  void against_keys(float alpha, const float* a, const float* b, float* out) const {
    int64_t column = 0;
    for (const KeyRange& range : unit_.context) {
      scores(alpha, 0, rows(), a, b, range.begin, range.size(), out + column);
      column += range.size();
    }
    for_pieces([&](const Piece& piece, int64_t row, int64_t count) {
      scores(alpha, row, count, a, b, piece.span->own_begin, own_seen(plan_, piece), out + context_);
    });
  }

  /// out[rows, d] = s[rows, width] b.
  void times_keys(const float* s, const float* b, float* out) const {
    const int64_t shared = context_ / key_block * key_block;  // places of blocks that all rows have in common
    for (int64_t place = 0; place < shared; place += key_block)
      weighted(0, rows(), s, b, unit_.pieces[0], place, key_block, out);
    for_pieces([&](const Piece& piece, int64_t row, int64_t count) {
      const int64_t end = context_ + own_seen(plan_, piece);
      for (int64_t place = shared; place < end; place += key_block)
        weighted(row, count, s, b, piece, place, std::min(key_block, end - place), out);
    });
  }

  /// db[key, d] += s^T[key, rows] a[rows, d] over the keys of every row.
  void into_keys(const float* s, const float* a, float* db) const {
    int64_t column = 0;
    for (const KeyRange& range : unit_.context) {
      add_keys(0, rows(), s + column, a, range.begin, range.size(), db);
      column += range.size();
    }
    for_pieces([&](const Piece& piece, int64_t row, int64_t count) {
      add_keys(row, count, s + context_, a, piece.span->own_begin, own_seen(plan_, piece), db);
    });
  }

 private:
  /// f(offset of the query's heads in [Q, heads, d], its first row).
  template <class F>
  void for_queries(F&& f) const {
    int64_t row = 0;
    for (const Piece& piece : unit_.pieces)
      for (int64_t query = piece.begin; query < piece.end; ++query, row += heads_)
        f(query * shape_.q_stride() + kv_ * heads_ * shape_.d, row);
  }
  /// f(piece, its first row, its number of rows).
  template <class F>
  void for_pieces(F&& f) const {
    int64_t row = 0;
    for (const Piece& piece : unit_.pieces) {
      f(piece, row, piece.queries() * heads_);
      row += piece.queries() * heads_;
    }
  }
  const float* key_row(const float* b, int64_t key) const { return b + key * shape_.kv_stride() + kv_ * shape_.d; }

  void scores(float alpha, int64_t row, int64_t count, const float* a, const float* b, int64_t key, int64_t keys,
              float* out) const {
    gemm_.serial(worker_, count, keys, shape_.d, alpha, rows_of(a + row * shape_.d, shape_.d),
                 columns_of(key_row(b, key), shape_.kv_stride()), 0, out + row * width_, width_);
  }

  /// Adds the keys at [place, place + count) of the piece's sequence to the sums of some rows; the first block
  /// overwrites them.
  void weighted(int64_t row, int64_t rows, const float* s, const float* b, const Piece& piece, int64_t place,
                int64_t count, float* out) const {
    gemm_.serial(worker_, rows, shape_.d, count, 1, rows_of(s + row * width_ + place, width_),
                 block(b, piece, place, count), place > 0 ? 1.0f : 0.0f, out + row * shape_.d, shape_.d);
  }

  /// Rows of `b` at [place, place + count) of the piece's sequence: in place where one range holds them all.
  Operand block(const float* b, const Piece& piece, int64_t place, int64_t count) const {
    int64_t skip = place, done = 0;
    const auto take = [&](int64_t begin, int64_t size) -> const float* {
      if (skip >= size) {
        skip -= size;
        return nullptr;
      }
      if (done == 0 && size - skip >= count) return key_row(b, begin + skip);
      for (; skip < size && done < count; ++skip, ++done)
        std::copy_n(key_row(b, begin + skip), shape_.d, gathered_ + done * shape_.d);
      skip = 0;
      return nullptr;
    };
    for (const KeyRange& range : unit_.context) {
      if (const float* rows = take(range.begin, range.size())) return rows_of(rows, shape_.kv_stride());
      if (done == count) return rows_of(gathered_, shape_.d);
    }
    const float* rows = take(piece.span->own_begin, piece.span->own_end - piece.span->own_begin);
    return rows ? rows_of(rows, shape_.kv_stride()) : rows_of(gathered_, shape_.d);
  }

  void add_keys(int64_t row, int64_t count, const float* s, const float* a, int64_t key, int64_t keys,
                float* db) const {
    gemm_.serial(worker_, keys, shape_.d, count, 1, columns_of(s + row * width_, width_),
                 rows_of(a + row * shape_.d, shape_.d), 1, db + key * shape_.kv_stride() + kv_ * shape_.d,
                 shape_.kv_stride());
  }

  Gemm& gemm_;
  const int worker_;
  const AttentionPlan& plan_;
  const Shape& shape_;
  const Unit& unit_;
  const int64_t kv_, heads_, context_, width_;
  float* const gathered_;
};

}  // namespace

void CpuOps::attention(Tensor q, Tensor k, Tensor v, const PreparedPlan& prepared, float scale, Tensor o, Tensor lse) {
  const AttentionPlan& plan = *prepared.plan;
  const Shape shape = shape_of(q, k);
  std::vector<const AttentionSpan*> spans;
  for (const AttentionSpan& span : plan.spans) spans.push_back(&span);
  const std::vector<Unit> units = cut_units(plan, spans, shape);

  pool_.parallel_for(static_cast<int64_t>(units.size()) * shape.kv_heads, [&](int64_t task, int worker) {
    const Unit& unit = units[static_cast<size_t>(task / shape.kv_heads)];
    const auto memory = [&](Slot slot, int64_t n) { return scratch(worker, slot, static_cast<size_t>(n)); };
    const UnitProducts products(gemm_, worker, plan, shape, unit, task % shape.kv_heads,
                                memory(Slot::gathered, key_block * shape.d));
    const int64_t width = products.width(), size = products.rows() * shape.d;
    float *s = memory(Slot::scores, products.rows() * width), *rows = memory(Slot::queries, size);
    products.collect(q.f32(), rows);
    products.against_keys(scale, rows, k.f32(), s);
    products.for_rows([&](int64_t row, int64_t query, int64_t head, int64_t seen) {
      float max;
      float* const weights = s + row * width;
      const float sum = exp_row(weights, seen, &max);
      scale_row(weights, 1.0f / sum, seen);
      std::fill(weights + seen, weights + width, 0.0f);
      if (lse) lse.f32()[query * shape.heads + head] = max + std::log(sum);
    });
    products.times_keys(s, v.f32(), rows);
    products.spread(rows, o.f32());
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

  pool_.parallel_for(plan.groups * shape.kv_heads, [&](int64_t task, int worker) {
    const auto memory = [&](Slot slot, int64_t n) { return scratch(worker, slot, static_cast<size_t>(n)); };
    for (const Unit& unit : cut_units(plan, groups[static_cast<size_t>(task / shape.kv_heads)], shape)) {
      const UnitProducts products(gemm_, worker, plan, shape, unit, task % shape.kv_heads,
                                  memory(Slot::gathered, key_block * shape.d));
      const int64_t width = products.width(), size = products.rows() * shape.d;
      float *p = memory(Slot::scores, products.rows() * width),
            *ds = memory(Slot::score_gradients, products.rows() * width);
      float *queries = memory(Slot::queries, size), *douts = memory(Slot::gradients, size),
            *sums = memory(Slot::sums, size);
      products.collect(q.f32(), queries);
      products.collect(dout.f32(), douts);
      products.against_keys(scale, queries, k.f32(), p);
      products.against_keys(1, douts, v.f32(), ds);
      products.for_rows([&](int64_t row, int64_t query, int64_t head, int64_t seen) {
        float *weights = p + row * width, *gradients = ds + row * width;
        const int64_t number = query * shape.heads + head;
        exp_minus(weights, lse.f32()[number], seen);
        // sum_j p_j dp_j = o . do
        const float dot = dot_row(douts + row * shape.d, o.f32() + number * shape.d, shape.d);
        delta.f32()[number] = dot;
        score_gradient_row(weights, gradients, dot, scale, seen);
        std::fill(weights + seen, weights + width, 0.0f);
        std::fill(gradients + seen, gradients + width, 0.0f);
      });
      products.times_keys(ds, k.f32(), sums);
      products.spread(sums, dq.f32());
      products.into_keys(ds, queries, dk.f32());
      products.into_keys(p, douts, dv.f32());
    }
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
    const Unit unit{plan.context(span), {{&span, query, query + 1}}, 1};
    for (int64_t kv = 0; kv < shape.kv_heads; ++kv) {
      const UnitProducts products(gemm_, 0, plan, shape, unit, kv, nullptr);
      const int64_t width = products.width();
      std::vector<float> rows(static_cast<size_t>(products.rows() * shape.d));
      std::vector<float> scores(static_cast<size_t>(products.rows() * width));
      products.collect(q.f32(), rows.data());
      products.against_keys(scale, rows.data(), k.f32(), scores.data());
      products.for_rows([&](int64_t row, int64_t, int64_t head, int64_t) {
        float* s = scores.data() + row * width;
        float max;
        scale_row(s, 1.0f / exp_row(s, width, &max), width);
        for (const KeyRange& range : unit.context) {
          std::copy_n(s, range.size(), weights.data() + head * keys + range.begin);
          s += range.size();
        }
        std::copy(s, scores.data() + (row + 1) * width, weights.data() + head * keys + span.own_begin);
      });
    }
  }
  return weights;
}

}  // namespace fire::cpu
