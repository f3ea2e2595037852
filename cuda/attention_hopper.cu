// Attention forward for compute capability 9.0: what attention_forward.cu computes in bf16, in the same steps and the
// same order, by wgmma.
//
// A tile is 128 packed rows: tokens of one span times the heads that read one key/value head, so keys and values come
// once for all of them and the few rows behind a prefix still fill a tile. A block stays on its multiprocessor and
// takes one tile after another. Its first warpgroup is the producer: cp.async brings queries, keys and values in the
// swizzle that wgmma reads, row by row, as the keys of a span may lie in several ranges (TMA moves whole boxes, and
// brings what lies behind the last key). The two others are consumers with 64 rows each: they multiply S = Q K^T of a
// step together with O += P V of the step before, and make weights of S while O is still under way. Q and P are in
// registers: out of shared memory, which gives 128 bytes a clock, Q would take as much as K does, and that is all.
//
// Per slot of a ring two mbarriers: `full`, the producer's four warps have brought it, and `empty`, the eight warps of
// the consumers have read it.
#include "cuda/attention_tile.cuh"
#include "cuda/hopper.cuh"

namespace fire::cuda {
namespace attention::hopper {

constexpr int consumers = 2, block_threads = 128 * (1 + consumers), packed_rows = 64 * consumers;
constexpr int step_keys = 64;
/// A tile has one slot for its queries, a step one for its keys and one for its values.
constexpr int query_slots = 2, key_slots = 4;

/// Rows in shared memory: for each 64 columns a box with a line of 128 bytes a row, swizzled.
constexpr int line_bytes = 128;
template <int D, int Rows>
struct alignas(8 * line_bytes) Box {
  static constexpr int bytes = Rows * line_bytes;
  unsigned char data[(D + 63) / 64 * bytes];

  /// 8 columns of a row.
  __device__ unsigned char* piece(int row, int index) {
    return data + index / 8 * bytes + row * line_bytes + (index % 8 ^ row % 8) * 16;
  }
};

/// A packed row: its place in matrices [rows, heads] (q, o, lse), -1 where there is none, and the keys that it sees.
struct PackedRow {
  int place, seen;
};

template <int Slots>
struct Barriers {
  uint64_t full[Slots], empty[Slots];

  __device__ void init() {
    for (int i = 0; i < Slots; ++i) {
      ptx::mbarrier_init(full + i, 4);
      ptx::mbarrier_init(empty + i, 4 * consumers);
    }
  }
};

template <int D>
struct Shared {
  Box<D, packed_rows> queries[query_slots];
  Box<D, step_keys> keys[key_slots], values[key_slots];
  PackedRow rows[query_slots][packed_rows];
  int seen[query_slots];  ///< keys of the tile's last row; 0: no tile comes any more
  Barriers<query_slots> query_barriers;
  Barriers<key_slots> key_barriers, value_barriers;
};

/// `tokens` is how many a tile holds, `parts` how many tiles cover one of the table (64 tokens), `items` how many there
/// are in all.
struct Arguments {
  Inputs<bf16> in;
  const int32_t* query_tiles;
  bf16* o;
  float* lse;
  int items, group, tokens, parts;
};

/// Token rows [first, end) of a span and one key/value head; none where the table's tile has fewer parts.
struct PackedTile {
  Span span;
  int kv_head, first, end;

  __device__ PackedTile(const Arguments& args, int item)
      : PackedTile(args, args.query_tiles + 3 * int64_t{item / (args.in.kv_heads * args.parts)},
                   item % (args.in.kv_heads * args.parts)) {}
  __device__ bool empty() const { return first >= end; }

 private:
  __device__ PackedTile(const Arguments& args, const int32_t* tile, int within)
      : span(args.in.spans, args.in.ranges, tile[0]), kv_head(within / args.parts) {
    const int begin = tile[1];
    if (args.tokens > tile_rows) {  // two of the table are one here, in the place of the second, which sees more
      const bool second = (begin - span.query_begin) % args.tokens != 0;
      first = second ? begin - tile_rows : begin;
      end = min(first + args.tokens, span.query_end);
      if (!second && end > begin + tile_rows) end = first;
    } else {
      first = begin + within % args.parts * args.tokens;
      end = min(min(first + args.tokens, begin + tile_rows), span.query_end);
    }
  }
};

/// The slot that the `n`th load of a ring goes to, and the parity of its round.
template <int Slots>
struct Turn {
  int slot;
  uint32_t parity;
  __device__ explicit Turn(int n) : slot(n % Slots), parity(static_cast<uint32_t>(n / Slots % 2)) {}
};
using QueryTurn = Turn<query_slots>;
using KeyTurn = Turn<key_slots>;

/// This warp's rows of a box: a quarter. Lane l says which row of `matrix` [.., width] the warp's row l is; zeros for
/// -1 and right of the width.
template <int D, int Rows>
__device__ inline void bring_rows(Box<D, Rows>& box, const bf16* matrix, int row, const Inputs<bf16>& in) {
  constexpr int pieces = D / 8, rows = Rows / 4;
  const int lane = static_cast<int>(threadIdx.x) % warp_size, first = static_cast<int>(threadIdx.x) / warp_size * rows;
#pragma unroll 4
  for (int n = 0; n < rows * pieces / warp_size; ++n) {
    const int i = lane + n * warp_size, r = i / pieces, piece = i % pieces;
    const int from = __shfl_sync(full_warp, row, r);
    const bool valid = from >= 0 && 8 * piece < in.width;
    const bf16* const source = valid ? matrix + int64_t{from} * in.width + 8 * piece : matrix;
    unsigned char* const target = box.piece(first + r, piece);
    if (in.vectors) {
      ptx::cp_async_16(target, source, valid);
    } else {
      const Chunk<bf16> chunk = load_chunk<false, 8>(source, valid ? in.width - 8 * piece : 0);
      *reinterpret_cast<uint4*>(target) = make_uint4(chunk.pairs[0], chunk.pairs[1], chunk.pairs[2], chunk.pairs[3]);
    }
  }
}

template <int D>
__device__ inline void produce(const Arguments& args, Shared<D>& shared) {
  const Inputs<bf16>& in = args.in;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size;
  // So many loads the producer may be ahead of what it has shown; with more it would wait for slots that nobody can
  // empty: of values, that needs the keys of the next step.
  constexpr int under_way = 4;
  uint64_t* loading[under_way] = {};  // their barriers, the oldest first
  const auto show_oldest = [&](uint64_t* next) {
    if (loading[0] != nullptr) {
      ptx::fence_async_shared();
      __syncwarp();
      if (lane == 0) ptx::mbarrier_arrive(loading[0]);
    }
#pragma unroll
    for (int i = 1; i < under_way; ++i) loading[i - 1] = loading[i];
    loading[under_way - 1] = next;
  };
  const auto brought = [&](uint64_t* full) {
    ptx::cp_async_commit();
    ptx::cp_async_wait<under_way>();
    show_oldest(full);
  };
  int tiles = 0, steps = 0;
  const auto free_queries = [&] {
    const QueryTurn turn(tiles++);
    ptx::mbarrier_wait(shared.query_barriers.empty + turn.slot, turn.parity ^ 1);
    return turn.slot;
  };

#pragma unroll 1
  for (int item = static_cast<int>(blockIdx.x); item < args.items; item += static_cast<int>(gridDim.x)) {
    const PackedTile tile(args, item);
    if (tile.empty()) continue;
    const int token = tile.first + thread / args.group, keys = tile.span.keys_seen(in.key_row, tile.end - 1);
    const bool exists = thread < args.tokens * args.group && token < tile.end;
    const int place = token * in.heads + tile.kv_head * args.group + thread % args.group;
    const PackedRow row{exists ? place : -1, exists ? tile.span.keys_seen(in.key_row, token) : keys};

    const int slot = free_queries();
    shared.rows[slot][thread] = row;
    if (thread == 0) shared.seen[slot] = keys;
    bring_rows(shared.queries[slot], in.q, row.place, in);
    brought(shared.query_barriers.full + slot);

#pragma unroll 1
    for (int first = 0; first < keys; first += step_keys, ++steps) {
      const int i = first + thread / warp_size * (step_keys / 4) + lane % (step_keys / 4);
      const int key = i < keys ? tile.span.key(i) * in.kv_heads + tile.kv_head : -1;
      const KeyTurn turn(steps);
      ptx::mbarrier_wait(shared.key_barriers.empty + turn.slot, turn.parity ^ 1);
      bring_rows(shared.keys[turn.slot], in.k, key, in);
      brought(shared.key_barriers.full + turn.slot);
      ptx::mbarrier_wait(shared.value_barriers.empty + turn.slot, turn.parity ^ 1);
      bring_rows(shared.values[turn.slot], in.v, key, in);
      brought(shared.value_barriers.full + turn.slot);
    }
  }
  const int slot = free_queries();
  if (thread == 0) shared.seen[slot] = 0;
  ptx::cp_async_wait<0>();
  show_oldest(shared.query_barriers.full + slot);
#pragma unroll
  for (int i = 0; i < under_way; ++i) show_oldest(nullptr);
}

/// The scores of a step become weights relative to the row's maximum so far (attention_forward.cu has the same); what
/// was summed before is to be multiplied by `shrink`.
__device__ inline void weigh(float (&s)[step_keys / 2], float scale_log2, int first, const int (&seen)[2],
                             float (&max)[2], float (&sum)[2], float (&shrink)[2]) {
  const int column = first + tile_column(static_cast<int>(threadIdx.x) % warp_size, 0);
  float top[2] = {max[0], max[1]};
  if (first + step_keys <= seen[0] && first + step_keys <= seen[1]) {
#pragma unroll
    for (float& x : s) x *= scale_log2;
  } else {
#pragma unroll
    for (int i = 0; i < step_keys / 2; ++i)
      s[i] = column + 8 * (i / 4) + i % 2 < seen[i / 2 % 2] ? s[i] * scale_log2 : -INFINITY;
  }
#pragma unroll
  for (int i = 0; i < step_keys / 2; ++i) top[i / 2 % 2] = fmaxf(top[i / 2 % 2], s[i]);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    top[r] = warp_max<4>(top[r]);
    shrink[r] = exp2f(max[r] - top[r]);
    max[r] = top[r];
    sum[r] *= shrink[r];
  }
#pragma unroll
  for (int i = 0; i < step_keys / 2; ++i) {
    s[i] = exp2f(s[i] - top[i / 2 % 2]);
    sum[i / 2 % 2] += s[i];
  }
}

template <int N>
__device__ inline void hold(uint32_t (&fragments)[N][4]) {
#pragma unroll
  for (auto& fragment : fragments) ptx::wgmma_hold(fragment);
}

template <int D>
__device__ inline void consume(const Arguments& args, Shared<D>& shared, int warp) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp_row = (warp - 4) * warp_rows,
            row = warp_row + lane / 4;
  constexpr uint32_t box = Box<D, step_keys>::bytes, atom = 8 * line_bytes;  // to the next 64 columns, the next 8 rows
  const auto release = [&](uint64_t* empty) {
    if (lane == 0) ptx::mbarrier_arrive(empty);
  };

  uint32_t q[D / 16][4], p[step_keys / 16][4];
  float s[step_keys / 2] = {}, o[D / 2];
  const auto multiply_scores = [&](const KeyTurn& turn) {
    ptx::mbarrier_wait(shared.key_barriers.full + turn.slot, turn.parity);
    ptx::wgmma_hold(s);
    ptx::wgmma_fence();
#pragma unroll
    for (int i = 0; i < D / 16; ++i)
      ptx::wgmma<step_keys>(
          s, q[i],
          ptx::wgmma_descriptor(shared.keys[turn.slot].data + i / 4 * box + i % 4 * 32, box, atom, Swizzle::bytes_128),
          i > 0);
    ptx::wgmma_commit();
  };
  const auto multiply_values = [&](const KeyTurn& turn) {
    ptx::mbarrier_wait(shared.value_barriers.full + turn.slot, turn.parity);
    ptx::wgmma_hold(o);
    ptx::wgmma_fence();
#pragma unroll
    for (int i = 0; i < step_keys / 16; ++i)
      ptx::wgmma<D, true>(
          o, p[i],
          ptx::wgmma_descriptor(shared.values[turn.slot].data + i * 16 * line_bytes, box, atom, Swizzle::bytes_128),
          true);
    ptx::wgmma_commit();
  };
  const auto scores_done = [&](const KeyTurn& turn) {
    ptx::wgmma_hold(s);
    hold(q);
    release(shared.key_barriers.empty + turn.slot);
  };
  const auto values_done = [&](const KeyTurn& turn) {
    ptx::wgmma_wait<0>();
    ptx::wgmma_hold(o);
    hold(p);
    release(shared.value_barriers.empty + turn.slot);
  };
  const auto pack = [&] {
#pragma unroll
    for (int i = 0; i < step_keys / 4; ++i) p[i / 4][i % 4] = ptx::pack_bf16x2(s[2 * i], s[2 * i + 1]);
  };

  int steps = 0;
#pragma unroll 1
  for (int tiles = 0;; ++tiles) {
    const QueryTurn turn(tiles);
    ptx::mbarrier_wait(shared.query_barriers.full + turn.slot, turn.parity);
    const int keys = shared.seen[turn.slot];
    if (keys == 0) break;
    const PackedRow rows[2] = {shared.rows[turn.slot][row], shared.rows[turn.slot][row + 8]};
#pragma unroll
    for (int i = 0; i < D / 16; ++i)
      ptx::ldmatrix_x4(q[i], shared.queries[turn.slot].piece(warp_row + lane % 16, 2 * i + lane / 16));
    __syncwarp();
    release(shared.query_barriers.empty + turn.slot);
    const int seen[2] = {rows[0].seen, rows[1].seen};
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, shrink[2];
#pragma unroll
    for (float& x : o) x = 0;

    multiply_scores(KeyTurn(steps));
    ptx::wgmma_wait<0>();
    scores_done(KeyTurn(steps));
    weigh(s, args.in.scale_log2, 0, seen, max, sum, shrink);
    pack();
#pragma unroll 1
    for (int first = step_keys; first < keys; first += step_keys) {
      const KeyTurn before(steps), now(++steps);
      multiply_scores(now);
      multiply_values(before);
      ptx::wgmma_wait<1>();
      scores_done(now);
      weigh(s, args.in.scale_log2, first, seen, max, sum, shrink);
      values_done(before);
#pragma unroll
      for (int i = 0; i < D / 2; ++i) o[i] *= shrink[i / 2 % 2];
      pack();
    }
    const KeyTurn last(steps++);
    multiply_values(last);
    values_done(last);

    const int quad = lane % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float all = warp_sum<4>(sum[half]), factor = 1.0f / all;
      const int64_t place = rows[half].place;
      if (args.lse != nullptr && quad == 0 && place >= 0) args.lse[place] = max[half] * ln_2 + logf(all);
#pragma unroll
      for (int first = 0; first < D; first += 32) {
        float values[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int at = first / 2 + i / 2 * 4 + 2 * half + i % 2;
          values[i] = at < D / 2 ? o[at] * factor : 0;
        }
        gather_row(values);
        const int column = first + 8 * quad, count = args.in.width - column;
        if (place < 0 || count <= 0) continue;
        bf16* const to = args.o + place * args.in.width + column;
        if (args.in.vectors)
          store_chunk<true>(to, count, values);
        else
          store_chunk<false>(to, count, values);
      }
    }
  }
}

/// As gemm_hopper_kernel: a body for 9.0 alone, elsewhere a launch is refused.
template <int D>
#if FIRE_HOPPER
__global__ void __launch_bounds__(block_threads, 1)
#else
__global__ void __launch_bounds__(32)
#endif
    forward_kernel(const __grid_constant__ Arguments args) {
#if FIRE_HOPPER
  DYNAMIC_SHARED(memory);
  Shared<D>& shared = *reinterpret_cast<Shared<D>*>(memory);
  if (threadIdx.x == 0) {
    shared.query_barriers.init();
    shared.key_barriers.init();
    shared.value_barriers.init();
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const int warp = __shfl_sync(full_warp, static_cast<int>(threadIdx.x) / warp_size, 0);  // known to be uniform
  if (warp < 4) {
    ptx::registers_shrink<40>();
    produce<D>(args, shared);
  } else {
    ptx::registers_grow<232>();
    consume<D>(args, shared, warp);
  }
#endif
}

}  // namespace attention::hopper

bool takes_attention_hopper(const AttentionInputs& in) {
  return in.type == DType::bf16 && in.heads / in.kv_heads <= attention::hopper::packed_rows;
}

void launch_attention_hopper(Stream stream, const AttentionInputs& in, const int32_t* query_tiles, void* o, float* lse,
                             int64_t count, int multiprocessors) {
  using namespace attention;
  using namespace attention::hopper;
  Arguments args{inputs_of<bf16>(in, o), query_tiles, static_cast<bf16*>(o), lse, 0, 0, 0, 0};
  args.group = in.heads / in.kv_heads;
  args.tokens = packed_rows / args.group;
  args.parts = (tile_rows + args.tokens - 1) / args.tokens;
  args.items = static_cast<int>(blocks_for(count * in.kv_heads * args.parts, 1));
  with_width(in.width, [&](auto width) {
    constexpr int D = decltype(width)::value;
    gpu::launch("attention sm_90a", dim3(static_cast<unsigned>(std::min(args.items, multiprocessors))),
                dim3(block_threads), sizeof(Shared<D>), stream, forward_kernel<D>, args);
  });
}

}  // namespace fire::cuda
