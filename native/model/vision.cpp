#include "model/vision.h"

namespace fire {

ImageFeatures::ImageFeatures(FeaturePool& pool, DType type, TokenGrid grid_, int64_t hidden, size_t levels)
    : grid(grid_), pool_(pool), all_(nullptr, type, {static_cast<int64_t>(levels) + 1, grid.tokens(), hidden}) {
  place(pool_.take(all_.bytes(), [this](void* data) { place(data); }));
}

void ImageFeatures::place(void* data) {
  all_ = all_.of(data, all_.dtype());
  const auto part = [&](int64_t i) { return all_.slice(i, i + 1).reshape({all_.dim(1), all_.dim(2)}); };
  merged = part(0);
  deepstack.clear();
  for (int64_t j = 1; j < all_.dim(0); ++j) deepstack.push_back(part(j));
}

ImageFeatures::~ImageFeatures() { pool_.give(all_.data(), all_.bytes()); }

std::vector<size_t> tower_batches(std::span<const int64_t> patches, int64_t most) {
  std::vector<size_t> ends;
  int64_t sum = 0;
  for (size_t i = 0; i < patches.size(); ++i) {
    if (i > 0 && sum + patches[i] > most) {
      ends.push_back(i);
      sum = 0;
    }
    sum += patches[i];
  }
  if (!patches.empty()) ends.push_back(patches.size());
  return ends;
}

}  // namespace fire
