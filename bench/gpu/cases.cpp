// Every operation that matters with the shapes of a training step on a packed batch, of decoding, and of the vision
// tower. bench/gpu/costs.mjs has the same formulas for the roofline sheet, which refuses results that disagree.
#include <cmath>
#include <numeric>

#include "bench.h"

namespace fire::bench {
namespace {

constexpr float eps = 1e-6f;

std::string by(std::initializer_list<int64_t> dims) {
  std::string text;
  for (const int64_t d : dims) text += (text.empty() ? "" : "x") + std::to_string(d);
  return text;
}

double product(std::initializer_list<int64_t> dims) {
  double size = 1;
  for (const int64_t d : dims) size *= static_cast<double>(d);
  return size;
}

/// A linear of the decoder: [rows, in] to [rows, out].
struct Linear {
  int64_t rows, in, out;
};

class Cases {
 public:
  Cases(const Shapes& shapes, double activation) : s(shapes), a(activation) {}

  std::vector<Case> all() {
    const int64_t t = s.tokens(), read = s.read_rows(), q = s.q_width();
    const Linear to_q{t, s.hidden, q}, gate{t, s.hidden, s.intermediate}, down{t, s.intermediate, s.hidden};
    rows(t, read);
    norms(t);
    linear("linear q", to_q, false);
    linear("linear gate", gate, false);
    linear("linear down", down, true);
    lora("lora_linear q", to_q, false, 0);
    lora("lora_linear gate", gate, false, 0);
    lora("lora_linear gate, dropout", gate, false, 0.05f);
    lora("lora_linear down", down, true, 0);
    lora_backward("lora_linear_backward q", to_q, true);
    lora_backward("lora_linear_backward gate", gate, false);
    lora_backward("lora_linear_backward down", down, false);
    swiglu(t);
    attention();
    head(read);
    preference(read);
    optimizer();
    decoding();
    vision();
    return std::move(found_);
  }

 private:
  void add(std::string kernel, std::string shape, Cost cost, std::function<Call(Buffers&)> prepare) {
    found_.push_back({std::move(kernel), std::move(shape), cost, std::move(prepare)});
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

  void rows(int64_t t, int64_t read) {
    const int64_t h = s.hidden, image = s.image_tokens, vocab = s.vocab;
    add("embedding", by({t, h}), {a * product({2, t, h}) + 4 * product({t})}, [=](Buffers& b) -> Call {
      const Tensor ids = b.i32(spread(t, vocab)), table = b.activation({vocab, h}), y = b.activation({t, h});
      return [=, &ops = b.ops] { ops.embedding(ids, table, y); };
    });
    add("gather_rows", by({read, h}), {a * product({2, read, h}) + 4 * product({read})}, [=](Buffers& b) -> Call {
      const Tensor x = b.activation({t, h}), at = b.i32(spread(read, t)), y = b.activation({read, h});
      return [=, &ops = b.ops] { ops.gather_rows(x, at, y); };
    });
    add("scatter_rows", by({image, h}), {a * product({2, image, h}) + 4 * product({image})}, [=](Buffers& b) -> Call {
      const Tensor x = b.activation({image, h}), at = b.i32(count_from(1, image)), y = b.activation({t, h});
      return [=, &ops = b.ops] { ops.scatter_rows(x, at, y); };
    });
    add("scatter_add_rows", by({image, h}), {a * product({3, image, h}) + 4 * product({image})},
        [=](Buffers& b) -> Call {
          const Tensor x = b.activation({image, h}), at = b.i32(count_from(1, image)), y = b.activation({t, h});
          return [=, &ops = b.ops] { ops.scatter_add_rows(x, at, y); };
        });
  }

  void norms(int64_t t) {
    const int64_t h = s.hidden, n = s.heads, d = s.head_dim;
    add("rms_norm", by({t, h}), {a * product({2, t, h}) + 4 * product({h}) + 4 * product({t})},
        [=](Buffers& b) -> Call {
          const Tensor x = b.activation({t, h}), w = b.f32({h}), y = b.activation({t, h}), rstd = b.f32({t});
          return [=, &ops = b.ops] { ops.rms_norm(x, w, eps, y, rstd); };
        });
    add("rms_norm_backward", by({t, h}), {a * product({4, t, h}) + 4 * product({h}) + 4 * product({t})},
        [=](Buffers& b) -> Call {
          const Tensor dy = b.activation({t, h}), x = b.activation({t, h}), w = b.f32({h}), rstd = b.f32({t});
          const Tensor residual = b.activation({t, h}), dx = b.activation({t, h});
          return [=, &ops = b.ops] { ops.rms_norm_backward(dy, x, w, rstd, residual, dx); };
        });
    add("norm_rope q", by({t, n, d}),
        {a * product({2, t, n, d}) + 4 * (product({2, t, d}) + product({t, n}) + product({d}))},
        [=](Buffers& b) -> Call {
          const Tensor x = b.activation({t, n, d}), w = b.f32({d}), cos = b.f32({t, d}), sin = b.f32({t, d});
          const Tensor y = b.activation({t, n, d}), rstd = b.f32({t * n});
          return [=, &ops = b.ops] { ops.norm_rope(x, w, eps, cos, sin, y, rstd); };
        });
    add("norm_rope_backward q", by({t, n, d}),
        {a * product({3, t, n, d}) + 4 * (product({2, t, d}) + product({t, n}) + product({d}))},
        [=](Buffers& b) -> Call {
          const Tensor x = b.activation({t, n, d}), w = b.f32({d}), cos = b.f32({t, d}), sin = b.f32({t, d});
          const Tensor dy = b.activation({t, n, d}), rstd = b.f32({t * n});
          return [=, &ops = b.ops] { ops.norm_rope_backward(dy, x, w, rstd, cos, sin, dy); };
        });
  }

  void linear(const std::string& kernel, const Linear& l, bool residual) {
    const auto [m, k, n] = l;
    const double outputs = residual ? 2 : 1;
    add(kernel, by({m, n, k}),
        {a * (product({m, k}) + product({n, k}) + outputs * product({m, n})), 2 * product({m, n, k})},
        [=](Buffers& b) -> Call {
          const Tensor x = b.activation({m, k}), w = b.activation({n, k}), y = b.activation({m, n});
          const Tensor r = residual ? b.activation({m, n}) : Tensor();
          return [=, &ops = b.ops] { ops.linear(x, w, {}, r, y); };
        });
  }

  void lora(const std::string& kernel, const Linear& l, bool residual, float dropout) {
    const auto [m, k, n] = l;
    const int64_t r = s.rank;
    const double outputs = residual ? 2 : 1;
    const Cost cost{a * (product({m, k}) + product({n, k}) + product({m, r}) + outputs * product({m, n})) +
                        4 * (product({r, k}) + product({n, r})),
                    2 * (product({m, n, k}) + product({m, k, r}) + product({m, n, r}))};
    add(kernel, by({m, n, k, r}), cost, [=](Buffers& b) -> Call {
      const Tensor x = b.activation({m, k}), w = b.activation({n, k}), y = b.activation({m, n});
      const Tensor h = b.activation({m, r}), residuals = residual ? b.activation({m, n}) : Tensor();
      const LoraView view{b.f32({r, k}), b.f32({n, r}), 2};
      const Dropout drop{dropout, 7, 3, 1};
      return [=, &ops = b.ops] { ops.lora_linear(x, w, {}, view, drop, residuals, h, y); };
    });
  }

  void lora_backward(const std::string& kernel, const Linear& l, bool accumulate) {
    const auto [m, k, n] = l;
    const int64_t r = s.rank;
    const double inputs = accumulate ? 2 : 1;
    // W, dy, x, h and the workspace dh; A and B read, dA and dB read and written.
    const Cost cost{
        a * (product({m, n}) + product({m, k}) + product({n, k}) + product({2, m, r}) + inputs * product({m, k})) +
            12 * (product({r, k}) + product({n, r})),
        2 * (product({m, n, k}) + product({2, m, k, r}) + product({2, m, n, r}))};
    add(kernel, by({m, n, k, r}), cost, [=](Buffers& b) -> Call {
      const Tensor dy = b.activation({m, n}), x = b.activation({m, k}), w = b.activation({n, k});
      const Tensor h = b.activation({m, r}), dh = b.activation({m, r}), dx = b.activation({m, k});
      const Tensor da = b.f32({r, k}), db = b.f32({n, r});
      const LoraView view{b.f32({r, k}), b.f32({n, r}), 2};
      return [=, &ops = b.ops] { ops.lora_linear_backward(dy, x, w, view, Dropout{}, h, dh, da, db, dx, accumulate); };
    });
  }

  void swiglu(int64_t t) {
    const int64_t i = s.intermediate;
    add("swiglu", by({t, i}), {a * product({3, t, i})}, [=](Buffers& b) -> Call {
      const Tensor gate = b.activation({t, i}), up = b.activation({t, i}), y = b.activation({t, i});
      return [=, &ops = b.ops] { ops.swiglu(gate, up, y); };
    });
    add("swiglu_backward", by({t, i}), {a * product({5, t, i})}, [=](Buffers& b) -> Call {
      const Tensor dy = b.activation({t, i}), gate = b.activation({t, i}), up = b.activation({t, i});
      return [=, &ops = b.ops] { ops.swiglu_backward(dy, gate, up, gate, up); };
    });
  }

  void attention() {
    const int64_t t = s.tokens(), n = s.heads, kv = s.kv_heads, d = s.head_dim;
    const float scale = 1 / std::sqrt(static_cast<float>(d));
    const double heads = static_cast<double>(s.images) * product({n, d});
    const double prefix = static_cast<double>(s.prefix()), tail = static_cast<double>(s.tail);
    // Query-key pairs that see each other, of one image.
    const double seen = prefix * (prefix + 1) / 2 + 2 * (tail * prefix + tail * (tail + 1) / 2);
    const double query = product({t, n, d}), key = product({t, kv, d}), per_row = 4 * product({t, n});
    const auto plan = std::make_shared<AttentionPlan>(s.packed_plan());
    const std::string shape = by({t, n, kv, d});
    add("attention", shape, {a * (2 * query + 2 * key) + per_row, 4 * heads * seen}, [=](Buffers& b) -> Call {
      const Tensor q = b.activation({t, n, d}), k = b.activation({t, kv, d}), v = b.activation({t, kv, d});
      const Tensor o = b.activation({t, n, d}), lse = b.f32({t, n});
      const PreparedPlan prepared = b.plan(*plan);
      return [=, &ops = b.ops] { ops.attention(q, k, v, prepared, scale, o, lse); };
    });
    add("attention_backward", shape, {a * (4 * query + 4 * key) + 2 * per_row, 10 * heads * seen},
        [=](Buffers& b) -> Call {
          const Tensor q = b.activation({t, n, d}), k = b.activation({t, kv, d}), v = b.activation({t, kv, d});
          const Tensor o = b.activation({t, n, d}), lse = b.f32({t, n}), delta = b.f32({t, n});
          const Tensor dout = b.activation({t, n, d}), dq = b.activation({t, n, d});
          const Tensor dk = b.activation({t, kv, d}), dv = b.activation({t, kv, d});
          const PreparedPlan prepared = b.plan(*plan);
          b.ops.attention(q, k, v, prepared, scale, o, lse);  // a log-sum-exp that belongs to q and k
          return
              [=, &ops = b.ops] { ops.attention_backward(dout, q, k, v, o, lse, prepared, scale, delta, dq, dk, dv); };
        });
  }

  void head(int64_t read) {
    const int64_t h = s.hidden, v = s.vocab;
    const double weights = a * product({v, h}), logits = 4 * product({read, v}), flops = 2 * product({read, v, h});
    add("linear head", by({read, v, h}), {weights + a * product({read, h}) + logits, flops}, [=](Buffers& b) -> Call {
      const Tensor x = b.activation({read, h}), w = b.activation({v, h}), z = b.f32({read, v});
      return [=, &ops = b.ops] { ops.linear(x, w, {}, {}, z); };
    });
    add("linear_backward head", by({read, v, h}), {weights + 4 * product({read, h}) + logits, flops},
        [=](Buffers& b) -> Call {
          const Tensor dz = b.f32({read, v}), w = b.activation({v, h}), dx = b.f32({read, h});
          return [=, &ops = b.ops] { ops.linear_backward(dz, w, dx, false); };
        });
  }

  void preference(int64_t read) {
    const int64_t v = s.vocab, count = s.targets(), slices = vocabulary_slices(v);
    std::vector<int32_t> targets;
    for (int64_t i = 0; i < count; ++i)
      targets.insert(targets.end(), {static_cast<int32_t>(i * read / count), static_cast<int32_t>(i * 97 % v)});
    const double logits = 4 * product({read, v});
    add("preference_statistics", by({read, v}), {2 * logits + 48 * product({read, slices}) + 16 * product({count})},
        [=](Buffers& b) -> Call {
          const Tensor z = b.f32({read, v}), zr = b.f32({read, v}), at = b.i32(targets).reshape({count, 2});
          const Tensor statistics = b.zeros(DType::f64, {read, slices, 6}), values = b.f32({2, count});
          return [=, &ops = b.ops] { ops.preference_statistics(z, zr, 0, at, statistics, values); };
        });
    add("preference_backward", by({read, v}), {3 * logits + 24 * product({read}) + 12 * product({count})},
        [=](Buffers& b) -> Call {
          const Tensor z = b.f32({read, v}), zr = b.f32({read, v}), at = b.i32(targets).reshape({count, 2});
          const Tensor gradients = b.f32({read, 6}), coefficients = b.f32({count});
          return [=, &ops = b.ops] { ops.preference_backward(z, zr, 0, gradients, at, coefficients); };
        });
  }

  void optimizer() {
    const int64_t count = s.adapter_parameters();
    // Gradients are read twice: the update needs their norm.
    add("adamw", by({count}), {32 * product({count})}, [=](Buffers& b) -> Call {
      const Tensor param = b.f32({count}), grad = b.f32({count});
      const Tensor m = b.zeros(DType::f32, {count}), v = b.zeros(DType::f32, {count});
      auto step = std::make_shared<int64_t>(0);
      return [=, &ops = b.ops] { ops.adamw({1e-6, 0.9, 0.999, 1e-8, 0, ++*step, 1}, param, grad, m, v); };
    });
  }

  /// One token of `decode` sequences at once, each with a prompt of the batch's length behind it.
  void decoding() {
    const int64_t rows = s.decode, keys = s.prefix(), n = s.heads, kv = s.kv_heads, d = s.head_dim, v = s.vocab;
    linear("linear decode", {rows, s.hidden, s.intermediate}, false);
    AttentionPlan plan;
    for (int64_t i = 0; i < rows; ++i) {
      const int32_t row = static_cast<int32_t>(i), begin = static_cast<int32_t>(i * keys);
      plan.spans.push_back({row, row + 1, 0, 0, begin, begin + static_cast<int32_t>(keys), true, plan.groups++});
      plan.key_row.push_back(begin + static_cast<int32_t>(keys) - 1);
    }
    const auto shared = std::make_shared<AttentionPlan>(std::move(plan));
    const float scale = 1 / std::sqrt(static_cast<float>(d));
    add("attention decode", by({rows, n, kv, d, keys}),
        {a * (product({2, rows, n, d}) + product({2, rows, keys, kv, d})), 4 * product({rows, keys, n, d})},
        [=](Buffers& b) -> Call {
          const Tensor q = b.activation({rows, n, d}), o = b.activation({rows, n, d});
          const Tensor k = b.activation({rows * keys, kv, d}), values = b.activation({rows * keys, kv, d});
          const PreparedPlan prepared = b.plan(*shared);
          return [=, &ops = b.ops] { ops.attention(q, k, values, prepared, scale, o, {}); };
        });
    add("sample", by({rows, v}), {4 * product({rows, v})}, [=](Buffers& b) -> Call {
      const Tensor logits = b.f32({rows, v});
      const auto uniforms = std::make_shared<std::vector<double>>(static_cast<size_t>(rows), 0.5);
      return [=, &ops = b.ops] { ops.sample(logits, {0.7, 0.8, 20}, *uniforms); };
    });
  }

  void vision() {
    const int64_t t = s.vision_tokens, h = s.vision_hidden, i = s.vision_intermediate, n = s.vision_heads, d = h / n;
    add("layer_norm vision", by({t, h}), {a * product({2, t, h}) + 8 * product({h})}, [=](Buffers& b) -> Call {
      const Tensor x = b.activation({t, h}), w = b.f32({h}), bias = b.f32({h}), y = b.activation({t, h});
      return [=, &ops = b.ops] { ops.layer_norm(x, w, bias, eps, y); };
    });
    add("rope vision", by({t, n, d}), {a * product({2, t, h}) + 8 * product({t, d})}, [=](Buffers& b) -> Call {
      const Tensor x = b.activation({t, n, d}), cos = b.f32({t, d}), sin = b.f32({t, d});
      return [=, &ops = b.ops] { ops.rope(x, cos, sin); };
    });
    add("gelu vision", by({t, i}), {a * product({2, t, i})}, [=](Buffers& b) -> Call {
      const Tensor x = b.activation({t, i});
      return [=, &ops = b.ops] { ops.gelu(x, Gelu::tanh); };
    });
    add("linear vision fc1", by({t, i, h}),
        {a * (product({t, h}) + product({i, h}) + product({t, i})) + 4 * product({i}), 2 * product({t, i, h})},
        [=](Buffers& b) -> Call {
          const Tensor x = b.activation({t, h}), w = b.activation({i, h}), bias = b.f32({i}), y = b.activation({t, i});
          return [=, &ops = b.ops] { ops.linear(x, w, bias, {}, y); };
        });
    const auto plan = std::make_shared<AttentionPlan>(
        AttentionPlan{{{0, static_cast<int32_t>(t), 0, 0, 0, static_cast<int32_t>(t), false, 0}}, {}, 1});
    const float scale = 1 / std::sqrt(static_cast<float>(d));
    add("attention vision", by({t, n, n, d}), {a * product({4, t, h}), 4 * product({t, t, h})},
        [=](Buffers& b) -> Call {
          const Tensor q = b.activation({t, n, d}), k = b.activation({t, n, d}), v = b.activation({t, n, d});
          const Tensor o = b.activation({t, n, d});
          const PreparedPlan prepared = b.plan(*plan);
          return [=, &ops = b.ops] { ops.attention(q, k, v, prepared, scale, o, {}); };
        });
  }

  const Shapes& s;
  const double a;
  std::vector<Case> found_;
};

}  // namespace

std::vector<Case> cases(const Shapes& shapes, double activation) { return Cases(shapes, activation).all(); }

Case copy_ceiling(int64_t bytes) {
  return {"copy", std::to_string(bytes), {2 * static_cast<double>(bytes)}, [=](Buffers& b) -> Call {
            const Tensor from = b.f32({bytes / 4}), to = b.f32({bytes / 4});
            return [=, &ops = b.ops] { ops.copy(from, to); };
          }};
}

Case gemm_ceiling(int64_t side, double activation) {
  return {"gemm",
          by({side, side, side}),
          {activation * product({3, side, side}), 2 * product({side, side, side})},
          [=](Buffers& b) -> Call {
            const Tensor x = b.activation({side, side}), w = b.activation({side, side}), y = b.activation({side, side});
            return [=, &ops = b.ops] { ops.linear(x, w, {}, {}, y); };
          }};
}

}  // namespace fire::bench
