// What becomes of the sums of a tile on Hopper (gemm_hopper.cuh). An epilogue is a struct of values that the launch
// hands to the kernel:
//
//   prefetch     one thread, at the start: the maps that it will use
//   fetch        the producer, behind the slices of a tile's factors: slots of the ring with what else the tile needs
//   finish       a consumer's warp, with the sums of its 16 rows and the slots that `fetch` has filled
//   warp_bytes   shared memory of each warp of the consumers, 1024-byte aligned
//   products     of a tile, one or two (gemm_hopper.cuh)
//   kernel       what launches are called
//
// Sum i of a thread is in column 8 (i / 4) + 2 (lane % 4) + i % 2 of the tile, and in row `row` + 8 (i / 2 % 2).
#pragma once

#include "cuda/gemm.cuh"
#include "cuda/hopper.cuh"

namespace fire::cuda::detail {

/// Which tile of Y, of which product, over which part of k.
struct HopperPlace {
  int product, part, m0, n0;
  bool half;
};

/// A slot of the ring, and which of its rounds: barriers are waited for by the parity of their rounds.
template <int Stages>
struct HopperSlot {
  int index = 0;
  uint32_t parity = 0;

  __device__ void advance() {
    if (++index < Stages) return;
    index = 0;
    parity ^= 1;
  }
};

/// The slots of the ring in shared memory, with the barriers of each.
template <int Stages, int SlotBytes>
struct HopperRing {
  unsigned char* slots;
  uint64_t *full, *empty;
  HopperSlot<Stages> slot;  ///< the one whose turn it is

  __device__ unsigned char* data() const { return slots + slot.index * SlotBytes; }
  /// The producer: empty, and `bytes` are announced.
  __device__ uint64_t* begin_fetch(uint32_t bytes) const {
    ptx::mbarrier_wait(empty + slot.index, slot.parity ^ 1);  // of the round before; there is none before the first
    ptx::mbarrier_arrive_expect(full + slot.index, bytes);
    return full + slot.index;
  }
  /// The consumers.
  __device__ void wait() const { ptx::mbarrier_wait(full + slot.index, slot.parity); }
  /// A warp has read slot `index`.
  __device__ void release(int index) const {
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(empty + index);
  }
};

__device__ inline float2 load_pair(const float* from) { return *reinterpret_cast<const float2*>(from); }
__device__ inline float2 load_pair(const bf16* from) {
  const uint32_t packed = *reinterpret_cast<const uint32_t*>(from);
  return make_float2(low_f32(packed), high_f32(packed));
}
__device__ inline void store_pair(float* to, float2 pair) { *reinterpret_cast<float2*>(to) = pair; }
__device__ inline void store_pair(bf16* to, float2 pair) {
  *reinterpret_cast<uint32_t*>(to) = ptx::pack_bf16x2(pair.x, pair.y);
}

/// Whatever Y is: straight from the registers. A row of eight f32 is 32 bytes, whole sectors of memory.
struct PlainEpilogue {
  static constexpr const char* kernel = "gemm sm_90a";
  static constexpr int products = 1;
  static constexpr int warp_bytes = 0;

  __device__ void prefetch(const GemmArguments&) const {}
  template <class Tile, class Ring>
  __device__ void fetch(const GemmArguments&, const HopperPlace&, Ring&) const {}

  template <class Tile, int N, class Ring>
  __device__ void finish(const GemmArguments& args, const HopperPlace& place, const float (&acc)[N], int row, Ring&,
                         unsigned char*) const {
    const GemmProduct& y = args.products[place.product];
    const bool alike = y.residual == nullptr || (y.residual_vector && y.residual_f32 == y.y_f32);
    if (!y.y_vector || !alike) return finish_elements(args, place, acc, row);
    // Rows of whole 16 bytes: of two columns both exist or none.
    y.y_f32 ? finish_pairs<float>(args, place, acc, row) : finish_pairs<bf16>(args, place, acc, row);
  }

 private:
  template <int N>
  __device__ static void finish_elements(const GemmArguments& args, const HopperPlace& place, const float (&acc)[N],
                                         int row) {
    const GemmProduct y = args.products[place.product];
    const int first_col = place.n0 + 2 * (static_cast<int>(threadIdx.x) % 4);
    const int64_t start = place.part * args.part_stride + int64_t{row - args.m_begin} * y.n + first_col;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int half = i / 2 % 2, col = 8 * (i / 4) + i % 2;
      if (row + 8 * half >= args.m_end || first_col + col >= y.n) continue;
      const int64_t at = start + half * 8 * int64_t{y.n} + col;
      float value = __fmul_rn(y.alpha, acc[i]);  // rounded by itself, as where it passes through memory
      if (y.bias != nullptr) value += y.bias[first_col + col];
      if (y.residual != nullptr)
        value += y.residual_f32 ? static_cast<const float*>(y.residual)[at]
                                : to_f32(static_cast<const bf16*>(y.residual)[at]);
      if (y.y_f32)
        static_cast<float*>(y.y)[at] = value;
      else
        static_cast<bf16*>(y.y)[at] = from_f32<bf16>(value);
    }
  }

  template <class E, int N>
  __device__ static void finish_pairs(const GemmArguments& args, const HopperPlace& place, const float (&acc)[N],
                                      int row) {
    constexpr int groups = 4;  // of eight columns: their residual is asked for before the first of them is written
    const GemmProduct y = args.products[place.product];
    const int first_col = place.n0 + 2 * (static_cast<int>(threadIdx.x) % 4);
    const int64_t start = place.part * args.part_stride + int64_t{row - args.m_begin} * y.n + first_col;
    E* const to[2] = {static_cast<E*>(y.y) + start, static_cast<E*>(y.y) + start + 8 * int64_t{y.n}};
    const E* const from[2] = {static_cast<const E*>(y.residual) + start,
                              static_cast<const E*>(y.residual) + start + 8 * int64_t{y.n}};
#pragma unroll
    for (int first = 0; first < N / 4; first += groups) {
      float2 bias[groups], residual[2][groups];
      bool exists[2][groups];
#pragma unroll
      for (int g = 0; g < groups; ++g) {
        const int col = first_col + 8 * (first + g);
        if (y.bias != nullptr) bias[g] = col < y.n ? make_float2(y.bias[col], y.bias[col + 1]) : make_float2(0, 0);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          exists[half][g] = col < y.n && row + 8 * half < args.m_end;
          if (y.residual != nullptr && exists[half][g]) residual[half][g] = load_pair(from[half] + 8 * (first + g));
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int g = 0; g < groups; ++g) {
          const float* const sums = acc + 4 * (first + g) + 2 * half;
          float2 value = make_float2(__fmul_rn(y.alpha, sums[0]), __fmul_rn(y.alpha, sums[1]));
          if (y.bias != nullptr) value.x += bias[g].x, value.y += bias[g].y;
          if (y.residual != nullptr) value.x += residual[half][g].x, value.y += residual[half][g].y;
          if (exists[half][g]) store_pair(to[half] + 8 * (first + g), value);
        }
    }
  }
};

/// 64 columns of bf16 on their way between registers and TMA: lines of 128 bytes, swizzled, so that eight rows of four
/// lanes meet no bank twice. A warp has 16 of its rows; pair i of a thread is of sums 2 i and 2 i + 1.
struct HopperPiece {
  static constexpr int columns = 64, line = 128, bytes = 16 * line;
  int group_offset[8];  ///< of this thread's pair in eight columns

  __device__ HopperPiece() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int g = 0; g < 8; ++g) group_offset[g] = lane / 4 * line + (g ^ lane / 4) * 16 + lane % 4 * 4;
  }
  /// Eight rows on is eight lines on.
  __device__ int offset(int pair) const { return group_offset[pair / 2] + pair % 2 * 8 * line; }

  __device__ uint32_t get(const unsigned char* from, int pair) const {
    return *reinterpret_cast<const uint32_t*>(from + offset(pair));
  }
  __device__ void put(unsigned char* to, int pair, uint32_t packed) const {
    *reinterpret_cast<uint32_t*>(to + offset(pair)) = packed;
  }
  /// What the whole warp has put to `from` goes to row and column of a matrix; its store is not yet committed.
  __device__ static void store(const TensorMap* map, int column, int row, const unsigned char* from) {
    if (threadIdx.x % 32 == 0) ptx::tma_store_2d(map, column, row, from);
  }
};

/// A warp's two pieces of shared memory: it writes the one while the other is read, the first of them first.
class HopperStaging {
 public:
  static constexpr int bytes = 2 * HopperPiece::bytes;

  __device__ explicit HopperStaging(unsigned char* pieces) : to_(pieces), other_(pieces + HopperPiece::bytes) {}
  /// To row and column of a matrix. Of what was sent before all but the last has been read.
  __device__ void send(const TensorMap* map, int column, int row, const uint32_t (&pairs)[16]) {
    const bool first_lane = threadIdx.x % 32 == 0;
    if (first_lane) ptx::tma_store_wait_read<1>();
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 16; ++i) piece_.put(to_, i, pairs[i]);
    ptx::fence_async_shared();
    __syncwarp();
    HopperPiece::store(map, column, row, to_);
    if (first_lane) ptx::tma_store_commit();
    unsigned char* const sent = to_;
    to_ = other_, other_ = sent;
  }
  __device__ const HopperPiece& piece() const { return piece_; }

 private:
  HopperPiece piece_;
  unsigned char *to_, *other_;
};

/// Y and residual in bf16, in rows of whole 16 bytes: by way of shared memory and TMA. The residual comes as slots of
/// the ring, while the last slices are multiplied; Y goes while the next tile is.
struct StagedEpilogue {
  static constexpr const char* kernel = "gemm sm_90a";
  static constexpr int products = 1;
  static constexpr int piece_columns = HopperPiece::columns, line = HopperPiece::line;
  static constexpr int warp_bytes = HopperStaging::bytes;
  static constexpr int fetched = 2;  ///< pieces of the residual in a slot

  TensorMap y[gemm_most], residual[gemm_most];

  __device__ void prefetch(const GemmArguments& args) const {
    for (int i = 0; i < args.columns; ++i) {
      if (args.products[i].n == 0) continue;
      ptx::prefetch_tensor_map(y + i);
      if (args.products[i].residual != nullptr) ptx::prefetch_tensor_map(residual + i);
    }
  }

  template <class Tile, class Ring>
  __device__ void fetch(const GemmArguments& args, const HopperPlace& place, Ring& ring) const {
    if (args.products[place.product].residual == nullptr) return;
#pragma unroll 1
    for (int n = 0; n < (place.half ? Tile::BN / 2 : Tile::BN); n += fetched * piece_columns, ring.slot.advance()) {
      uint64_t* const arrived = ring.begin_fetch(fetched * Tile::BM * line);
      for (int piece = 0; piece < fetched; ++piece)
        ptx::tma_load_2d(ring.data() + piece * Tile::BM * line, residual + place.product,
                         place.n0 + n + piece * piece_columns, place.m0 - args.m_begin, arrived);
    }
  }

  template <class Tile, int N, class Ring>
  __device__ void finish(const GemmArguments& args, const HopperPlace& place, const float (&acc)[N], int row,
                         Ring& ring, unsigned char* staging) const {
    static_assert(N % (fetched * piece_columns / 2) == 0, "whole slots of residual, and both pieces are free again");
    const GemmProduct& product = args.products[place.product];
    const int lane = static_cast<int>(threadIdx.x) % 32, warp_row = row - lane / 4 - place.m0;
    HopperStaging stage(staging);
#pragma unroll
    for (int piece = 0; piece < N / 32; ++piece) {
      const int column = place.n0 + piece * piece_columns;
      float values[32];
#pragma unroll
      for (int i = 0; i < 32; ++i)  // rounded by itself, as where it passes through memory
        values[i] = __fmul_rn(product.alpha, acc[32 * piece + i]);
      if (product.bias != nullptr) {
#pragma unroll
        for (int g = 0; g < 8; ++g) {
          const int col = column + 8 * g + 2 * (lane % 4);
          const float2 bias =
              col < product.n ? make_float2(product.bias[col], product.bias[col + 1]) : make_float2(0, 0);
#pragma unroll
          for (int half = 0; half < 2; ++half)
            values[4 * g + 2 * half] += bias.x, values[4 * g + 2 * half + 1] += bias.y;
        }
      }
      if (product.residual != nullptr) {
        if (piece % fetched == 0) ring.wait();
        const unsigned char* const from = ring.data() + (piece % fetched * Tile::BM + warp_row) * line;
        uint32_t packed[16];
#pragma unroll
        for (int i = 0; i < 16; ++i) packed[i] = stage.piece().get(from, i);
#pragma unroll
        for (int i = 0; i < 16; ++i) values[2 * i] += low_f32(packed[i]), values[2 * i + 1] += high_f32(packed[i]);
        if (piece % fetched == fetched - 1) {
          __syncwarp();
          ring.release(ring.slot.index);
          ring.slot.advance();
        }
      }
      uint32_t pairs[16];
#pragma unroll
      for (int i = 0; i < 16; ++i) pairs[i] = ptx::pack_bf16x2(values[2 * i], values[2 * i + 1]);
      stage.send(y + place.product, column, place.m0 + warp_row - args.m_begin, pairs);
    }
  }
};

}  // namespace fire::cuda::detail
