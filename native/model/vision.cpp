#include "model/vision.h"

namespace fire {

ImageFeatures::ImageFeatures(Ops& ops, TokenGrid grid_, int64_t hidden, size_t levels) : grid(grid_), ops_(ops) {
  const int64_t parts = static_cast<int64_t>(levels) + 1, rows = grid.tokens();
  storage_ = Tensor(nullptr, ops.activation_type(), {parts, rows, hidden});
  storage_ = Tensor(ops.allocate(storage_.bytes()), ops.activation_type(), {parts, rows, hidden});
  merged = storage_.slice(0, 1).reshape({rows, hidden});
  for (int64_t j = 1; j < parts; ++j) deepstack.push_back(storage_.slice(j, j + 1).reshape({rows, hidden}));
}

ImageFeatures::~ImageFeatures() { ops_.release(storage_.data(), storage_.bytes()); }

}  // namespace fire
