// The tiled attention kernels, forward and backward, against float64 (bounds: attention_problem.h).
#include "attention_problem.h"

using namespace fire;
using namespace fire::test;

namespace {

int64_t rows_of(const AttentionPlan& plan) { return static_cast<int64_t>(plan.key_row.size()); }

/// A part of `rows` rows of a tensor whose rows have `width` elements.
std::vector<float> part(const std::vector<float>& values, int64_t width, int64_t begin, int64_t end) {
  return {values.begin() + begin * width, values.begin() + end * width};
}

bool same(const DeviceAttention& a, const DeviceAttention& b) {
  return same_bits(a.o, b.o) && same_bits(a.lse, b.lse) && same_bits(a.dq, b.dq) && same_bits(a.dk, b.dk) &&
         same_bits(a.dv, b.dv);
}

AttentionPlan two_blocks() {
  AttentionPlan plan;
  add_block(plan, 70, 5, 66);
  add_block(plan, 9, 1, 0);
  return plan;
}

}  // namespace

TEST("gpu attention: causal sequences of ragged lengths in one batch") {
  for (const DType type : both_types) {
    AttentionPlan plan;
    for (const int32_t length : {1, 63, 64, 65, 130}) add_sequence(plan, length, true);
    if (large())
      for (const int32_t length : {700, 2, 512}) add_sequence(plan, length, true);
    AttentionProblem(type, plan, rows_of(plan), {2, 1, 32}).check();
  }
}

TEST("gpu attention: a prefix with two tails, for every head width and grouping") {
  for (const DType type : both_types)
    for (const AttentionShape shape : {AttentionShape{4, 1, 16},
                                       {4, 2, 20},
                                       {3, 3, 24},
                                       {6, 2, 32},
                                       {2, 1, 64},
                                       {1, 1, 72},
                                       {2, 2, 80},
                                       {2, 1, 128},
                                       {1, 1, 5},
                                       {1, 1, 100}})
      AttentionProblem(type, two_blocks(), rows_of(two_blocks()), shape).check();
}

TEST("gpu attention: images, where every patch sees all others") {
  for (const DType type : both_types) {
    AttentionPlan plan;
    add_sequence(plan, large() ? 1024 : 100, false);
    add_sequence(plan, 24, false);
    AttentionProblem(type, plan, rows_of(plan), {2, 2, 72}).check();
  }
}

TEST("gpu attention: fewer queries than keys, and keys and rows that no span names") {
  for (const DType type : both_types) {
    const AttentionPlan all = two_blocks();
    // The prefix is read at one row, the first tail nowhere; the second tail across a tile border.
    const AttentionPlan read = restricted(all, {69, 76, 77, 100, 139, 140, 149, 150});
    AttentionProblem(type, read, rows_of(all), {4, 2, 24}).check();

    AttentionPlan gaps;  // rows 2 and 3 ask nothing; keys 10..19 and from 90 are nobody's
    gaps.spans = {{0, 2, 0, 0, 0, 10, true, 0}, {4, 9, 20, 85, 85, 90, true, 1}};
    gaps.key_row = {4, 9, 0, 0, 85, 86, 86, 88, 89};
    gaps.groups = 2;
    AttentionProblem(type, gaps, 100, {4, 2, 16}).check();
  }
}

TEST("gpu attention: no rows at all") {
  for (const DType type : both_types) {
    AttentionProblem p(type, {}, 3, {2, 1, 16});
    const DeviceAttention got = p.run();
    CHECK(got.o.empty());
    CHECK(got.dk == std::vector<float>(p.k.size(), 0.0f));
    CHECK(got.dv == std::vector<float>(p.k.size(), 0.0f));
  }
}

TEST("gpu attention: a scale of its own, and scores far apart") {
  for (const DType type : both_types) {
    AttentionPlan plan;
    add_sequence(plan, 70, true);
    for (const float scale : {0.0f, 0.5f, -0.25f}) {
      AttentionProblem p(type, plan, 70, {2, 1, 32});
      p.scale = scale;
      p.check();
    }
    AttentionProblem huge(type, plan, 70, {2, 2, 16});
    for (float& x : huge.q) x *= 4096;
    for (float& x : huge.k) x *= 4096;
    const DeviceAttention got = huge.run();
    for (const float x : got.o) CHECK(std::abs(x) <= 1.001f);  // a mean of values in [-1, 1]
    for (const auto* values : {&got.lse, &got.dq, &got.dk, &got.dv})
      for (const float x : *values) CHECK(std::isfinite(x));
  }
}

TEST("gpu attention: memory that allows no vector accesses gives the same bits") {
  for (const DType type : both_types) {
    cuda::CudaOps& ops = device(type);
    const AttentionProblem p(type, two_blocks(), rows_of(two_blocks()), {2, 1, 32});
    const DeviceAttention aligned = p.run();
    Arena arena(ops.arena_source(), size_t{1} << 16);
    const PreparedPlan plan = ops.prepare(p.plan, arena);
    // Each tensor begins one element behind an aligned address.
    std::vector<std::unique_ptr<OnDevice>> memory;
    const auto shifted = [&](int64_t rows, int64_t heads, const std::vector<float>& values) {
      std::vector<float> moved(1, 0.0f);
      moved.insert(moved.end(), values.begin(), values.end());
      memory.push_back(std::make_unique<OnDevice>(ops, moved, type,
                                                  std::initializer_list<int64_t>{static_cast<int64_t>(moved.size())}));
      void* const begin = static_cast<char*>(memory.back()->tensor().data()) + size_of(type);
      return Tensor(begin, type, {rows, heads, p.d});
    };
    const Tensor q = shifted(p.queries, p.heads, p.q), k = shifted(p.keys, p.kv_heads, p.k),
                 v = shifted(p.keys, p.kv_heads, p.v), dout = shifted(p.queries, p.heads, p.dout),
                 o = shifted(p.queries, p.heads, p.q), dq = shifted(p.queries, p.heads, p.q),
                 dk = shifted(p.keys, p.kv_heads, p.k), dv = shifted(p.keys, p.kv_heads, p.k);
    const OnDevice lse(ops, DType::f32, {p.queries, p.heads}), delta(ops, DType::f32, {p.queries, p.heads});
    ops.attention(q, k, v, plan, p.scale, o, lse);
    ops.attention_backward(dout, q, k, v, o, lse, plan, p.scale, delta, dq, dk, dv);
    CHECK(same(aligned,
               {ops.download_f32(o), lse.get(), ops.download_f32(dq), ops.download_f32(dk), ops.download_f32(dv)}));
  }
}

TEST("gpu attention: twice gives the same bits") {
  for (const DType type : both_types) {
    const AttentionProblem p(type, two_blocks(), rows_of(two_blocks()), {4, 2, 64});
    CHECK(same(p.run(), p.run()));
  }
}

TEST("gpu attention: a sequence has the same bits alone and in a batch") {
  for (const DType type : both_types) {
    AttentionPlan batch, alone;
    add_sequence(batch, 7, true);
    add_block(batch, 70, 3, 66);
    add_sequence(batch, 65, false);
    add_block(alone, 70, 3, 66);
    const AttentionProblem big(type, batch, rows_of(batch), {4, 2, 20});
    AttentionProblem small(type, alone, rows_of(alone), {4, 2, 20});
    const int64_t width = big.heads * big.d, kv_width = big.kv_heads * big.d, begin = 7, end = 7 + 139;
    small.q = part(big.q, width, begin, end);
    small.dout = part(big.dout, width, begin, end);
    small.k = part(big.k, kv_width, begin, end);
    small.v = part(big.v, kv_width, begin, end);
    const DeviceAttention b = big.run();
    CHECK(same(small.run(),
               {part(b.o, width, begin, end), part(b.lse, big.heads, begin, end), part(b.dq, width, begin, end),
                part(b.dk, kv_width, begin, end), part(b.dv, kv_width, begin, end)}));
  }
}

TEST("gpu attention: a row has the same bits wherever it stands in its tile") {
  for (const DType type : both_types) {
    AttentionPlan plan;
    add_sequence(plan, 150, true);
    const std::vector<int32_t> rows = {0, 5, 63, 64, 100, 127, 128, 149};
    const AttentionProblem all(type, plan, 150, {2, 1, 32});
    AttentionProblem few(type, restricted(plan, rows), 150, {2, 1, 32});
    few.k = all.k;
    few.v = all.v;
    const int64_t width = all.heads * all.d;
    for (size_t i = 0; i < rows.size(); ++i)
      for (int64_t c = 0; c < width; ++c) {
        few.q[i * static_cast<size_t>(width) + static_cast<size_t>(c)] =
            all.q[static_cast<size_t>(rows[i] * width + c)];
        few.dout[i * static_cast<size_t>(width) + static_cast<size_t>(c)] =
            all.dout[static_cast<size_t>(rows[i] * width + c)];
      }
    const DeviceAttention a = all.run(), f = few.run();
    for (size_t i = 0; i < rows.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i), row = rows[i];
      CHECK(same_bits(part(f.o, width, at, at + 1), part(a.o, width, row, row + 1)));
      CHECK(same_bits(part(f.lse, all.heads, at, at + 1), part(a.lse, all.heads, row, row + 1)));
      CHECK(same_bits(part(f.dq, width, at, at + 1), part(a.dq, width, row, row + 1)));
    }
  }
}

TEST("gpu attention: a tail behind a shared prefix has the bits of a sequence of its own") {
  for (const DType type : both_types) {
    AttentionPlan shared, own;
    add_block(shared, 70, 0, 80);
    add_sequence(own, 150, true);
    const AttentionProblem a(type, shared, 150, {2, 1, 32}), b(type, own, 150, {2, 1, 32});
    CHECK(same_bits(a.q, b.q));
    const DeviceAttention x = a.run(), y = b.run();
    CHECK(same_bits(x.o, y.o));
    CHECK(same_bits(x.lse, y.lse));
    CHECK(same_bits(x.dq, y.dq));
  }
}

TEST("gpu attention: calls that cannot be right are refused") {
  cuda::CudaOps& ops = device(DType::f32);
  AttentionPlan plan;
  add_sequence(plan, 4, true);
  Arena arena(ops.arena_source(), size_t{1} << 16);
  const PreparedPlan prepared = ops.prepare(plan, arena);
  const OnDevice x(ops, std::vector<float>(4 * 2 * 16), DType::f32, {4, 2, 16}), three(ops, DType::f32, {4, 3, 16}),
      wide(ops, DType::f32, {4, 1, 144});
  CHECK_ERROR(Code::internal, ("f32[4, 2, 16] over f32[4, 3, 16]"), ops.attention(x, three, three, prepared, 1, x, {}));
  CHECK_ERROR(Code::internal, ("v is f32[4, 3, 16] and not f32[4, 2, 16]"),
              ops.attention(x, x, three, prepared, 1, x, {}));
  CHECK_ERROR(Code::internal, ("not prepared"), ops.attention(x, x, x, PreparedPlan{}, 1, x, {}));
  CHECK_ERROR(Code::unsupported, ("144", "128"), ops.attention(wide, wide, wide, prepared, 1, wide, {}));
}
