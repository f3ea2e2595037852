#include <climits>

#include "cuda/attention_tile.cuh"

namespace fire::cuda {
namespace attention {
namespace {

/// Rows of the other side that a step takes: two steps are in shared memory at a time, one in use and one on its way.
template <class T, int D>
constexpr int step_rows = sizeof(T) == sizeof(bf16) && D <= 64 ? 64 : 32;

template <class T, int D>
constexpr int buffers_bytes = tile_bytes<T, D>(2 * tile_rows + 4 * step_rows<T, D>);

/// `Lanes` lanes a row.
template <class T, int Lanes, bool Vector>
__global__ void __launch_bounds__(threads) delta_kernel(const T* __restrict__ dout, const T* __restrict__ o,
                                                        float* __restrict__ delta, int64_t rows, int width) {
  gpu::begin_kernel();
  constexpr int chunk = chunk_of<T>;
  const int64_t row = (int64_t{blockIdx.x} * threads + threadIdx.x) / Lanes;
  const int column = static_cast<int>(threadIdx.x) % Lanes * chunk;
  float sum = 0;
  if (row < rows) {
    const auto a = load_chunk<Vector, chunk>(dout + row * width + column, width - column);
    const auto b = load_chunk<Vector, chunk>(o + row * width + column, width - column);
#pragma unroll
    for (int i = 0; i < chunk; ++i) sum += a[i] * b[i];
  }
  sum = warp_sum<Lanes>(sum);
  if (row < rows && column == 0) delta[row] = sum;
}

/// One tile of queries and one head a block, walking over the keys of the tile's span.
template <class T, int D>
__global__ void __launch_bounds__(threads, sizeof(T) == sizeof(bf16) ? 2 : 1)
    dq_kernel(Inputs<T> in, const T* __restrict__ dout, const float* __restrict__ lse, const float* __restrict__ delta,
              const int32_t* __restrict__ query_tiles, T* __restrict__ dq) {
  gpu::begin_kernel();
  constexpr int stride = pitch<T, D>, step_keys = step_rows<T, D>;
  DYNAMIC_SHARED(shared);
  T* const queries = reinterpret_cast<T*>(shared);
  T* const douts = queries + tile_rows * stride;
  T* const keys = douts + tile_rows * stride;  // [2][step_keys]
  T* const values = keys + 2 * step_keys * stride;

  const int head = static_cast<int>(blockIdx.x) % in.heads, kv_head = head / (in.heads / in.kv_heads);
  const QueryTile tile(in.spans, in.ranges, query_tiles, static_cast<int>(blockIdx.x) / in.heads);
  const Head<const T> k(in.k, kv_head, in.kv_heads, in.width, in.vectors);
  const Head<const T> v(in.v, kv_head, in.kv_heads, in.width, in.vectors);
  const auto load_step = [&](int step, int buffer) {
    const auto key_at = [&](int i) { return step + i < tile.keys ? tile.span.key(step + i) : -1; };
    load_rows<D, step_keys>(keys + buffer * step_keys * stride, k, key_at);
    load_rows<D, step_keys>(values + buffer * step_keys * stride, v, key_at);
  };

  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const int warp_first = tile.first + warp * warp_rows;
  const bool busy = warp_first < tile.end;
  int seen[2];
  float row_lse[2], row_delta[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = min(warp_first + tile_row(lane, 2 * r), tile.end - 1);
    seen[r] = tile.span.keys_seen(in.key_row, row);
    row_lse[r] = lse[int64_t{row} * in.heads + head] * log2_e;
    row_delta[r] = delta[int64_t{row} * in.heads + head];
  }

  const auto query_at = [&](int i) { return tile.first + i < tile.end ? tile.first + i : -1; };
  load_rows<D, tile_rows>(queries, Head<const T>(in.q, head, in.heads, in.width, in.vectors), query_at);
  load_rows<D, tile_rows>(douts, Head<const T>(dout, head, in.heads, in.width, in.vectors), query_at);
  load_step(0, 0);
  ptx::cp_async_commit();
  float acc[1][D / 8][4] = {};
  for (int step = 0, buffer = 0; step < tile.keys; step += step_keys, buffer ^= 1) {
    ptx::cp_async_wait<0>();
    __syncthreads();  // this step is there, and the other buffer is done with
    if (step + step_keys < tile.keys) load_step(step + step_keys, buffer ^ 1);
    ptx::cp_async_commit();
    if (!busy) continue;
    const T* const step_k = keys + buffer * step_keys * stride;
    const T* const step_v = values + buffer * step_keys * stride;
    float s[1][step_keys / 8][4] = {}, dp[1][step_keys / 8][4] = {};
    warp_multiply<T, false, false>(s, queries + warp * warp_rows * stride, stride, step_k, stride, D);
    warp_multiply<T, false, false>(dp, douts + warp * warp_rows * stride, stride, step_v, stride, D);
    const int column = step + tile_column(lane, 0);
#pragma unroll
    for (int j = 0; j < step_keys / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float p =
            column + 8 * j + i % 2 < seen[i / 2] ? exp2f(fmaf(s[0][j][i], in.scale_log2, -row_lse[i / 2])) : 0.0f;
        dp[0][j][i] = p * (dp[0][j][i] - row_delta[i / 2]);
      }
    warp_multiply_registers<T, true>(acc, dp, step_k, stride);
  }
  if (!busy) return;
  const float factor[2] = {in.scale, in.scale};
  store_rows<D>(Head<T>(dq, head, in.heads, in.width, in.vectors), acc, factor, queries + warp * warp_rows * stride,
                [&](int r) { return warp_first + r < tile.end ? warp_first + r : -1; });
}

/// The queries that see a tile of keys, `step_queries` at a time: for each head of the group, each span of the tile's
/// list, its rows from the first that sees a key of the tile.
class Walk {
 public:
  __device__ Walk(const int32_t* spans, const int32_t* ranges, const int32_t* key_spans, int first, int count, int head,
                  int heads)
      : spans_(spans),
        ranges_(ranges),
        entries_(key_spans + 2 * int64_t{first}),
        count_(count),
        head_(head),
        heads_end_(head + heads) {
    enter();
  }

  __device__ int head() const { return head_; }
  /// Read again each time: a step computes long, and registers are scarce there.
  __device__ Span span() const { return Span(spans_, ranges_, entries_[2 * entry_]); }
  /// The query row at place `i` of the step; -1 past the span.
  __device__ int query(int i) const { return query_ + i < query_end_ ? query_ + i : -1; }
  /// False at the end.
  __device__ bool advance(int step_queries) {
    query_ += step_queries;
    if (query_ < query_end_) return true;
    if (++entry_ == count_) {
      entry_ = 0;
      if (++head_ == heads_end_) return false;
    }
    enter();
    return true;
  }

 private:
  __device__ void enter() {
    query_ = entries_[2 * entry_ + 1];
    query_end_ = span().query_end;
  }

  const int32_t* spans_;
  const int32_t* ranges_;
  const int32_t* entries_;
  int entry_ = 0, count_, head_, heads_end_, query_, query_end_;
};

/// What a query row brings besides its vectors. A row sees key `row` if limit > need(row): see `needs`.
struct QueryNumbers {
  float lse, delta;
  int limit;
};

/// A key row of a span needs a limit above it when it is one of its own, none when it is of the context, and one that
/// there is not when it is neither. Absent queries have the lowest limit.
__device__ inline int needs(const Span& span, int key) {
  if (span.in_context(key)) return INT_MIN;
  return key >= span.own_begin && key < span.own_end ? key : INT_MAX;
}

/// One tile of keys and one key/value head a block, walking over the queries that see it. The scores are computed
/// transposed, keys by queries, as the sums over queries need them.
template <class T, int D>
__global__ void __launch_bounds__(threads, sizeof(T) == sizeof(bf16) ? 2 : 1)
    dkv_kernel(Inputs<T> in, const T* __restrict__ dout, const float* __restrict__ lse, const float* __restrict__ delta,
               const int32_t* __restrict__ key_tiles, const int32_t* __restrict__ key_spans, T* __restrict__ dk,
               T* __restrict__ dv) {
  gpu::begin_kernel();
  constexpr int stride = pitch<T, D>, step_queries = step_rows<T, D>;
  SHARED(QueryNumbers, numbers, 2 * step_queries);
  DYNAMIC_SHARED(shared);
  T* const keys = reinterpret_cast<T*>(shared);
  T* const values = keys + tile_rows * stride;
  T* const queries = values + tile_rows * stride;  // [2][step_queries]
  T* const douts = queries + 2 * step_queries * stride;

  const int32_t* const tile = key_tiles + 4 * int64_t{blockIdx.x / static_cast<unsigned>(in.kv_heads)};
  const int kv_head = static_cast<int>(blockIdx.x) % in.kv_heads, group = in.heads / in.kv_heads;
  const int first = tile[0], end = tile[1];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size, warp = thread / warp_size;
  const int warp_first = first + warp * warp_rows;
  const bool busy = warp_first < end;

  Walk walk(in.spans, in.ranges, key_spans, tile[2], tile[3], kv_head * group, group);
  const auto load_step = [&](int buffer) {
    const auto query_at = [&](int i) { return walk.query(i); };
    load_rows<D, step_queries>(queries + buffer * step_queries * stride,
                               Head<const T>(in.q, walk.head(), in.heads, in.width, in.vectors), query_at);
    load_rows<D, step_queries>(douts + buffer * step_queries * stride,
                               Head<const T>(dout, walk.head(), in.heads, in.width, in.vectors), query_at);
  };
  // The first threads carry a number each in registers while the step before is computed.
  const auto read_numbers = [&]() {
    const int row = thread < step_queries ? walk.query(thread) : -1;
    if (row < 0) return QueryNumbers{0, 0, INT_MIN};
    const int64_t at = int64_t{row} * in.heads + walk.head();
    return QueryNumbers{lse[at] * log2_e, delta[at], walk.span().limit(in.key_row, row)};
  };

  const auto key_at = [&](int i) { return first + i < end ? first + i : -1; };
  load_rows<D, tile_rows>(keys, Head<const T>(in.k, kv_head, in.kv_heads, in.width, in.vectors), key_at);
  load_rows<D, tile_rows>(values, Head<const T>(in.v, kv_head, in.kv_heads, in.width, in.vectors), key_at);
  load_step(0);
  ptx::cp_async_commit();
  QueryNumbers mine = read_numbers();
  float dk_acc[1][D / 8][4] = {}, dv_acc[1][D / 8][4] = {};
  bool more = true;
  for (int buffer = 0; more; buffer ^= 1) {
    if (thread < step_queries) numbers[buffer * step_queries + thread] = mine;
    const Span span = walk.span();
    const int need[2] = {needs(span, warp_first + tile_row(lane, 0)), needs(span, warp_first + tile_row(lane, 2))};
    ptx::cp_async_wait<0>();
    __syncthreads();  // this step is there, and the other buffer is done with
    more = walk.advance(step_queries);
    if (more) {
      load_step(buffer ^ 1);
      mine = read_numbers();
    }
    ptx::cp_async_commit();
    if (!busy) continue;
    const T* const step_q = queries + buffer * step_queries * stride;
    const T* const step_dout = douts + buffer * step_queries * stride;
    const QueryNumbers* const step_numbers = numbers + buffer * step_queries;
    float p[1][step_queries / 8][4] = {};
    warp_multiply<T, false, false>(p, keys + warp * warp_rows * stride, stride, step_q, stride, D);
#pragma unroll
    for (int j = 0; j < step_queries / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const QueryNumbers& query = step_numbers[8 * j + tile_column(lane, i)];
        p[0][j][i] = query.limit > need[i / 2] ? exp2f(fmaf(p[0][j][i], in.scale_log2, -query.lse)) : 0.0f;
      }
    warp_multiply_registers<T, true>(dv_acc, p, step_dout, stride);
    float ds[1][step_queries / 8][4] = {};
    warp_multiply<T, false, false>(ds, values + warp * warp_rows * stride, stride, step_dout, stride, D);
#pragma unroll
    for (int j = 0; j < step_queries / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        ds[0][j][i] = p[0][j][i] * (ds[0][j][i] - step_numbers[8 * j + tile_column(lane, i)].delta);
    warp_multiply_registers<T, true>(dk_acc, ds, step_q, stride);
  }
  if (!busy) return;
  const float scale[2] = {in.scale, in.scale}, one[2] = {1, 1};
  const auto row_at = [&](int r) { return warp_first + r < end ? warp_first + r : -1; };
  store_rows<D>(Head<T>(dk, kv_head, in.kv_heads, in.width, in.vectors), dk_acc, scale,
                keys + warp * warp_rows * stride, row_at);
  store_rows<D>(Head<T>(dv, kv_head, in.kv_heads, in.width, in.vectors), dv_acc, one,
                values + warp * warp_rows * stride, row_at);
}

}  // namespace
}  // namespace attention

void launch_attention_delta(Stream stream, DType type, const void* dout, const void* o, float* delta, int64_t rows,
                            int64_t width) {
  using namespace attention;
  with_type(type, [&](auto kind) {
    using T = typename decltype(kind)::type;
    with_flag(aligned(dout, o) && width % chunk_of<T> == 0, [&](auto vector) {
      with_width(width, [&](auto padded) {
        constexpr int lanes = (decltype(padded)::value == 80 ? 128 : decltype(padded)::value) / chunk_of<T>;
        gpu::launch("attention_delta", dim3(blocks_for(rows, threads / lanes)), dim3(threads), 0, stream,
                    delta_kernel<T, lanes, decltype(vector)::value>, static_cast<const T*>(dout),
                    static_cast<const T*>(o), delta, rows, static_cast<int>(width));
      });
    });
  });
}

void launch_attention_dq(Stream stream, const AttentionInputs& in, const void* dout, const float* lse,
                         const float* delta, const int32_t* query_tiles, void* dq, int64_t count) {
  using namespace attention;
  with_type(in.type, [&](auto type) {
    using T = typename decltype(type)::type;
    with_width(in.width, [&](auto width) {
      constexpr int D = decltype(width)::value;
      gpu::launch("attention_dq", dim3(blocks_for(count * in.heads, 1)), dim3(threads), buffers_bytes<T, D>, stream,
                  dq_kernel<T, D>, inputs_of<T>(in, dout, dq), static_cast<const T*>(dout), lse, delta, query_tiles,
                  static_cast<T*>(dq));
    });
  });
}

void launch_attention_dkv(Stream stream, const AttentionInputs& in, const void* dout, const float* lse,
                          const float* delta, const int32_t* key_tiles, const int32_t* key_spans, void* dk, void* dv,
                          int64_t count) {
  using namespace attention;
  with_type(in.type, [&](auto type) {
    using T = typename decltype(type)::type;
    with_width(in.width, [&](auto width) {
      constexpr int D = decltype(width)::value;
      gpu::launch("attention_dkv", dim3(blocks_for(count * in.kv_heads, 1)), dim3(threads), buffers_bytes<T, D>, stream,
                  dkv_kernel<T, D>, inputs_of<T>(in, dout, dk, dv), static_cast<const T*>(dout), lse, delta, key_tiles,
                  key_spans, static_cast<T*>(dk), static_cast<T*>(dv));
    });
  });
}

}  // namespace fire::cuda
