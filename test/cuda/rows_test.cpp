#include "elementwise.h"

namespace fire::test {
namespace {

/// Copies of 16, 4 and 2 bytes a thread, rows shorter and longer than a block.
std::vector<int64_t> widths() {
  std::vector<int64_t> all = {1, 2, 3, 5, 8, 20, 64, 130, 515, 2056, 4100};
  if (large()) all.push_back(18944);
  return all;
}

std::vector<int32_t> shuffled(Random& random, int64_t count) {
  std::vector<int32_t> v(static_cast<size_t>(count));
  std::iota(v.begin(), v.end(), 0);
  for (int64_t i = count - 1; i > 0; --i)
    std::swap(v[static_cast<size_t>(i)], v[static_cast<size_t>(random.integer(0, i))]);
  return v;
}

struct Tap {
  double low, high, weight;
};

Tap tap(int64_t at, int64_t count, int64_t side) {
  const double place = static_cast<double>(at * (side - 1)) / static_cast<double>(std::max<int64_t>(count - 1, 1));
  const double low = std::floor(place);
  return {low, std::min(low + 1, static_cast<double>(side - 1)), place - low};
}

/// Places of the patches in reading order of merge x merge blocks, walked as the model's host code does.
std::vector<std::pair<int64_t, int64_t>> places(int64_t grid_h, int64_t grid_w, int64_t merge) {
  std::vector<std::pair<int64_t, int64_t>> all;
  for (int64_t top = 0; top < grid_h; top += merge)
    for (int64_t left = 0; left < grid_w; left += merge)
      for (int64_t y = top; y < top + merge; ++y)
        for (int64_t x = left; x < left + merge; ++x) all.emplace_back(y, x);
  return all;
}

}  // namespace

TEST("cuda rows: gather_rows and embedding copy rows bit for bit, of either type on either device") {
  Random random(21);
  for (const DType device_type : both_types)
    for (const DType type : both_types)
      for (const int64_t width : widths())
        for (const int64_t shift : {0, 1, 2}) {
          Ops& ops = device(device_type);
          const int64_t rows = 9, count = large() ? 1009 : 23;
          const std::vector<float> x = rounded(random.floats(rows * width), type);
          std::vector<int32_t> index = random.ids(count, 0, rows - 1);
          index[0] = rows - 1, index[1] = 0;
          Placed dev_x(ops, x, type, {rows, width}, shift), y(ops, type, {count, width}, shift);
          Placed z(ops, type, {count, width});
          OnDevice dev_index(ops, index, {count});
          ops.gather_rows(dev_x, dev_index, y);
          ops.embedding(dev_index, dev_x, z);
          std::vector<float> expected;
          for (const int32_t i : index)
            expected.insert(expected.end(), x.begin() + i * width, x.begin() + (i + 1) * width);
          CHECK(same_bits(y.get(), expected));
          CHECK(same_bits(z.get(), expected));
        }
}

TEST("cuda rows: scatter_rows and scatter_add_rows touch their rows and no others") {
  Random random(22);
  for (const DType device_type : both_types)
    for (const DType type : both_types)
      for (const int64_t width : widths())
        for (const int64_t shift : {0, 1, 2}) {
          Ops& ops = device(device_type);
          const int64_t rows = large() ? 901 : 31, count = rows * 2 / 3;
          std::vector<int32_t> index = shuffled(random, rows);
          index.resize(static_cast<size_t>(count));
          const std::vector<float> x = rounded(random.floats(count * width), type);
          const std::vector<float> y = rounded(random.floats(rows * width), type);
          Placed dev_x(ops, x, type, {count, width}, shift), stored(ops, y, type, {rows, width}, shift);
          Placed summed(ops, y, type, {rows, width}, shift);
          OnDevice dev_index(ops, index, {count});
          ops.scatter_rows(dev_x, dev_index, stored);
          ops.scatter_add_rows(dev_x, dev_index, summed);
          std::vector<float> expected_stored = y, expected_summed = y;
          for (int64_t i = 0; i < count; ++i)
            for (int64_t c = 0; c < width; ++c) {
              const size_t from = static_cast<size_t>(i * width + c);
              const size_t to = static_cast<size_t>(index[static_cast<size_t>(i)] * width + c);
              expected_stored[to] = x[from];
              expected_summed[to] = y[to] + x[from];
            }
          CHECK(same_bits(stored.get(), expected_stored));
          CHECK(same_bits(summed.get(), rounded(expected_summed, type)));
        }
}

TEST("cuda rows: add is one rounded f32 addition an element") {
  Random random(23);
  std::vector<int64_t> sizes = {1, 3, 7, 8, 9, 255, 2048, 2049, 5001};
  if (large()) sizes.push_back(5'000'003);
  for (const DType device_type : both_types)
    for (const DType type : both_types)
      for (const int64_t size : sizes)
        for (const int64_t shift : {0, 1}) {
          Ops& ops = device(device_type);
          const std::vector<float> x = rounded(random.floats(size), type), y = rounded(random.floats(size), type);
          Placed dev_x(ops, x, type, {size}, shift), dev_y(ops, y, type, {size});
          ops.add(dev_x, dev_y);
          std::vector<float> expected(y);
          for (size_t i = 0; i < expected.size(); ++i) expected[i] += x[i];
          CHECK(same_bits(dev_y.get(), rounded(expected, type)));
        }
}

TEST("cuda rows: interpolate_positions agrees with float64 and with the CPU") {
  struct Grid {
    int64_t side, h, w, merge, columns;
  };
  std::vector<Grid> grids = {{4, 6, 4, 2, 16}, {5, 2, 8, 2, 20}, {3, 3, 3, 1, 7},   {1, 2, 2, 2, 8},
                             {6, 1, 5, 1, 24}, {7, 9, 6, 3, 40}, {2, 4, 2, 2, 2100}};
  if (large()) grids.push_back({48, 76, 100, 2, 1152});
  Random random(24);
  for (const DType type : both_types)
    for (const Grid g : grids)
      for (const int64_t shift : {0, 1}) {
        Ops& ops = device(type);
        std::vector<float> table = rounded(random.floats(g.side * g.side * g.columns), type);
        Placed dev_table(ops, table, type, {g.side * g.side, g.columns}, shift);
        Placed y(ops, type, {g.h * g.w, g.columns}, shift);
        ops.interpolate_positions(dev_table, g.h, g.w, g.merge, y);
        std::vector<double> expected;
        for (const auto& [row, column] : places(g.h, g.w, g.merge)) {
          const Tap v = tap(row, g.h, g.side), h = tap(column, g.w, g.side);
          for (int64_t c = 0; c < g.columns; ++c) {
            auto at = [&](double r, double k) {
              return static_cast<double>(
                  table[static_cast<size_t>((r * static_cast<double>(g.side) + k)) * static_cast<size_t>(g.columns) +
                        static_cast<size_t>(c)]);
            };
            expected.push_back((1 - v.weight) * ((1 - h.weight) * at(v.low, h.low) + h.weight * at(v.low, h.high)) +
                               v.weight * ((1 - h.weight) * at(v.high, h.low) + h.weight * at(v.high, h.high)));
          }
        }
        // The place is f32: up to 48 with 2^-24 relative, times slopes up to 2.
        CHECK_CLOSE(y.get(), expected, type, 1e-5);
        std::vector<float> on_host(static_cast<size_t>(g.h * g.w * g.columns));
        host().interpolate_positions(view(table, {g.side * g.side, g.columns}), g.h, g.w, g.merge,
                                     view(on_host, {g.h * g.w, g.columns}));
        CHECK_CLOSE(y.get(), std::vector<double>(on_host.begin(), on_host.end()), type, 5e-7);
      }
}

TEST("cuda rows: a grid of the table's own size is the table in merge order") {
  Random random(25);
  for (const DType type : both_types) {
    Ops& ops = device(type);
    const int64_t side = 6, columns = 20;
    const std::vector<float> table = rounded(random.floats(side * side * columns), type);
    Placed dev_table(ops, table, type, {side * side, columns}), y(ops, type, {side * side, columns});
    ops.interpolate_positions(dev_table, side, side, 2, y);
    std::vector<float> expected;
    for (const auto& [row, column] : places(side, side, 2)) {
      const std::vector<float> one = row_of(table, row * side + column, columns);
      expected.insert(expected.end(), one.begin(), one.end());
    }
    CHECK(same_bits(y.get(), expected));
  }
}

TEST("cuda rows: nothing to do is no work, and shapes that do not fit are refused") {
  for (const DType type : both_types) {
    Ops& ops = device(type);
    const std::vector<float> values = rounded(Random(26).floats(40), type);
    Placed x(ops, values, type, {4, 10}), none(ops, type, {0, 10});
    OnDevice no_index(ops, std::vector<int32_t>{}, {0});
    ops.gather_rows(x, no_index, none);
    ops.embedding(no_index, x, none);
    ops.scatter_rows(none, no_index, x);
    ops.scatter_add_rows(none, no_index, x);
    ops.add(none, none);
    CHECK(same_bits(x.get(), values));
    OnDevice two(ops, std::vector<int32_t>{0, 1}, {2});
    Placed narrow(ops, type, {2, 9}), other(ops, type == DType::f32 ? DType::bf16 : DType::f32, {2, 10});
    CHECK_ERROR(Code::internal, ("gather_rows", "[2, 9]"), ops.gather_rows(x, two, narrow));
    CHECK_ERROR(Code::internal, ("gather_rows"), ops.gather_rows(x, two, other));
    CHECK_ERROR(Code::internal, ("embedding"), ops.embedding(two, x, none));
    CHECK_ERROR(Code::internal, ("scatter_rows"), ops.scatter_rows(narrow, two, x));
    CHECK_ERROR(Code::internal, ("scatter_add_rows"), ops.scatter_add_rows(other, two, x));
    CHECK_ERROR(Code::internal, ("add"), ops.add(narrow, x));
    CHECK_ERROR(Code::internal, ("interpolate_positions"), ops.interpolate_positions(x, 3, 2, 2, x));
  }
}

}  // namespace fire::test
