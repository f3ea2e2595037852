// Copies move the widest unit that addresses and row length allow. A block is as wide as a row (up to 256 threads) and
// takes several short rows, so that rows of one element are as well off as rows of thousands.
#include "cuda/rows.h"
#include "cuda/vector.cuh"

namespace fire::cuda {
namespace {

/// The row of a thread in blocks made by row_block.
__device__ inline int64_t row_of_thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; }

template <class Unit>
__global__ void __launch_bounds__(256) gather_kernel(const Unit* __restrict__ x, const int32_t* __restrict__ index,
                                                     Unit* __restrict__ y, int64_t count, int64_t units) {
  gpu::begin_kernel();
  const int64_t row = row_of_thread();
  if (row >= count) return;
  const Unit* const from = x + index[row] * units;
  Unit* const to = y + row * units;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < units; i += blockDim.x) to[i] = from[i];
}

template <class Unit>
__global__ void __launch_bounds__(256) scatter_kernel(const Unit* __restrict__ x, const int32_t* __restrict__ index,
                                                      Unit* __restrict__ y, int64_t count, int64_t units) {
  gpu::begin_kernel();
  const int64_t row = row_of_thread();
  if (row >= count) return;
  const Unit* const from = x + row * units;
  Unit* const to = y + index[row] * units;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < units; i += blockDim.x) to[i] = from[i];
}

template <class T, bool Vector>
__global__ void __launch_bounds__(256) scatter_add_kernel(const T* __restrict__ x, const int32_t* __restrict__ index,
                                                          T* __restrict__ y, int64_t count, int64_t columns) {
  gpu::begin_kernel();
  constexpr int N = chunk_of<T>;
  const int64_t row = row_of_thread();
  if (row >= count) return;
  const T* const from = x + row * columns;
  T* const to = y + index[row] * columns;
  for (int64_t column = int64_t{threadIdx.x} * N; column < columns; column += int64_t{blockDim.x} * N) {
    const int64_t left = Vector ? N : columns - column;
    const Chunk<T, N> a = load_chunk<Vector, N>(to + column, left), b = load_chunk<Vector, N>(from + column, left);
    float sum[N];
#pragma unroll
    for (int i = 0; i < N; ++i) sum[i] = a[i] + b[i];
    store_chunk<Vector>(to + column, left, sum);
  }
}

template <class T, bool Vector>
__global__ void __launch_bounds__(256) add_kernel(const T* __restrict__ x, T* __restrict__ y, int64_t size) {
  gpu::begin_kernel();
  constexpr int N = chunk_of<T>;
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * N;
  if (at >= size) return;
  const Chunk<T, N> a = load_chunk<Vector, N>(y + at, size - at), b = load_chunk<Vector, N>(x + at, size - at);
  float sum[N];
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] = a[i] + b[i];
  store_chunk<Vector>(y + at, size - at, sum);
}

constexpr int round_chunks = 4;
constexpr int64_t round_tile = int64_t{256} * round_chunks * chunk_of<bf16>;

__global__ void __launch_bounds__(256)
    round_kernel(const float* __restrict__ x, bf16* __restrict__ y, int64_t columns, int64_t stride, int tiles) {
  gpu::begin_kernel();
  constexpr int N = chunk_of<bf16>;
  const int64_t row = blockIdx.x / tiles, begin = blockIdx.x % tiles * round_tile + int64_t{threadIdx.x} * N;
  Chunk<float, N> chunks[round_chunks];
#pragma unroll
  for (int c = 0; c < round_chunks; ++c) {
    const int64_t column = begin + c * (256 * N);
    if (column < columns) chunks[c].load(x + row * stride + column);
  }
#pragma unroll
  for (int c = 0; c < round_chunks; ++c) {
    const int64_t column = begin + c * (256 * N);
    if (column < columns) store_chunk<true>(y + row * columns + column, N, chunks[c].values);
  }
}

/// Between which two of `side` table places patch `at` of `count` lies, and how near to the second.
struct Tap {
  __device__ Tap(int at, int count, int side) {
    const float place = static_cast<float>(at) * static_cast<float>(side - 1) / static_cast<float>(max(count - 1, 1));
    low = static_cast<int>(place);
    high = min(low + 1, side - 1);
    weight = place - static_cast<float>(low);
  }
  int low, high;
  float weight;
};

template <class T, bool Vector>
__global__ void __launch_bounds__(256) interpolate_kernel(const T* __restrict__ table, int side, int grid_h, int grid_w,
                                                          int merge, T* __restrict__ y, int64_t columns) {
  gpu::begin_kernel();
  constexpr int N = chunk_of<T>;
  const int64_t patch = row_of_thread();
  if (patch >= static_cast<int64_t>(grid_h) * grid_w) return;
  const int block = static_cast<int>(patch / (merge * merge)), inside = static_cast<int>(patch % (merge * merge));
  const int blocks_wide = grid_w / merge;
  const Tap v(block / blocks_wide * merge + inside / merge, grid_h, side);
  const Tap h(block % blocks_wide * merge + inside % merge, grid_w, side);
  const float w00 = (1 - v.weight) * (1 - h.weight), w01 = (1 - v.weight) * h.weight, w10 = v.weight * (1 - h.weight),
              w11 = v.weight * h.weight;
  const T* const top = table + static_cast<int64_t>(v.low) * side * columns;
  const T* const bottom = table + static_cast<int64_t>(v.high) * side * columns;
  for (int64_t column = int64_t{threadIdx.x} * N; column < columns; column += int64_t{blockDim.x} * N) {
    const int64_t left = Vector ? N : columns - column;
    const int64_t from = h.low * columns + column, next = h.high * columns + column;
    const Chunk<T, N> c00 = load_chunk<Vector, N>(top + from, left), c01 = load_chunk<Vector, N>(top + next, left);
    const Chunk<T, N> c10 = load_chunk<Vector, N>(bottom + from, left),
                      c11 = load_chunk<Vector, N>(bottom + next, left);
    float value[N];
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] = w00 * c00[i] + w01 * c01[i] + w10 * c10[i] + w11 * c11[i];
    store_chunk<Vector>(y + patch * columns + column, left, value);
  }
}

template <class Unit, class Kernel>
void copy_rows(const char* name, Kernel kernel, Stream stream, const void* x, const int32_t* index, void* y,
               int64_t count, int64_t row_bytes) {
  const int64_t units = row_bytes / static_cast<int64_t>(sizeof(Unit));
  const dim3 block = row_block(units);
  gpu::launch(name, dim3(blocks_for(count, block.y)), block, 0, stream, kernel, static_cast<const Unit*>(x), index,
              static_cast<Unit*>(y), count, units);
}

/// The largest of 16, 4 and 2 bytes that divides both addresses and the row.
int64_t unit_bytes(const void* x, const void* y, int64_t row_bytes) {
  const uintptr_t all =
      reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y) | static_cast<uintptr_t>(row_bytes);
  if (all % 16 == 0) return 16;
  if (all % 4 == 0) return 4;
  if (all % 2 == 0) return 2;
  throw Error(Code::internal, "rows of " + std::to_string(row_bytes) + " bytes");
}

}  // namespace

void launch_gather_rows(Stream stream, const void* x, const int32_t* index, void* y, int64_t count, int64_t row_bytes) {
  if (row_bytes == 0) return;
  const int64_t unit = unit_bytes(x, y, row_bytes);
  if (unit == 16) return copy_rows<uint4>("gather_rows", gather_kernel<uint4>, stream, x, index, y, count, row_bytes);
  if (unit == 4)
    return copy_rows<uint32_t>("gather_rows", gather_kernel<uint32_t>, stream, x, index, y, count, row_bytes);
  copy_rows<uint16_t>("gather_rows", gather_kernel<uint16_t>, stream, x, index, y, count, row_bytes);
}

void launch_scatter_rows(Stream stream, const void* x, const int32_t* index, void* y, int64_t count,
                         int64_t row_bytes) {
  if (row_bytes == 0) return;
  const int64_t unit = unit_bytes(x, y, row_bytes);
  if (unit == 16) return copy_rows<uint4>("scatter_rows", scatter_kernel<uint4>, stream, x, index, y, count, row_bytes);
  if (unit == 4)
    return copy_rows<uint32_t>("scatter_rows", scatter_kernel<uint32_t>, stream, x, index, y, count, row_bytes);
  copy_rows<uint16_t>("scatter_rows", scatter_kernel<uint16_t>, stream, x, index, y, count, row_bytes);
}

void launch_scatter_add_rows(Stream stream, DType type, const void* x, const int32_t* index, void* y, int64_t count,
                             int64_t columns) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_flag(columns % chunk_of<T> == 0 && aligned(x, y), [&](auto vector) {
      const dim3 block = row_block((columns + chunk_of<T> - 1) / chunk_of<T>);
      gpu::launch("scatter_add_rows", dim3(blocks_for(count, block.y)), block, 0, stream,
                  scatter_add_kernel<T, decltype(vector)::value>, static_cast<const T*>(x), index, static_cast<T*>(y),
                  count, columns);
    });
  });
}

void launch_add(Stream stream, DType type, const void* x, void* y, int64_t size) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_flag(aligned(x, y), [&](auto vector) {
      gpu::launch("add", dim3(blocks_for(size, int64_t{256} * chunk_of<T>)), dim3(256), 0, stream,
                  add_kernel<T, decltype(vector)::value>, static_cast<const T*>(x), static_cast<T*>(y), size);
    });
  });
}

void launch_round_rows(Stream stream, const float* x, bf16* y, int64_t rows, int64_t columns, int64_t stride) {
  const int64_t tiles = (columns + round_tile - 1) / round_tile;
  gpu::launch("round rows", dim3(blocks_for(rows * tiles, 1)), dim3(256), 0, stream, round_kernel, x, y, columns,
              stride, static_cast<int>(tiles));
}

void launch_interpolate_positions(Stream stream, DType type, const void* table, void* y, int64_t side, int64_t grid_h,
                                  int64_t grid_w, int64_t merge, int64_t columns) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_flag(columns % chunk_of<T> == 0 && aligned(table, y), [&](auto vector) {
      const dim3 block = row_block((columns + chunk_of<T> - 1) / chunk_of<T>);
      gpu::launch("interpolate_positions", dim3(blocks_for(grid_h * grid_w, block.y)), block, 0, stream,
                  interpolate_kernel<T, decltype(vector)::value>, static_cast<const T*>(table), static_cast<int>(side),
                  static_cast<int>(grid_h), static_cast<int>(grid_w), static_cast<int>(merge), static_cast<T*>(y),
                  columns);
    });
  });
}

}  // namespace fire::cuda
