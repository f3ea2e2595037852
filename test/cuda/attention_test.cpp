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

class Attention {
 public:
  Attention(cuda::CudaOps& ops, const AttentionPlan& plan, Shape shape)
      : ops_(ops),
        plan_(plan),
        rows_(static_cast<int64_t>(plan.key_row.size())),
        shape_(shape),
        q_(ops, Random(1).floats(rows_ * shape.heads * shape.width), DType::bf16, {rows_, shape.heads, shape.width}),
        k_(ops, Random(2).floats(rows_ * shape.kv_heads * shape.width), DType::bf16,
           {rows_, shape.kv_heads, shape.width}),
        v_(ops, Random(3).floats(rows_ * shape.kv_heads * shape.width), DType::bf16,
           {rows_, shape.kv_heads, shape.width}),
        arena_(ops.arena_source(), size_t{1} << 16) {
    prepared_ = ops.prepare(plan_, arena_);
  }

  /// o, lse and dq for a gradient of o that is q, by as many blocks; by the kernels of every GPU for none.
  Values by(int multiprocessors) {
    const cuda::AttentionInputs in{DType::bf16,
                                   shape_.heads,
                                   shape_.kv_heads,
                                   shape_.width,
                                   0.125f,
                                   q_.tensor().data(),
                                   k_.tensor().data(),
                                   v_.tensor().data(),
                                   prepared_.spans.i32(),
                                   prepared_.ranges.i32(),
                                   prepared_.key_row.i32()};
    const std::vector<int64_t> dims = {rows_, shape_.heads, shape_.width}, rows = {rows_, shape_.heads};
    Placed o(ops_, DType::bf16, dims), dq(ops_, DType::bf16, dims), lse(ops_, DType::f32, rows),
        delta(ops_, DType::f32, rows);
    const int32_t* const tiles = prepared_.query_tiles.i32();
    const int64_t count = prepared_.query_tiles.dim(0);
    CHECK(cuda::takes_attention_hopper(in));
    const cuda::Stream stream = ops_.stream();
    if (multiprocessors > 0)
      cuda::launch_attention_hopper(stream, in, tiles, o.tensor().data(), lse.tensor().f32(), count, multiprocessors);
    else
      cuda::launch_attention(stream, in, tiles, o.tensor().data(), lse.tensor().f32(), count);
    cuda::launch_attention_delta(stream, DType::bf16, in.q, o.tensor().data(), delta.tensor().f32(), rows_ * shape_.heads,
                           shape_.width);
    if (multiprocessors > 0)
      cuda::launch_attention_dq_hopper(stream, in, in.q, lse.tensor().f32(), delta.tensor().f32(), tiles, dq.tensor().data(),
                                 count, multiprocessors);
    else
      cuda::launch_attention_dq(stream, in, in.q, lse.tensor().f32(), delta.tensor().f32(), tiles, dq.tensor().data(), count);
    return {{"o", o.values()}, {"lse", lse.values()}, {"dq", dq.values()}};
  }

 private:
  cuda::CudaOps& ops_;
  const AttentionPlan& plan_;
  int64_t rows_;
  Shape shape_;
  Placed q_, k_, v_;
  Arena arena_;
  PreparedPlan prepared_;
};

TEST("on Hopper attention has the same bits whatever multiprocessors its device has, and those of every GPU's kernels") {
  cuda::CudaOps& ops = device(DType::bf16);
  if (ops.isa_name() != "sm_90a") return;
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

}  // namespace
}  // namespace fire::test
