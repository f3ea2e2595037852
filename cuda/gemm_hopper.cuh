// The kernel of gemm.h for compute capability 9.0, where tensor cores read shared memory themselves (wgmma) and slices
// are fetched by one thread's request (TMA). Same sums, in the same order; every factor is direct (gemm_slice.cuh).
//
// A block stays on its multiprocessor and takes one tile of Y after another. Its first warpgroup is the producer: one
// thread of it asks for the slices of A and B, 64 of k wide, as soon as a slot of the ring is free, and is ahead with
// those of the next tile while this one is written. The other warpgroups are consumers: each multiplies 64 rows of the
// tile and keeps their sums in its registers. Two mbarriers a slot are all that they say to each other: `full`, all
// bytes of the slice are there, and `empty`, every warp of the consumers has read them. Where a factor is under
// dropout, the other warps of the producer drop what its mask does not keep, and say so by a third one: `dropped`.
//
// A tile may be of two products with one A, side by side: the first half of its columns is of the one, the second of
// the other, at the same columns of their Ys. Each has its own A'.
#pragma once

#include "cuda/gemm_hopper_dropout.cuh"
#include "cuda/gemm_hopper_epilogue.cuh"
#include "cuda/hopper.cuh"

namespace fire::cuda::detail {

/// 64 rows a consumer, BN columns, a ring of `Stages`; registers and shared memory for `Blocks` on a multiprocessor.
/// `Drops`: the factor that is x, A in nt and B in tn, is under dropout.
template <int Consumers, int BN_, int Stages, int Blocks, bool Drops = false>
struct HopperTile {
  static constexpr int BM = 64 * Consumers, BN = BN_, stages = Stages, blocks = Blocks;
  static constexpr int consumers = Consumers, threads = 128 * (1 + Consumers);
  static constexpr bool drops = Drops;
  /// What 256 columns of sums need is more than an equal share of the registers: the producer gives of its own.
  static constexpr bool trades_registers = BN == 256;
  /// The tiles that are left when all blocks have had as many may be divided (HopperArguments).
  static constexpr bool halves = BN == 256;
};

// Shared memory gives 128 bytes a clock. With 64 x 256 a consumer the tensor cores read 80 of them and TMA writes 48;
// with 64 x 128 they would need 160, and wait. So the others are for a Y of no more columns, for few tiles, and, 32
// columns wide, for few rows: there all wait for the weight anyway.
using HopperWide = HopperTile<2, 256, 4, 1>;
using HopperSquare = HopperTile<2, 128, 6, 1>;
using HopperNarrow = HopperTile<1, 128, 4, 2>;
using HopperSmall = HopperTile<1, 32, 8, 2>;

/// Slices in shared memory: rows of 128 bytes, swizzled, eight rows an atom of 1,024 bytes. A factor whose rows run
/// along k comes in boxes of at most 128 rows, so that half a tile has whole boxes; one that is transposed (its rows
/// are of one k) in boxes of 64 columns. They lie one behind the other.
template <class Tile, GemmForm Form, int Products>
struct HopperShape {
  static constexpr int BK = 64, row_bytes = 128, box_bytes = BK * row_bytes;
  static constexpr bool a_transposed = Form == GemmForm::tn, b_transposed = Form != GemmForm::nt;
  static constexpr int a_bytes = Tile::BM * row_bytes, slot_bytes = (Tile::BM + Tile::BN) * row_bytes;
  static constexpr int a_box = a_transposed ? 64 : Tile::BM;  ///< rows of Y in a box of A
  /// Columns of a product in the smallest tile, and in a box of B.
  static constexpr int least = Tile::BN / Products / (Tile::halves ? 2 : 1);
  static constexpr int b_box = b_transposed ? 64 : least < 128 ? least : 128;
  /// With what each warp of the consumers has.
  static constexpr size_t shared_bytes(int warp_bytes) {
    return Tile::stages * (slot_bytes + (Tile::drops ? 3 : 2) * sizeof(uint64_t)) + 4 * Tile::consumers * warp_bytes;
  }
  static_assert(least % b_box == 0, "whole boxes");
};

/// The factors of a product; without rank the last two are not there.
struct HopperMaps {
  TensorMap a, b, low_a, low_b;
};

/// Tiles of all parts, counted through. Where fewer than half of the blocks would have one more than the others, the
/// last ones are two of half the columns each, so that twice as many blocks are through in half the time: those from
/// `whole` on.
template <class Epilogue>
struct HopperArguments {
  GemmArguments gemm;
  Epilogue epilogue;
  int tiles, whole;
  HopperMaps maps[gemm_most];
};

/// Blocks that run together share rows of A and of B: sixteen tiles down, then one to the right.
template <class Tile, class Epilogue>
__device__ inline HopperPlace hopper_place(const HopperArguments<Epilogue>& arguments, int tile) {
  constexpr int down = 16, columns = Tile::BN / Epilogue::products;
  const GemmArguments& args = arguments.gemm;
  const bool half = Tile::halves && tile >= arguments.whole;
  const int second = half ? (tile - arguments.whole) % 2 : 0;
  if (half) tile = arguments.whole + (tile - arguments.whole) / 2;
  const auto tiles_of = [&](int product) { return (args.products[product].n + columns - 1) / columns; };
  const int tiles_m = (args.m_end - args.m_begin + Tile::BM - 1) / Tile::BM;
  int tiles_n = 0;
  for (int i = 0; i < args.columns; ++i) tiles_n += tiles_of(i);
  HopperPlace place{0, tile / (tiles_m * tiles_n), 0, 0, half};
  tile %= tiles_m * tiles_n;
  const int band = tile / (down * tiles_n), within = tile % (down * tiles_n), height = min(down, tiles_m - down * band);
  int column = within / height;
  for (; column >= tiles_of(place.product); ++place.product) column -= tiles_of(place.product);
  place.m0 = args.m_begin + (down * band + within % height) * Tile::BM;
  place.n0 = column * columns + second * columns / 2;
  return place;
}

/// What a tile sums: the terms from place.product on, A' B' of all, then A B of all over its part of k.
template <GemmForm Form>
struct HopperSum {
  const GemmArguments& args;
  const HopperPlace& place;

  __device__ int begin() const { return place.product; }
  __device__ int end() const { return place.product + args.terms.count; }
  __device__ int rank(int term) const { return Form == GemmForm::tn || place.part > 0 ? 0 : args.products[term].rank; }
  __device__ int k_begin() const { return place.part * args.chunk; }
  __device__ int k_end(int term) const { return min(args.products[term].k - k_begin(), args.chunk) + k_begin(); }
};

__device__ inline int hopper_slices(int length) { return (length + 63) / 64; }

/// acc *= mask: element i of a thread is in row `row` + 8 (i / 2 % 2) and column `col0` + 8 (i / 4) + 2 (lane % 4) + i
/// % 2.
template <int N>
__device__ inline void mask_accumulators(float (&acc)[N], const DropoutMask& mask, int row, int col0) {
  const int pair = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t r = static_cast<uint32_t>(row + 8 * half), first = static_cast<uint32_t>(col0 / 32);
#pragma unroll
    for (int word = 0; word < N / 16; ++word) {
      const bool exists = r < mask.rows && first + word < mask.words;
      const uint32_t bits = exists ? mask.bits[int64_t{r} * mask.words + first + word] >> 2 * pair : 0;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float& x = acc[16 * word + 4 * (i / 2) + 2 * half + i % 2];
        const int all = static_cast<int>(bits << (31 - 8 * (i / 2) - i % 2)) >> 31;  // copies of the bit
        x = __int_as_float(__float_as_int(x * mask.keep) & all);
      }
    }
  }
}

/// A binary has this kernel for every chip it is built for, and a body for 9.0 alone. Elsewhere a block of it may have
/// one warp: a launch is refused (and has_gemm_hopper knows).
template <class Tile, GemmForm Form, class Epilogue>
__global__ void FIRE_HOPPER_BOUNDS(Tile::threads, Tile::blocks)
    gemm_hopper_kernel(const __grid_constant__ HopperArguments<Epilogue> args) {
#if FIRE_HOPPER
  gpu::begin_kernel();
  using Shape = HopperShape<Tile, Form, Epilogue::products>;
  constexpr int BK = Shape::BK, stages = Tile::stages, warp_bytes = Epilogue::warp_bytes;
  DYNAMIC_SHARED(shared);
  unsigned char* const staging = shared + stages * Shape::slot_bytes;
  uint64_t* const barriers = reinterpret_cast<uint64_t*>(staging + 4 * Tile::consumers * warp_bytes);
  HopperRing<stages, Shape::slot_bytes> ring{shared, barriers, barriers + stages, {}};
  [[maybe_unused]] uint64_t* const dropped = barriers + 2 * stages;
  // The same in all lanes, and known to be: descriptors stay in uniform registers.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0), warpgroup = warp / 4;

  if (threadIdx.x == 0) {
    for (int i = 0; i < stages; ++i) {
      ptx::mbarrier_init(ring.full + i, 1);
      ptx::mbarrier_init(ring.empty + i, 4 * Tile::consumers);
      if constexpr (Tile::drops) ptx::mbarrier_init(dropped + i, dropping_warps);
    }
    ptx::fence_mbarrier_init();
  }
  if (threadIdx.x == 32) {  // meanwhile
    for (int i = 0; i < max(max(args.gemm.columns, args.gemm.terms.count), Epilogue::products); ++i) {
      const GemmProduct& product = args.gemm.products[i];
      if (product.n == 0) continue;
      if (product.k > 0) ptx::prefetch_tensor_map(&args.maps[i].a), ptx::prefetch_tensor_map(&args.maps[i].b);
      if (product.rank > 0)
        ptx::prefetch_tensor_map(&args.maps[i].low_a), ptx::prefetch_tensor_map(&args.maps[i].low_b);
    }
    args.epilogue.prefetch(args.gemm);
  }
  __syncthreads();

  const auto for_each_tile = [&](const auto& body) {
    for (int tile = static_cast<int>(blockIdx.x); tile < args.tiles; tile += static_cast<int>(gridDim.x))
      body(hopper_place<Tile>(args, tile));
  };

  if (warpgroup == 0) {
    if constexpr (Tile::trades_registers) ptx::registers_shrink<40>();
    if constexpr (Tile::drops) {
      static_assert(Form != GemmForm::nn && !Tile::trades_registers && warp_bytes == 0, "all slots are of factors");
      if (warp > 0) {
        for_each_tile([&](const HopperPlace& place) {
          constexpr bool nt = Form == GemmForm::nt;
          const HopperSum<Form> sum{args.gemm, place};
          const DropoutMask& mask = args.gemm.products[place.product].mask;
          SliceMask<nt ? Tile::BM : Tile::BN, nt ? Shape::a_box : Shape::b_box> now, next;
          const auto load = [&](int k) { next.load(mask, nt ? place.m0 : k, nt ? k : place.n0); };
          load(sum.k_begin());
#pragma unroll 1
          for (int k = sum.k_begin(); k < sum.k_end(place.product); k += BK, ring.slot.advance()) {
            now = next;
            load(k + BK);  // behind the last slice too, where there may be more of the mask: nobody reads it
            ring.wait();
            now.apply(ring.data() + (nt ? 0 : Shape::a_bytes), mask.keep);
            ptx::fence_async_shared();  // the tensor cores are to see what was stored
            __syncwarp();
            if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(dropped + ring.slot.index);
          }
        });
        return;
      }
    }
    if (warp > 0 || !ptx::elect_one()) return;
    /// Of `columns` columns; those from the middle on are of `second`, where there is one.
    const auto fetch = [&](const TensorMap& a, const TensorMap& b, const TensorMap* second, int columns,
                           const HopperPlace& place, int begin, int end) {
#pragma unroll 1
      for (int k = begin; k < end; k += BK, ring.slot.advance()) {
        uint64_t* const arrived = ring.begin_fetch(Shape::a_bytes + columns * Shape::row_bytes);
        // What lies outside a factor arrives as zeros, and counts.
        for (int m = 0; m < Tile::BM; m += Shape::a_box)
          ptx::tma_load_2d(ring.data() + m * Shape::row_bytes, &a, Shape::a_transposed ? place.m0 + m : k,
                           Shape::a_transposed ? k : place.m0 + m, arrived);
#pragma unroll 1
        for (int n = 0; n < columns; n += Shape::b_box) {
          const bool other = second != nullptr && 2 * n >= columns;
          const int col = place.n0 + (other ? n - columns / 2 : n);
          ptx::tma_load_2d(ring.data() + Shape::a_bytes + n * Shape::row_bytes, other ? second : &b,
                           Shape::b_transposed ? col : k, Shape::b_transposed ? k : col, arrived);
        }
      }
    };
    for_each_tile([&](const HopperPlace& place) {
      const int columns = place.half ? Tile::BN / 2 : Tile::BN;
      const HopperSum<Form> sum{args.gemm, place};
      if constexpr (Epilogue::products == 2) {
        for (int i = 0; i < 2; ++i)
          fetch(args.maps[i].low_a, args.maps[i].low_b, nullptr, columns / 2, place, 0, sum.rank(i));
        fetch(args.maps[0].a, args.maps[0].b, &args.maps[1].b, columns, place, 0, sum.k_end(0));
      } else {
        for (int term = sum.begin(); term < sum.end(); ++term)
          fetch(args.maps[term].low_a, args.maps[term].low_b, nullptr, columns, place, 0, sum.rank(term));
        for (int term = sum.begin(); term < sum.end(); ++term)
          fetch(args.maps[term].a, args.maps[term].b, nullptr, columns, place, sum.k_begin(), sum.k_end(term));
      }
      args.epilogue.template fetch<Tile>(args.gemm, place, ring);
    });
    return;
  }

  if constexpr (Tile::trades_registers) ptx::registers_grow<232>();
  const int consumer = warpgroup - 1, lane = static_cast<int>(threadIdx.x) % 32;
  // Bytes between the eight rows of an atom and the next eight; and, transposed, between a box and the next.
  constexpr uint32_t atom = 8 * Shape::row_bytes, box = Shape::box_bytes;
  // 16 of k further: 32 bytes of each row, or 16 rows.
  constexpr int step_a = Shape::a_transposed ? 16 * Shape::row_bytes : 32,
                step_b = Shape::b_transposed ? 16 * Shape::row_bytes : 32;
  const auto compute = [&](auto columns, const HopperPlace& place) {
    constexpr int N = decltype(columns)::value;
    float acc[N / 2] = {};
    /// Adds the next slices to `sums`: acc or a half of it.
    const auto multiply = [&](auto& sums, int slices) {
      constexpr int sum_columns = 2 * std::extent_v<std::remove_reference_t<decltype(sums)>>;
      int before = 0;
      ptx::wgmma_hold(sums);
#pragma unroll 1
      for (int i = 0; i < slices; ++i, ring.slot.advance()) {
        ring.wait();
        if constexpr (Tile::drops) ptx::mbarrier_wait(dropped + ring.slot.index, ring.slot.parity);
        ptx::wgmma_fence();
#pragma unroll
        for (int step = 0; step < BK / 16; ++step)
          ptx::wgmma<sum_columns, Shape::a_transposed, Shape::b_transposed>(
              sums,
              ptx::wgmma_descriptor(ring.data() + consumer * Shape::box_bytes + step * step_a, box, atom,
                                    Swizzle::bytes_128),
              ptx::wgmma_descriptor(ring.data() + Shape::a_bytes + step * step_b, box, atom, Swizzle::bytes_128), true);
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();  // this slice is being multiplied, and the one before has been read
        if (i > 0) ring.release(before);
        before = ring.slot.index;
      }
      ptx::wgmma_wait<0>();
      ptx::wgmma_hold(sums);
      if (slices > 0) ring.release(before);
    };
    const HopperSum<Form> sum{args.gemm, place};
    int low_slices = 0, slices = 0;
    for (int term = sum.begin(); term < sum.end(); ++term) {
      low_slices += hopper_slices(sum.rank(term));
      slices += hopper_slices(sum.k_end(term) - sum.k_begin());
    }
    const int row = place.m0 + 64 * consumer + warp % 4 * 16 + lane / 4;
    if constexpr (Epilogue::products == 2) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float(&half)[N / 4] = reinterpret_cast<float(&)[N / 4]>(acc[i * (N / 4)]);
        if (sum.rank(i) == 0) continue;
        multiply(half, hopper_slices(sum.rank(i)));
#pragma unroll
        for (float& x : half) x *= args.gemm.products[i].low_scale;
      }
    } else if (low_slices > 0) {
      const GemmProduct& low = args.gemm.products[place.product];
      multiply(acc, low_slices);
#pragma unroll
      for (float& x : acc) x *= low.low_scale;
      if (low.low_masked) mask_accumulators(acc, low.mask, row, place.n0);
    }
    multiply(acc, slices);
    args.epilogue.template finish<Tile>(args.gemm, place, acc, row, ring, staging + (warp - 4) * warp_bytes);
  };
  for_each_tile([&](const HopperPlace& place) {
    if constexpr (Tile::halves)
      if (place.half) return compute(std::integral_constant<int, Tile::BN / 2>(), place);
    compute(std::integral_constant<int, Tile::BN>(), place);
  });
  if (warp_bytes > 0 && lane == 0) ptx::tma_store_wait_read<0>();
#endif
}

}  // namespace fire::cuda::detail
