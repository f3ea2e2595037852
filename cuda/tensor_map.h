// A matrix in global memory as the copy engine of Hopper (TMA) is told of it. Made on the host, passed to kernels as
// `const __grid_constant__ TensorMap` or inside such an argument, used by tma_load_2d and tma_store_2d of hopper.cuh.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace fire::cuda {

/// A CUtensorMap on a GPU; the emulator keeps its own numbers in it.
struct alignas(128) TensorMap {
  unsigned char opaque[128];
};

/// How 16-byte pieces of a box change places in shared memory: the number of a piece within its span of 32, 64 or 128
/// bytes is combined (xor) with that of the 128 bytes of shared memory that it lies in. Spares bank conflicts; wgmma
/// reads it.
enum class Swizzle : uint8_t { none, bytes_32, bytes_64, bytes_128 };

/// Bytes of one line of a box: the width of the pattern; 16 where there is none.
constexpr int swizzle_span(Swizzle swizzle) { return 16 << static_cast<int>(swizzle); }
/// What a swizzled box in shared memory is aligned to: the pattern repeats after 8 lines of 128 bytes, 4 or 2.
constexpr int swizzle_alignment(Swizzle swizzle) { return swizzle == Swizzle::none ? 128 : 8 * swizzle_span(swizzle); }

/// Matrix [rows, cols] with `row_stride` elements from row to row. A box of box_rows x box_cols is what one load or
/// store moves; in shared memory its lines follow each other without gaps. Beyond the matrix loads give zeros, stores
/// nothing.
struct TensorMapSpec {
  const void* data = nullptr;
  DType type = DType::bf16;  ///< bf16 or f32
  int64_t rows = 0, cols = 0, row_stride = 0;
  int box_rows = 0, box_cols = 0;
  Swizzle swizzle = Swizzle::none;
};

/// What the copy engine does not take about a matrix, in words; nullptr when it takes it: data and row stride have to
/// be multiples of 16 bytes, a box has at most 256 x 256 elements, and its lines are as wide as the swizzle (without
/// one: multiples of 16 bytes).
const char* objection_to(const TensorMapSpec& spec);

/// Throws ERR_FIRE_INVALID_ARGUMENT where there is an objection, ERR_FIRE_CUDA when the driver has one.
TensorMap encode_tensor_map(const TensorMapSpec& spec);

}  // namespace fire::cuda
