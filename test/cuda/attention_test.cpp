// Attention below ops.h: how many blocks share its tiles makes no difference, and Hopper's kernels add up as those of
// every GPU do. What they compute is held against float64 in test/ops.
#include "cuda/attention.h"

#include <cmath>

#include "device.h"
#include "ops/cases/cases.h"

namespace fire::test {
namespace {

struct Shape {
  int heads, kv_heads, width;
};

/// Of a plan whose rows are those of a batch from `first` on.
class Attention {
 public:
  Attention(cuda::CudaOps& ops, const AttentionPlan& plan, Shape shape, int64_t first = 0)
      : ops_(ops),
        plan_(plan),
        rows_(static_cast<int64_t>(plan.key_row.size())),
        shape_(shape),
        q_(ops, of_batch(1, shape.heads, first), DType::bf16, {rows_, shape.heads, shape.width}),
        k_(ops, of_batch(2, shape.kv_heads, first), DType::bf16, {rows_, shape.kv_heads, shape.width}),
        v_(ops, of_batch(3, shape.kv_heads, first), DType::bf16, {rows_, shape.kv_heads, shape.width}),
        dout_(ops, of_batch(4, shape.heads, first), DType::bf16, {rows_, shape.heads, shape.width}),
        arena_(ops.arena_source(), size_t{1} << 16) {
    prepared_ = ops.prepare(plan_, arena_);
    in_ = {DType::bf16,
           shape.heads,
           shape.kv_heads,
           shape.width,
           0.125f,
           q_.tensor().data(),
           k_.tensor().data(),
           v_.tensor().data(),
           prepared_.spans.i32(),
           prepared_.ranges.i32(),
           prepared_.key_row.i32()};
    CHECK(cuda::takes_attention_hopper(in_));
  }

  /// o, lse and dq by as many blocks; by the kernels of every GPU for none.
  Values by(int multiprocessors) {
    Forward forward(*this, multiprocessors);
    Placed dq(ops_, DType::bf16, query_dims());
    const int32_t* const tiles = prepared_.query_tiles.i32();
    const int64_t count = prepared_.query_tiles.dim(0);
    const void* const dout = dout_.tensor().data();
    const float *const lse = forward.lse.tensor().f32(), *const delta = forward.delta.tensor().f32();
    if (multiprocessors > 0)
      cuda::launch_attention_dq_hopper(ops_.stream(), in_, dout, lse, delta, tiles, dq.tensor().data(), count,
                                       multiprocessors);
    else
      cuda::launch_attention_dq(ops_.stream(), in_, dout, lse, delta, tiles, dq.tensor().data(), count);
    return {{"o", forward.o.values()}, {"lse", forward.lse.values()}, {"dq", dq.values()}};
  }

  /// dk and dv in the same way, behind a forward by the kernel of every GPU.
  Values keys_by(int multiprocessors) {
    Forward forward(*this, 0);
    const std::vector<int64_t> dims = {rows_, shape_.kv_heads, shape_.width};
    Placed dk(ops_, DType::bf16, dims), dv(ops_, DType::bf16, dims);
    const int32_t *const tiles = prepared_.key_tiles.i32(), *const spans = prepared_.key_spans.i32();
    const int64_t count = prepared_.key_tiles.dim(0);
    const void* const dout = dout_.tensor().data();
    const float *const lse = forward.lse.tensor().f32(), *const delta = forward.delta.tensor().f32();
    if (multiprocessors > 0)
      cuda::launch_attention_dkv_hopper(ops_.stream(), in_, dout, lse, delta, tiles, spans, dk.tensor().data(),
                                        dv.tensor().data(), count, multiprocessors);
    else
      cuda::launch_attention_dkv(ops_.stream(), in_, dout, lse, delta, tiles, spans, dk.tensor().data(),
                                 dv.tensor().data(), count);
    return {{"dk", dk.values()}, {"dv", dv.values()}};
  }

 private:
  /// o, lse, and what backward wants of them.
  struct Forward {
    Placed o, lse, delta;

    Forward(Attention& a, int multiprocessors)
        : o(a.ops_, DType::bf16, a.query_dims()),
          lse(a.ops_, DType::f32, {a.rows_, a.shape_.heads}),
          delta(a.ops_, DType::f32, {a.rows_, a.shape_.heads}) {
      const int32_t* const tiles = a.prepared_.query_tiles.i32();
      const int64_t count = a.prepared_.query_tiles.dim(0);
      void* const to = o.tensor().data();
      if (multiprocessors > 0)
        cuda::launch_attention_hopper(a.ops_.stream(), a.in_, tiles, to, lse.tensor().f32(), count, multiprocessors);
      else
        cuda::launch_attention(a.ops_.stream(), a.in_, tiles, to, lse.tensor().f32(), count);
      cuda::launch_attention_delta(a.ops_.stream(), DType::bf16, a.dout_.tensor().data(), to, delta.tensor().f32(),
                                   a.rows_ * a.shape_.heads, a.shape_.width);
    }
  };

  std::vector<int64_t> query_dims() const { return {rows_, shape_.heads, shape_.width}; }
  std::vector<float> of_batch(uint32_t seed, int heads, int64_t first) const {
    const int64_t row = int64_t{heads} * shape_.width;
    const std::vector<float> all = Random(seed).floats((first + rows_) * row);
    return {all.begin() + first * row, all.end()};
  }

  cuda::CudaOps& ops_;
  const AttentionPlan& plan_;
  int64_t rows_;
  Shape shape_;
  Placed q_, k_, v_, dout_;
  Arena arena_;
  PreparedPlan prepared_;
  cuda::AttentionInputs in_ = {};
};

TEST(
    "on Hopper attention has the same bits whatever multiprocessors its device has, and those of every GPU's kernels") {
  if (!has_hopper()) return;
  cuda::CudaOps& ops = device(DType::bf16);
  AttentionPlan plan;  // steps of keys pass through their ring more than once, and tiles of one step follow each other
  cases::add_sequence(plan, 390, false);
  cases::add_block(plan, 200, 25, 70);
  for (int i = 0; i < 5; ++i) cases::add_sequence(plan, 1 + 20 * i, true);
  for (const Shape shape : {Shape{2, 2, 64}, {7, 1, 32}, {8, 2, 128}}) {
    Attention attention(ops, plan, shape);
    const Values one = attention.by(1);
    for (const auto& [name, values] : one)
      for (const double x : values) CHECK(std::isfinite(x));
    for (const int multiprocessors : {3, 132}) CHECK(same_bits(attention.by(multiprocessors), one));
    // The emulator's tensor cores have one order of sums; those of a GPU need not.
    if (is_emulated(ops)) CHECK(same_bits(attention.by(0), one));
  }
}

TEST(
    "on Hopper gradients of keys have the same bits whatever multiprocessors its device has, and those of every "
    "GPU's") {
  if (!has_hopper()) return;
  cuda::CudaOps& ops = device(DType::bf16);
  AttentionPlan plan;  // pairs of tiles, tiles alone, contexts that begin and end within a tile, spans of a few rows
  cases::add_block(plan, 180, 25, 25);
  cases::add_tree(plan, {{-1, 70}, {0, 9}, {1, 3}, {2, 5}, {2, 66}, {0, 25}, {5, 1}, {5, 4}});
  cases::add_sequence(plan, 150, false);
  for (const int length : {1, 17, 64}) cases::add_sequence(plan, length, true);
  for (const Shape shape : {Shape{2, 2, 64}, {7, 1, 80}, {8, 2, 128}}) {
    Attention attention(ops, plan, shape);
    const Values one = attention.keys_by(1);
    if (is_emulated(ops)) CHECK(same_bits(attention.keys_by(0), one));
    for (const int multiprocessors : {3, 132}) CHECK(same_bits(attention.keys_by(multiprocessors), one));
  }
}

TEST("on Hopper attention has the same bits of a group alone and in any batch") {
  if (!has_hopper()) return;
  cuda::CudaOps& ops = device(DType::bf16);
  const Shape shape{4, 1, 64};
  const int before = 33;
  AttentionPlan alone, batch;  // the third tile of its keys has none beside it
  cases::add_block(alone, 110, 25, 25);
  cases::add_sequence(batch, before, true);
  cases::add_block(batch, 110, 25, 25);
  cases::add_sequence(batch, 40, true);
  Attention group(ops, alone, shape, before), whole(ops, batch, shape);
  for (auto [part, all] : {std::pair(group.by(3), whole.by(3)), std::pair(group.keys_by(3), whole.keys_by(3))})
    for (const auto& [name, values] : part) {
      const auto begin =
          all.at(name).begin() + before * static_cast<std::ptrdiff_t>(values.size() / alone.key_row.size());
      CHECK(same_bits(Doubles(begin, begin + static_cast<std::ptrdiff_t>(values.size())), values));
    }
}

}  // namespace
}  // namespace fire::test
