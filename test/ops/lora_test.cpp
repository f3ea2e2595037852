// LoRA: what its dropout masks depend on, and that a token's bits do not depend on its batch.
#include "fixture.h"
#include "model/row_keys.h"
#include "ops/cases/cases.h"
#include "ops/run.h"

using namespace fire;
using namespace fire::test;

namespace {

/// The mask that the device applies, 0 or 1 / (1 - rate), read off a LoRA whose A is the identity.
Doubles mask_of(int64_t rows, int64_t n, const Dropout& dropout, const std::vector<int32_t>& keys = {}) {
  const Device& device = devices()[0];
  const Case c = cases::lora_linear(device.target, {rows, 1, n}, n, dropout, false, false, DType::f32);
  Values in = inputs_of(c);
  in["x"].assign(in["x"].size(), 1);
  if (!keys.empty()) in["row_keys"].assign(keys.begin(), keys.end());
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
      : forward(cases::lora_linear(target, s, rank, {0.2f, 7, 5}, true, true, target.activation)),
        backward(
            cases::lora_linear_backward(target, s, rank, {0.2f, 7, 5}, cases::Dx::accumulated, target.activation)) {}
  Values inputs() const {
    Values in = inputs_of(backward);
    in.merge(inputs_of(forward));
    return in;
  }
  Case forward, backward;
};

}  // namespace

TEST("op/lora_linear: masks depend on seed, module, key of the row and column alone") {
  const Dropout base{0.3f, 7, 2};
  const Doubles mask = mask_of(40, 50, base);
  CHECK(same_bits(mask, mask_of(40, 50, base)));
  for (const Dropout& other : {Dropout{0.3f, 8, 2}, Dropout{0.3f, 7, 3}, Dropout{0.3f, uint64_t{7} << 32, 2}})
    CHECK(!same_bits(mask, mask_of(40, 50, other)));
  // fewer rows or columns: the same mask, cut
  const Doubles rows = mask_of(13, 50, base);
  CHECK(std::equal(rows.begin(), rows.end(), mask.begin()));
  const Doubles narrow = mask_of(40, 31, base);
  bool same = true;
  for (size_t i = 0; i < narrow.size(); ++i) same &= narrow[i] == mask[i / 31 * 50 + i % 31];
  CHECK(same);
  // Rows with one key have one mask, and each word of a key counts.
  const Doubles keyed = mask_of(4, 50, base, {1, 2, 1, 2, 1, 3, 2, 2});
  const auto row = [&](int64_t i) { return Doubles(keyed.begin() + 50 * i, keyed.begin() + 50 * (i + 1)); };
  CHECK(same_bits(row(0), row(1)) && !same_bits(row(0), row(2)) && !same_bits(row(0), row(3)));
}

TEST("op/lora_linear: masks of neighbours, of other steps and of other modules have nothing to do with each other") {
  const int64_t n = 256, count = 64;
  const double rate = 0.3, p = 1 - rate;
  // Keys as a sequence has them: one behind the other, with siblings, on two images, at two steps.
  std::vector<uint64_t> keys{0};
  for (uint64_t id = 0; keys.size() < count; ++id)
    keys.push_back(row_key(id % 4 == 3 ? keys[id - 1] : keys.back(), id % 5));
  std::vector<std::vector<int32_t>> at_step;
  for (const int64_t step : {0, 1, 2}) at_step.push_back(key_words(keys, {}, step));
  std::vector<Doubles> masks;
  for (const auto& words : at_step)
    for (const uint32_t module : {0, 1, 7})
      masks.push_back(mask_of(count, n, {static_cast<float>(rate), 3, module}, words));
  std::vector<Doubles> rows;
  for (const Doubles& mask : masks)
    for (int64_t i = 0; i < count; ++i) rows.emplace_back(mask.begin() + i * n, mask.begin() + (i + 1) * n);
  // Of two independent rows `both` places are kept in both: binomial with p^2. Six standard deviations for each of 166k
  // pairs: 1 in 3,000 runs of other numbers would exceed it somewhere; the sum over all is held more tightly.
  double sum = 0, worst = 0;
  const double expected = static_cast<double>(n) * p * p, deviation = std::sqrt(expected * (1 - p * p));
  int64_t pairs = 0;
  for (size_t a = 0; a < rows.size(); ++a)
    for (size_t b = 0; b < a; ++b, ++pairs) {
      double both = 0;
      for (int64_t j = 0; j < n; ++j)
        both += rows[a][static_cast<size_t>(j)] != 0 && rows[b][static_cast<size_t>(j)] != 0;
      worst = std::max(worst, std::abs(both - expected));
      sum += both - expected;
    }
  CHECK(worst < 6 * deviation);
  // The mean over pairs is that of the 576 * 256 draws squared: its deviation is that of 2 p times their share.
  const double draws = static_cast<double>(rows.size()) * static_cast<double>(n);
  CHECK_NEAR(sum / static_cast<double>(pairs) / static_cast<double>(n), 0, 6 * 2 * p * std::sqrt(p * rate / draws));
}

TEST("op/lora_linear: dropout keeps a share of 1 - p and the expectation of 1") {
  for (const float rate : {0.05f, 0.5f, 0.9f}) {
    const int64_t rows = 400, n = 100;
    double kept = 0, neighbours = 0;
    const Doubles mask = mask_of(rows, n, {rate, 1, 0});
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
      return cases::lora_linear_backward(device.target, {33, 11, 70}, 6, {0.4f, 99, 5}, form, device.target.activation);
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
