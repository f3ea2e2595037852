// The gradient of q for compute capability 9.0 (attention_hopper.cuh), with the sums of dq_kernel in
// attention_backward.cu: S = Q K^T and dP = dO V^T of a step together, then dQ += dS K. K is read twice, with its rows
// as columns of a product and as its k. Q and dS are in registers, dO has none left and stays in shared memory.
#include "cuda/attention_hopper.cuh"

namespace fire::cuda {
namespace attention::hopper {

template <int D>
__device__ inline void backward_queries(const Arguments& args, Shared<D, true>& shared, const float* lse,
                                        const float* delta, bf16* to, int warp) {
  using QueryTurn = Turn<Shared<D, true>::query_slots>;
  using StepTurn = Turn<Shared<D, true>::step_slots>;
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp_row = (warp - 4) * warp_rows,
            row = warp_row + lane / 4;
  constexpr uint32_t key_box = Box<D, step_keys>::bytes, row_box = Box<D, packed_rows>::bytes, atom = 8 * line_bytes;
  const auto release = [&](uint64_t* empty) {
    if (lane == 0) ptx::mbarrier_arrive(empty);
  };

  uint32_t q[D / 16][4], ds[step_keys / 16][4];
  float s[step_keys / 2] = {}, dp[step_keys / 2] = {}, dq[D / 2];
  unsigned steps = 0;
#pragma unroll 1
  for (unsigned tiles = 0;; ++tiles) {
    const QueryTurn turn(tiles);
    ptx::mbarrier_wait(shared.query_barriers.full + turn.slot, turn.parity);
    const int keys = shared.seen[turn.slot];
    if (keys == 0) break;
    int place[2], seen[2];
    float row_lse[2], row_delta[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const PackedRow packed = shared.rows[turn.slot][row + 8 * r];
      place[r] = packed.place;
      seen[r] = packed.seen;
      row_lse[r] = place[r] >= 0 ? lse[place[r]] * log2_e : 0;
      row_delta[r] = place[r] >= 0 ? delta[place[r]] : 0;
    }
    load_fragments(q, shared.queries[turn.slot][0], warp_row);
    // wgmma takes the rows of a warpgroup from its first.
    const unsigned char* const dout = shared.queries[turn.slot][1].data + warp_row / 64 * 64 * line_bytes;
#pragma unroll
    for (float& x : dq) x = 0;

#pragma unroll 1
    for (int first = 0; first < keys; first += step_keys, ++steps) {
      const StepTurn now(steps);
      const auto descriptor = [](const unsigned char* data, uint32_t box) {
        return ptx::wgmma_descriptor(data, box, atom, Swizzle::bytes_128);
      };
      const uint64_t step_k = descriptor(shared.keys[now.slot].data, key_box),
                     step_v = descriptor(shared.values[now.slot].data, key_box), step_o = descriptor(dout, row_box);
      ptx::mbarrier_wait(shared.step_barriers.full + now.slot, now.parity);
      ptx::wgmma_hold(s);
      ptx::wgmma_hold(dp);
      ptx::wgmma_fence();
#pragma unroll
      for (int i = 0; i < D / 16; ++i)
        ptx::wgmma<step_keys>(s, q[i], ptx::wgmma_behind(step_k, i / 4 * key_box + i % 4 * 32), i > 0);
      ptx::wgmma_commit();
#pragma unroll
      for (int i = 0; i < D / 16; ++i)
        ptx::wgmma<step_keys>(dp, ptx::wgmma_behind(step_o, i / 4 * row_box + i % 4 * 32),
                              ptx::wgmma_behind(step_v, i / 4 * key_box + i % 4 * 32), i > 0);
      ptx::wgmma_commit();

      ptx::wgmma_wait<1>();
      ptx::wgmma_hold(s);
      hold(q);
#pragma unroll
      for (int i = 0; i < step_keys / 2; ++i)
        s[i] = ptx::exp2_approx(fmaf(s[i], args.in.scale_log2, -row_lse[i / 2 % 2]));
      // ptxas moves the wait for dP in front of what has no branch before it: without one, the weights would not be
      // made in its shadow.
      if (first + step_keys > seen[0] || first + step_keys > seen[1]) {
        const int column = first + tile_column(lane, 0), left[2] = {seen[0] - column, seen[1] - column};
#pragma unroll
        for (int i = 0; i < step_keys / 2; ++i)
          if (8 * (i / 4) + i % 2 >= left[i / 2 % 2]) s[i] = 0;
      }
      ptx::wgmma_hold(s);
      ptx::wgmma_wait<0>();
      ptx::wgmma_hold(dp);
#pragma unroll
      for (int i = 0; i < step_keys / 2; ++i) s[i] *= dp[i] - row_delta[i / 2 % 2];
#pragma unroll
      for (int i = 0; i < step_keys / 4; ++i) ds[i / 4][i % 4] = ptx::pack_bf16x2(s[2 * i], s[2 * i + 1]);

      hold(ds);
      ptx::wgmma_hold(dq);
      ptx::wgmma_fence();
#pragma unroll
      for (int i = 0; i < step_keys / 16; ++i)
        ptx::wgmma<D, true>(dq, ds[i], ptx::wgmma_behind(step_k, i * 16 * line_bytes), true);
      ptx::wgmma_commit();
      ptx::wgmma_wait<0>();
      ptx::wgmma_hold(dq);
      hold(ds);
      release(shared.step_barriers.empty + now.slot);
    }
    __syncwarp();
    release(shared.query_barriers.empty + turn.slot);
#pragma unroll
    for (int half = 0; half < 2; ++half) store_row(to, args.in, place[half], dq, half, args.in.scale);
  }
}

template <int D>
__global__ void FIRE_HOPPER_BOUNDS(block_threads, 1)
    dq_kernel(const __grid_constant__ Arguments args, const float* lse, const float* delta, bf16* dq) {
#if FIRE_HOPPER
  gpu::begin_kernel();
  DYNAMIC_SHARED(memory);
  auto& shared = *reinterpret_cast<Shared<D, true>*>(memory);
  run_block(args, shared, [&](int warp) { backward_queries(args, shared, lse, delta, dq, warp); });
#endif
}

}  // namespace attention::hopper

void launch_attention_dq_hopper(Stream stream, const AttentionInputs& in, const void* dout, const float* lse,
                                const float* delta, const int32_t* query_tiles, void* dq, int64_t count,
                                int multiprocessors) {
  using namespace attention::hopper;
  const Arguments args = arguments_of(in, query_tiles, count, dout, dq);
  attention::with_width(in.width, [&](auto width) {
    constexpr int D = decltype(width)::value;
    gpu::launch("attention_dq sm_90a", grid_of(args, multiprocessors), dim3(block_threads), sizeof(Shared<D, true>),
                stream, dq_kernel<D>, args, lse, delta, static_cast<bf16*>(dq));
  });
}

}  // namespace fire::cuda
