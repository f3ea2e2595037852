// Exact attention over packed sequences (AttentionPlan in ops/ops.h, tables in ops/attention_tables.h):
//   s = scale * q k^T over the keys that a row sees,   lse = log(sum(exp(s))),   o = exp(s - lse) v
//
// FlashAttention-2 (Dao 2023): a block of threads holds 64 query rows (backward also: 64 key rows) of one head and
// walks over the other side, so no row of scores is ever in memory. A row's sums run over its keys in their order, in
// steps whose borders depend on the row's span alone. Gradients are summed in a fixed order: no atomics.
//
// q, o, their gradients [Q, heads, width], k, v and theirs [K, kv_heads, width] of the activation type; lse and delta
// f32 [Q, heads]; width up to 128. Head h reads key/value head h / (heads / kv_heads).
#pragma once

#include <cstdint>

#include "cuda/runtime.h"
#include "tensor/dtype.h"

namespace fire::cuda {

struct AttentionInputs {
  DType type;
  int heads, kv_heads, width;
  float scale;
  const void *q, *k, *v;
  const int32_t *spans, *ranges, *key_row;
};

/// Query rows of a tile of AttentionTables, and key rows.
constexpr int attention_tile_rows = 64;

/// o and lse (may be nullptr) of the rows of `count` query tiles.
void launch_attention(Stream stream, const AttentionInputs& in, const int32_t* query_tiles, void* o, float* lse,
                      int64_t count);

/// Whether compute capability 9.0 has a kernel of its own for this: bf16, at most 128 heads for a key/value head.
bool takes_attention_hopper(const AttentionInputs& in);
/// As launch_attention, for a GPU of compute capability 9.0 with so many multiprocessors. The two need not round alike.
void launch_attention_hopper(Stream stream, const AttentionInputs& in, const int32_t* query_tiles, void* o, float* lse,
                             int64_t count, int multiprocessors);

/// Keys that a block of the kernel for rows that decode takes.
constexpr int attention_chunk_keys = 256;
/// f32 numbers of workspace that a query row needs when rows see up to `keys` keys.
int64_t attention_partial_size(const AttentionInputs& in, int64_t keys);
/// The same for rows that decode: flash-decoding (Dao et al. 2023) splits each row's keys in
/// chunks, so that a few rows keep a whole GPU busy, and adds the chunks up in their order. P stays f32. `keys` is the
/// most that a row sees; `partial` is a workspace.
void launch_attention_single(Stream stream, const AttentionInputs& in, const int32_t* query_tiles, float* partial,
                             void* o, float* lse, int64_t count, int64_t keys);

/// delta[i] = dout[i] . o[i] over `rows` rows of `width`.
void launch_attention_delta(Stream stream, DType type, const void* dout, const void* o, float* delta, int64_t rows,
                            int64_t width);
/// dq = scale * sum_k p_k (dout . v_k - delta) k_k with p = exp(s - lse), for the rows of `count` query tiles.
void launch_attention_dq(Stream stream, const AttentionInputs& in, const void* dout, const float* lse,
                         const float* delta, const int32_t* query_tiles, void* dq, int64_t count);
/// The same where takes_attention_hopper.
void launch_attention_dq_hopper(Stream stream, const AttentionInputs& in, const void* dout, const float* lse,
                                const float* delta, const int32_t* query_tiles, void* dq, int64_t count,
                                int multiprocessors);
/// dk = scale * sum_q p_q (dout_q . v - delta_q) q_q and dv = sum_q p_q dout_q over the queries of all heads of the
/// group, for the keys of `count` key tiles.
void launch_attention_dkv(Stream stream, const AttentionInputs& in, const void* dout, const float* lse,
                          const float* delta, const int32_t* key_tiles, const int32_t* key_spans, void* dk, void* dv,
                          int64_t count);
/// The same where takes_attention_hopper.
void launch_attention_dkv_hopper(Stream stream, const AttentionInputs& in, const void* dout, const float* lse,
                                 const float* delta, const int32_t* key_tiles, const int32_t* key_spans, void* dk,
                                 void* dv, int64_t count, int multiprocessors);

/// exp(s - lse) of query row `query`, of which `span` is the span, into the columns of the keys that it sees:
/// weights f32 [heads, keys]; other columns are left alone. Needs no v.
void launch_attention_weights(Stream stream, const AttentionInputs& in, float* weights, int64_t keys, int32_t span,
                              int32_t query);

}  // namespace fire::cuda
