// Linears of one x: what each has of being computed with others.
#include "fixture.h"
#include "ops/cases/cases.h"
#include "ops/run.h"

using namespace fire;
using namespace fire::test;
using cases::Branches;

namespace {

const Branches shapes[] = {
    {1, 40, {{128, 8}, {32, 8}, {24, 8}}, 0, true},
    {37, 40, {{48, 16}, {19, 0}, {16, 16}}, 0, true},
    {21, 64, {{40, 8}, {72, 8}}, 0.25f, false},
    {130, 40, {{31 * 128, 8}, {9 * 128 - 3, 8}, {9 * 128, 8}}, 0, false},  // on a GPU in tiles of 128
};

/// The values of branch `i` by itself, which is then branch 0.
Values only(const Values& all, size_t i) {
  Values one;
  for (const auto& [name, values] : all) {
    if (name == "x" || name == "dx" || name == "row_keys") one[name] = values;
    if (name.back() == static_cast<char>('0' + i)) one[name.substr(0, name.size() - 1) + "0"] = values;
  }
  return one;
}

Values both_ways(const Device& device, const Branches& s, const Values& in) {
  Values got = run(*device.ops, cases::linear_branches(device.target, s, device.target.activation), in), back_in = in;
  for (const auto& [name, values] : got)
    if (name[0] == 'h') back_in[name] = values;
  got.merge(run(*device.ops, cases::linear_branches_backward(device.target, s, device.target.activation), back_in));
  return got;
}

Values inputs(const Device& device, const Branches& s) {
  Values in = inputs_of(cases::linear_branches_backward(device.target, s, device.target.activation));
  in.merge(inputs_of(cases::linear_branches(device.target, s, device.target.activation)));
  return in;
}

}  // namespace

TEST("op/linear_branches: a branch has the bits that it has by itself") {
  for (const Device& device : devices())
    for (const Branches& s : shapes) {
      const Values in = inputs(device, s), all = both_ways(device, s, in);
      for (size_t i = 0; i < s.branches.size(); ++i) {
        const Branches alone{s.tokens, s.in,   {s.branches[i]},
                             s.rate,   s.bias, s.first_module + static_cast<uint32_t>(i)};
        Values own = only(all, i), one = both_ways(device, alone, only(in, i));
        own.erase("dx"), one.erase("dx");  // the sum of all
        CHECK(same_bits(one, own));
      }
    }
}

TEST("op/linear_branches_backward: a row of dx has the same bits alone and in any batch, through every tile") {
  for (const Device& device : devices()) {
    const Branches whole{130, 6136, {{24, 8}, {56, 8}, {8, 0}}, 0, false};
    const Values in = inputs(device, whole);
    const Doubles all = both_ways(device, whole, in).at("dx");
    for (const int64_t tokens : {1, 20, 60}) {
      Branches part = whole;
      part.tokens = tokens;
      const DType type = device.target.activation;
      Values first = row_of(cases::linear_branches_backward(device.target, part, type), in, 0, 1);
      first.merge(row_of(cases::linear_branches(device.target, part, type), in, 0, 1));
      const Doubles some = both_ways(device, part, first).at("dx");
      CHECK(same_bits(some, {all.begin(), all.begin() + static_cast<std::ptrdiff_t>(some.size())}));
    }
  }
}
