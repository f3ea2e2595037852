#include "model/vision.h"

namespace fire {

ImageFeatures::ImageFeatures(Ops& ops, TokenGrid grid_, int64_t hidden, size_t levels)
    : grid(grid_), storage_(ops, ops.activation_type(), {static_cast<int64_t>(levels) + 1, grid.tokens(), hidden}) {
  const auto part = [&](int64_t i) { return storage_.view().slice(i, i + 1).reshape({grid.tokens(), hidden}); };
  merged = part(0);
  for (int64_t j = 1; j < storage_.view().dim(0); ++j) deepstack.push_back(part(j));
}

}  // namespace fire
