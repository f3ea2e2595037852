// Rows by index, sums of tensors, and the position table of the vision tower. Everything is row-major.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#include "tensor/dtype.h"

namespace fire::cuda {

/// y[i] = x[index[i]] for i < count; rows of `row_bytes` bytes (even), whatever their elements.
void launch_gather_rows(Stream stream, const void* x, const int32_t* index, void* y, int64_t count, int64_t row_bytes);

/// y[index[i]] = x[i]; indices are distinct.
void launch_scatter_rows(Stream stream, const void* x, const int32_t* index, void* y, int64_t count, int64_t row_bytes);

/// y[index[i]] += x[i]; x [count, columns] and y of `type`, summed in f32; indices are distinct.
void launch_scatter_add_rows(Stream stream, DType type, const void* x, const int32_t* index, void* y, int64_t count,
                             int64_t columns);

/// y += x over `size` elements of `type`, summed in f32.
void launch_add(Stream stream, DType type, const void* x, void* y, int64_t size);

/// y [rows, columns] in bf16 = x, f32 in rows of `stride`. Columns and stride are multiples of 8; both are aligned to
/// 16 bytes.
void launch_round_rows(Stream stream, const float* x, bf16* y, int64_t rows, int64_t columns, int64_t stride);

/// y [grid_h * grid_w, columns]: the table [side * side, columns] at (row, column) of each patch, scaled so that the
/// corners of both grids meet, bilinear between the four neighbours. Patches in blocks of merge x merge, both grids'
/// blocks and the patches of a block in reading order. Both of `type`.
void launch_interpolate_positions(Stream stream, DType type, const void* table, void* y, int64_t side, int64_t grid_h,
                                  int64_t grid_w, int64_t merge, int64_t columns);

}  // namespace fire::cuda
