// Collects differences between computed and reference tensors into one row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "verify/verify.h"

namespace fire {

/// What a group of tensors is allowed: the largest absolute difference, or (where `rel` > 0) the relative L2 of each
/// tensor; a tensor passes when it meets either. `outliers` is the share of the group's elements that may exceed `abs`:
/// Adam divides by sqrt(v) + eps, so an element whose gradient is near eps turns rounding into a visible step.
struct Tolerance {
  double abs = 0, rel = 0, outliers = 0;

  std::string describe() const {
    char text[96];
    if (abs == 0 && rel == 0) return "equal";
    if (rel == 0 && outliers > 0) {
      std::snprintf(text, sizeof text, "abs %.0e (%.1f%% may exceed)", abs, outliers * 100);
    } else if (rel == 0) {
      std::snprintf(text, sizeof text, "abs %.0e", abs);
    } else if (abs == 0) {
      std::snprintf(text, sizeof text, "rel L2 %.0e", rel);
    } else {
      std::snprintf(text, sizeof text, "abs %.0e or rel L2 %.0e", abs, rel);
    }
    return text;
  }
};

class Comparison {
 public:
  Comparison(std::string group, Tolerance tolerance) : tolerance_(tolerance) {
    row_.group = std::move(group);
    row_.tolerance = tolerance.describe();
  }

  /// `value(i)` against `reference(i)` for i in [0, n). NaN never passes. Throws ERR_FIRE_CHECKPOINT for a reference of
  /// another length.
  template <class V, class R>
  void add(const std::string& name, int64_t n, int64_t reference_n, const V& value, const R& reference) {
    ++row_.tensors;
    if (n != reference_n)
      throw Error(Code::checkpoint, "\"" + name + "\" has " + std::to_string(reference_n) +
                                        " values, the engine computes " + std::to_string(n))
          .with("tensor", name);
    double max_abs = 0, difference2 = 0, reference2 = 0;
    int64_t over = 0;
    bool finite = true;
    for (int64_t i = 0; i < n; ++i) {
      const double r = static_cast<double>(reference(i)), d = std::abs(static_cast<double>(value(i)) - r);
      finite = finite && std::isfinite(d);
      max_abs = std::max(max_abs, d);
      over += d > tolerance_.abs;
      difference2 += d * d;
      reference2 += r * r;
    }
    const double rel = reference2 > 0 ? std::sqrt(difference2 / reference2) : (difference2 > 0 ? INFINITY : 0);
    const bool rel_ok = tolerance_.rel > 0 && rel <= tolerance_.rel;
    const bool strict_rel = tolerance_.abs == 0 && tolerance_.rel > 0;
    over_ += over;
    elements_ += n;
    // With outliers allowed the group decides as a whole, in row().
    const bool ok = finite && (tolerance_.outliers > 0 || (strict_rel ? rel_ok : over == 0 || rel_ok));
    if (!ok) {
      miss(name);
    } else if (row_.pass && rel >= row_.max_rel) {
      row_.worst = name;
    }
    row_.max_abs = std::isnan(max_abs) || !finite ? NAN : std::max(row_.max_abs, max_abs);
    row_.max_rel = !finite ? NAN : std::max(row_.max_rel, rel);
  }

  void add(const std::string& name, const Tensor& value, const Tensor& reference) {
    const float *v = value.f32(), *r = reference.f32();
    add(
        name, value.size(), reference.size(), [v](int64_t i) { return v[i]; }, [r](int64_t i) { return r[i]; });
  }
  void add(const std::string& name, double value, double reference) {
    add(
        name, 1, 1, [value](int64_t) { return value; }, [reference](int64_t) { return reference; });
  }
  template <class A, class B>
  void add_vector(const std::string& name, const A& value, const B& reference) {
    add(
        name, static_cast<int64_t>(value.size()), static_cast<int64_t>(reference.size()),
        [&](int64_t i) { return value[static_cast<size_t>(i)]; },
        [&](int64_t i) { return reference[static_cast<size_t>(i)]; });
  }

  bool empty() const { return row_.tensors == 0; }
  VerifyRow row() const {
    VerifyRow row = row_;
    if (tolerance_.outliers > 0)
      row.pass = row.pass && static_cast<double>(over_) <= tolerance_.outliers * static_cast<double>(elements_);
    return row;
  }

 private:
  void miss(const std::string& name) {
    if (row_.pass) row_.worst = name;
    row_.pass = false;
  }
  Tolerance tolerance_;
  VerifyRow row_;
  int64_t over_ = 0, elements_ = 0;
};

}  // namespace fire
