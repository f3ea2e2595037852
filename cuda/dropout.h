// Launcher of dropout masks.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#include "ops/settings.h"

namespace fire::cuda {

/// mask [rows, words]: bit column % 32 of word column / 32 is set unless uniform24 of the column's Philox word (Dropout
/// in ops/settings.h) is less than the rate.
void launch_draw_mask(Stream stream, const Dropout& dropout, int64_t rows, int64_t words, uint32_t* mask);

}  // namespace fire::cuda
