// What the tests of the elementwise families share: tensors at any alignment, and comparison element by element.
#pragma once

#include <limits>
#include <numeric>

#include "device.h"

namespace fire::test {

/// A tensor that starts `shift` elements behind a 256-byte boundary and ends where its allocation ends; NaN until set.
class Placed {
 public:
  Placed(Ops& ops, DType type, std::initializer_list<int64_t> dims, int64_t shift = 0)
      : shift_(shift),
        whole_(ops, type, {shift + std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>())}),
        tensor_(static_cast<char*>(whole_.tensor().data()) + static_cast<size_t>(shift) * size_of(type), type, dims) {
    set(std::vector<float>(static_cast<size_t>(tensor_.size()), std::numeric_limits<float>::quiet_NaN()));
  }
  Placed(Ops& ops, const std::vector<float>& values, DType type, std::initializer_list<int64_t> dims, int64_t shift = 0)
      : Placed(ops, type, dims, shift) {
    set(values);
  }

  operator Tensor() const { return tensor_; }
  Tensor tensor() const { return tensor_; }
  void set(std::vector<float> values) {
    values.insert(values.begin(), static_cast<size_t>(shift_), guard);
    whole_.set(values);
  }
  /// Also checks that nothing was written in front.
  std::vector<float> get() const {
    const std::vector<float> all = whole_.get();
    for (int64_t i = 0; i < shift_; ++i) CHECK(all[static_cast<size_t>(i)] == guard);
    return {all.begin() + static_cast<std::ptrdiff_t>(shift_), all.end()};
  }

 private:
  static constexpr float guard = -77;
  int64_t shift_;
  OnDevice whole_;
  Tensor tensor_;
};

/// Largest |actual - expected| in units of what is allowed: `slack` (absolute), and in bf16 half a unit in the last
/// place on top (2^-8 relative: a result is rounded once). Infinite on different lengths or a NaN on one side only.
inline double excess(const std::vector<float>& actual, const std::vector<double>& expected, DType type, double slack) {
  if (actual.size() != expected.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double a = actual[i], b = expected[i];
    if (a == b || (std::isnan(a) && std::isnan(b))) continue;
    const double e = std::abs(a - b) / (slack + (type == DType::bf16 ? std::abs(b) / 256 : 0));
    worst = std::isnan(e) ? INFINITY : std::max(worst, e);
  }
  return worst;
}

/// Every element within its allowance.
#define CHECK_CLOSE(actual, expected, type, slack) CHECK_NEAR(excess(actual, expected, type, slack), 0, 1)

inline std::vector<float> row_of(const std::vector<float>& matrix, int64_t row, int64_t columns) {
  return {matrix.begin() + row * columns, matrix.begin() + (row + 1) * columns};
}

}  // namespace fire::test
