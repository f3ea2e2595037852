// The position table where nothing is between its places.
#include "fixture.h"
#include "ops/cases/cases.h"
#include "ops/run.h"

using namespace fire;
using namespace fire::test;

TEST("op/interpolate_positions: a grid of the table's own size is the table in merge order") {
  for (const Device& device : devices()) {
    const int64_t side = 6, columns = 20;
    const Case c = cases::interpolate_positions(device.target, {side, side, side, 2, columns});
    const Values in = inputs_of(c);
    const Doubles& table = in.at("table");
    Doubles expected;
    for (const auto& [row, column] : cases::merge_order(side, side, 2)) {
      const auto begin = table.begin() + (row * side + column) * columns;
      expected.insert(expected.end(), begin, begin + columns);
    }
    CHECK(same_bits(run(*device.ops, c, in).at("y"), expected));
  }
}
