// Attention forward for compute capability 9.0 (attention_hopper.cuh), with the sums of attention_forward.cu. A
// consumer multiplies S = Q K^T of a step together with O += P V of the step before, and makes weights of S while O is
// still under way. Q and P are in registers: out of shared memory, which gives 128 bytes a clock, Q would take as much
// as K does, and that is all.
#include "cuda/attention_hopper.cuh"

namespace fire::cuda {
namespace attention::hopper {

/// The scores of a step become weights relative to the row's maximum so far (attention_forward.cu has the same); what
/// was summed before is to be multiplied by `shrink`. Scores are rounded by themselves and never as part of a fused
/// subtraction, so that a row has the same bits whether or not the rows beside it end in this step.
__device__ inline void weigh(float (&s)[step_keys / 2], float scale_log2, int first, const int (&seen)[2],
                             float (&max)[2], float (&sum)[2], float (&shrink)[2]) {
  float top[2] = {max[0], max[1]};
#pragma unroll
  for (float& x : s) x = __fmul_rn(x, scale_log2);
  if (first + step_keys > seen[0] || first + step_keys > seen[1]) {
    const int column = first + tile_column(static_cast<int>(threadIdx.x) % warp_size, 0);
    const int left[2] = {seen[0] - column, seen[1] - column};
#pragma unroll
    for (int i = 0; i < step_keys / 2; ++i)
      if (8 * (i / 4) + i % 2 >= left[i / 2 % 2]) s[i] = -INFINITY;
  }
#pragma unroll
  for (int i = 0; i < step_keys / 2; ++i) top[i / 2 % 2] = fmaxf(top[i / 2 % 2], s[i]);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    top[r] = warp_max<4>(top[r]);
    shrink[r] = ptx::exp2_approx(max[r] - top[r]);
    max[r] = top[r];
    sum[r] *= shrink[r];
  }
#pragma unroll
  for (int i = 0; i < step_keys / 2; ++i) {
    s[i] = ptx::exp2_approx(s[i] - top[i / 2 % 2]);
    sum[i / 2 % 2] += s[i];
  }
}

template <int D>
__device__ inline void forward(const Arguments& args, Shared<D, false>& shared, bf16* to, float* lse, int warp) {
  using QueryTurn = Turn<Shared<D, false>::query_slots>;
  using StepTurn = Turn<Shared<D, false>::step_slots>;
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp_row = (warp - 4) * warp_rows,
            row = warp_row + lane / 4;
  constexpr uint32_t box = Box<D, step_keys>::bytes, atom = 8 * line_bytes;  // to the next 64 columns, the next 8 rows
  const auto release = [&](uint64_t* empty) {
    if (lane == 0) ptx::mbarrier_arrive(empty);
  };

  uint32_t q[D / 16][4], p[step_keys / 16][4];
  float s[step_keys / 2] = {}, o[D / 2];
  const auto wait_for = [&](const StepTurn& turn) {
    ptx::mbarrier_wait(shared.step_barriers.full + turn.slot, turn.parity);
  };
  const auto multiply_scores = [&](const StepTurn& turn) {
    const uint64_t keys = ptx::wgmma_descriptor(shared.keys[turn.slot].data, box, atom, Swizzle::bytes_128);
#pragma unroll
    for (int i = 0; i < D / 16; ++i)
      ptx::wgmma<step_keys>(s, q[i], ptx::wgmma_behind(keys, i / 4 * box + i % 4 * 32), i > 0);
    ptx::wgmma_commit();
  };
  const auto multiply_values = [&](const StepTurn& turn) {
    const uint64_t values = ptx::wgmma_descriptor(shared.values[turn.slot].data, box, atom, Swizzle::bytes_128);
#pragma unroll
    for (int i = 0; i < step_keys / 16; ++i)
      ptx::wgmma<D, true>(o, p[i], ptx::wgmma_behind(values, i * 16 * line_bytes), true);
    ptx::wgmma_commit();
  };
  const auto scores_done = [&] {
    ptx::wgmma_hold(s);
    hold(q);
  };
  const auto values_done = [&](const StepTurn& turn) {
    ptx::wgmma_wait<0>();
    ptx::wgmma_hold(o);
    hold(p);
    release(shared.step_barriers.empty + turn.slot);
  };
  const auto pack = [&] {
#pragma unroll
    for (int i = 0; i < step_keys / 4; ++i) p[i / 4][i % 4] = ptx::pack_bf16x2(s[2 * i], s[2 * i + 1]);
  };

  unsigned steps = 0;
#pragma unroll 1
  for (unsigned tiles = 0;; ++tiles) {
    const QueryTurn turn(tiles);
    ptx::mbarrier_wait(shared.query_barriers.full + turn.slot, turn.parity);
    const int keys = shared.seen[turn.slot];
    if (keys == 0) break;
    const PackedRow rows[2] = {shared.rows[turn.slot][row], shared.rows[turn.slot][row + 8]};
    load_fragments(q, shared.queries[turn.slot][0], warp_row);
    __syncwarp();
    release(shared.query_barriers.empty + turn.slot);
    const int seen[2] = {rows[0].seen, rows[1].seen};
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, shrink[2];
#pragma unroll
    for (float& x : o) x = 0;

    wait_for(StepTurn(steps));
    ptx::wgmma_hold(s);
    ptx::wgmma_fence();
    multiply_scores(StepTurn(steps));
    ptx::wgmma_wait<0>();
    scores_done();
    weigh(s, args.in.scale_log2, 0, seen, max, sum, shrink);
    pack();
    if (step_keys < keys) wait_for(StepTurn(steps + 1));
#pragma unroll 1
    for (int first = step_keys; first < keys; first += step_keys) {
      const StepTurn before(steps), now(++steps);
      hold(p);
      ptx::wgmma_hold(s);
      ptx::wgmma_hold(o);
      ptx::wgmma_fence();
      multiply_scores(now);
      multiply_values(before);
      ptx::wgmma_wait<1>();
      scores_done();
      weigh(s, args.in.scale_log2, first, seen, max, sum, shrink);
      // Here and not at the head of the loop: ptxas moves the wait for O in front of what has no branch before it, and
      // the weights would not be made in its shadow.
      ptx::wgmma_hold(s);
      if (first + step_keys < keys) wait_for(StepTurn(steps + 1));
      values_done(before);
#pragma unroll
      for (int i = 0; i < D / 2; ++i) o[i] *= shrink[i / 2 % 2];
      pack();
    }
    const StepTurn last(steps++);
    hold(p);
    ptx::wgmma_hold(o);
    ptx::wgmma_fence();
    multiply_values(last);
    values_done(last);

#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float all = warp_sum<4>(sum[half]);
      const int place = rows[half].place;
      if (lse != nullptr && lane % 4 == 0 && place >= 0) lse[place] = max[half] * ln_2 + logf(all);
      store_row(to, args.in, place, o, half, 1.0f / all);
    }
  }
}

template <int D>
__global__ void FIRE_HOPPER_BOUNDS(block_threads, 1)
    forward_kernel(const __grid_constant__ Arguments args, bf16* o, float* lse) {
#if FIRE_HOPPER
  gpu::begin_kernel();
  DYNAMIC_SHARED(memory);
  auto& shared = *reinterpret_cast<Shared<D, false>*>(memory);
  run_block(args, shared, [&](int warp) { forward(args, shared, o, lse, warp); });
#endif
}

}  // namespace attention::hopper

bool takes_attention_hopper(const AttentionInputs& in) {
  return in.type == DType::bf16 && in.heads / in.kv_heads <= attention::hopper::packed_rows;
}

void launch_attention_hopper(Stream stream, const AttentionInputs& in, const int32_t* query_tiles, void* o, float* lse,
                             int64_t count, int multiprocessors) {
  using namespace attention::hopper;
  const Arguments args = arguments_of(in, query_tiles, count, nullptr, o);
  attention::with_width(in.width, [&](auto width) {
    constexpr int D = decltype(width)::value;
    gpu::launch("attention sm_90a", grid_of(args, multiprocessors), dim3(block_threads), sizeof(Shared<D, false>),
                stream, forward_kernel<D>, args, static_cast<bf16*>(o), lse);
  });
}

}  // namespace fire::cuda
