// Which frozen matrices a CPU packs once, instead of in every product, and what that takes. It copies the weights, so
// it is for models that are small beside the memory; a device and its dry run decide alike.
#pragma once

#include <map>

#include "tensor/tensor.h"

namespace fire {

/// `automatic`: where the packed copies take at most a quarter of the memory that is free.
enum class PackWeights : uint8_t { off, on, automatic };

/// How a product takes W[out, in]: y = x W^T, or dx = dy W. Each has a packed form of its own, of the same size, so a
/// training step may take two copies of the weights and anything else takes one.
enum class WeightUse : uint8_t { forward, backward };

/// Of a packed matrix: panels of so many columns, and a dword for each column and so many rows.
struct PanelLayout {
  int64_t columns = 1, rows_of_dword = 1;

  size_t bytes(int64_t k, int64_t n) const {
    const int64_t panels = (n + columns - 1) / columns, dwords = (k + rows_of_dword - 1) / rows_of_dword;
    return sizeof(uint32_t) * static_cast<size_t>(panels * columns * dwords);
  }
};

class WeightPacking {
 public:
  /// Packs nothing.
  WeightPacking() = default;
  /// `free_bytes` decides where `mode` is automatic.
  WeightPacking(PanelLayout layout, PackWeights mode, size_t free_bytes)
      : layout_(layout), mode_(mode), free_bytes_(free_bytes) {}

  /// Counts in a frozen weight, as the device keeps it. The first product comes after the last of them.
  void add(const Tensor& w) {
    if (mode_ == PackWeights::off || w.rank() < 2 || !matrices_.emplace(address(w), w).second) return;
    for (const WeightUse use : {WeightUse::forward, WeightUse::backward}) total_[index(use)] += bytes(w, use);
  }

  /// Whether matrices are packed for this use. Forward alone where both forms would be too much.
  bool packs(WeightUse use) const {
    const size_t total = total_[0] + (use == WeightUse::backward ? total_[1] : 0);
    return mode_ == PackWeights::on || (mode_ == PackWeights::automatic && total <= free_bytes_ / 4);
  }
  /// Most that packing for this use takes: of all matrices.
  size_t bytes(WeightUse use) const { return packs(use) ? total_[index(use)] : 0; }
  size_t bytes(const Tensor& w, WeightUse use) const {
    const int64_t out = w.rows(), in = w.cols();
    return use == WeightUse::forward ? layout_.bytes(in, out) : layout_.bytes(out, in);
  }

  /// The matrix that holds the rows `w`, if it is to be packed for this use; else nullptr.
  const Tensor* find(const Tensor& w, WeightUse use) const {
    if (!packs(use)) return nullptr;
    auto at = matrices_.upper_bound(address(w));
    if (at == matrices_.begin()) return nullptr;
    const Tensor& whole = (--at)->second;
    const bool inside = address(w) < address(whole) + whole.bytes() && w.cols() == whole.cols();
    return inside ? &whole : nullptr;
  }

 private:
  static const std::byte* address(const Tensor& w) { return static_cast<const std::byte*>(w.data()); }
  static size_t index(WeightUse use) { return static_cast<size_t>(use); }

  PanelLayout layout_;
  PackWeights mode_ = PackWeights::off;
  size_t free_bytes_ = 0;
  std::map<const std::byte*, Tensor> matrices_;
  size_t total_[2] = {};
};

}  // namespace fire
