// From the pixels of images to the rows that a patch embedding multiplies.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "model/image.h"
#include "ops/ops.h"

namespace fire {

/// Rows [patches, length()] of an image: its patches in blocks of merge x merge, of each the three channels one after
/// the other, of a channel `temporal` equal slices of side x side values (p / 255 - mean) / std. A byte has 256 values,
/// so they come from a table: no division is left in the loop, and no rounding is ours to change.
class PatchRows {
 public:
  PatchRows(int64_t side, int64_t temporal, int64_t merge, const std::array<float, 3>& mean,
            const std::array<float, 3>& std);

  int64_t side() const { return side_; }
  int64_t length() const { return 3 * temporal_ * side_ * side_; }

  /// Elements [begin, end) of all rows, one row behind the other, as f32 or bf16.
  void write(const Patches& image, int64_t begin, int64_t end, DType type, void* to) const;
  std::vector<float> values(const Patches& image) const;
  /// The rows of some images below each other, in the activation type, made where the device copies them from.
  Tensor upload(Ops& ops, Arena& arena, std::span<const Patches* const> images) const;

 private:
  template <class T>
  void write_as(const Patches& image, int64_t begin, int64_t end, const std::array<T, 768>& table, T* to) const;

  int64_t side_, temporal_, merge_;
  std::array<float, 768> table_;  // [3, 256]
  std::array<bf16, 768> narrow_;
};

}  // namespace fire
