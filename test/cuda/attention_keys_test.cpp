// The gradients of keys and values on Hopper, below ops.h: the bits of the kernel for every GPU in the emulator, by any
// number of blocks, and of a group alone those that it has in a batch. What they are is held against float64 in test/ops.
#include "cuda/attention.h"
#include "device.h"
#include "ops/cases/cases.h"

namespace fire::test {
namespace {

struct Shape {
  int heads, kv_heads, width;
};

/// Of a plan whose rows are those of a batch from `first` on; the gradient of o is q.
class Keys {
 public:
  Keys(cuda::CudaOps& ops, const AttentionPlan& plan, Shape shape, int64_t first = 0)
      : ops_(ops),
        plan_(plan),
        rows_(static_cast<int64_t>(plan.key_row.size())),
        shape_(shape),
        q_(ops, of_batch(1, shape.heads, first), DType::bf16, {rows_, shape.heads, shape.width}),
        k_(ops, of_batch(2, shape.kv_heads, first), DType::bf16, {rows_, shape.kv_heads, shape.width}),
        v_(ops, of_batch(3, shape.kv_heads, first), DType::bf16, {rows_, shape.kv_heads, shape.width}),
        o_(ops, DType::bf16, {rows_, shape.heads, shape.width}),
        lse_(ops, DType::f32, {rows_, shape.heads}),
        delta_(ops, DType::f32, {rows_, shape.heads}),
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
    cuda::launch_attention(ops.stream(), in_, prepared_.query_tiles.i32(), o_.tensor().data(), lse_.tensor().f32(),
                           prepared_.query_tiles.dim(0));
    cuda::launch_attention_delta(ops.stream(), DType::bf16, in_.q, o_.tensor().data(), delta_.tensor().f32(),
                                 rows_ * shape.heads, shape.width);
  }

  int64_t tiles() const { return prepared_.key_tiles.dim(0); }

  /// dk and dv by as many blocks; by the kernel for every GPU without any.
  Values by(int multiprocessors) {
    const std::vector<int64_t> dims = {rows_, shape_.kv_heads, shape_.width};
    Placed dk(ops_, DType::bf16, dims), dv(ops_, DType::bf16, dims);
    const int32_t *const tiles = prepared_.key_tiles.i32(), *const spans = prepared_.key_spans.i32();
    const float *const lse = lse_.tensor().f32(), *const delta = delta_.tensor().f32();
    if (multiprocessors > 0)
      cuda::launch_attention_dkv_hopper(ops_.stream(), in_, in_.q, lse, delta, tiles, spans, dk.tensor().data(),
                                        dv.tensor().data(), this->tiles(), multiprocessors);
    else
      cuda::launch_attention_dkv(ops_.stream(), in_, in_.q, lse, delta, tiles, spans, dk.tensor().data(),
                                 dv.tensor().data(), this->tiles());
    return {{"dk", dk.values()}, {"dv", dv.values()}};
  }

 private:
  std::vector<float> of_batch(int seed, int heads, int64_t first) const {
    const int64_t row = int64_t{heads} * shape_.width;
    const std::vector<float> all = Random(static_cast<uint32_t>(seed)).floats((first + rows_) * row);
    return {all.begin() + first * row, all.end()};
  }

  cuda::CudaOps& ops_;
  const AttentionPlan& plan_;
  int64_t rows_;
  Shape shape_;
  Placed q_, k_, v_, o_, lse_, delta_;
  Arena arena_;
  PreparedPlan prepared_;
  cuda::AttentionInputs in_ = {};
};

bool has_hopper() { return device(DType::bf16).isa_name() == "sm_90a"; }

}  // namespace

TEST("on Hopper gradients of keys have the same bits whatever multiprocessors its device has") {
  if (!has_hopper()) return;
  cuda::CudaOps& ops = device(DType::bf16);
  AttentionPlan plan;  // pairs of tiles, tiles alone, contexts that begin and end within a tile, spans of a few rows
  cases::add_block(plan, 180, 25, 25);
  cases::add_tree(plan, {{-1, 70}, {0, 9}, {1, 3}, {2, 5}, {2, 66}, {0, 25}, {5, 1}, {5, 4}});
  cases::add_sequence(plan, 150, false);
  for (const int length : {1, 17, 64}) cases::add_sequence(plan, length, true);
  for (const Shape shape : {Shape{2, 2, 64}, {7, 1, 80}, {8, 2, 128}}) {
    Keys keys(ops, plan, shape);
    const Values one = keys.by(1);
    // The emulator's tensor cores have one order of sums; those of a GPU need not.
    if (is_emulated(ops)) CHECK(same_bits(keys.by(0), one));
    for (const int multiprocessors : {3, 132}) CHECK(same_bits(keys.by(multiprocessors), one));
  }
}

TEST("on Hopper gradients of a group's keys have the same bits alone and in any batch") {
  if (!has_hopper()) return;
  cuda::CudaOps& ops = device(DType::bf16);
  const Shape shape{4, 1, 64};
  AttentionPlan alone, batch;  // its third tile has none beside it
  cases::add_block(alone, 110, 25, 25);
  cases::add_sequence(batch, 33, true);
  cases::add_block(batch, 110, 25, 25);
  cases::add_sequence(batch, 40, true);
  const int64_t first = 33;
  const Values group = Keys(ops, alone, shape, first).by(1), all = Keys(ops, batch, shape).by(1);
  for (const auto& [name, values] : group) {
    const auto begin = all.at(name).begin() + first * shape.kv_heads * shape.width;
    CHECK(same_bits(Doubles(begin, begin + static_cast<std::ptrdiff_t>(values.size())), values));
  }
}

}  // namespace fire::test
