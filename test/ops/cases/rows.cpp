// Rows by index, sums of tensors, the resampled position table, copies and zeros: exact but for the table.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/cases/cases.h"
#include "tensor/rng.h"

namespace fire::test {

using cases::Grid;

namespace {

/// Copies of 16, 4 and 2 bytes a thread, rows shorter and longer than a block; no rows of 10.
std::vector<int64_t> widths(const Target& target) {
  std::vector<int64_t> all = {1, 2, 3, 5, 10, 8, 20, 37, 64, 130, 515, 2056, 4100};
  if (target.large) all.push_back(18944);
  return all;
}

std::vector<int64_t> sizes(const Target& target) {
  std::vector<int64_t> all = {0, 1, 3, 7, 8, 9, 255, 2048, 2049, 5001, 20001};
  if (target.large) all.push_back(5'000'003);
  return all;
}

/// `count` of `many` rows with repetitions, the last and the first among them.
std::vector<int32_t> some_rows(int64_t count, int64_t many) {
  std::vector<int32_t> index;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = philox(1, {static_cast<uint32_t>(i), 0, 0, 0})[0];
    index.push_back(static_cast<int32_t>(bits % static_cast<uint32_t>(many)));
  }
  if (count > 1) index[0] = static_cast<int32_t>(many - 1), index[1] = 0;
  return index;
}

/// Two thirds of the rows, each once, in no order.
std::vector<int32_t> distinct_rows(int64_t many) {
  std::vector<int32_t> index(static_cast<size_t>(many));
  std::iota(index.begin(), index.end(), 0);
  const auto key = [](int32_t i) { return philox(2, {static_cast<uint32_t>(i), 0, 0, 0}); };
  std::sort(index.begin(), index.end(), [&](int32_t a, int32_t b) { return key(a) < key(b); });
  index.resize(index.size() * 2 / 3);
  return index;
}

/// The rows of a matrix that an index names.
Doubles taken(const Doubles& matrix, const Doubles& index, size_t width) {
  Doubles rows;
  for (const double i : index) {
    const auto begin = matrix.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(i) * width);
    rows.insert(rows.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
  }
  return rows;
}

using IndexedRows = void (Ops::*)(Tensor x, Tensor rows, Tensor y);

/// y[index[i]] = (add ? y[index[i]] : 0) + x[i]; other rows stay.
Case scattered(const std::string& name, IndexedRows operation, bool add, DType type, int64_t many, int64_t width,
               const std::vector<int32_t>& index) {
  const int64_t count = static_cast<int64_t>(index.size());
  Case c{name + " " + by({count, many, width}),
         {input("x", type, {count, width}), indices("rows", {count}, index), both("y", type, {many, width})},
         [operation](Ops& ops, Tensors& t) { (ops.*operation)(t["x"], t["rows"], t["y"]); },
         [add, type, width](const Values& in, const Values&) -> std::vector<Expected> {
           const Doubles &x = in.at("x"), &index = in.at("rows");
           Doubles y = in.at("y");
           const size_t columns = static_cast<size_t>(width);
           for (size_t i = 0; i < x.size(); ++i) {
             double& to = y[static_cast<size_t>(index[i / columns]) * columns + i % columns];
             to = (add ? to : 0) + x[i];
           }
           return {{"y", rounded(rounded(y, DType::f32), type), {0}}};  // one rounded f32 addition an element
         }};
  c.shifts = {1, 2};
  return c;
}

/// The neighbours of a place of a grid's side in the table's side, and how far it is from the lower one.
struct Tap {
  double low, high, weight;
};

Tap tap(int64_t at, int64_t count, int64_t side) {
  const double place = static_cast<double>(at * (side - 1)) / static_cast<double>(std::max<int64_t>(count - 1, 1));
  const double low = std::floor(place);
  return {low, std::min(low + 1, static_cast<double>(side - 1)), place - low};
}

}  // namespace

std::vector<std::pair<int64_t, int64_t>> cases::merge_order(int64_t grid_h, int64_t grid_w, int64_t merge) {
  std::vector<std::pair<int64_t, int64_t>> all;
  for (int64_t top = 0; top < grid_h; top += merge)
    for (int64_t left = 0; left < grid_w; left += merge)
      for (int64_t y = top; y < top + merge; ++y)
        for (int64_t x = left; x < left + merge; ++x) all.emplace_back(y, x);
  return all;
}

Case cases::embedding(const Target& target, int64_t vocab, int64_t width, const std::vector<int32_t>& ids) {
  const int64_t count = static_cast<int64_t>(ids.size());
  Case c{"embedding " + by({count, vocab, width}),
         {indices("ids", {count}, ids), input("table", target.matrix, {vocab, width}),
          output("y", target.activation, {count, width})},
         [](Ops& ops, Tensors& t) { ops.embedding(t["ids"], t["table"], t["y"]); },
         [width](const Values& in, const Values&) -> std::vector<Expected> {
           return {{"y", taken(in.at("table"), in.at("ids"), static_cast<size_t>(width)), {0}}};
         }};
  c.shifts = {1, 2};
  return c;
}

Case cases::gather_rows(DType type, int64_t many, int64_t width, const std::vector<int32_t>& index) {
  const int64_t count = static_cast<int64_t>(index.size());
  Case c{"gather_rows " + by({count, many, width}),
         {input("x", type, {many, width}), indices("rows", {count}, index), output("y", type, {count, width})},
         [](Ops& ops, Tensors& t) { ops.gather_rows(t["x"], t["rows"], t["y"]); },
         [width](const Values& in, const Values&) -> std::vector<Expected> {
           return {{"y", taken(in.at("x"), in.at("rows"), static_cast<size_t>(width)), {0}}};
         }};
  c.shifts = {1, 2};
  return c;
}

Case cases::scatter_rows(DType type, int64_t many, int64_t width, const std::vector<int32_t>& index) {
  return scattered("scatter_rows", &Ops::scatter_rows, false, type, many, width, index);
}

Case cases::scatter_add_rows(DType type, int64_t many, int64_t width, const std::vector<int32_t>& index) {
  return scattered("scatter_add_rows", &Ops::scatter_add_rows, true, type, many, width, index);
}

Case cases::interpolate_positions(const Target& target, Grid g) {
  return {"interpolate_positions " + by({g.side, g.h, g.w, g.merge, g.columns}),
          {input("table", target.matrix, {g.side * g.side, g.columns}),
           output("y", target.activation, {g.h * g.w, g.columns})},
          [g](Ops& ops, Tensors& t) { ops.interpolate_positions(t["table"], g.h, g.w, g.merge, t["y"]); },
          [g](const Values& in, const Values&) -> std::vector<Expected> {
            const Doubles& table = in.at("table");
            Doubles y;
            for (const auto& [row, column] : cases::merge_order(g.h, g.w, g.merge)) {
              const Tap v = tap(row, g.h, g.side), h = tap(column, g.w, g.side);
              for (int64_t c = 0; c < g.columns; ++c) {
                const auto at = [&](double r, double k) {
                  const double place = r * static_cast<double>(g.side) + k;
                  return table[static_cast<size_t>(place) * static_cast<size_t>(g.columns) + static_cast<size_t>(c)];
                };
                y.push_back((1 - v.weight) * ((1 - h.weight) * at(v.low, h.low) + h.weight * at(v.low, h.high)) +
                            v.weight * ((1 - h.weight) * at(v.high, h.low) + h.weight * at(v.high, h.high)));
              }
            }
            return {{"y", y, {1e-5}}};  // the place is f32: up to 48 with 2^-24 relative, times slopes up to 2
          }};
}

/// Cases of both types of rows, made by `make(type, size)`.
template <class F>
static std::vector<Case> of_each(const Target& target, const std::vector<int64_t>& sizes, F make) {
  std::vector<Case> all;
  for (const DType type : target.row_types())
    for (const int64_t size : sizes) all.push_back(make(type, size));
  return all;
}

OPERATION(embedding) {
  std::vector<Case> all{cases::embedding(target, 9, 10, {})};
  for (const int64_t width : widths(target))
    all.push_back(cases::embedding(target, 9, width, some_rows(target.large ? 1009 : 23, 9)));
  return all;
}

OPERATION(gather_rows) {
  return of_each(target, widths(target), [&](DType type, int64_t width) {
    return cases::gather_rows(type, 9, width, some_rows(width == 10 ? 0 : target.large ? 1009 : 23, 9));
  });
}

OPERATION(scatter_rows) {
  const int64_t many = target.large ? 901 : 31;
  return of_each(target, widths(target), [&](DType type, int64_t width) {
    return cases::scatter_rows(type, many, width, width == 10 ? std::vector<int32_t>() : distinct_rows(many));
  });
}

OPERATION(scatter_add_rows) {
  const int64_t many = target.large ? 901 : 31;
  return of_each(target, widths(target), [&](DType type, int64_t width) {
    return cases::scatter_add_rows(type, many, width, width == 10 ? std::vector<int32_t>() : distinct_rows(many));
  });
}

OPERATION(add) {
  return of_each(target, sizes(target), [](DType type, int64_t size) {
    return Case{"add " + by({size}),
                {input("x", type, {size}), both("y", type, {size})},
                [](Ops& ops, Tensors& t) { ops.add(t["x"], t["y"]); },
                [type](const Values& in, const Values&) -> std::vector<Expected> {
                  Doubles y = in.at("y");
                  for (size_t i = 0; i < y.size(); ++i) y[i] += in.at("x")[i];
                  return {{"y", rounded(rounded(y, DType::f32), type), {0}}};  // one rounded f32 addition
                }};
  });
}

OPERATION(copy) {
  return of_each(target, {0, 1, 7, 2049}, [](DType type, int64_t size) {
    return Case{"copy " + by({size}),
                {input("x", type, {size}), output("y", type, {size})},
                [](Ops& ops, Tensors& t) { ops.copy(t["x"], t["y"]); },
                [](const Values& in, const Values&) -> std::vector<Expected> {
                  return {{"y", in.at("x"), {0}}};
                }};
  });
}

OPERATION(zero) {
  return of_each(target, {0, 1, 7, 2049}, [](DType type, int64_t size) {
    return Case{"zero " + by({size}),
                {both("x", type, {size})},
                [](Ops& ops, Tensors& t) { ops.zero(t["x"]); },
                [size](const Values&, const Values&) -> std::vector<Expected> {
                  return {{"x", Doubles(static_cast<size_t>(size)), {0}}};
                }};
  });
}

OPERATION(interpolate_positions) {
  std::vector<Grid> grids = {{4, 6, 4, 2, 16}, {5, 2, 8, 2, 20}, {3, 3, 3, 1, 7},   {1, 2, 2, 2, 8},
                             {6, 1, 5, 1, 24}, {7, 9, 6, 3, 40}, {2, 4, 2, 2, 2100}};
  if (target.large) grids.push_back({48, 76, 100, 2, 1152});
  std::vector<Case> all;
  for (const Grid& g : grids) all.push_back(cases::interpolate_positions(target, g));
  return all;
}

}  // namespace fire::test
