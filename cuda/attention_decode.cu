// Attention of single query rows: those that decode, and the weights of one row for the host. Bound by reading the keys
// and values once: a block serves all heads of a group.
#include "cuda/attention_tile.cuh"

namespace fire::cuda {
namespace attention {
namespace {

constexpr int chunk_keys = attention_chunk_keys, warp_keys = chunk_keys / (threads / warp_size);
/// Rows whose loads are in flight at a time, in each group of lanes.
constexpr int in_flight = 4;

/// The same memory for a query row and head: [chunks] of maximum and sum (in powers of 2), then [chunks, width] of o.
__device__ inline float* partial_of(float* partial, int row, int head, int heads, int chunks, int width) {
  return partial + (int64_t{row} * heads + head) * chunks * (width + 2);
}

/// One chunk of the keys of one query row a block, and up to Heads heads that share them. A key or value row is spread
/// over D / chunk_of<T> lanes, 16 bytes each.
template <class T, int D, int Heads, bool Vector>
__global__ void __launch_bounds__(threads, 4)
    single_kernel(Inputs<T> in, const int32_t* __restrict__ query_tiles, int chunks, float* __restrict__ partial) {
  constexpr int per_lane = chunk_of<T>, lanes = D / per_lane, together = warp_size / lanes;
  SHARED(float, weights, Heads* chunk_keys);
  SHARED(float, warp_o, threads / warp_size * Heads * D);

  const int group = in.heads / in.kv_heads, parts = (group + Heads - 1) / Heads;
  int block = static_cast<int>(blockIdx.x);
  const int chunk = block % chunks;
  block /= chunks;
  const int kv_head = block / parts % in.kv_heads, row = block / parts / in.kv_heads;
  const int head = kv_head * group + block % parts * Heads, head_count = min(Heads, (kv_head + 1) * group - head);
  const QueryTile tile(in.spans, in.ranges, query_tiles, row);
  const int first = chunk * chunk_keys, count = min(tile.keys - first, chunk_keys);
  if (count <= 0) return;

  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const int column = lane % lanes * per_lane, warp_first = warp * warp_keys;
  // Calls use(place, chunk) for the warp's places, those past the keys with zeros.
  const auto for_rows = [&](const T* matrix, auto use) {
    const Head<const T> rows(matrix, kv_head, in.kv_heads, in.width, Vector);
    for (int begin = warp_first + lane / lanes; begin < warp_first + warp_keys; begin += together * in_flight) {
      Chunk<T> chunk_of_row[in_flight];
#pragma unroll
      for (int n = 0; n < in_flight; ++n) {
        const int place = begin + n * together;
        chunk_of_row[n] = load_chunk<Vector, per_lane>(rows.row(tile.span.key(first + min(place, count - 1))) + column,
                                                       place < count ? in.width - column : 0);
      }
#pragma unroll
      for (int n = 0; n < in_flight; ++n) use(begin + n * together, chunk_of_row[n]);
    }
  };

  float query[Heads][per_lane];
#pragma unroll
  for (int h = 0; h < Heads; ++h) {
    const Head<const T> q(in.q, head + min(h, head_count - 1), in.heads, in.width, Vector);
    const auto values = load_chunk<Vector, per_lane>(q.row(tile.first) + column, in.width - column);
#pragma unroll
    for (int i = 0; i < per_lane; ++i) query[h][i] = values[i] * in.scale_log2;
  }
  for_rows(in.k, [&](int place, const Chunk<T>& key) {
#pragma unroll
    for (int h = 0; h < Heads; ++h) {
      float dot = 0;
#pragma unroll
      for (int i = 0; i < per_lane; ++i) dot += query[h][i] * key[i];
      dot = warp_sum<lanes>(dot);
      if (lane % lanes == 0) weights[h * chunk_keys + place] = place < count ? dot : -INFINITY;
    }
  });
  __syncthreads();
  for (int h = warp; h < head_count; h += threads / warp_size) {
    float top = -INFINITY, sum = 0;
    for (int i = lane; i < chunk_keys; i += warp_size) top = fmaxf(top, weights[h * chunk_keys + i]);
    top = warp_max(top);
    for (int i = lane; i < chunk_keys; i += warp_size) {
      const float weight = exp2f(weights[h * chunk_keys + i] - top);
      weights[h * chunk_keys + i] = weight;
      sum += weight;
    }
    sum = warp_sum(sum);
    if (lane == 0) {
      float* const numbers = partial_of(partial, row, head + h, in.heads, chunks, in.width) + 2 * chunk;
      numbers[0] = top;
      numbers[1] = sum;
    }
  }
  __syncthreads();
  float o[Heads][per_lane] = {};
  for_rows(in.v, [&](int place, const Chunk<T>& value) {
#pragma unroll
    for (int h = 0; h < Heads; ++h) {
      if (h >= head_count) break;
      const float weight = weights[h * chunk_keys + place];
#pragma unroll
      for (int i = 0; i < per_lane; ++i) o[h][i] += weight * value[i];
    }
  });
#pragma unroll
  for (int h = 0; h < Heads; ++h)
#pragma unroll
    for (int i = 0; i < per_lane; ++i) {
#pragma unroll
      for (int step = lanes; step < warp_size; step *= 2) o[h][i] += __shfl_xor_sync(full_warp, o[h][i], step);
      if (lane < lanes) warp_o[(warp * Heads + h) * D + column + i] = o[h][i];
    }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < head_count * D; i += threads) {
    if (i % D >= in.width) continue;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < threads / warp_size; ++w) sum += warp_o[w * Heads * D + i];
    float* const to = partial_of(partial, row, head + i / D, in.heads, chunks, in.width) + 2 * chunks;
    to[chunk * in.width + i % D] = sum;
  }
}

/// Adds the chunks of a query row and head up, in their order. One thread a column.
template <class T>
__global__ void __launch_bounds__(threads)
    combine_kernel(Inputs<T> in, const int32_t* __restrict__ query_tiles, int chunks, float* __restrict__ partial,
                   T* __restrict__ o, float* __restrict__ lse) {
  const int head = static_cast<int>(blockIdx.x) % in.heads, row = static_cast<int>(blockIdx.x) / in.heads;
  const QueryTile tile(in.spans, in.ranges, query_tiles, row);
  const int used = (tile.keys + chunk_keys - 1) / chunk_keys, column = static_cast<int>(threadIdx.x);
  const float* const numbers = partial_of(partial, row, head, in.heads, chunks, in.width);
  const float* const partial_o = numbers + 2 * chunks;
  float top = -INFINITY, sum = 0, value = 0;
  for (int i = 0; i < used; ++i) top = fmaxf(top, numbers[2 * i]);
  for (int i = 0; i < used; ++i) {
    const float factor = exp2f(numbers[2 * i] - top);
    sum += factor * numbers[2 * i + 1];
    if (column < in.width) value += factor * partial_o[i * in.width + column];
  }
  if (column < in.width) o[(int64_t{tile.first} * in.heads + head) * in.width + column] = from_f32<T>(value / sum);
  if (lse != nullptr && column == 0) lse[int64_t{tile.first} * in.heads + head] = top * ln_2 + logf(sum);
}

/// One head a block.
template <class T>
__global__ void __launch_bounds__(threads)
    weights_kernel(Inputs<T> in, int span_index, int query, float* __restrict__ weights, int64_t columns) {
  SHARED(float, scratch, threads / warp_size);
  const int head = static_cast<int>(blockIdx.x), kv_head = head / (in.heads / in.kv_heads);
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const Span span(in.spans, in.ranges, span_index);
  const int seen = span.keys_seen(in.key_row, query);
  const T* const q = in.q + (int64_t{query} * in.heads + head) * in.width;
  float* const row = weights + head * columns;
  float top = -INFINITY;
  for (int i = warp; i < seen; i += threads / warp_size) {
    const T* const k = in.k + (int64_t{span.key(i)} * in.kv_heads + kv_head) * in.width;
    float dot = 0;
    for (int c = lane; c < in.width; c += warp_size) dot += to_f32(q[c]) * to_f32(k[c]);
    const float score = warp_sum(dot) * in.scale_log2;
    top = fmaxf(top, score);
    if (lane == 0) row[span.key(i)] = score;
  }
  top = block_max<threads>(top, scratch);  // a barrier: the scores are there
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < seen; i += threads) sum += exp2f(row[span.key(i)] - top);
  sum = block_sum<threads>(sum, scratch);
  for (int i = static_cast<int>(threadIdx.x); i < seen; i += threads)
    row[span.key(i)] = exp2f(row[span.key(i)] - top) / sum;
}

int64_t chunks_of(int64_t keys) { return (keys + chunk_keys - 1) / chunk_keys; }

/// f(Width<Heads>()) with how many heads of a group a block serves.
template <class F>
void with_heads(int group, F&& f) {
  if (group == 1) return f(Width<1>());
  if (group == 2) return f(Width<2>());
  if (group <= 4) return f(Width<4>());
  f(Width<8>());
}

}  // namespace
}  // namespace attention

int64_t attention_partial_size(const AttentionInputs& in, int64_t keys) {
  return in.heads * attention::chunks_of(keys) * (in.width + 2);
}

void launch_attention_single(Stream stream, const AttentionInputs& in, const int32_t* query_tiles, float* partial,
                             void* o, float* lse, int64_t count, int64_t keys) {
  using namespace attention;
  const int64_t chunks = chunks_of(keys);
  with_type(in.type, [&](auto type) {
    using T = typename decltype(type)::type;
    const Inputs<T> inputs = inputs_of<T>(in);
    with_flag(inputs.vectors, [&](auto vector) {
      with_heads(in.heads / in.kv_heads, [&](auto heads) {
        with_width(in.width, [&](auto width) {
          constexpr int D = decltype(width)::value <= 64 ? 64 : 128, Heads = decltype(heads)::value;
          const int64_t parts = (in.heads / in.kv_heads + Heads - 1) / Heads;
          gpu::launch("attention_single", dim3(blocks_for(count * in.kv_heads * parts * chunks, 1)), dim3(threads), 0,
                      stream, single_kernel<T, D, Heads, decltype(vector)::value>, inputs, query_tiles,
                      static_cast<int>(chunks), partial);
        });
      });
    });
    gpu::launch("attention_combine", dim3(blocks_for(count * in.heads, 1)), dim3(threads), 0, stream, combine_kernel<T>,
                inputs, query_tiles, static_cast<int>(chunks), partial, static_cast<T*>(o), lse);
  });
}

void launch_attention_weights(Stream stream, const AttentionInputs& in, float* weights, int64_t keys, int32_t span,
                              int32_t query) {
  using namespace attention;
  with_type(in.type, [&](auto type) {
    using T = typename decltype(type)::type;
    gpu::launch("attention_weights", dim3(static_cast<unsigned>(in.heads)), dim3(threads), 0, stream, weights_kernel<T>,
                inputs_of<T>(in), span, query, weights, keys);
  });
}

}  // namespace fire::cuda
