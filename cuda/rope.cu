// A group of neighbouring lanes has one head: a lane holds chunks of the first half and the same chunks of the second,
// so that a rotation needs no other lane and each element is read once. Heads of 128 in bf16 are 8 lanes, so a warp
// does four. A block has heads of one token, which share its cosines and sines through the L1 cache.
#include "cuda/reduce.cuh"
#include "cuda/rope.h"
#include "cuda/vector.cuh"

namespace fire::cuda {
namespace {

constexpr int max_threads = 128;

/// Where a thread stands in [tokens, heads, 2 * half].
template <int N, int Lanes>
struct HeadLane {
  __device__ HeadLane(int heads, int half_) : half(half_) {
    const int head = static_cast<int>(blockIdx.y * (blockDim.x / Lanes) + threadIdx.x / Lanes);
    exists = head < heads;
    head_row = static_cast<int64_t>(blockIdx.x) * heads + head;
    first_column = static_cast<int>(threadIdx.x) % Lanes * N;
  }
  __device__ int column(int item) const { return first_column + item * Lanes * N; }
  __device__ bool has(int item) const { return exists && column(item) < half; }

  int half, first_column;
  int64_t head_row;
  bool exists;
};

/// Chunk `column` of both halves of a row [2 * half].
template <class T, int N>
struct Halves {
  Chunk<T, N> a, b;
};

template <bool Vector, int N, class T>
__device__ inline Halves<T, N> load_halves(const T* row, int column, int half) {
  const int count = Vector ? N : half - column;
  return {load_chunk<Vector, N>(row + column, count), load_chunk<Vector, N>(row + half + column, count)};
}

template <bool Vector, int N, class T>
__device__ inline void store_halves(T* row, int column, int half, const float (&a)[N], const float (&b)[N]) {
  const int count = Vector ? N : half - column;
  store_chunk<Vector>(row + column, count, a);
  store_chunk<Vector>(row + half + column, count, b);
}

__global__ void __launch_bounds__(256)
    rotary_table_kernel(const int32_t* __restrict__ positions, const int32_t* __restrict__ axis,
                        const float* __restrict__ frequency, float* cos_out, float* sin_out, int64_t tokens, int half) {
  gpu::begin_kernel();
  const int64_t token = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (token >= tokens) return;
  for (int i = static_cast<int>(threadIdx.x); i < half; i += static_cast<int>(blockDim.x)) {
    const float angle = static_cast<float>(positions[axis[i] * tokens + token]) * frequency[i];
    double s, c;
    sincos(static_cast<double>(angle), &s, &c);
    const int64_t at = token * 2 * half + i;
    cos_out[at] = cos_out[at + half] = static_cast<float>(c);
    sin_out[at] = sin_out[at + half] = static_cast<float>(s);
  }
}

/// Rotating back subtracts where rotating adds, and each half takes the other's sines. The loads look like those of the
/// fused kernels below, which keep what they load for the sum of squares.
template <class T, bool Vector, int Lanes, int Items>
__global__ void __launch_bounds__(max_threads)
    rope_kernel(T* x, const float* __restrict__ cos, const float* __restrict__ sin, bool back, int heads, int half) {
  gpu::begin_kernel();
  constexpr int N = chunk_of<T>;
  const HeadLane<N, Lanes> at(heads, half);
  T* const row = x + at.head_row * 2 * half;
  const float sign = back ? -1.0f : 1.0f;
  const int64_t table = static_cast<int64_t>(blockIdx.x) * 2 * half;
#pragma unroll
  for (int item = 0; item < Items; ++item) {
    if (!at.has(item)) continue;
    const int column = at.column(item);
    const Halves<T, N> v = load_halves<Vector, N>(row, column, half);
    const Halves<float, N> c = load_halves<Vector, N>(cos + table, column, half);
    const float* const to_a = sin + table + (back ? half : 0) + column;
    const float* const to_b = sin + table + (back ? 0 : half) + column;
    const int count = Vector ? N : half - column;
    const Halves<float, N> s = {load_chunk<Vector, N>(to_a, count), load_chunk<Vector, N>(to_b, count)};
    float a[N], b[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      a[i] = v.a[i] * c.a[i] - v.b[i] * (sign * s.a[i]);
      b[i] = v.b[i] * c.b[i] + v.a[i] * (sign * s.b[i]);
    }
    store_halves<Vector>(row, column, half, a, b);
  }
}

template <class T, bool Vector, int Lanes, int Items>
__global__ void __launch_bounds__(max_threads)
    norm_rope_kernel(const T* x, const float* __restrict__ w, float eps, const float* __restrict__ cos,
                     const float* __restrict__ sin, T* y, float* rstd, int heads, int half) {
  gpu::begin_kernel();
  constexpr int N = chunk_of<T>;
  const HeadLane<N, Lanes> at(heads, half);
  const T* const in = x + at.head_row * 2 * half;
  Halves<T, N> kept[Items] = {};
#pragma unroll
  for (int item = 0; item < Items; ++item)
    if (at.has(item)) kept[item] = load_halves<Vector, N>(in, at.column(item), half);

  float squares = 0;
#pragma unroll
  for (int item = 0; item < Items; ++item)
#pragma unroll
    for (int i = 0; i < N; ++i) squares += kept[item].a[i] * kept[item].a[i] + kept[item].b[i] * kept[item].b[i];
  squares = warp_sum<Lanes>(squares);
  const float r = 1.0f / sqrtf(squares / static_cast<float>(2 * half) + eps);

  const int64_t table = static_cast<int64_t>(blockIdx.x) * 2 * half;
#pragma unroll
  for (int item = 0; item < Items; ++item) {
    if (!at.has(item)) continue;
    const int column = at.column(item);
    const Halves<float, N> weight = load_halves<Vector, N>(w, column, half);
    const Halves<float, N> c = load_halves<Vector, N>(cos + table, column, half);
    const Halves<float, N> s = load_halves<Vector, N>(sin + table, column, half);
    float a[N], b[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float na = weight.a[i] * (kept[item].a[i] * r), nb = weight.b[i] * (kept[item].b[i] * r);
      a[i] = na * c.a[i] - nb * s.a[i];
      b[i] = nb * c.b[i] + na * s.b[i];
    }
    store_halves<Vector>(y + at.head_row * 2 * half, column, half, a, b);
  }
  if (rstd && at.exists && at.first_column == 0) rstd[at.head_row] = r;
}

/// dx may be dy: a lane has read all it needs of dy before it writes, and no lane reads another's elements.
template <class T, bool Vector, int Lanes, int Items>
__global__ void __launch_bounds__(max_threads)
    norm_rope_backward_kernel(const T* dy, const T* __restrict__ x, const float* __restrict__ w,
                              const float* __restrict__ rstd, const float* __restrict__ cos,
                              const float* __restrict__ sin, T* dx, int heads, int half) {
  gpu::begin_kernel();
  constexpr int N = chunk_of<T>;
  const HeadLane<N, Lanes> at(heads, half);
  const int64_t row = at.head_row * 2 * half, table = static_cast<int64_t>(blockIdx.x) * 2 * half;
  Halves<T, N> kept[Items] = {};
  float ga[Items][N] = {}, gb[Items][N] = {};
  float dot = 0;
#pragma unroll
  for (int item = 0; item < Items; ++item) {
    if (!at.has(item)) continue;
    const int column = at.column(item);
    kept[item] = load_halves<Vector, N>(x + row, column, half);
    const Halves<T, N> d = load_halves<Vector, N>(dy + row, column, half);
    const Halves<float, N> weight = load_halves<Vector, N>(w, column, half);
    const Halves<float, N> c = load_halves<Vector, N>(cos + table, column, half);
    const Halves<float, N> s = load_halves<Vector, N>(sin + table, column, half);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      ga[item][i] = weight.a[i] * (d.a[i] * c.a[i] + d.b[i] * s.b[i]);
      gb[item][i] = weight.b[i] * (d.b[i] * c.b[i] - d.a[i] * s.a[i]);
      dot += ga[item][i] * kept[item].a[i] + gb[item][i] * kept[item].b[i];
    }
  }
  dot = warp_sum<Lanes>(dot);
  if (!at.exists) return;
  const float r = rstd[at.head_row];
  const float k = dot * r * r / static_cast<float>(2 * half);
#pragma unroll
  for (int item = 0; item < Items; ++item) {
    if (!at.has(item)) continue;
    float a[N], b[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      a[i] = r * (ga[item][i] - kept[item].a[i] * k);
      b[i] = r * (gb[item][i] - kept[item].b[i] * k);
    }
    store_halves<Vector>(dx + row, at.column(item), half, a, b);
  }
}

template <int Lanes_, int Items_>
struct Shape {
  static constexpr int lanes = Lanes_, items = Items_;

  static dim3 block(int64_t heads) {
    constexpr int64_t per_warp = warp_size / Lanes_, most = max_threads / Lanes_;
    const int64_t whole_warps = (heads + per_warp - 1) / per_warp * per_warp;
    return dim3(static_cast<unsigned>(std::min(whole_warps, most) * Lanes_));
  }
  static dim3 grid(int64_t tokens, int64_t heads) {
    if (heads == 0) return dim3(0);
    const unsigned blocks = blocks_for(heads, block(heads).x / Lanes_);
    if (blocks > 65535) throw Error(Code::internal, std::to_string(heads) + " heads are more than a grid holds");
    return dim3(blocks_for(tokens, 1), blocks);
  }
};

/// f(type, vector, shape, half) for heads of this width; the shape depends on it and on `type` alone.
template <class F, class... P>
void with_head(DType type, int64_t d, F&& f, const P*... pointers) {
  if (d <= 0 || d % 2 != 0 || d > max_head_width)
    throw Error(Code::internal, "a head of " + std::to_string(d) + " does not rotate");
  with_type(type, [&](auto tag) {
    constexpr int N = chunk_of<typename decltype(tag)::type>;
    const int half = static_cast<int>(d / 2), chunks = (half + N - 1) / N;
    with_flag(half % N == 0 && aligned(pointers...), [&](auto vector) {
      if (chunks <= 8) return f(tag, vector, Shape<8, 1>(), half);
      if (chunks <= 16) return f(tag, vector, Shape<16, 1>(), half);
      if constexpr (max_head_width / 2 > 32 * N)
        if (chunks > 32) return f(tag, vector, Shape<32, 2>(), half);
      f(tag, vector, Shape<32, 1>(), half);
    });
  });
}

}  // namespace

void launch_rotary_table(Stream stream, const int32_t* positions, const int32_t* axis, const float* frequency,
                         float* cos, float* sin, int64_t tokens, int64_t half) {
  const dim3 block = row_block(half);
  gpu::launch("rotary_table", dim3(blocks_for(tokens, block.y)), block, 0, stream, rotary_table_kernel, positions, axis,
              frequency, cos, sin, tokens, static_cast<int>(half));
}

void launch_rope(Stream stream, DType type, void* x, const float* cos, const float* sin, int64_t tokens, int64_t heads,
                 int64_t d, bool back) {
  with_head(
      type, d,
      [&](auto tag, auto vector, auto shape, int half) {
        using T = typename decltype(tag)::type;
        using S = decltype(shape);
        gpu::launch("rope", S::grid(tokens, heads), S::block(heads), 0, stream,
                    rope_kernel<T, decltype(vector)::value, S::lanes, S::items>, static_cast<T*>(x), cos, sin, back,
                    static_cast<int>(heads), half);
      },
      x, cos, sin);
}

void launch_norm_rope(Stream stream, DType type, const void* x, const float* w, const float* cos, const float* sin,
                      void* y, float* rstd, int64_t tokens, int64_t heads, int64_t d, float eps) {
  with_head(
      type, d,
      [&](auto tag, auto vector, auto shape, int half) {
        using T = typename decltype(tag)::type;
        using S = decltype(shape);
        gpu::launch("norm_rope", S::grid(tokens, heads), S::block(heads), 0, stream,
                    norm_rope_kernel<T, decltype(vector)::value, S::lanes, S::items>, static_cast<const T*>(x), w, eps,
                    cos, sin, static_cast<T*>(y), rstd, static_cast<int>(heads), half);
      },
      x, w, cos, sin, y);
}

void launch_norm_rope_backward(Stream stream, DType type, const void* dy, const void* x, const float* w,
                               const float* rstd, const float* cos, const float* sin, void* dx, int64_t tokens,
                               int64_t heads, int64_t d) {
  with_head(
      type, d,
      [&](auto tag, auto vector, auto shape, int half) {
        using T = typename decltype(tag)::type;
        using S = decltype(shape);
        gpu::launch("norm_rope_backward", S::grid(tokens, heads), S::block(heads), 0, stream,
                    norm_rope_backward_kernel<T, decltype(vector)::value, S::lanes, S::items>,
                    static_cast<const T*>(dy), static_cast<const T*>(x), w, rstd, cos, sin, static_cast<T*>(dx),
                    static_cast<int>(heads), half);
      },
      dy, x, w, cos, sin, dx);
}

}  // namespace fire::cuda
