// Attention of single query rows, as decoding asks it, and the weights of one row, against float64.
#include "attention_problem.h"

using namespace fire;
using namespace fire::test;

namespace {

/// One query a slot of a cache; slot i holds lengths[i] keys at the start of its `capacity` rows.
AttentionPlan decode_plan(const std::vector<int32_t>& lengths, int32_t capacity) {
  AttentionPlan plan;
  for (const int32_t length : lengths) {
    const int32_t row = plan.groups++, base = row * capacity, key = base + length - 1;
    plan.spans.push_back({row, row + 1, 0, 0, base, key + 1, true, row});
    plan.key_row.push_back(key);
  }
  return plan;
}

}  // namespace

TEST("gpu attention: decoding over a cache with gaps") {
  for (const DType type : both_types)
    for (const AttentionShape shape : {AttentionShape{2, 2, 64},
                                       {4, 2, 128},
                                       {4, 1, 20},
                                       {6, 1, 32},
                                       {8, 1, 16},
                                       {12, 1, 24},
                                       {3, 1, 80},
                                       {2, 2, 5}})
      AttentionProblem(type, decode_plan({1, 255, 256, 257, 600}, 610), 5 * 610, shape).check(false);
}

TEST("gpu attention: single rows behind a prefix, among tiles, forward and backward") {
  for (const DType type : both_types) {
    AttentionPlan plan;
    add_block(plan, 300, 1, 1);
    add_sequence(plan, 1, true);
    add_block(plan, 1, 1, 70);
    AttentionProblem(type, plan, static_cast<int64_t>(plan.key_row.size()), {4, 2, 24}).check();
  }
}

TEST("gpu attention: a decoded row has the same bits alone and in any batch") {
  for (const DType type : both_types) {
    const AttentionShape shape{4, 2, 32};
    const AttentionProblem batch(type, decode_plan({600, 3, 513, 256}, 700), 4 * 700, shape);
    const DeviceAttention all = batch.run(false);
    const size_t width = static_cast<size_t>(batch.heads * batch.d);
    for (size_t i = 0; i < 4; ++i) {
      AttentionProblem alone = batch;
      alone.plan.spans = {batch.plan.spans[i]};
      alone.plan.spans[0].query_begin = 0;
      alone.plan.spans[0].query_end = 1;
      alone.plan.spans[0].group = 0;
      alone.plan.groups = 1;
      alone.plan.key_row = {batch.plan.key_row[i]};
      alone.queries = 1;
      const auto q = batch.q.begin() + static_cast<std::ptrdiff_t>(i * width);
      alone.q = {q, q + static_cast<std::ptrdiff_t>(width)};
      const DeviceAttention one = alone.run(false);
      CHECK(same_bits(one.o, {all.o.begin() + static_cast<std::ptrdiff_t>(i * width),
                              all.o.begin() + static_cast<std::ptrdiff_t>((i + 1) * width)}));
      const auto lse = all.lse.begin() + static_cast<std::ptrdiff_t>(i * 4);
      CHECK(same_bits(one.lse, {lse, lse + 4}));
    }
  }
}

TEST("gpu attention: more decoded rows than one workspace holds") {
  // A row needs 79 chunks * 8 heads * 66 numbers here, so 16 MiB hold 100 rows.
  std::vector<int32_t> lengths(111, 3);
  lengths[50] = 20000;
  AttentionPlan plan;
  int32_t base = 0;
  for (const int32_t length : lengths) {
    const int32_t row = plan.groups++;
    plan.spans.push_back({row, row + 1, 0, 0, base, base + length, true, row});
    base += length;
    plan.key_row.push_back(base - 1);
  }
  AttentionProblem(DType::bf16, plan, base, {8, 1, 64}).check(false);
}

TEST("gpu attention: the weights of one row, to the host") {
  for (const DType type : both_types) {
    AttentionPlan plan;
    add_block(plan, 70, 5, 9);
    add_sequence(plan, 30, false);
    AttentionProblem p(type, plan, static_cast<int64_t>(plan.key_row.size()) + 5, {4, 2, 20});
    const AttentionResults want = p.reference();
    p.poison_unseen();
    cuda::CudaOps& ops = device(type);
    Arena arena(ops.arena_source(), size_t{1} << 16);
    const PreparedPlan prepared = ops.prepare(p.plan, arena);
    const OnDevice q(ops, p.q, type, {p.queries, p.heads, p.d}), k(ops, p.k, type, {p.keys, p.kv_heads, p.d});
    for (const int32_t query : {0, 63, 69, 70, 83, 84, 113}) {
      const std::vector<float> got = ops.attention_weights(q, k, prepared, p.scale, query);
      const size_t row = static_cast<size_t>(p.heads * p.keys), at = static_cast<size_t>(query) * row;
      CHECK(got.size() == row);
      // f32 throughout, also for bf16 inputs: a score's error of some 2^-24 * 10 is a weight's relative error.
      for (size_t i = 0; i < row; ++i) CHECK_NEAR(got[i], want.weights[at + i], 4e-6 * want.weights[at + i]);
    }
  }
}
