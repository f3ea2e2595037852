#include "cuda/attention_tile.cuh"

namespace fire::cuda {
namespace attention {
namespace {

constexpr int key_step = 64;

/// Scores of a step of keys become weights relative to the row's maximum so far; what was summed before moves to the
/// new maximum. `first` is the place of the step's first key, `seen` how many keys the rows g and g + 8 see. Scores
/// count in powers of 2. Each lane sums its own columns; the lanes of a row are added up at the end.
template <int D>
__device__ inline void online_softmax(float (&s)[1][key_step / 8][4], float scale_log2, int first, const int (&seen)[2],
                                      float (&max)[2], float (&sum)[2], float (&o)[1][D / 8][4]) {
  const int column = first + tile_column(static_cast<int>(threadIdx.x) % warp_size, 0);
  float top[2] = {max[0], max[1]};
#pragma unroll
  for (int j = 0; j < key_step / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      s[0][j][i] = column + 8 * j + i % 2 < seen[i / 2] ? s[0][j][i] * scale_log2 : -INFINITY;
      top[i / 2] = fmaxf(top[i / 2], s[0][j][i]);
    }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    top[r] = warp_max<4>(top[r]);
    const float shrink = exp2f(max[r] - top[r]);  // 0 in the first step; exactly 1 once a row has seen its last key
    max[r] = top[r];
    sum[r] *= shrink;
#pragma unroll
    for (int j = 0; j < D / 8; ++j) {
      o[0][j][2 * r] *= shrink;
      o[0][j][2 * r + 1] *= shrink;
    }
  }
#pragma unroll
  for (int j = 0; j < key_step / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      s[0][j][i] = exp2f(s[0][j][i] - top[i / 2]);
      sum[i / 2] += s[0][j][i];
    }
}

/// One tile of queries and one head a block. Keys and values of a step each have one buffer: values come while the
/// scores are computed, the next keys while the values are summed.
template <class T, int D>
__global__ void __launch_bounds__(threads, sizeof(T) == sizeof(bf16) ? 3 : 1)
    forward_kernel(Inputs<T> in, const int32_t* __restrict__ query_tiles, T* __restrict__ o, float* __restrict__ lse) {
  constexpr int stride = pitch<T, D>;
  DYNAMIC_SHARED(shared);
  T* const queries = reinterpret_cast<T*>(shared);
  T* const keys = queries + tile_rows * stride;
  T* const values = keys + key_step * stride;

  const int head = static_cast<int>(blockIdx.x) % in.heads, kv_head = head / (in.heads / in.kv_heads);
  const QueryTile tile(in.spans, in.ranges, query_tiles, static_cast<int>(blockIdx.x) / in.heads);
  const Head<const T> q(in.q, head, in.heads, in.width, in.vectors);
  const Head<const T> k(in.k, kv_head, in.kv_heads, in.width, in.vectors);
  const Head<const T> v(in.v, kv_head, in.kv_heads, in.width, in.vectors);
  const auto key_at = [&](int step) {
    return [&tile, step](int i) { return step + i < tile.keys ? tile.span.key(step + i) : -1; };
  };

  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const int warp_first = tile.first + warp * warp_rows;
  const bool busy = warp_first < tile.end;
  int seen[2];
#pragma unroll
  for (int r = 0; r < 2; ++r)
    seen[r] = tile.span.keys_seen(in.key_row, min(warp_first + tile_row(lane, 2 * r), tile.end - 1));

  load_rows<D, tile_rows>(queries, q, [&](int i) { return tile.first + i < tile.end ? tile.first + i : -1; });
  load_rows<D, key_step>(keys, k, key_at(0));
  ptx::cp_async_commit();
  float acc[1][D / 8][4] = {}, max[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  for (int step = 0; step < tile.keys; step += key_step) {
    ptx::cp_async_wait<0>();
    __syncthreads();  // the keys are there, and the values of the step before are done with
    load_rows<D, key_step>(values, v, key_at(step));
    ptx::cp_async_commit();
    float s[1][key_step / 8][4] = {};
    if (busy) warp_multiply<T, false, false>(s, queries + warp * warp_rows * stride, stride, keys, stride, D);
    ptx::cp_async_wait<0>();
    __syncthreads();  // the values are there, and the keys are done with
    if (step + key_step < tile.keys) load_rows<D, key_step>(keys, k, key_at(step + key_step));
    ptx::cp_async_commit();
    if (!busy) continue;
    online_softmax<D>(s, in.scale_log2, step, seen, max, sum, acc);
    warp_multiply_registers<T, true>(acc, s, values, stride);
  }
  if (!busy) return;

  float factor[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] = warp_sum<4>(sum[r]);
    factor[r] = 1.0f / sum[r];
    const int row = warp_first + tile_row(lane, 2 * r);
    if (lse != nullptr && lane % 4 == 0 && row < tile.end)
      lse[int64_t{row} * in.heads + head] = max[r] * ln_2 + logf(sum[r]);
  }
  store_rows<D>(Head<T>(o, head, in.heads, in.width, in.vectors), acc, factor, queries + warp * warp_rows * stride,
                [&](int r) { return warp_first + r < tile.end ? warp_first + r : -1; });
}

}  // namespace
}  // namespace attention

void launch_attention(Stream stream, const AttentionInputs& in, const int32_t* query_tiles, void* o, float* lse,
                      int64_t count) {
  using namespace attention;
  with_type(in.type, [&](auto type) {
    using T = typename decltype(type)::type;
    with_width(in.width, [&](auto width) {
      constexpr int D = decltype(width)::value;
      gpu::launch("attention", dim3(blocks_for(count * in.heads, 1)), dim3(threads),
                  tile_bytes<T, D>(tile_rows + 2 * key_step), stream, forward_kernel<T, D>, inputs_of<T>(in, o),
                  query_tiles, static_cast<T*>(o), lse);
    });
  });
}

}  // namespace fire::cuda
