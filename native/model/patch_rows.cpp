#include "model/patch_rows.h"

#include <algorithm>

namespace fire {

PatchRows::PatchRows(int64_t side, int64_t temporal, int64_t merge, const std::array<float, 3>& mean,
                     const std::array<float, 3>& std)
    : side_(side), temporal_(temporal), merge_(merge) {
  for (size_t c = 0; c < 3; ++c)
    for (size_t p = 0; p < 256; ++p) {
      table_[c * 256 + p] = (static_cast<float>(p) / 255.0f - mean[c]) / std[c];
      narrow_[c * 256 + p] = to_bf16(table_[c * 256 + p]);
    }
}

void PatchRows::write(const Patches& image, int64_t begin, int64_t end, DType type, void* to) const {
  if (type == DType::f32) return write_as(image, begin, end, table_, static_cast<float*>(to));
  if (type == DType::bf16) return write_as(image, begin, end, narrow_, static_cast<bf16*>(to));
  throw Error(Code::internal, std::string("patches of type ") + name(type));
}

template <class T>
void PatchRows::write_as(const Patches& image, int64_t begin, int64_t end, const std::array<T, 768>& table,
                         T* to) const {
  const int64_t line = image.grid_w * side_ * 3, slice = side_ * side_, blocks = image.grid_w / merge_;
  // A run is a line of a slice: `side` values. Where it is, counted up from here.
  int64_t row = begin / side_ % side_, time = begin / slice % temporal_, channel = begin / (slice * temporal_) % 3;
  int64_t patch = begin / length(), first = begin % side_;
  const auto corner = [&] {
    const int64_t block = patch / (merge_ * merge_), inside = patch % (merge_ * merge_);
    const int64_t y = block / blocks * merge_ + inside / merge_, x = block % blocks * merge_ + inside % merge_;
    return image.pixels.data() + y * side_ * line + x * side_ * 3;
  };
  const uint8_t* pixels = begin < end ? corner() : nullptr;
  for (int64_t at = begin; at < end;) {
    const int64_t count = std::min(side_ - first, end - at);
    if (time > 0 && at - slice >= begin) {
      std::copy_n(to - slice, count, to);  // a still image: every slice is the one before it
    } else {
      const uint8_t* from = pixels + row * line + first * 3 + channel;
      const T* values = table.data() + channel * 256;
      for (int64_t i = 0; i < count; ++i) to[i] = values[from[i * 3]];
    }
    at += count, to += count, first = 0;
    if (++row < side_) continue;
    row = 0;
    if (++time < temporal_) continue;
    time = 0;
    if (++channel < 3) continue;
    channel = 0;
    ++patch;
    if (at < end) pixels = corner();
  }
}

std::vector<float> PatchRows::values(const Patches& image) const {
  std::vector<float> all(static_cast<size_t>(image.count() * length()));
  write(image, 0, static_cast<int64_t>(all.size()), DType::f32, all.data());
  return all;
}

Tensor PatchRows::upload(Ops& ops, Arena& arena, std::span<const Patches* const> images) const {
  int64_t rows = 0;
  for (const Patches* image : images) rows += image->count();
  const Tensor all = ops.activation(arena, {rows, length()});
  rows = 0;
  for (const Patches* image : images) {
    ops.upload_made(all.slice(rows, rows + image->count()),
                    [&](int64_t begin, int64_t end, void* to) { write(*image, begin, end, all.dtype(), to); });
    rows += image->count();
  }
  return all;
}

}  // namespace fire
