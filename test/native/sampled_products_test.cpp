// The references of matrix products that are too large for one core: what they look at, and what they still see.
#include "check.h"
#include "ops/cases/products.h"

using namespace fire;
using namespace fire::test;

namespace {

constexpr int64_t side = 700, terms = 1000;

double one(int64_t, int64_t) { return 1; }

Expected product(const Values& got, const Doubles& added, int64_t count = terms) {
  Sums sums(side, side, count);
  sums.multiply(count, one, one);
  sums.add(added);
  return sums.expected("y", DType::f32, got);
}

}  // namespace

TEST("references: a large product is 64 x 64 of its elements, each where it belongs") {
  Values got{{"y", {}}};
  for (int64_t at = 0; at < side * side; ++at) got["y"].push_back(static_cast<double>(at + terms));
  Doubles added = got["y"];
  for (double& x : added) x -= static_cast<double>(terms);
  const Expected e = product(got, added);
  CHECK(e.value.size() == 64 * 64 + 1);
  CHECK(e.got == e.value);
  CHECK(e.value[64 * 64 - 1] == static_cast<double>(side * side - 1 + terms));

  got["y"][1] = NAN;  // between the first two columns that are looked at
  CHECK(product(got, added).got.back() == 1);
  CHECK(product(got, added).value.back() == 0 && product(got, added).tolerance.back() == 0);

  const Expected small = product(got, added, 10);
  CHECK(small.value.size() == side * side && small.got.empty());
}

TEST("references: samples are ascending, with both ends, and all where there are few") {
  CHECK(sampled(0).empty());
  CHECK((sampled(3) == std::vector<int64_t>{0, 1, 2}));
  CHECK((sampled(10, 4) == std::vector<int64_t>{0, 3, 6, 9}));
  const std::vector<int64_t> many = sampled(151936);
  CHECK(many.size() == 64 && many.front() == 0 && many.back() == 151935);
  CHECK(std::adjacent_find(many.begin(), many.end(), std::greater_equal<>()) == many.end());
}
