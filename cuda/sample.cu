// Drawing tokens without sorting the vocabulary.
//
// A token is one integer, its rank: the order-preserving bits of its logit, then its id reversed, so that a larger rank
// comes earlier in the order of ops.h and no two tokens are equal. "The first token at which the running weight reaches
// a goal" (top_k counts tokens; top_p and the draw count mass) is then a search in an interval of ranks: a pass over
// the row splits the interval into 16 bins and sums their weights, the bin that the goal falls into is the next
// interval. The first split follows the mass (e^-gap), so that few tokens are left after it, and the search ends when
// one is.
//
// Weights are f64. Each thread sums its own columns into bins of its own, then a warp adds up one bin in a fixed order:
// no atomics, the same bits every time. Where a sum meets the goal within f64 rounding, the token next to the one that
// a sequential sum would give may be drawn.
#include "cuda/gpu.h"
#include "cuda/reduce.cuh"
#include "cuda/sample.h"
#include "cuda/vector.cuh"

namespace fire::cuda {
namespace {

constexpr int threads = 512;
constexpr int bin_count = threads / warp_size;  // one a warp
constexpr int chunks = 4;                       // of a thread on the way
constexpr size_t bin_bytes = sizeof(double) * bin_count * threads;
static_assert(bin_count == 16, "bin_of halves four times");

using Rank = unsigned long long;

constexpr uint32_t infinity = 0xff800000u;        // order_bits(+inf); a NaN is put above it
constexpr uint32_t minus_infinity = 0x007fffffu;  // order_bits(-inf)

/// Larger for larger floats, equal for -0 and 0.
__device__ inline uint32_t order_bits(float x) {
  if (x != x) return 0xffffffffu;
  const uint32_t bits = __float_as_uint(x == 0 ? 0.0f : x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/// A row of logits, its tokens ranked.
struct Row {
  const float* logits;
  int64_t vocab;
  int id_bits;  // 2^id_bits >= vocab

  __device__ Rank rank(float logit, int64_t id) const {
    return last_rank(logit) | ((Rank{1} << id_bits) - 1 - static_cast<Rank>(id));
  }
  /// The smallest that a token with this logit can have.
  __device__ Rank last_rank(float logit) const { return static_cast<Rank>(order_bits(logit)) << id_bits; }
  __device__ int64_t id(Rank rank) const {
    const Rank mask = (Rank{1} << id_bits) - 1;
    return static_cast<int64_t>(mask - (rank & mask));
  }
  __device__ uint32_t bits(Rank rank) const { return static_cast<uint32_t>(rank >> id_bits); }
};

/// f(id, logit) for the thread's part of the row.
template <bool Vector, class F>
__device__ inline void for_each(const Row& row, F&& f) {
  constexpr int64_t stride = int64_t{threads} * chunk_of<float>;
  for (int64_t base = static_cast<int64_t>(threadIdx.x) * chunk_of<float>; base < row.vocab; base += stride * chunks) {
    Chunk<float> chunk[chunks];
#pragma unroll
    for (int c = 0; c < chunks; ++c)
      chunk[c] = load_chunk<Vector, chunk_of<float>>(row.logits + base + c * stride, row.vocab - base - c * stride);
#pragma unroll
    for (int c = 0; c < chunks; ++c)
#pragma unroll
      for (int i = 0; i < chunk_of<float>; ++i)
        if (base + c * stride + i < row.vocab) f(base + c * stride + i, chunk[c][i]);
  }
}

struct Larger {
  __device__ static Rank apply(Rank a, Rank b) { return a > b ? a : b; }
};

/// Weights of tokens: 1, or their mass at a temperature.
struct Weight {
  bool count;
  double max, temperature;
  __device__ double operator()(float logit) const {
    return count ? 1.0 : exp((static_cast<double>(logit) - max) / temperature);
  }
};

/// What the running weight has to reach (`strict`: to exceed); as a share of the weight of all tokens, or as it is.
struct Goal {
  double value;
  bool share, strict;
};

struct Found {
  Rank rank;
  double weight;  // of this token and all before it
};

struct Shared {
  double* bins;    // [bin_count, threads]
  double* totals;  // [bin_count]
  Rank* lowest;    // [bin_count]: bin b holds the ranks from lowest[b] up to lowest[b - 1] - 1
  Rank* rank_scratch;
  int* count_scratch;
};

/// The first b with rank >= lowest[b].
__device__ inline int bin_of(Rank rank, const Rank* lowest) {
  int b = rank < lowest[7] ? 8 : 0;
  if (rank < lowest[b + 3]) b += 4;
  if (rank < lowest[b + 1]) b += 2;
  if (rank < lowest[b]) b += 1;
  return b;
}

/// Lower end of bin `b` of the ranks [low, high]. The first time bins grow with the distance from the largest logit.
__device__ inline Rank lower_end(const Row& row, const Weight& weight, bool first, Rank low, Rank high, int b) {
  if (b == bin_count - 1) return low;
  if (!first) {
    const Rank size = high - low + 1, part = size / bin_count, rest = size % bin_count, above = bin_count - 1 - b;
    return low + part * above + (rest * above + bin_count - 1) / bin_count;
  }
  const double gap = 0.2 * (b + 1) * (b + 1) * weight.temperature;
  const Rank end = row.last_rank(static_cast<float>(weight.max - gap));
  return end < low ? low : end;
}

/// The first token, among those with a weight and a rank in [low, high], at which the running weight meets the goal;
/// the last of them when rounding keeps the sum below it.
template <bool Vector>
__device__ inline Found find(const Row& row, const Weight& weight, const Goal& goal, Rank low, Rank high,
                             const Shared& s) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / warp_size, lane = thread % warp_size;
  double before = 0, wanted = goal.value;  // weight of the ranks above `high`
  for (bool first = true;; first = false) {
    if (thread < bin_count) s.lowest[thread] = lower_end(row, weight, first, low, high, thread);
    for (int b = 0; b < bin_count; ++b) s.bins[b * threads + thread] = 0;
    __syncthreads();

    int count = 0;
    Rank last = 0;
    for_each<Vector>(row, [&](int64_t id, float logit) {
      const Rank rank = row.rank(logit, id);
      if (rank < low || rank > high) return;
      s.bins[bin_of(rank, s.lowest) * threads + thread] += weight(logit);
      ++count;
      last = rank;
    });
    __syncthreads();

    double own = 0;
    for (int t = lane; t < threads; t += warp_size) own += s.bins[warp * threads + t];
    own = warp_sum(own);
    if (lane == 0) s.totals[warp] = own;
    const int tokens = block_sum<threads>(count, s.count_scratch);  // also the barrier after `totals`

    if (first && goal.share) {
      double all = 0;
      for (int b = 0; b < bin_count; ++b) all += s.totals[b];
      wanted = goal.value * all;
    }
    int bin = 0;
    double sum = before, before_bin = before;
    for (int b = 0; b < bin_count; ++b) {
      if (!(s.totals[b] > 0)) continue;
      bin = b;
      before_bin = sum;
      sum += s.totals[b];
      if (goal.strict ? sum > wanted : sum >= wanted) break;
    }
    if (tokens == 1) {  // one thread has it
      if (count == 1) *s.rank_scratch = last;
      __syncthreads();
      return {*s.rank_scratch, sum};
    }
    before = before_bin;
    if (bin > 0) high = s.lowest[bin - 1] - 1;
    low = s.lowest[bin];
    __syncthreads();  // everyone has read lowest and totals
  }
}

template <bool Vector>
__global__ void __launch_bounds__(threads, 1)
    sample_kernel(const float* __restrict__ logits, int64_t vocab, int id_bits, SamplingRule rule,
                  const double* __restrict__ uniforms, double* __restrict__ logprobs, int32_t* __restrict__ tokens) {
  gpu::begin_kernel();
  DYNAMIC_SHARED(bins);
  SHARED(double, totals, bin_count);
  SHARED(Rank, lowest, bin_count);
  SHARED(Rank, rank_scratch, bin_count);
  SHARED(int, count_scratch, bin_count);
  const Shared shared{reinterpret_cast<double*>(bins), totals, lowest, rank_scratch, count_scratch};
  const int64_t index = blockIdx.x;
  const Row row{logits + index * vocab, vocab, id_bits};

  Rank best = 0;
  for_each<Vector>(row, [&](int64_t id, float logit) { best = Larger::apply(best, row.rank(logit, id)); });
  best = block_reduce<Larger, threads>(best, rank_scratch);
  if (row.bits(best) >= infinity || row.bits(best) <= minus_infinity) {
    // A NaN or +inf, or no finite logit: there is no order to draw from.
    if (threadIdx.x == 0) logprobs[index] = NAN, tokens[index] = 0;
    return;
  }
  const double max = static_cast<double>(row.logits[row.id(best)]);
  double sum = 0;
  for_each<Vector>(row, [&](int64_t, float logit) { sum += exp(static_cast<double>(logit) - max); });
  const double log_sum_exp = max + log(block_sum<threads>(sum, totals));

  Rank token = best;
  if (rule.temperature > 0) {
    // Three searches of one kind: the last token of top_k, the last of top_p among those, the one drawn among those.
    Rank last = 0;
    Goal draw{uniforms[index], true, true};
    for (int search = 0; search < 3; ++search) {
      Weight weight{search == 0, max, rule.temperature};
      Goal goal = draw;
      if (search == 0) {
        if (rule.top_k <= 0 || rule.top_k >= vocab) continue;
        goal = {static_cast<double>(rule.top_k), false, false};
      } else if (search == 1) {
        if (rule.top_p >= 1) continue;
        goal = {rule.top_p, true, false};
      }
      const Found found = find<Vector>(row, weight, goal, last, best, shared);
      if (search == 1) draw = {draw.value * found.weight, false, true};
      last = found.rank;
    }
    token = last;
  }
  if (threadIdx.x == 0) {
    const int64_t id = row.id(token);
    logprobs[index] = static_cast<double>(row.logits[id]) - log_sum_exp;
    tokens[index] = static_cast<int32_t>(id);
  }
}

}  // namespace

void launch_sample(Stream stream, const float* logits, const double* uniforms, double* logprobs, int32_t* tokens,
                   int64_t rows, int64_t vocab, const SamplingRule& rule) {
  int id_bits = 1;
  while ((int64_t{1} << id_bits) < vocab) ++id_bits;
  with_flag(aligned(logits) && vocab % chunk_of<float> == 0, [&](auto vector) {
    gpu::launch("sample", dim3(blocks_for(rows, 1)), dim3(threads), bin_bytes, stream,
                sample_kernel<decltype(vector)::value>, logits, vocab, id_bits, rule, uniforms, logprobs, tokens);
  });
}

}  // namespace fire::cuda
