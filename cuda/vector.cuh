// How elementwise kernels read and write rows: a thread takes a chunk of consecutive elements, 16 bytes of activations,
// in one access where the addresses allow it and element by element where they do not. Which thread has which elements
// depends on the width alone, so both ways give the same bits.
#pragma once

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>

#include "cuda/convert.cuh"
#include "cuda/gpu.h"
#include "tensor/dtype.h"
#include "tensor/error.h"

namespace fire::cuda {

/// Elements of T in 16 bytes.
template <class T>
constexpr int chunk_of = static_cast<int>(16 / sizeof(T));

/// N consecutive elements as they are stored (bf16 stays packed: half the registers), read as f32.
template <class T, int N = chunk_of<T>>
struct Chunk;

template <int N>
struct Chunk<float, N> {
  float values[N];

  __device__ float operator[](int i) const { return values[i]; }
  __device__ void put(int i, float value) { values[i] = value; }
  /// All from `from`, 16-byte aligned.
  __device__ void load(const float* from) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      values[i] = four.x, values[i + 1] = four.y, values[i + 2] = four.z, values[i + 3] = four.w;
    }
  }
};

template <int N>
struct Chunk<bf16, N> {
  uint32_t pairs[N / 2];

  __device__ float operator[](int i) const { return i % 2 ? high_f32(pairs[i / 2]) : low_f32(pairs[i / 2]); }
  __device__ void put(int i, bf16 value) { pairs[i / 2] |= uint32_t{value.bits} << (i % 2 * 16); }
  __device__ void load(const bf16* from) {
#pragma unroll
    for (int i = 0; i < N; i += 8) {
      const uint4 eight = *reinterpret_cast<const uint4*>(from + i);
      pairs[i / 2] = eight.x, pairs[i / 2 + 1] = eight.y, pairs[i / 2 + 2] = eight.z, pairs[i / 2 + 3] = eight.w;
    }
  }
};

/// The N elements at `from`, of which the first `count` exist; the others are zeros. `Vector`: `from` is 16-byte
/// aligned.
template <bool Vector, int N, class T>
__device__ inline Chunk<T, N> load_chunk(const T* from, int64_t count) {
  static_assert(N % chunk_of<T> == 0, "whole 16-byte accesses");
  Chunk<T, N> chunk;
  if (Vector && count >= N) {
    chunk.load(from);
  } else {
    chunk = {};
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (i < count) chunk.put(i, from[i]);
  }
  return chunk;
}

namespace detail {

template <int N>
__device__ inline void store_vectors(float* to, const float (&values)[N]) {
#pragma unroll
  for (int i = 0; i < N; i += 4)
    *reinterpret_cast<float4*>(to + i) = make_float4(values[i], values[i + 1], values[i + 2], values[i + 3]);
}

template <int N>
__device__ inline void store_vectors(bf16* to, const float (&values)[N]) {
#pragma unroll
  for (int i = 0; i < N; i += 8)
    *reinterpret_cast<uint4*>(to + i) =
        make_uint4(ptx::pack_bf16x2(values[i], values[i + 1]), ptx::pack_bf16x2(values[i + 2], values[i + 3]),
                   ptx::pack_bf16x2(values[i + 4], values[i + 5]), ptx::pack_bf16x2(values[i + 6], values[i + 7]));
}

/// Beside four floats.
__device__ inline void store_vectors(bf16* to, const float (&values)[4]) {
  *reinterpret_cast<uint2*>(to) =
      make_uint2(ptx::pack_bf16x2(values[0], values[1]), ptx::pack_bf16x2(values[2], values[3]));
}

}  // namespace detail

/// The first `count` of the values, as T.
template <bool Vector, int N, class T>
__device__ inline void store_chunk(T* to, int64_t count, const float (&values)[N]) {
  if (Vector && count >= N) {
    detail::store_vectors(to, values);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (i < count) to[i] = from_f32<T>(values[i]);
  }
}

// --- host: which kernel fits --------------------

/// True when every pointer (nullptr included) is 16-byte aligned.
template <class... P>
inline bool aligned(const P*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

template <class T>
struct Type {
  using type = T;
};

/// f(Type<float>()) or f(Type<bf16>()).
template <class F>
void with_type(DType type, F&& f) {
  if (type == DType::f32) return f(Type<float>());
  if (type == DType::bf16) return f(Type<bf16>());
  throw Error(Code::internal, std::string("no kernel for elements of ") + name(type));
}

/// f(std::true_type()) or f(std::false_type()).
template <class F>
void with_flag(bool flag, F&& f) {
  if (flag) return f(std::true_type());
  f(std::false_type());
}

/// Blocks of `per_block` items for `count` of them.
inline unsigned blocks_for(int64_t count, int64_t per_block) {
  const int64_t blocks = (count + per_block - 1) / per_block;
  if (blocks > INT32_MAX) throw Error(Code::internal, std::to_string(count) + " items are more than a grid holds");
  return static_cast<unsigned>(blocks);
}

/// A block for rows of `units` pieces: x runs along a row, y over rows.
inline dim3 row_block(int64_t units) {
  unsigned x = 1;
  while (x < units && x < 256) x *= 2;
  return dim3(x, 256 / x);
}

}  // namespace fire::cuda
