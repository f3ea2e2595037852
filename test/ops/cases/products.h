// Matrix products in float64, element by element, with the bound of their rounding errors: with S = sum of |terms|, an
// f32 sum of k terms is off by at most k S 2^-23 (2^-24 where additions round, twice that where a tensor core
// truncates).
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>

#include "ops/cases/cases.h"

namespace fire::test {

/// Row-major, with values as they are multiplied.
struct Matrix {
  int64_t rows, cols;
  Doubles v;
  double operator()(int64_t i, int64_t j) const { return v[static_cast<size_t>(i * cols + j)]; }
};

inline auto transposed(const Matrix& m) {
  return [&m](int64_t i, int64_t j) { return m(j, i); };
}

/// Sums of products, and the sums of their absolute values: of all elements [m, n], or of 64 x 64 of them where
/// m n k is more than one core should multiply.
class Sums {
 public:
  Sums(int64_t m, int64_t n, int64_t k) : n_(n), whole_(static_cast<size_t>(m * n)) {
    const bool few = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) > most_products;
    rows_ = few ? sampled(m) : sampled(m, m), cols_ = few ? sampled(n) : sampled(n, n);
    value_.resize(rows_.size() * cols_.size());
    size_.resize(value_.size());
  }

  /// += scale * a b over k terms.
  template <class A, class B>
  void multiply(int64_t k, const A& a, const B& b, double scale = 1) {
    constexpr size_t width = 4;  // sums that do not wait for each other
    for (size_t begin = 0; begin < value_.size();) {
      const size_t first = begin % cols_.size(), count = std::min(width, cols_.size() - first);
      const int64_t i = rows_[begin / cols_.size()];
      int64_t j[width];
      for (size_t c = 0; c < width; ++c) j[c] = cols_[std::min(first + c, cols_.size() - 1)];
      double sum[width] = {}, size[width] = {};
      for (int64_t l = 0; l < k; ++l) {
        const double left = a(i, l);
        for (size_t c = 0; c < width; ++c) {
          const double term = left * b(l, j[c]);
          sum[c] += term;
          size[c] += std::abs(term);
          largest_ = std::max(largest_, std::abs(scale * term));
        }
      }
      for (size_t c = 0; c < count; ++c, ++begin) {
        value_[begin] += scale * sum[c];
        size_[begin] += std::abs(scale) * size[c];
      }
    }
    terms_ += k;
  }
  /// Element by element; a shorter one is repeated.
  void add(const Doubles& x) {
    for (size_t at = 0; at < value_.size(); ++at) {
      const double term = x[element(at) % x.size()];
      value_[at] += term;
      size_[at] += std::abs(term);
    }
  }
  void scale(const Doubles& x) {
    for (size_t at = 0; at < value_.size(); ++at) value_[at] *= x[element(at)], size_[at] *= x[element(at)];
  }

  /// `operand`: what the operands were rounded to. With f32 operands errors add like a random walk: terms of random
  /// signs below 1 give a standard deviation of k u / 7 (test/native/gemm_test.cpp), and 2 k u is the bound as well.
  Expected expected(const std::string& name, DType operand, const Values& got) const {
    Expected e{name, value_, Doubles(value_.size())};
    if (value_.size() < whole_) e.got = sample_of(got.at(name));
    bound(e, operand);
    if (e.got.empty()) return e;
    // Of all others: that they are numbers.
    e.value.push_back(0), e.tolerance.push_back(0);
    const auto is_number = [](double x) { return std::isfinite(x); };
    e.got.push_back(
        static_cast<double>(std::count_if(got.at(name).begin(), got.at(name).end(), std::not_fn(is_number))));
    return e;
  }

 private:
  /// A fifth of a second.
  static constexpr double most_products = 0x1p28;

  size_t element(size_t at) const {
    return static_cast<size_t>(rows_[at / cols_.size()] * n_ + cols_[at % cols_.size()]);
  }
  Doubles sample_of(const Doubles& whole) const {
    Doubles some(value_.size());
    for (size_t at = 0; at < some.size(); ++at) some[at] = whole[element(at)];
    return some;
  }
  void bound(Expected& e, DType operand) const {
    if (terms_ == 0) return;  // nothing was added
    const double terms = static_cast<double>(terms_);
    for (size_t at = 0; at < value_.size(); ++at) {
      const double worst = (terms + 4) * size_[at] * 0x1p-23;
      const double usual = (2 * terms + 8) * u * std::max(largest_, std::abs(value_[at]));
      e.tolerance[at] = operand == DType::f32 ? std::min(worst, usual) : worst;
    }
  }

  int64_t n_, terms_ = 0;
  size_t whole_;
  std::vector<int64_t> rows_, cols_;
  double largest_ = 1;  ///< of all terms
  Doubles value_, size_;
};

inline Matrix matrix(const Values& in, const std::string& name, int64_t rows, int64_t cols, DType operand) {
  return {rows, cols, rounded(in.at(name), operand)};
}

/// Around the tiles (16, 32, 64, 128) and the slices of k (16 to 64) of a GPU, the widths of a CPU's vectors and, with
/// 300 rows, more than one of its tasks. (tokens, out, in)
std::vector<cases::Linear> ragged_sides(const Target& target);
/// One shape for each tile of a GPU: 32 x 32, 64 x 64, 128 x 128, all with ragged edges.
std::vector<cases::Linear> tile_sides(const Target& target, int64_t in);
/// Sums so long that a GPU cuts them into parts.
std::vector<cases::Linear> long_sides(const Target& target);

}  // namespace fire::test
