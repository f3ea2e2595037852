// `fire-train verify`: runs a golden folder (layout: test/golden/README.md) through the engine and compares every stage
// with the stored reference. Nothing here knows the dimensions, seeds or number of items of a folder.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace fire {

struct VerifyRow {
  std::string group;
  int64_t tensors = 0;
  double max_abs = 0;
  double max_rel = 0;  // relative L2 of the worst tensor
  std::string worst, tolerance;
  bool pass = true;
};

struct VerifySpec {
  std::string directory;
  DeviceSpec device;
};

using RowCallback = std::function<void(const VerifyRow&)>;

/// Throws ERR_FIRE_CHECKPOINT when the folder is not a golden folder; differences are rows that do not pass.
std::vector<VerifyRow> verify(const VerifySpec& spec, const RowCallback& on_row);

}  // namespace fire
