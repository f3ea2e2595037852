// The gradients of k and v for compute capability 9.0 (attention_hopper.cuh), with the sums of dkv_kernel in
// attention_backward.cu in their order: S^T = K Q^T and dP^T = V dO^T of a step together, then dV += P^T dO and
// dK += dS^T Q, which read the boxes of dO and Q once more, with their rows as k.
//
// A tile is a pair of key_tiles, 64 keys a consumer. The queries that see one of the two come 64 a step, in runs of 16
// rows of one span and one head, counted from the span's first; a consumer passes over steps in which nobody sees its
// keys. So which 16 queries a tensor core sums at once follows from their span, whatever the other tile is, and a group
// has the same bits alone and in any batch.
#include <climits>

#include "cuda/attention_hopper.cuh"

namespace fire::cuda {
namespace attention::hopper {

constexpr int step_queries = 64, run_queries = 16, step_runs = step_queries / run_queries;
constexpr int pair_keys = consumers * tile_rows;

/// What the queries of a step bring besides their vectors.
struct Columns {
  float4 numbers[step_queries / 2];  ///< of two queries: lse * log2(e) of both, delta of both
  /// For the 16 keys of a consumer's warp, a bit for each that the query sees.
  uint16_t seen[pair_keys / warp_rows][step_queries];
  int some[consumers][step_runs];  ///< whether one of 16 queries sees a key of a consumer
  bool more;                       ///< the pair's steps are not through
};

template <int D>
struct KeyShared {
  static constexpr int step_slots = 4;

  Box<D, step_queries> queries[step_slots], douts[step_slots];
  Box<D, pair_keys> keys, values;
  Columns columns[step_slots];
  /// Of the keys in matrices [rows, kv_heads], -1 where there is none; in turns, as they are read behind the last step.
  int places[2][pair_keys];
  bool exists;  ///< false: no pair comes any more
  Barriers<step_slots> step_barriers;
  Barriers<1> key_barriers;
};

struct KeyArguments {
  Inputs<bf16> in;
  const bf16* dout;
  const float *lse, *delta;
  const int32_t *key_tiles, *key_spans;
  int count, items, group;  ///< key tiles; pairs of them, for each key/value head; heads that read one
  bf16 *dk, *dv;
};

/// A row of key_tiles: keys [first, end), and its list in key_spans. Behind the last one there are no keys.
struct KeyTile {
  int first = 0, end = 0, list = 0, list_end = 0;

  __device__ KeyTile(const KeyArguments& args, int index) {
    if (index >= args.count) return;
    const int32_t* const tile = args.key_tiles + 4 * int64_t{index};
    first = tile[0], end = tile[1], list = tile[2], list_end = list + tile[3];
  }
  /// A bit for each key of [begin, finish) that is of the tile.
  __device__ uint64_t bits(int begin, int finish) const {
    const int low = max(begin, first) - first, count = min(finish, end) - first - low;
    return count > 0 ? ~uint64_t{0} >> (64 - count) << low : 0;
  }
};

/// The queries that see a pair of tiles, a run at a time: for each head of the group, each span of either list, its
/// rows from the run on in which one sees a key of the pair.
class Runs {
 public:
  __device__ Runs(const KeyArguments& args, int pair, int kv_head)
      : args_(args), pair_(pair), head_(kv_head * args.group), heads_end_(head_ + args.group) {
    begin();
    enter();
  }

  __device__ bool exists() const { return head_ < heads_end_; }
  __device__ int head() const { return head_; }
  __device__ int span() const { return span_; }
  /// The query row at place `i`; -1 where there is none.
  __device__ int query(int i) const { return query_ + i < query_end_ ? query_ + i : -1; }
  __device__ void advance() {
    query_ += run_queries;
    if (query_ < query_end_ || !exists()) return;
    if (at_[0] == end_[0] && at_[1] == end_[1]) {
      if (++head_ == heads_end_) return;
      begin();
    }
    enter();
  }

 private:
  __device__ void begin() {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const KeyTile tile(args_, 2 * pair_ + i);
      at_[i] = tile.list, end_[i] = tile.list_end;
    }
  }
  /// The next span of the two lists, which ascend.
  __device__ void enter() {
    int spans[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) spans[i] = at_[i] < end_[i] ? args_.key_spans[2 * int64_t{at_[i]}] : INT_MAX;
    span_ = min(spans[0], spans[1]);
    query_ = INT_MAX;
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (spans[i] == span_) query_ = min(query_, args_.key_spans[2 * int64_t{at_[i]++} + 1]);
    const int32_t* const span = args_.in.spans + 8 * int64_t{span_};
    query_ -= (query_ - span[0]) % run_queries;
    query_end_ = span[1];
  }

  const KeyArguments& args_;
  int pair_, head_, heads_end_, at_[2], end_[2], span_, query_, query_end_;
};

template <int D>
__device__ inline void produce_queries(const KeyArguments& args, KeyShared<D>& shared) {
  using StepTurn = Turn<KeyShared<D>::step_slots>;
  const Inputs<bf16>& in = args.in;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size,
            warp = __shfl_sync(full_warp, thread / warp_size, 0);
  // A lane has a query of the warp's 16, and one of the pair's tiles.
  const int of_run = lane % run_queries, side = lane / run_queries, column = warp * run_queries + of_run;
  const auto show = [&](uint64_t* full) {
    ptx::fence_async_shared();
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(full);
  };
  uint64_t* loading = nullptr;  // shown when the next load is under way
  const auto brought = [&](uint64_t* full) {
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    if (loading != nullptr) show(loading);
    loading = full;
  };
  unsigned pairs = 0, steps = 0;
  // The turn of the next pair. Consumers are through with the one before when they have seen all of its steps.
  const auto free_keys = [&] {
    ptx::cp_async_wait<0>();
    if (loading != nullptr) show(loading);
    loading = nullptr;
    const uint32_t parity = Turn<1>(pairs++).parity;
    ptx::mbarrier_wait(shared.key_barriers.empty, parity ^ 1);
    return parity;
  };

#pragma unroll 1
  for (int item = static_cast<int>(blockIdx.x); item < args.items; item += static_cast<int>(gridDim.x)) {
    const int pair = item / in.kv_heads, kv_head = item % in.kv_heads;
    int* const places = shared.places[free_keys()];
    {
      const KeyTile tile(args, 2 * pair + thread / tile_rows);
      const int key = tile.first + thread % tile_rows, place = key < tile.end ? key * in.kv_heads + kv_head : -1;
      places[thread] = place;
      if (thread == 0) shared.exists = true;
      bring_rows<D, pair_keys, 2>({&shared.keys, &shared.values}, {in.k, in.v}, place, in);
      brought(shared.key_barriers.full);
    }

    const KeyTile tile(args, 2 * pair + side);
    Runs runs(args, pair, kv_head);
#pragma unroll 1
    do {
      int query = -1, head = 0, span_index = 0;
#pragma unroll 1
      for (int run = 0; run < step_runs; ++run, runs.advance()) {
        if (run != warp) continue;
        query = runs.query(of_run), head = runs.head(), span_index = runs.span();
      }
      const int place = query >= 0 ? query * in.heads + head : -1;
      // A query that is not there is zeros, and may see all keys: no bit is looked at for its sake.
      float number = 0;
      uint64_t seen = ~uint64_t{0};
      if (query >= 0) {
        number = side == 0 ? args.lse[place] * log2_e : args.delta[place];
        const Span span(in.spans, in.ranges, span_index);
        seen = tile.bits(span.own_begin, span.limit(in.key_row, query));
#pragma unroll 1
        for (int i = 0; i < span.range_count; ++i) seen |= tile.bits(span.ranges[2 * i], span.ranges[2 * i + 1]);
      }

      const StepTurn turn(steps++);
      ptx::mbarrier_wait(shared.step_barriers.empty + turn.slot, turn.parity ^ 1);
      Columns& columns = shared.columns[turn.slot];
#pragma unroll
      for (int i = 0; i < tile_rows / warp_rows; ++i)
        columns.seen[tile_rows / warp_rows * side + i][column] = static_cast<uint16_t>(seen >> warp_rows * i);
      const unsigned some = __ballot_sync(full_warp, query >= 0 && seen != 0);
      if (of_run == 0) columns.some[side][warp] = (some >> run_queries * side & 0xffff) != 0;
      bring_rows<D, step_queries, 2>({&shared.queries[turn.slot], &shared.douts[turn.slot]}, {in.q, args.dout}, place,
                                     in);
      reinterpret_cast<float*>(columns.numbers + column / 2)[2 * side + column % 2] = number;
      if (thread == 0) columns.more = runs.exists();
      brought(shared.step_barriers.full + turn.slot);
    } while (runs.exists());
  }
  free_keys();
  if (thread == 0) shared.exists = false;
  show(shared.key_barriers.full);
}

template <int D>
__device__ inline void backward_keys(const KeyArguments& args, KeyShared<D>& shared, int warp) {
  using StepTurn = Turn<KeyShared<D>::step_slots>;
  const int lane = static_cast<int>(threadIdx.x) % warp_size, consumer = warp / 4 - 1, pair_warp = warp - 4,
            row = pair_warp * warp_rows + lane / 4;
  constexpr uint32_t key_box = Box<D, pair_keys>::bytes, query_box = Box<D, step_queries>::bytes, atom = 8 * line_bytes;
  const auto operand = [](const unsigned char* rows, uint32_t box) {
    return ptx::wgmma_descriptor(rows, box, atom, Swizzle::bytes_128);
  };
  const uint64_t keys = operand(shared.keys.data + consumer * tile_rows * line_bytes, key_box),
                 values = operand(shared.values.data + consumer * tile_rows * line_bytes, key_box);
  const auto release = [&](uint64_t* empty) {
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(empty);
  };
  /// acc = a b^T, of a consumer's 64 rows of keys or values and a box of a step.
  const auto multiply_rows = [&](float(&acc)[step_queries / 2], uint64_t a, uint64_t b) {
#pragma unroll
    for (int i = 0; i < D / 16; ++i)
      ptx::wgmma<step_queries>(acc, ptx::wgmma_behind(a, i / 4 * key_box + i % 4 * 32),
                               ptx::wgmma_behind(b, i / 4 * query_box + i % 4 * 32), i > 0);
    ptx::wgmma_commit();
  };
  /// acc += a b, over the queries of a step.
  const auto add_queries = [&](float(&acc)[D / 2], const uint32_t(&a)[step_runs][4], uint64_t b) {
#pragma unroll
    for (int i = 0; i < step_runs; ++i)
      ptx::wgmma<D, true>(acc, a[i], ptx::wgmma_behind(b, i * run_queries * line_bytes), true);
    ptx::wgmma_commit();
  };
  const auto pack = [](uint32_t(&to)[step_runs][4], const float(&from)[step_queries / 2]) {
#pragma unroll
    for (int i = 0; i < step_queries / 4; ++i) to[i / 4][i % 4] = ptx::pack_bf16x2(from[2 * i], from[2 * i + 1]);
  };

  /// Who sees this thread's two keys: bits lane / 4 and lane / 4 + 8, and 16 further those of the next query.
  const uint32_t rows_bits = 0x01010101u << lane / 4;
  const auto seen_bits = [&](const Columns& columns, int j) {
    return *reinterpret_cast<const uint32_t*>(columns.seen[pair_warp] + 8 * j + 2 * (lane % 4));
  };

  uint32_t p[step_runs][4], ds[step_runs][4];
  float s[step_queries / 2] = {}, dp[step_queries / 2] = {}, dk[D / 2], dv[D / 2];
  unsigned steps = 0;
#pragma unroll 1
  for (unsigned pairs = 0;; ++pairs) {
    const uint32_t parity = Turn<1>(pairs).parity;
    ptx::mbarrier_wait(shared.key_barriers.full, parity);
    if (!shared.exists) break;
#pragma unroll
    for (int i = 0; i < D / 2; ++i) dk[i] = dv[i] = 0;

    bool more = true;
#pragma unroll 1
    while (more) {
      const StepTurn now(steps++);
      const uint64_t queries = operand(shared.queries[now.slot].data, query_box),
                     douts = operand(shared.douts[now.slot].data, query_box);
      const Columns& columns = shared.columns[now.slot];
      ptx::mbarrier_wait(shared.step_barriers.full + now.slot, now.parity);
      more = columns.more;
      const int(&some)[step_runs] = columns.some[consumer];
      const bool seen = (some[0] | some[1] | some[2] | some[3]) != 0;
      if (seen) {
        ptx::wgmma_hold(s);
        ptx::wgmma_hold(dp);
        ptx::wgmma_fence();
        multiply_rows(s, keys, queries);
        multiply_rows(dp, values, douts);

        ptx::wgmma_wait<1>();
        ptx::wgmma_hold(s);
        uint32_t all = rows_bits;
#pragma unroll
        for (int j = 0; j < step_queries / 8; ++j) {
          const float4 numbers = columns.numbers[4 * j + lane % 4];
          all &= seen_bits(columns, j);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& x = s[4 * j + i];
            x = ptx::exp2_approx(fmaf(x, args.in.scale_log2, -(i % 2 ? numbers.y : numbers.x)));
          }
        }
        if (all != rows_bits) {
#pragma unroll
          for (int j = 0; j < step_queries / 8; ++j) {
            const uint32_t bits = seen_bits(columns, j) >> lane / 4;
#pragma unroll
            for (int i = 0; i < 4; ++i)
              if ((bits >> (16 * (i % 2) + 8 * (i / 2)) & 1) == 0) s[4 * j + i] = 0;
          }
        }
        pack(p, s);
        hold(p);
        ptx::wgmma_hold(dv);
        ptx::wgmma_fence();
        add_queries(dv, p, douts);

        ptx::wgmma_wait<1>();
        ptx::wgmma_hold(dp);
#pragma unroll
        for (int j = 0; j < step_queries / 8; ++j) {
          const float4 numbers = columns.numbers[4 * j + lane % 4];
#pragma unroll
          for (int i = 0; i < 4; ++i) s[4 * j + i] *= dp[4 * j + i] - (i % 2 ? numbers.w : numbers.z);
        }
        pack(ds, s);
        hold(ds);
        ptx::wgmma_hold(dk);
        ptx::wgmma_fence();
        add_queries(dk, ds, queries);
        ptx::wgmma_wait<0>();
        ptx::wgmma_hold(dv);
        ptx::wgmma_hold(dk);
        hold(p);
        hold(ds);
      }
      release(shared.step_barriers.empty + now.slot);
    }
    release(shared.key_barriers.empty);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int place = shared.places[parity][row + 8 * half];
      store_row(args.dk, args.in, place, dk, half, args.in.scale);
      store_row(args.dv, args.in, place, dv, half, 1.0f);
    }
  }
}

template <int D>
__global__ void FIRE_HOPPER_BOUNDS(block_threads, 1) dkv_kernel(const __grid_constant__ KeyArguments args) {
#if FIRE_HOPPER
  gpu::begin_kernel();
  DYNAMIC_SHARED(memory);
  auto& shared = *reinterpret_cast<KeyShared<D>*>(memory);
  if (threadIdx.x == 0) {
    shared.step_barriers.init();
    shared.key_barriers.init();
  }
  __syncthreads();
  divide_block<D <= 80 ? 88 : 56>([&] { produce_queries(args, shared); },
                                  [&](int warp) { backward_keys(args, shared, warp); });
#endif
}

}  // namespace attention::hopper

void launch_attention_dkv_hopper(Stream stream, const AttentionInputs& in, const void* dout, const float* lse,
                                 const float* delta, const int32_t* key_tiles, const int32_t* key_spans, void* dk,
                                 void* dv, int64_t count, int multiprocessors) {
  using namespace attention::hopper;
  const int items = static_cast<int>(blocks_for((count + 1) / 2 * in.kv_heads, 1));
  const KeyArguments args{attention::inputs_of<bf16>(in, dout, dk, dv),
                          static_cast<const bf16*>(dout),
                          lse,
                          delta,
                          key_tiles,
                          key_spans,
                          static_cast<int>(count),
                          items,
                          in.heads / in.kv_heads,
                          static_cast<bf16*>(dk),
                          static_cast<bf16*>(dv)};
  attention::with_width(in.width, [&](auto width) {
    constexpr int D = decltype(width)::value;
    gpu::launch("attention_dkv sm_90a", dim3(static_cast<unsigned>(std::min(items, multiprocessors))),
                dim3(block_threads), sizeof(KeyShared<D>), stream, dkv_kernel<D>, args);
  });
}

}  // namespace fire::cuda
