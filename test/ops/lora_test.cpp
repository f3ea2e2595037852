// LoRA: what its dropout masks depend on, and that a token's bits do not depend on its batch.
#include "fixture.h"
#include "ops/cases/cases.h"
#include "ops/run.h"

using namespace fire;
using namespace fire::test;

namespace {

/// The mask that the device applies, 0 or 1 / (1 - rate), read off a LoRA whose A is the identity.
Doubles mask_of(int64_t rows, int64_t n, const Dropout& dropout) {
  const Device& device = devices()[0];
  const Case c = cases::lora_linear(device.target, {rows, 1, n}, n, dropout, false, false, DType::f32);
  Values in = inputs_of(c);
  in["x"].assign(in["x"].size(), 1);
  for (size_t i = 0; i < in["a"].size(); ++i) in["a"][i] = i / static_cast<size_t>(n) == i % static_cast<size_t>(n);
  return run(*device.ops, c, in).at("h");
}

/// Forward, and backward with what forward left.
Values both_ways(const Device& device, const Case& forward, const Case& backward, const Values& in) {
  Values got = run(*device.ops, forward, in), back_in = in;
  back_in["h"] = got["h"];
  got.merge(run(*device.ops, backward, back_in));
  return got;
}

/// An adapted linear of so many tokens, with all that forward and backward read.
struct Adapted {
  Adapted(const Target& target, cases::Linear s, int64_t rank)
      : forward(cases::lora_linear(target, s, rank, {0.2f, 7, 5, 3}, true, true, target.activation)),
        backward(
            cases::lora_linear_backward(target, s, rank, {0.2f, 7, 5, 3}, cases::Dx::accumulated, target.activation)) {}
  Values inputs() const {
    Values in = inputs_of(backward);
    in.merge(inputs_of(forward));
    return in;
  }
  Case forward, backward;
};

}  // namespace

TEST("op/lora_linear: masks depend on seed, module, pass, row and column alone") {
  const Dropout base{0.3f, 7, 2, 5};
  const Doubles mask = mask_of(40, 50, base);
  CHECK(same_bits(mask, mask_of(40, 50, base)));
  for (const Dropout& other :
       {Dropout{0.3f, 8, 2, 5}, Dropout{0.3f, 7, 3, 5}, Dropout{0.3f, 7, 2, 6}, Dropout{0.3f, uint64_t{7} << 32, 2, 5}})
    CHECK(!same_bits(mask, mask_of(40, 50, other)));
  // fewer rows or columns: the same mask, cut
  const Doubles rows = mask_of(13, 50, base);
  CHECK(std::equal(rows.begin(), rows.end(), mask.begin()));
  const Doubles narrow = mask_of(40, 31, base);
  bool same = true;
  for (size_t i = 0; i < narrow.size(); ++i) same &= narrow[i] == mask[i / 31 * 50 + i % 31];
  CHECK(same);
}

TEST("op/lora_linear: dropout keeps a share of 1 - p and the expectation of 1") {
  for (const float rate : {0.05f, 0.5f, 0.9f}) {
    const int64_t rows = 400, n = 100;
    double kept = 0, neighbours = 0;
    const Doubles mask = mask_of(rows, n, {rate, 1, 0, 0});
    for (size_t i = 0; i < mask.size(); ++i) {
      CHECK(mask[i] == 0 || mask[i] == 1.0f / (1.0f - rate));
      kept += mask[i] != 0;
      if (i + 1 < mask.size()) neighbours += mask[i] != 0 && mask[i + 1] != 0;
    }
    const double count = static_cast<double>(rows * n), p = 1 - static_cast<double>(rate);
    // six standard deviations of a binomial; pairs of neighbours are nearly as independent
    CHECK_NEAR(kept / count, p, 6 * std::sqrt(p * (1 - p) / count));
    CHECK_NEAR(neighbours / count, p * p, 9 * std::sqrt(p * p * (1 - p * p) / count));
  }
}

TEST("op/lora_linear_backward: without dx the gradients of A and B have the same bits") {
  for (const Device& device : devices()) {
    const auto of = [&](cases::Dx form) {
      return cases::lora_linear_backward(device.target, {33, 11, 70}, 6, {0.4f, 99, 5, 2}, form,
                                         device.target.activation);
    };
    const Values in = inputs_of(of(cases::Dx::accumulated));
    const Values with = run(*device.ops, of(cases::Dx::accumulated), in),
                 without = run(*device.ops, of(cases::Dx::none), in);
    for (const char* name : {"dh", "da", "db"}) CHECK(same_bits(with.at(name), without.at(name)));
  }
}

TEST("op/lora_linear: a row has the same bits alone and in any batch, through every tile") {
  // On a GPU 48 tiles of 128 columns: 1 and 20 rows take tiles of 32, 60 of 64, 130 of 128.
  for (const Device& device : devices())
    for (const bool wide_out : {true, false}) {
      const int64_t out = wide_out ? 6136 : 24, in = wide_out ? 24 : 6136;
      const Adapted whole(device.target, {130, out, in}, 6);
      const Values inputs = whole.inputs(), all = both_ways(device, whole.forward, whole.backward, inputs);
      for (const int64_t tokens : {1, 20, 60}) {
        const Adapted part(device.target, {tokens, out, in}, 6);
        Values first = row_of(part.forward, inputs, 0, 1);
        first.merge(row_of(part.backward, inputs, 0, 1));
        const Values some = both_ways(device, part.forward, part.backward, first);
        for (const char* name : {"h", "y", "dh", "dx"}) {
          const Doubles &few = some.at(name), &many = all.at(name);
          CHECK(same_bits(few, {many.begin(), many.begin() + static_cast<std::ptrdiff_t>(few.size())}));
        }
      }
    }
}

TEST("op/lora_linear: twice the same operands, twice the same bits") {
  for (const Device& device : devices()) {
    const Adapted m(device.target, {70, 65, 96}, 16);
    const Values in = m.inputs();
    CHECK(same_bits(both_ways(device, m.forward, m.backward, in), both_ways(device, m.forward, m.backward, in)));
  }
}
