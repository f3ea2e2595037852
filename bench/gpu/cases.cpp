// Every operation that matters with the shapes of a training step on a packed batch, of decoding, and of the vision
// tower: the cases of test/ops with what they cost. bench/gpu/costs.mjs has the same formulas for the roofline sheet,
// which refuses results that disagree.
#include "ops/cases/cases.h"

#include <cmath>
#include <numeric>

#include "bench.h"

namespace fire::bench {
namespace {

namespace cases = test::cases;
using test::by;

double product(std::initializer_list<int64_t> dims) {
  double size = 1;
  for (const int64_t d : dims) size *= static_cast<double>(d);
  return size;
}

class Cases {
 public:
  Cases(const Shapes& shapes, DType type)
      : s(shapes),
        type(type),
        a(static_cast<double>(size_of(type))),
        target{type, type, type, DType::f32, true, true} {}

  std::vector<Case> all() {
    const int64_t t = s.tokens(), read = s.read_rows(), q = s.q_width(), h = s.hidden, i = s.intermediate;
    const int64_t kv = s.kv_heads * s.head_dim;
    const cases::Linear to_q{t, q, h}, gate{t, i, h}, down{t, h, i};
    rows(t, read);
    norms(t);
    linear("linear q", to_q, false);
    linear("linear gate", gate, false);
    linear("linear down", down, true);
    lora("lora_linear q", to_q, false, 0);
    lora("lora_linear gate", gate, false, 0);
    lora("lora_linear gate, dropout", gate, false, 0.05f);
    branches("linear gate, up", {i, i}, 0, false);
    branches("lora_linear q, k, v", {q, kv, kv}, s.rank, false);
    branches("lora_linear gate, up", {i, i}, s.rank, false);
    lora("lora_linear down", down, true, 0);
    lora_backward("lora_linear_backward q", to_q, true);
    lora_backward("lora_linear_backward gate", gate, false);
    lora_backward("lora_linear_backward down", down, false);
    branches("lora_linear_backward q, k, v", {q, kv, kv}, s.rank, true);
    branches("lora_linear_backward gate, up", {i, i}, s.rank, true);
    gated();
    add("swiglu", by({t, i}), cases::swiglu(type, t * i));
    add("swiglu_backward", by({t, i}), cases::swiglu_backward(type, t * i));
    attention();
    head(read);
    preference(read);
    optimizer();
    decoding();
    vision();
    return std::move(found_);
  }

 private:
  /// Costs what its tensors say: every input read once, every output written once.
  void add(std::string kernel, std::string shape, test::Case call, double flops = 0) {
    const double bytes = call.bytes();
    add(std::move(kernel), std::move(shape), {bytes, flops}, std::move(call));
  }
  void add(std::string kernel, std::string shape, Cost cost, test::Case call) {
    found_.push_back({std::move(kernel), std::move(shape), cost, std::move(call)});
  }

  static std::vector<int32_t> count_from(int64_t first, int64_t count) {
    std::vector<int32_t> rows(static_cast<size_t>(count));
    std::iota(rows.begin(), rows.end(), static_cast<int32_t>(first));
    return rows;
  }
  /// `count` rows of `total`, evenly apart, ascending.
  static std::vector<int32_t> spread(int64_t count, int64_t total) {
    std::vector<int32_t> rows;
    for (int64_t i = 0; i < count; ++i) rows.push_back(static_cast<int32_t>(i * total / count));
    return rows;
  }

  /// Of what is indexed only the named rows are touched.
  void rows(int64_t t, int64_t read) {
    const int64_t h = s.hidden, image = s.image_tokens;
    const auto cost = [&](int64_t passes, int64_t rows) {
      return Cost{a * product({passes, rows, h}) + 4 * product({rows})};
    };
    add("embedding", by({t, h}), cost(2, t), cases::embedding(target, s.vocab, h, spread(t, s.vocab)));
    add("gather_rows", by({read, h}), cost(2, read), cases::gather_rows(type, t, h, spread(read, t)));
    add("scatter_rows", by({image, h}), cost(2, image), cases::scatter_rows(type, t, h, count_from(1, image)));
    add("scatter_add_rows", by({image, h}), cost(3, image), cases::scatter_add_rows(type, t, h, count_from(1, image)));
  }

  void norms(int64_t t) {
    const int64_t h = s.hidden, n = s.heads, d = s.head_dim;
    add("rms_norm", by({t, h}), cases::rms_norm(target, t, h));
    add("rms_norm_backward", by({t, h}), cases::rms_norm_backward(target, type, true, t, h));
    add("norm_rope q", by({t, n, d}), cases::norm_rope(target, {t, n, d}));
    add("norm_rope_backward q", by({t, n, d}), cases::norm_rope_backward(target, {t, n, d}));
  }

  void linear(const std::string& kernel, const cases::Linear& l, bool residual) {
    const auto& [m, n, k] = l;
    add(kernel, by({m, n, k}), cases::linear(target, l, false, residual, type), 2 * product({m, n, k}));
  }

  void lora(const std::string& kernel, const cases::Linear& l, bool residual, float rate) {
    const auto& [m, n, k] = l;
    const int64_t r = s.rank;
    add(kernel, by({m, n, k, r}), cases::lora_linear(target, l, r, {rate, 7, 3}, false, residual, type),
        2 * (product({m, n, k}) + product({m, k, r}) + product({m, n, r})));
  }

  void lora_backward(const std::string& kernel, const cases::Linear& l, bool accumulate) {
    const auto& [m, n, k] = l;
    const int64_t r = s.rank;
    const cases::Dx dx = accumulate ? cases::Dx::accumulated : cases::Dx::overwritten;
    add(kernel, by({m, n, k, r}), cases::lora_linear_backward(target, l, r, {}, dx, type),
        2 * (product({m, n, k}) + product({2, m, k, r}) + product({2, m, n, r})));
  }

  /// Linears of one x as one operation; with `rank` 0 they are not adapted.
  void branches(const std::string& kernel, const std::vector<int64_t>& outs, int64_t rank, bool backward) {
    cases::Branches b{s.tokens(), s.hidden, {}, 0, false};
    std::vector<int64_t> shape{b.tokens, b.in};
    double flops = 0;
    for (const int64_t out : outs) {
      b.branches.push_back({out, rank});
      shape.push_back(out);
      flops += 2 * (product({b.tokens, out, b.in}) + product({backward ? 2 : 1, rank, b.tokens, b.in + out}));
    }
    if (rank > 0) shape.push_back(rank);
    add(kernel, by(shape),
        backward ? cases::linear_branches_backward(target, b, type) : cases::linear_branches(target, b, type), flops);
  }

  /// SwiGLU with the linears in front of it, as policy and reference have it, and on its way back behind down.
  void gated() {
    const int64_t t = s.tokens(), h = s.hidden, i = s.intermediate, r = s.rank;
    const double linears = 4 * product({t, i, h}), low = 4 * product({r, t, h + i});
    const cases::Branches adapted{t, h, {{i, r}, {i, r}}, 0, false}, plain{t, h, {{i, 0}, {i, 0}}, 0, false};
    add("gated_branches", by({t, h, i, r}), cases::gated_branches(target, adapted, true), linears + low);
    add("gated_branches, nothing kept", by({t, h, i}), cases::gated_branches(target, plain, false), linears);
    const test::Case back = cases::gated_backward(target, {t, h, i}, r, 0);
    const double none_for_product = back.bytes() - a * product({t, i});  // it is made again on the way
    add("gated_backward", by({t, h, i, r}), {none_for_product, linears / 2 + low}, back);
  }

  void attention() {
    const int64_t t = s.tokens(), n = s.heads, kv = s.kv_heads, d = s.head_dim;
    const double heads = static_cast<double>(s.images) * product({n, d});
    const double prefix = static_cast<double>(s.prefix()), tail = static_cast<double>(s.tail);
    // Query-key pairs that see each other, of one image.
    const double seen = prefix * (prefix + 1) / 2 + 2 * (tail * prefix + tail * (tail + 1) / 2);
    add("attention", by({t, n, kv, d}), cases::attention(target, s.packed_plan(), t, {n, kv, d}), 4 * heads * seen);
    add("attention_backward", by({t, n, kv, d}), cases::attention_backward(target, s.packed_plan(), t, {n, kv, d}),
        10 * heads * seen);
  }

  void head(int64_t read) {
    const cases::Linear l{read, s.vocab, s.hidden};
    const std::string shape = by({read, s.vocab, s.hidden});
    const double flops = 2 * product({read, s.vocab, s.hidden});
    add("linear head", shape, cases::linear(target, l, false, false, DType::f32), flops);
    add("linear_backward head", shape, cases::linear_backward(target, l, DType::f32, DType::f32, false), flops);
  }

  void preference(int64_t read) {
    std::vector<int32_t> targets;
    for (int64_t i = 0; i < s.targets(); ++i)
      targets.insert(targets.end(),
                     {static_cast<int32_t>(i * read / s.targets()), static_cast<int32_t>(i * 97 % s.vocab)});
    add("preference_statistics", by({read, s.vocab}), cases::preference_statistics(read, s.vocab, 1, targets));
    add("preference_backward", by({read, s.vocab}), cases::preference_backward(read, s.vocab, targets));
  }

  void optimizer() {
    const int64_t count = s.adapter_parameters();
    // Gradients are read twice: the update needs their norm.
    const bool rounded = type == DType::bf16;
    add("adamw", by({count}), {(rounded ? 34 : 32) * product({count})},
        cases::adamw({1e-6, 0.9, 0.999, 1e-8, 0, 1, 1}, count, rounded));
  }

  /// One token of `decode` sequences at once, each with a prompt of the batch's length behind it.
  void decoding() {
    const int64_t rows = s.decode, keys = s.prefix(), n = s.heads, kv = s.kv_heads, d = s.head_dim;
    linear("linear decode", {rows, s.intermediate, s.hidden}, false);
    const std::vector<int32_t> lengths(static_cast<size_t>(rows), static_cast<int32_t>(keys));
    const AttentionPlan plan = cases::decode_plan(lengths, static_cast<int32_t>(keys));
    add("attention decode", by({rows, n, kv, d, keys}), cases::attention(target, plan, rows * keys, {n, kv, d}, false),
        4 * product({rows, keys, n, d}));
    add("sample", by({rows, s.vocab}), cases::sample(rows, s.vocab, {0.7, 0.8, 20}));
  }

  void vision() {
    const int64_t t = s.vision_tokens, h = s.vision_hidden, i = s.vision_intermediate, n = s.vision_heads, d = h / n;
    add("layer_norm vision", by({t, h}), cases::layer_norm(target, t, h));
    add("rope vision", by({t, n, d}), cases::rope(type, {t, n, d}));
    add("gelu vision", by({t, i}), cases::gelu(type, Gelu::tanh, t * i));
    add("linear vision fc1", by({t, i, h}), cases::linear(target, {t, i, h}, true, false, type),
        2 * product({t, i, h}));
    AttentionPlan plan;
    cases::add_sequence(plan, static_cast<int32_t>(t), false);
    add("attention vision", by({t, n, n, d}), cases::attention(target, plan, t, {n, n, d}, false),
        4 * product({t, t, h}));
  }

  const Shapes& s;
  const DType type;
  const double a;
  const test::Target target;
  std::vector<Case> found_;
};

}  // namespace

std::vector<Case> cases_of(const Shapes& shapes, DType activation) { return Cases(shapes, activation).all(); }

Case copy_ceiling(int64_t bytes) {
  test::Case call{"copy",
                  {test::input("x", DType::f32, {bytes / 4}), test::output("y", DType::f32, {bytes / 4})},
                  [](Ops& ops, test::Tensors& t) { ops.copy(t["x"], t["y"]); }};
  return {"copy", std::to_string(bytes), {call.bytes()}, call};
}

Case gemm_ceiling(int64_t side, DType type) {
  const test::Case call =
      cases::linear({type, type, type, DType::f32, true, true}, {side, side, side}, false, false, type);
  return {"gemm", by({side, side, side}), {call.bytes(), 2 * product({side, side, side})}, call};
}

}  // namespace fire::bench
