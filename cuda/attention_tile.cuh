// What the attention kernels share: a span and its keys, tiles of rows in shared memory, kernels by type and head
// width.
//
// D is the head width as tiles hold it, a multiple of 16; the columns from the true width on are zeros, in global
// memory they do not exist. A row of a tile is 16 bytes longer than D elements: rows are 16-byte aligned and an odd
// number of 16-byte pieces apart, so that ldmatrix has no bank conflicts.
#pragma once

#include <string>
#include <type_traits>

#include "cuda/attention.h"
#include "cuda/mma.cuh"
#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace fire::cuda::attention {

/// Four warps; each has 16 rows of a tile.
constexpr int threads = 128, tile_rows = attention_tile_rows, warp_rows = 16;
constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

template <class T, int D>
constexpr int pitch = D + chunk_of<T>;
template <class T, int D>
constexpr int tile_bytes(int rows) {
  return rows * pitch<T, D> * static_cast<int>(sizeof(T));
}

/// A row of AttentionTables::spans with the ranges of its context.
struct Span {
  int query_begin, query_end, own_begin, own_end, context_keys, range_count;
  bool causal;
  const int32_t* ranges;  // [range_count, 2]

  __device__ Span(const int32_t* spans, const int32_t* all_ranges, int index) {
    const int32_t* s = spans + 8 * int64_t{index};
    query_begin = s[0], query_end = s[1], own_begin = s[5], own_end = s[6];
    ranges = all_ranges + 2 * int64_t{s[2]}, range_count = s[3] - s[2], context_keys = s[4];
    causal = s[7] != 0;
  }
  /// One past the last own key row that query row `query` sees.
  __device__ int limit(const int32_t* key_row, int query) const { return causal ? key_row[query] + 1 : own_end; }
  __device__ int keys_seen(const int32_t* key_row, int query) const {
    return context_keys + limit(key_row, query) - own_begin;
  }
  /// Row of the key at place `i` of the span's sequence: the ranges of its context, then its own.
  __device__ int key(int i) const {
    if (i >= context_keys) return own_begin + i - context_keys;
    const int32_t* range = ranges;
    for (int size = range[1] - range[0]; i >= size; size = range[1] - range[0]) i -= size, range += 2;
    return range[0] + i;
  }
  __device__ bool in_context(int key) const {
    for (int r = 0; r < range_count; ++r)
      if (key >= ranges[2 * r] && key < ranges[2 * r + 1]) return true;
    return false;
  }
};

struct QueryTile {
  Span span;
  int first, end, keys;  // query rows [first, end), keys seen by the last

  __device__ QueryTile(const int32_t* spans, const int32_t* ranges, const int32_t* tiles, int index)
      : span(spans, ranges, tiles[3 * int64_t{index}]),
        first(tiles[3 * int64_t{index} + 1]),
        keys(tiles[3 * int64_t{index} + 2]) {
    end = min(first + tile_rows, span.query_end);
  }
};

/// AttentionInputs as kernels take them.
template <class T>
struct Inputs {
  const T *q, *k, *v;
  const int32_t *spans, *ranges, *key_row;
  int heads, kv_heads, width;
  float scale, scale_log2;  // the second for exp2: scale * log2(e)
  bool vectors;             // rows of every matrix of the call are 16-byte aligned and whole 16 bytes long
};

template <class T, class... P>
Inputs<T> inputs_of(const AttentionInputs& in, const P*... others) {
  const bool vectors = aligned(in.q, in.k, in.v, others...) && in.width % chunk_of<T> == 0;
  return {static_cast<const T*>(in.q),
          static_cast<const T*>(in.k),
          static_cast<const T*>(in.v),
          in.spans,
          in.ranges,
          in.key_row,
          in.heads,
          in.kv_heads,
          in.width,
          in.scale,
          in.scale * log2_e,
          vectors};
}

/// One head of a packed matrix [rows, heads, width].
template <class T>
struct Head {
  T* data;
  int64_t stride;
  int width;
  bool vectors;

  __device__ Head(T* matrix, int head, int heads, int head_width, bool as_vectors)
      : data(matrix + int64_t{head} * head_width),
        stride(int64_t{heads} * head_width),
        width(head_width),
        vectors(as_vectors) {}
  __device__ T* row(int i) const { return data + i * stride; }
};

/// tile[i] = row row_at(i) of `from` for i < Rows, zeros where row_at gives -1 and right of the width. All threads of
/// the block share the work; where rows are aligned it is under way until cp_async_wait.
template <int D, int Rows, class T, class RowAt>
__device__ inline void load_rows(T* tile, const Head<const T>& from, RowAt row_at) {
  constexpr int chunk = chunk_of<T>, chunks = D / chunk, pieces = Rows * chunks;
  if (from.vectors) {
#pragma unroll
    for (int n = 0; n < (pieces + threads - 1) / threads; ++n) {
      const int i = static_cast<int>(threadIdx.x) + n * threads;
      if (pieces % threads != 0 && i >= pieces) break;
      const int r = i / chunks, column = i % chunks * chunk, row = row_at(r);
      const bool valid = row >= 0 && column < from.width;
      ptx::cp_async_16(tile + r * pitch<T, D> + column, valid ? from.row(row) + column : from.data, valid);
    }
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < Rows * D; i += threads) {
      const int r = i / D, column = i % D, row = row_at(r);
      tile[r * pitch<T, D> + column] = row >= 0 && column < from.width ? from.row(row)[column] : T{};
    }
  }
}

/// Row row_at(r) of `to` = factor[..] * row r of the warp's accumulator, none where row_at gives -1. `staging` holds 16
/// rows of a tile that no other warp reads and this warp needs no more: through it the rows leave 16 bytes at a time.
template <int D, class T, class RowAt>
__device__ inline void store_rows(const Head<T>& to, const float (&acc)[1][D / 8][4], const float (&factor)[2],
                                  T* staging, RowAt row_at) {
  constexpr int chunk = chunk_of<T>, chunks = D / chunk;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  __syncwarp();
#pragma unroll
  for (int j = 0; j < D / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      staging[tile_row(lane, i) * pitch<T, D> + 8 * j + tile_column(lane, i)] =
          from_f32<T>(acc[0][j][i] * factor[i / 2]);
  __syncwarp();
  for (int i = lane; i < warp_rows * chunks; i += warp_size) {
    const int r = i / chunks, column = i % chunks * chunk, row = row_at(r);
    if (row < 0 || column >= to.width) continue;
    const T* const from = staging + r * pitch<T, D> + column;
    T* const out = to.row(row) + column;
    if (to.vectors) {
      *reinterpret_cast<uint4*>(out) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int c = 0; c < chunk && column + c < to.width; ++c) out[c] = from[c];
    }
  }
}

template <int D>
using Width = std::integral_constant<int, D>;

/// f(Width<D>()) with the smallest D that holds the head width.
template <class F>
void with_width(int64_t width, F&& f) {
  if (width <= 32) return f(Width<32>());
  if (width <= 64) return f(Width<64>());
  if (width <= 80) return f(Width<80>());
  if (width <= 128) return f(Width<128>());
  throw Error(Code::unsupported,
              "attention heads are " + std::to_string(width) + " wide; on a GPU up to 128 are possible");
}

}  // namespace fire::cuda::attention
