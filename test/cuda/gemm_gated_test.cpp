// Products that end in SwiGLU (cuda/gemm_gated.h) have the bits of those of gemm.h with the kernels of activation.h
// behind them, through every tile. What they compute is held against float64 in test/ops.
#include "cuda/gemm_gated.h"

#include <numeric>

#include "cuda/activation.h"
#include "device.h"

namespace fire::test {
namespace {

using cuda::Gemm;
using cuda::GemmDevice;
using cuda::GemmForm;
using cuda::GemmJoin;

GemmDevice hopper(int multiprocessors) { return {size_t{228} << 10, nullptr, 0, true, multiprocessors}; }

Placed random(uint64_t seed, int64_t count, DType type = DType::bf16) {
  return {device(DType::bf16), Random(seed).floats(count), type, {count}};
}
Placed empty(int64_t count) { return {device(DType::bf16), DType::bf16, {count}}; }
cuda::GemmFactor factor(const Placed& x) { return {x.tensor().data(), DType::bf16}; }

/// Gate and up of m rows and n columns.
struct Forward {
  int64_t m, n, k;
  std::array<int64_t, 2> rank;
  bool bias = false;
};

struct Gated {
  Doubles gate, up, product;
};

class GateAndUp {
 public:
  explicit GateAndUp(const Forward& s)
      : s_(s),
        x_(random(1, s.m * s.k)),
        w_{random(2, s.n * s.k), random(3, s.n * s.k)},
        low_a_{random(4, s.m * s.rank[0]), random(5, s.m * s.rank[1])},
        low_b_{random(6, s.n * s.rank[0]), random(7, s.n * s.rank[1])},
        bias_{random(8, s.n, DType::f32), random(9, s.n, DType::f32)} {}

  Gated apart(const GemmDevice& device) const {
    return with([&](const Gemm(&gemms)[2], void* product) {
      cuda::launch_gemm(ops_.stream(), device, DType::bf16, gemms, 2, GemmJoin::beside);
      cuda::launch_swiglu(ops_.stream(), DType::bf16, gemms[0].y, gemms[1].y, product, s_.m * s_.n);
    });
  }
  Gated at_once(const GemmDevice& device, bool keeps) const {
    return with([&](const Gemm(&gemms)[2], void* product) {
      CHECK(cuda::launch_gated_gemm(ops_.stream(), device, DType::bf16, gemms[0], gemms[1], product, keeps));
    });
  }

 private:
  template <class F>
  Gated with(F&& launch) const {
    const Placed gate = empty(s_.m * s_.n), up = empty(s_.m * s_.n), product = empty(s_.m * s_.n);
    Gemm gemms[2];
    for (size_t i = 0; i < 2; ++i) {
      Gemm& g = gemms[i];
      g.m = s_.m, g.n = s_.n, g.k = s_.k, g.rank = s_.rank[i];
      g.a = factor(x_), g.b = factor(w_[i]);
      if (g.rank > 0) g.low_a = factor(low_a_[i]), g.low_b = factor(low_b_[i]);
      g.low_scale = i == 0 ? 1.5f : 0.75f;
      if (s_.bias) g.bias = bias_[i].tensor().f32();
      g.y = (i == 0 ? gate : up).tensor().data(), g.y_type = DType::bf16;
    }
    launch(gemms, product.tensor().data());
    return {gate.values(), up.values(), product.values()};
  }

  cuda::CudaOps& ops_ = device(DType::bf16);
  Forward s_;
  Placed x_, w_[2], low_a_[2], low_b_[2], bias_[2];
};

bool is_untouched(const Doubles& values) {
  return std::all_of(values.begin(), values.end(), [](double x) { return std::isnan(x); });
}

TEST("gate, up and SwiGLU at once have the bits that they have one after the other, through every tile") {
  if (!has_hopper()) return;
  const Forward shapes[] = {
      {150, 328, 200, {136, 72}},    // several tiles of each size: 12 multiprocessors take squares, 4 halves
      {150, 296, 72, {0, 8}, true},  // one is adapted
      {60, 328, 72, {8, 8}},         // a block has several tiles of 64 rows
      {70, 24, 72, {8, 0}, true},   {3, 40, 264, {8, 8}}, {1, 24, 8, {}}, {66, 128, 0, {8, 16}},
  };
  for (const Forward& s : shapes) {
    const GateAndUp products(s);
    const Gated apart = products.apart(hopper(132));
    for (const int multiprocessors : {1, 4, 12, 132}) {
      const Gated kept = products.at_once(hopper(multiprocessors), true);
      CHECK(same_bits(kept.product, apart.product) && same_bits(kept.gate, apart.gate) && same_bits(kept.up, apart.up));
      const Gated not_kept = products.at_once(hopper(multiprocessors), false);
      CHECK(same_bits(not_kept.product, apart.product) && is_untouched(not_kept.gate) && is_untouched(not_kept.up));
    }
  }
}

/// Down, from `k` outputs back to n inputs.
struct Backward {
  int64_t m, n, k, rank;
  float rate = 0;
  bool product = true;
};

class ThroughDown {
 public:
  explicit ThroughDown(const Backward& s)
      : s_(s),
        dy_(random(1, s.m * s.k)),
        w_(random(2, s.n * s.k)),
        dh_(random(3, s.m * s.rank)),
        a_(random(4, s.n * s.rank)),
        keys_(ops_, DType::i32, {s.m, 2}),
        mask_(ops_, DType::i32, {s.m, (s.n + 31) / 32}) {
    std::vector<int32_t> words(static_cast<size_t>(2 * s.m));
    std::iota(words.begin(), words.end(), 0);
    ops_.upload(words.data(), keys_.view());
    ops_.draw_mask({0.25f, 7, 3, reinterpret_cast<const uint32_t*>(keys_.view().i32())}, mask_.view());
  }

  Gated apart(const GemmDevice& device) const {
    return with([&](Gemm down, void* gate, void* up, void* product) {
      const Placed dproduct = empty(s_.m * s_.n);
      down.y = dproduct.tensor().data();
      cuda::launch_gemm(ops_.stream(), device, DType::bf16, &down, 1, GemmJoin::beside);
      if (product) cuda::launch_swiglu(ops_.stream(), DType::bf16, gate, up, product, s_.m * s_.n);
      cuda::launch_swiglu_backward(ops_.stream(), DType::bf16, down.y, gate, up, gate, up, s_.m * s_.n);
      cuda::synchronize(ops_.stream());
    });
  }
  Gated at_once(const GemmDevice& device) const {
    return with([&](const Gemm& down, void* gate, void* up, void* product) {
      CHECK(cuda::launch_gated_backward(ops_.stream(), device, DType::bf16, down, gate, up, product));
    });
  }

 private:
  template <class F>
  Gated with(F&& launch) const {
    const Placed gate = random(5, s_.m * s_.n), up = random(6, s_.m * s_.n), product = empty(s_.m * s_.n);
    Gemm down;
    down.form = GemmForm::nn;
    down.m = s_.m, down.n = s_.n, down.k = s_.k, down.rank = s_.rank;
    down.a = factor(dy_), down.b = factor(w_);
    if (s_.rank > 0) down.low_a = factor(dh_), down.low_b = factor(a_);
    down.low_masked = s_.rate > 0;
    down.mask = {reinterpret_cast<const uint32_t*>(mask_.view().i32()), static_cast<uint32_t>(s_.m),
                 static_cast<uint32_t>(mask_.view().cols()), 1 / 0.75f};
    down.y_type = DType::bf16;
    launch(down, gate.tensor().data(), up.tensor().data(), s_.product ? product.tensor().data() : nullptr);
    return {gate.values(), up.values(), product.values()};
  }

  cuda::CudaOps& ops_ = device(DType::bf16);
  Backward s_;
  Placed dy_, w_, dh_, a_;
  DeviceTensor keys_, mask_;
};

TEST("back through down and SwiGLU at once has the bits of one after the other, through every tile") {
  if (!has_hopper()) return;
  const Backward shapes[] = {
      {150, 712, 200, 136, 0.25f},  // as above
      {150, 648, 72, 8},           {60, 648, 72, 8}, {70, 136, 72, 0, 0, false},
      {3, 40, 264, 8, 0.25f},      {1, 8, 8, 0},     {66, 264, 0, 8},
  };
  for (const Backward& s : shapes) {
    const ThroughDown down(s);
    const Gated apart = down.apart(hopper(132));
    for (const int multiprocessors : {1, 4, 12, 132}) {
      const Gated at_once = down.at_once(hopper(multiprocessors));
      CHECK(same_bits(at_once.gate, apart.gate) && same_bits(at_once.up, apart.up));
      CHECK(same_bits(at_once.product, apart.product) && is_untouched(apart.product) == !s.product);
    }
  }
}

TEST("Hopper's kernel takes no SwiGLU behind what it cannot multiply, or what is more than two linears") {
  if (!has_hopper()) return;
  using Change = void (*)(Gemm&);
  const Placed factors = random(1, 64 * 64 * 2), out[] = {empty(64 * 64), empty(64 * 64), empty(64 * 64)};
  const auto gemm = [&](GemmForm form, size_t y) {
    Gemm g;
    g.form = form;
    g.m = 3, g.n = g.k = 32, g.rank = 8;
    g.a = g.b = g.low_a = g.low_b = factor(factors);
    g.y = out[y].tensor().data(), g.y_type = DType::bf16;
    return g;
  };
  const auto forward = [&](const Change& change, GemmDevice device = hopper(4), DType type = DType::bf16) {
    Gemm gate = gemm(GemmForm::nt, 0), up = gemm(GemmForm::nt, 1);
    change(up);
    return cuda::launch_gated_gemm(fire::test::device(DType::bf16).stream(), device, type, gate, up,
                                   out[2].tensor().data(), true);
  };
  const auto backward = [&](const Change& change, GemmDevice device = hopper(4), DType type = DType::bf16) {
    Gemm down = gemm(GemmForm::nn, 0);
    change(down);
    return cuda::launch_gated_backward(fire::test::device(DType::bf16).stream(), device, type, down,
                                       out[0].tensor().data(), out[1].tensor().data(), out[2].tensor().data());
  };
  const Change none = [](Gemm&) {};
  CHECK(forward(none) && backward(none));
  CHECK(!forward(none, {}) && !backward(none, {}));
  CHECK(!forward(none, hopper(4), DType::f32) && !backward(none, hopper(4), DType::f32));
  constexpr Change either[] = {[](Gemm& g) { g.alpha = 2; },
                               [](Gemm& g) { g.residual = g.y; },
                               [](Gemm& g) { g.y_type = DType::f32; },
                               [](Gemm& g) { g.rank = 4; },
                               [](Gemm& g) { g.low_b.type = DType::f32; },
                               [](Gemm& g) { g.k = 151936; },
                               [](Gemm& g) { g.form = GemmForm::tn, g.rank = 0; }};
  for (const Change change : either) CHECK(!forward(change) && !backward(change));
  CHECK(!forward([](Gemm& g) { g.n = 24; }) && !forward([](Gemm& g) { g.m = 2; }));
  CHECK(!forward([](Gemm& g) { g.low_masked = true; }));
}

}  // namespace
}  // namespace fire::test
