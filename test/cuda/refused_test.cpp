// Calls that cannot be right are refused, with the operation and its tensors.
#include "device.h"
#include "ops/cases/cases.h"

namespace fire::test {
namespace {

DType other_than(DType type) { return type == DType::f32 ? DType::bf16 : DType::f32; }

TEST("refused: activations of different sizes") {
  for (const DType type : both_types) {
    Ops& ops = device(type);
    const Placed two(ops, type, {2}), three(ops, type, {3});
    CHECK_ERROR(Code::internal, ("swiglu", "[2]", "[3]"), ops.swiglu(two, three, two));
    CHECK_ERROR(Code::internal, ("swiglu_backward"), ops.swiglu_backward(two, two, two, three, two));
    LinearBranch narrow, wide;
    narrow.y = two, wide.y = three;
    CHECK_ERROR(Code::internal, ("gated_branches", "[2]", "[3]"), ops.gated_branches(two, narrow, wide, two, true));
    CHECK_ERROR(Code::internal, ("gated_backward", "[3]"), ops.gated_backward(narrow, two, two, two, three));
  }
}

TEST("refused: norms whose weights do not fit") {
  for (const DType type : both_types) {
    Ops& ops = device(type);
    const Placed x(ops, type, {2, 20}), y(ops, type, {2, 20}), w(ops, DType::f32, {24}), rstd(ops, DType::f32, {2});
    CHECK_ERROR(Code::internal, ("rms_norm", "[2, 20]", "f32[24]"), ops.rms_norm(x, w, 1e-6f, y, {}));
    CHECK_ERROR(Code::internal, ("layer_norm", "[2, 20]"), ops.layer_norm(x, w, w, 1e-6f, y));
    CHECK_ERROR(Code::internal, ("rms_norm_backward"), ops.rms_norm_backward(x, x, w, rstd, {}, y));
  }
}

TEST("refused: rotations with tables that are too short, and heads that are too wide") {
  for (const DType type : both_types) {
    Ops& ops = device(type);
    const Placed x(ops, type, {2, 2, 16}), short_table(ops, DType::f32, {1, 16}), full(ops, DType::f32, {2, 16});
    const Placed w(ops, DType::f32, {16}), rstd(ops, DType::f32, {0});
    CHECK_ERROR(Code::internal, ("rope", "[2, 2, 16]", "f32[1, 16]"), ops.rope(x, full, short_table));
    CHECK_ERROR(Code::internal, ("rope_backward"), ops.rope_backward(x, short_table, full));
    CHECK_ERROR(Code::internal, ("norm_rope_backward"), ops.norm_rope_backward(x, x, w, rstd, full, full, x));
    const Placed wide(ops, type, {1, 1, 514}), wide_table(ops, DType::f32, {1, 514});
    CHECK_ERROR(Code::internal, ("514"), ops.rope(wide, wide_table, wide_table));
  }
}

TEST("refused: rows of other widths and types") {
  for (const DType type : both_types) {
    Ops& ops = device(type);
    const Placed x(ops, type, {4, 10}), none(ops, type, {0, 10}), narrow(ops, type, {2, 9});
    const Placed two(ops, std::vector<int32_t>{0, 1}, DType::i32, {2}), other(ops, other_than(type), {2, 10});
    CHECK_ERROR(Code::internal, ("gather_rows", "[2, 9]"), ops.gather_rows(x, two, narrow));
    CHECK_ERROR(Code::internal, ("gather_rows"), ops.gather_rows(x, two, other));
    CHECK_ERROR(Code::internal, ("embedding"), ops.embedding(two, x, none));
    CHECK_ERROR(Code::internal, ("scatter_rows"), ops.scatter_rows(narrow, two, x));
    CHECK_ERROR(Code::internal, ("scatter_add_rows"), ops.scatter_add_rows(other, two, x));
    CHECK_ERROR(Code::internal, ("add"), ops.add(narrow, x));
    CHECK_ERROR(Code::internal, ("interpolate_positions"), ops.interpolate_positions(x, 3, 2, 2, x));
  }
}

TEST("refused: products of matrices that do not fit") {
  Ops& ops = device(DType::bf16);
  const Placed x(ops, DType::bf16, {3, 8}), w(ops, DType::bf16, {5, 8}), wide(ops, DType::f32, {5, 8});
  const Placed y(ops, DType::bf16, {3, 5}), bias(ops, DType::bf16, {5});
  CHECK_ERROR(Code::internal, ("linear", "bf16[5, 8]"), ops.linear(w, x, {}, {}, y));
  CHECK_ERROR(Code::internal, ("linear", "f32[5, 8]"), ops.linear(x, wide, {}, {}, y));
  CHECK_ERROR(Code::internal, ("linear", "bf16[5]"), ops.linear(x, w, bias, {}, y));
  CHECK_ERROR(Code::internal, ("linear_backward"), ops.linear_backward(x, w, y, false));
}

TEST("refused: attention of heads that do not fit, or with a plan that was not prepared") {
  Ops& ops = device(DType::f32);
  AttentionPlan plan;
  cases::add_sequence(plan, 4, true);
  Arena arena(ops.arena_source(), size_t{1} << 16);
  const PreparedPlan prepared = ops.prepare(plan, arena);
  const Placed x(ops, DType::f32, {4, 2, 16}), three(ops, DType::f32, {4, 3, 16}), wide(ops, DType::f32, {4, 1, 144});
  CHECK_ERROR(Code::internal, ("f32[4, 2, 16] over f32[4, 3, 16]"), ops.attention(x, three, three, prepared, 1, x, {}));
  CHECK_ERROR(Code::internal, ("v is f32[4, 3, 16] and not f32[4, 2, 16]"),
              ops.attention(x, x, three, prepared, 1, x, {}));
  CHECK_ERROR(Code::internal, ("not prepared"), ops.attention(x, x, x, PreparedPlan{}, 1, x, {}));
  CHECK_ERROR(Code::unsupported, ("144", "128"), ops.attention(wide, wide, wide, prepared, 1, wide, {}));
}

TEST("refused: moments of another size, and fewer uniforms than rows") {
  Ops& ops = device(DType::f32);
  const Placed a(ops, DType::f32, {3}), b(ops, DType::f32, {2}), logits(ops, DType::f32, {1, 2});
  CHECK_THROWS(Error, ops.adamw({1e-2, 0.9, 0.98, 1e-8, 0.05, 1, 0.7}, a, {}, b, a, a));
  CHECK_THROWS(Error, ops.sample(logits, {1, 1, 0}, {}));
}

}  // namespace
}  // namespace fire::test
