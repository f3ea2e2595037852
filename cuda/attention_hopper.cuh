// What attention's kernels for compute capability 9.0 share: bf16, in the steps and the order of those for every GPU,
// by wgmma.
//
// A tile is 128 packed rows: tokens of one span times the heads that read one key/value head, so keys and values come
// once for all of them and the few rows behind a prefix still fill a tile. A block stays on its multiprocessor and
// takes one tile after another. Its first warpgroup is the producer: cp.async brings queries, keys and values in the
// swizzle that wgmma reads, row by row, as the keys of a span may lie in several ranges (TMA moves whole boxes, and
// brings what lies behind the last key). The two others are consumers with 64 rows each.
//
// Per slot of a ring two mbarriers: `full`, the producer's four warps have brought it, and `empty`, the eight warps of
// the consumers have read it.
#pragma once

#include "cuda/attention_tile.cuh"
#include "cuda/hopper.cuh"

namespace fire::cuda {
namespace attention::hopper {

constexpr int consumers = 2, block_threads = 128 * (1 + consumers), packed_rows = 64 * consumers;
constexpr int step_keys = 64;
/// Rows in shared memory: for each 64 columns a box with a line of 128 bytes a row, swizzled.
constexpr int line_bytes = 128;
template <int D, int Rows>
struct alignas(8 * line_bytes) Box {
  static constexpr int bytes = Rows * line_bytes;
  unsigned char data[(D + 63) / 64 * bytes];

  /// 8 columns of a row, in bytes from the first's.
  __device__ static unsigned offset(unsigned row, unsigned index) {
    return index / 8 * bytes + row * line_bytes + (index % 8 ^ row % 8) * 16;
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

/// A tile has one slot for its queries and, backward, the gradients of o; a step one for its keys and values.
template <int D, bool Backward>
struct Shared {
  static constexpr int query_slots = 2, step_slots = Backward ? 2 : 4;

  Box<D, packed_rows> queries[query_slots][Backward ? 2 : 1];
  Box<D, step_keys> keys[step_slots], values[step_slots];
  PackedRow rows[query_slots][packed_rows];
  int seen[query_slots];  ///< keys of the tile's last row; 0: no tile comes any more
  Barriers<query_slots> query_barriers;
  Barriers<step_slots> step_barriers;
};

/// `tokens` is how many a tile holds, `parts` how many tiles cover one of the table (64 tokens), `items` how many there
/// are in all. `dout`: backward.
struct Arguments {
  Inputs<bf16> in;
  const int32_t* query_tiles;
  const bf16* dout;
  int items, group, tokens, parts;
};

/// Token rows [first, end) of a span and one key/value head; none where the table's tile has fewer parts. The same part
/// of all heads comes first: a block takes every so many items, and must not meet the same part each time.
struct PackedTile {
  Span span;
  int kv_head, first, end;

  __device__ PackedTile(const Arguments& args, int item)
      : PackedTile(args, args.query_tiles + 3 * int64_t{item / (args.in.kv_heads * args.parts)},
                   item % (args.in.kv_heads * args.parts)) {}
  __device__ bool empty() const { return first >= end; }

 private:
  __device__ PackedTile(const Arguments& args, const int32_t* tile, int within)
      : span(args.in.spans, args.in.ranges, tile[0]), kv_head(within % args.in.kv_heads) {
    const int begin = tile[1];
    if (args.tokens > tile_rows) {  // two of the table are one here, in the place of the second, which sees more
      const bool second = (begin - span.query_begin) % args.tokens != 0;
      first = second ? begin - tile_rows : begin;
      end = min(first + args.tokens, span.query_end);
      if (!second && end > begin + tile_rows) end = first;
    } else {
      first = begin + within / args.in.kv_heads * args.tokens;
      end = min(min(first + args.tokens, begin + tile_rows), span.query_end);
    }
  }
};

/// The slot that the `n`th load of a ring goes to, and the parity of its round.
template <int Slots>
struct Turn {
  int slot;
  uint32_t parity;
  __device__ explicit Turn(unsigned n) : slot(static_cast<int>(n % Slots)), parity(n / Slots % 2) {}
};

/// This warp's rows of a box: a quarter. Lane l says which row of a matrix [.., width] the warp's row l is; zeros for
/// -1 and right of the width. The same rows of `Count` matrices.
template <int D, int Rows, int Count>
__device__ inline void bring_rows(Box<D, Rows>* const (&boxes)[Count], const bf16* const (&matrices)[Count], int row,
                                  const Inputs<bf16>& in) {
  // A warp copies 16 times a step: its instructions take turns with those of two of the consumers' warps.
  constexpr unsigned pieces = D / 8, rows = Rows / 4, copies = rows * pieces / warp_size;
  const unsigned lane = threadIdx.x % warp_size, first = threadIdx.x / warp_size * rows;
  const unsigned width = static_cast<unsigned>(in.width);
#pragma unroll 4
  for (unsigned n = 0; in.vectors && n < copies; ++n) {
    const unsigned i = lane + n * warp_size, r = i / pieces, piece = i % pieces;
    const int from = __shfl_sync(full_warp, row, static_cast<int>(r));
    const uint64_t at = uint64_t{static_cast<unsigned>(max(from, 0))} * (2 * width) + 16 * piece;
#pragma unroll
    for (int m = 0; m < Count; ++m)
      ptx::cp_async_16(boxes[m]->data + first * line_bytes + Box<D, Rows>::offset(r, piece),
                       reinterpret_cast<const unsigned char*>(matrices[m]) + at, from >= 0 && 8 * piece < width);
  }
#pragma unroll 1
  for (unsigned n = 0; !in.vectors && n < copies; ++n) {
    const unsigned i = lane + n * warp_size, r = i / pieces, piece = i % pieces;
    const int from = __shfl_sync(full_warp, row, static_cast<int>(r));
    const int count = from >= 0 ? static_cast<int>(width - 8 * piece) : 0;
#pragma unroll
    for (int m = 0; m < Count; ++m) {
      const Chunk<bf16> chunk = load_chunk<false, 8>(matrices[m] + 8 * piece + int64_t{max(from, 0)} * in.width, count);
      *reinterpret_cast<uint4*>(boxes[m]->data + first * line_bytes + Box<D, Rows>::offset(r, piece)) =
          make_uint4(chunk.pairs[0], chunk.pairs[1], chunk.pairs[2], chunk.pairs[3]);
    }
  }
}

template <int D, int Rows>
__device__ inline void bring_rows(Box<D, Rows>& box, const bf16* matrix, int row, const Inputs<bf16>& in) {
  bring_rows<D, Rows, 1>({&box}, {matrix}, row, in);
}

template <int D, bool Backward>
__device__ inline void produce(const Arguments& args, Shared<D, Backward>& shared) {
  using Ring = Shared<D, Backward>;
  const Inputs<bf16>& in = args.in;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size;
  const auto show = [&](uint64_t* full) {
    ptx::fence_async_shared();
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(full);
  };
  // Forward a load is shown when the next one is under way, so that two come at a time. More must not be: a consumer
  // that has two steps frees neither before it has seen a third. Backward a slot is free again only when the load
  // before is wanted.
  uint64_t* loading = nullptr;
  const auto brought = [&](uint64_t* full) {
    ptx::cp_async_commit();
    ptx::cp_async_wait<Backward ? 0 : 1>();
    if constexpr (Backward) {
      show(full);
    } else {
      if (loading != nullptr) show(loading);
      loading = full;
    }
  };
  unsigned tiles = 0, steps = 0;
  const auto free_queries = [&] {
    const Turn<Ring::query_slots> turn(tiles++);
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
    if constexpr (Backward)
      bring_rows<D, packed_rows, 2>({&shared.queries[slot][0], &shared.queries[slot][1]}, {in.q, args.dout}, row.place,
                                    in);
    else
      bring_rows(shared.queries[slot][0], in.q, row.place, in);
    brought(shared.query_barriers.full + slot);

#pragma unroll 1
    for (int first = 0; first < keys; first += step_keys) {
      const int i = first + thread / warp_size * (step_keys / 4) + lane % (step_keys / 4);
      const int key = i < keys ? tile.span.key(i) * in.kv_heads + tile.kv_head : -1;
      const Turn<Ring::step_slots> turn(steps++);
      ptx::mbarrier_wait(shared.step_barriers.empty + turn.slot, turn.parity ^ 1);
      bring_rows<D, step_keys, 2>({&shared.keys[turn.slot], &shared.values[turn.slot]}, {in.k, in.v}, key, in);
      brought(shared.step_barriers.full + turn.slot);
    }
  }
  const int slot = free_queries();
  if (thread == 0) shared.seen[slot] = 0;
  ptx::cp_async_wait<0>();
  if (loading != nullptr) show(loading);
  show(shared.query_barriers.full + slot);
}

template <int N>
__device__ inline void hold(uint32_t (&fragments)[N][4]) {
#pragma unroll
  for (auto& fragment : fragments) ptx::wgmma_hold(fragment);
}

/// A warp's rows of Q as A of wgmma, from the box's row `first` on.
template <int D, int Rows>
__device__ inline void load_fragments(uint32_t (&fragments)[D / 16][4], Box<D, Rows>& box, int first) {
  const unsigned lane = threadIdx.x % warp_size, row = static_cast<unsigned>(first) + lane % 16;
#pragma unroll
  for (unsigned i = 0; i < D / 16; ++i)
    ptx::ldmatrix_x4(fragments[i], box.data + Box<D, Rows>::offset(row, 2 * i + lane / 16));
}

/// A row of sums, times `factor`, to `place` of `to` [.., width], nowhere for -1: that of index 2 * half of the
/// registers.
template <int N>
__device__ inline void store_row(bf16* to, const Inputs<bf16>& in, int64_t place, const float (&sums)[N], int half,
                                 float factor) {
#pragma unroll
  for (int first = 0; first < 2 * N; first += 32) {
    float values[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int at = first / 2 + i / 2 * 4 + 2 * half + i % 2;
      values[i] = at < N ? sums[at] * factor : 0;
    }
    gather_row(values);
    const int column = first + 8 * (static_cast<int>(threadIdx.x) % 4), count = in.width - column;
    if (place < 0 || count <= 0) continue;
    bf16* const row = to + place * in.width + column;
    if (in.vectors)
      store_chunk<true>(row, count, values);
    else
      store_chunk<false>(row, count, values);
  }
}

/// The first warpgroup calls `produce()` with so many registers a thread, the two others `consume(warp)` with what that
/// leaves them of 168 each.
template <int Registers, class Produce, class Consume>
__device__ inline void divide_block(const Produce& produce, const Consume& consume) {
  const int warp = __shfl_sync(full_warp, static_cast<int>(threadIdx.x) / warp_size, 0);  // known to be uniform
  if (warp < 4) {
    ptx::registers_shrink<Registers>();
    produce();
  } else {
    ptx::registers_grow<168 + (168 - Registers) / consumers>();
    consume(warp);
  }
}

/// The producer and two consumers, which call `consume(warp)`; a body for 9.0 alone, elsewhere launches are refused (as
/// gemm_hopper_kernel).
template <int D, bool Backward, class Consume>
__device__ inline void run_block(const Arguments& args, Shared<D, Backward>& shared, const Consume& consume) {
  if (threadIdx.x == 0) {
    shared.query_barriers.init();
    shared.step_barriers.init();
  }
  __syncthreads();
  divide_block<56>([&] { produce(args, shared); }, consume);
}

// --- host --------------------

template <class... P>
Arguments arguments_of(const AttentionInputs& in, const int32_t* query_tiles, int64_t count, const void* dout,
                       const P*... others) {
  Arguments args{inputs_of<bf16>(in, dout, others...), query_tiles, static_cast<const bf16*>(dout), 0, 0, 0, 0};
  args.group = in.heads / in.kv_heads;
  args.tokens = packed_rows / args.group;
  args.parts = (tile_rows + args.tokens - 1) / args.tokens;
  args.items = static_cast<int>(blocks_for(count * in.kv_heads * args.parts, 1));
  return args;
}

inline dim3 grid_of(const Arguments& args, int multiprocessors) {
  return dim3(static_cast<unsigned>(std::min(args.items, multiprocessors)));
}

}  // namespace attention::hopper
}  // namespace fire::cuda
