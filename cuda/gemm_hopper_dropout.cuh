// Dropout on Hopper (gemm_hopper.cuh): TMA brings a factor as it is, and warps that have nothing else to do multiply
// its slices by the mask where they lie, before the tensor cores read them. A value is widened, multiplied and rounded
// as on the way that every GPU has (gemm_slice.cuh).
#pragma once

#include "cuda/dropout.cuh"
#include "cuda/vector.cuh"

namespace fire::cuda::detail {

/// The warps of the producer that ask TMA for nothing, warp 1 and those behind it.
constexpr int dropping_warps = 3;

/// The mask of a slice of `Lines` lines of 128 swizzled bytes, in boxes of `BoxLines`, which lie side by side in the
/// factor. The threads take turns at pieces of eight values: a warp has four whole lines at a time.
template <int Lines, int BoxLines>
class SliceMask {
 public:
  /// Asked for before the slice is there. The slice begins at (row, col) of the factor, col a multiple of 64. Outside
  /// the mask nothing is kept.
  __device__ void load(const DropoutMask& mask, int row, int col) {
    for_each_piece(words_, [&](uint32_t& word, int box, int line, int column) {
      const uint32_t r = static_cast<uint32_t>(row + line), at = static_cast<uint32_t>(col + 64 * box + column) / 32;
      const bool exists = (r < mask.rows) & (at < mask.words);
      word = exists ? mask.bits[uint64_t{r} * mask.words + at] : 0;
    });
  }

  __device__ void apply(unsigned char* slice, float keep) const {
    const int piece = own_thread() % 8;
    for_each_piece(words_, [&](uint32_t word, int box, int line, int column) {
      uint4* const at = reinterpret_cast<uint4*>(slice) + (box * BoxLines + line) * 8 + piece;
      const uint4 all = *at;
      // A bit and the next of the eight, sixteen bits apart.
      const uint32_t bits = (word >> column % 32 & 0xff) * 0x8001;
      *at = make_uint4(dropped(all.x, bits, keep), dropped(all.y, bits >> 2, keep), dropped(all.z, bits >> 4, keep),
                       dropped(all.w, bits >> 6, keep));
    });
  }

 private:
  /// Lines that the threads have at a time.
  static constexpr int step = 4 * dropping_warps, boxes = Lines / BoxLines, rounds = (BoxLines + step - 1) / step;
  static_assert(step % 4 == 0 && BoxLines % 8 == 0, "a step changes one bit of the swizzle at most");

  __device__ static int own_thread() { return static_cast<int>(threadIdx.x) - 32; }

  /// body(its word of the mask, box, line of the box, column of the box) for each piece of this thread.
  template <class Words, class Body>
  __device__ static void for_each_piece(Words& words, const Body& body) {
    const int first = own_thread() / 8, column = (own_thread() % 8 ^ first % 8) * 8;
#pragma unroll
    for (int box = 0; box < boxes; ++box)
#pragma unroll
      for (int i = 0; i < rounds; ++i)
        if (const int line = first + i * step; (i + 1) * step <= BoxLines || line < BoxLines)
          body(words[box][i], box, line, column ^ i * step % 8 * 8);
  }

  __device__ static uint32_t dropped(uint32_t pair, uint32_t bits, float keep) {
    return ptx::pack_bf16x2(low_f32(pair) * keep, high_f32(pair) * keep) & (bits & 0x10001) * 0xffff;
  }

  uint32_t words_[boxes][rounds] = {};
};

}  // namespace fire::cuda::detail
