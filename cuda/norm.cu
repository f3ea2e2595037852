// A warp has a narrow row, a block a wide one. A thread keeps up to `Items` chunks of its row in registers, so that the
// row is read from memory once; what is wider than that is read again (from the L2 cache, mostly).
#include "cuda/norm.h"
#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace fire::cuda {
namespace {

/// Threads of a block when `Threads` of them have a row.
template <int Threads>
constexpr int block_size = Threads == warp_size ? 256 : Threads;

template <int Threads>
__device__ inline int lane_of_row() {
  return static_cast<int>(threadIdx.x) % Threads;
}

template <int Threads>
__device__ inline int64_t row_index() {
  return static_cast<int64_t>(blockIdx.x) * (block_size<Threads> / Threads) + threadIdx.x / Threads;
}

template <int Threads>
__device__ inline float row_sum(float value, float* scratch) {
  if constexpr (Threads == warp_size) return warp_sum(value);
  return block_sum<Threads>(value, scratch);
}

/// The chunks (of N elements) of one row that belong to this thread: number lane, lane + Threads, ...
template <class T, int N, bool Vector, int Threads, int Items>
class RowChunks {
 public:
  __device__ RowChunks(const T* row, int columns) : row_(row), columns_(columns) {
#pragma unroll
    for (int item = 0; item < Items; ++item) kept_[item] = load(column_of(item));
  }

  /// f(item, column) for all chunks of this thread. `item` is a constant, so that what is kept stays in registers; -1
  /// for the chunks beyond.
  template <class F>
  __device__ static void each(int columns, F f) {
    each_kept(columns, f, std::make_integer_sequence<int, Items>());
#pragma unroll 1
    for (int column = column_of(Items); column < columns; column += Threads * N)
      f(std::integral_constant<int, -1>(), column);
  }

  template <int item>
  __device__ Chunk<T, N> get(std::integral_constant<int, item>, int column) const {
    if constexpr (item >= 0) return kept_[item];
    return load(column);
  }

 private:
  template <class F, int... items>
  __device__ static void each_kept(int columns, F& f, std::integer_sequence<int, items...>) {
    ((column_of(items) < columns ? f(std::integral_constant<int, items>(), column_of(items)) : void()), ...);
  }

  __device__ static int column_of(int item) { return (lane_of_row<Threads>() + item * Threads) * N; }

  __device__ Chunk<T, N> load(int column) const {
    if (column >= columns_) return {};
    return load_chunk<Vector, N>(row_ + column, Vector ? N : columns_ - column);
  }

  const T* row_;
  int columns_;
  Chunk<T, N> kept_[Items];
};

/// The kernels below find their row in the same lines: a kernel's shared memory and its early return cannot be another
/// function's.
template <class T, bool Vector, int Threads, int Items>
__global__ void __launch_bounds__(block_size<Threads>)
    rms_norm_kernel(const T* x, const float* __restrict__ w, float eps, T* y, float* rstd, int64_t rows, int columns) {
  constexpr int N = chunk_of<T>;
  using Row = RowChunks<T, N, Vector, Threads, Items>;
  SHARED(float, scratch, warp_size);
  const int64_t row = row_index<Threads>();
  if (row >= rows) return;
  const Row in(x + row * columns, columns);
  T* const out = y + row * columns;

  float squares = 0;
  Row::each(columns, [&](auto item, int column) {
    const Chunk<T, N> chunk = in.get(item, column);
#pragma unroll
    for (int i = 0; i < N; ++i) squares += chunk[i] * chunk[i];
  });
  squares = row_sum<Threads>(squares, scratch);
  const float r = 1.0f / sqrtf(squares / static_cast<float>(columns) + eps);

  Row::each(columns, [&](auto item, int column) {
    const int count = Vector ? N : columns - column;
    const Chunk<T, N> chunk = in.get(item, column);
    const Chunk<float, N> weight = load_chunk<Vector, N>(w + column, count);
    float values[N];
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = weight[i] * (chunk[i] * r);
    store_chunk<Vector>(out + column, count, values);
  });
  if (rstd && lane_of_row<Threads>() == 0) rstd[row] = r;
}

/// U is the type of dy. dy, residual and dx may be the same memory: a thread reads what it writes and nothing else.
template <class T, class U, bool Vector, int Threads, int Items>
__global__ void __launch_bounds__(block_size<Threads>)
    rms_norm_backward_kernel(const U* dy, const T* __restrict__ x, const float* __restrict__ w,
                             const float* __restrict__ rstd, const T* residual, T* dx, int64_t rows, int columns) {
  constexpr int N = chunk_of<T>;
  using Row = RowChunks<T, N, Vector, Threads, Items>;
  SHARED(float, scratch, warp_size);
  const int64_t row = row_index<Threads>();
  if (row >= rows) return;
  const Row in(x + row * columns, columns);
  const RowChunks<U, N, Vector, Threads, Items> gradient(dy + row * columns, columns);
  const float r = rstd[row];

  float dot = 0;
  Row::each(columns, [&](auto item, int column) {
    const Chunk<T, N> chunk = in.get(item, column);
    const Chunk<U, N> d = gradient.get(item, column);
    const Chunk<float, N> weight = load_chunk<Vector, N>(w + column, Vector ? N : columns - column);
#pragma unroll
    for (int i = 0; i < N; ++i) dot += weight[i] * d[i] * chunk[i];
  });
  dot = row_sum<Threads>(dot, scratch);
  const float c = dot * r * r / static_cast<float>(columns);

  Row::each(columns, [&](auto item, int column) {
    const int count = Vector ? N : columns - column;
    const Chunk<T, N> chunk = in.get(item, column);
    const Chunk<U, N> d = gradient.get(item, column);
    const Chunk<float, N> weight = load_chunk<Vector, N>(w + column, count);
    float values[N];
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = r * (weight[i] * d[i] - chunk[i] * c);
    if (residual) {
      const Chunk<T, N> other = load_chunk<Vector, N>(residual + row * columns + column, count);
#pragma unroll
      for (int i = 0; i < N; ++i) values[i] = __fadd_rn(values[i], other[i]);  // no fma here and add there
    }
    store_chunk<Vector>(dx + row * columns + column, count, values);
  });
}

template <class T, bool Vector, int Threads, int Items>
__global__ void __launch_bounds__(block_size<Threads>)
    layer_norm_kernel(const T* x, const float* __restrict__ w, const float* __restrict__ b, float eps, T* y,
                      int64_t rows, int columns) {
  constexpr int N = chunk_of<T>;
  using Row = RowChunks<T, N, Vector, Threads, Items>;
  SHARED(float, scratch, warp_size);
  const int64_t row = row_index<Threads>();
  if (row >= rows) return;
  const Row in(x + row * columns, columns);
  T* const out = y + row * columns;

  float sum = 0;
  Row::each(columns, [&](auto item, int column) {
    const Chunk<T, N> chunk = in.get(item, column);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += chunk[i];
  });
  const float mean = row_sum<Threads>(sum, scratch) / static_cast<float>(columns);
  float squares = 0;
  Row::each(columns, [&](auto item, int column) {
    const Chunk<T, N> chunk = in.get(item, column);
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (Vector || column + i < columns) squares += (chunk[i] - mean) * (chunk[i] - mean);
  });
  squares = row_sum<Threads>(squares, scratch);
  const float r = 1.0f / sqrtf(squares / static_cast<float>(columns) + eps);

  Row::each(columns, [&](auto item, int column) {
    const int count = Vector ? N : columns - column;
    const Chunk<T, N> chunk = in.get(item, column);
    const Chunk<float, N> weight = load_chunk<Vector, N>(w + column, count);
    const Chunk<float, N> bias = load_chunk<Vector, N>(b + column, count);
    float values[N];
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = weight[i] * ((chunk[i] - mean) * r) + bias[i];
    store_chunk<Vector>(out + column, count, values);
  });
}

template <int Threads_, int Items_>
struct Shape {
  static constexpr int threads = Threads_, items = Items_;
  static unsigned blocks(int64_t rows) { return blocks_for(rows, block_size<Threads_> / Threads_); }
};

/// f(Shape) for rows of so many columns. The last shape fits any width.
template <class T, class F>
void with_shape(int64_t columns, F&& f) {
  const int64_t chunks = (columns + chunk_of<T> - 1) / chunk_of<T>;
  if (columns > INT32_MAX - (1 << 20)) throw Error(Code::internal, "rows of more than 2^31 columns");
  if (chunks <= warp_size) return f(Shape<warp_size, 1>());
  if (chunks <= 4 * warp_size) return f(Shape<warp_size, 4>());
  if (chunks <= 4 * 256) return f(Shape<256, 4>());
  f(Shape<512, 4>());
}

}  // namespace

void launch_rms_norm(Stream stream, DType type, const void* x, const float* w, void* y, float* rstd, int64_t rows,
                     int64_t columns, float eps) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_flag(columns % chunk_of<T> == 0 && aligned(x, w, y), [&](auto vector) {
      with_shape<T>(columns, [&](auto shape) {
        using S = decltype(shape);
        gpu::launch("rms_norm", dim3(S::blocks(rows)), dim3(block_size<S::threads>), 0, stream,
                    rms_norm_kernel<T, decltype(vector)::value, S::threads, S::items>, static_cast<const T*>(x), w, eps,
                    static_cast<T*>(y), rstd, rows, static_cast<int>(columns));
      });
    });
  });
}

namespace {

template <class T, class U>
void rms_norm_backward_of(Stream stream, const U* dy, const T* x, const float* w, const float* rstd, const T* residual,
                          T* dx, int64_t rows, int64_t columns) {
  with_flag(columns % chunk_of<T> == 0 && aligned(dy, x, w, residual, dx), [&](auto vector) {
    with_shape<T>(columns, [&](auto shape) {
      using S = decltype(shape);
      gpu::launch("rms_norm_backward", dim3(S::blocks(rows)), dim3(block_size<S::threads>), 0, stream,
                  rms_norm_backward_kernel<T, U, decltype(vector)::value, S::threads, S::items>, dy, x, w, rstd,
                  residual, dx, rows, static_cast<int>(columns));
    });
  });
}

}  // namespace

void launch_rms_norm_backward(Stream stream, DType type, DType dy_type, const void* dy, const void* x, const float* w,
                              const float* rstd, const void* residual, void* dx, int64_t rows, int64_t columns) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T *x_ = static_cast<const T*>(x), *residual_ = static_cast<const T*>(residual);
    if (dy_type == type)
      return rms_norm_backward_of(stream, static_cast<const T*>(dy), x_, w, rstd, residual_, static_cast<T*>(dx), rows,
                                  columns);
    if (dy_type != DType::f32) throw Error(Code::internal, std::string("rms_norm_backward of ") + name(dy_type));
    rms_norm_backward_of(stream, static_cast<const float*>(dy), x_, w, rstd, residual_, static_cast<T*>(dx), rows,
                         columns);
  });
}

void launch_layer_norm(Stream stream, DType type, const void* x, const float* w, const float* b, void* y, int64_t rows,
                       int64_t columns, float eps) {
  with_type(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_flag(columns % chunk_of<T> == 0 && aligned(x, w, b, y), [&](auto vector) {
      with_shape<T>(columns, [&](auto shape) {
        using S = decltype(shape);
        gpu::launch("layer_norm", dim3(S::blocks(rows)), dim3(block_size<S::threads>), 0, stream,
                    layer_norm_kernel<T, decltype(vector)::value, S::threads, S::items>, static_cast<const T*>(x), w, b,
                    eps, static_cast<T*>(y), rows, static_cast<int>(columns));
      });
    });
  });
}

}  // namespace fire::cuda
