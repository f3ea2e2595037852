// ldmatrix and mma.sync for a whole warp at once. Fragment layouts: cuda/ptx.cuh.
#include "simt/state.h"

namespace fire::simt {
namespace {

typedef float Float4 __attribute__((vector_size(16)));

SIMT_UNSEEN float low(uint32_t pair) {
  const uint32_t bits = pair << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

SIMT_UNSEEN float high(uint32_t pair) {
  const uint32_t bits = pair & 0xffff0000u;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

SIMT_UNSEEN __attribute__((noinline)) void ldmatrix_all(Lane* lanes, bool transposed) {
  uint32_t rows[kWarp][4];
  for (unsigned l = 0; l < kWarp; ++l) __builtin_memcpy(rows[l], lanes[l].registers, sizeof rows[l]);
  if (transposed) {
    for (unsigned l = 0; l < kWarp; ++l) {
      const unsigned t = l % 4 * 2, g = l / 4, shift = g % 2 * 16;
      for (unsigned i = 0; i < 4; ++i) {
        const uint32_t first = rows[8 * i + t][g / 2] >> shift & 0xffffu;
        const uint32_t second = rows[8 * i + t + 1][g / 2] >> shift & 0xffffu;
        lanes[l].registers[i] = first | second << 16;
      }
    }
  } else {
    for (unsigned l = 0; l < kWarp; ++l)
      for (unsigned i = 0; i < 4; ++i) lanes[l].registers[i] = rows[8 * i + l / 4][l % 4];
  }
}

// Each sum runs over k = 0 .. 15 in order, on top of C. Products of two bf16 are exact in f32, so a fused multiply-add
// would give the same bits.
SIMT_UNSEEN __attribute__((noinline)) void mma_all(Lane* lanes) {
  float a[16][16];
  alignas(16) float b[16][8];
  alignas(16) float c[16][8];
  for (unsigned l = 0; l < kWarp; ++l) {
    const unsigned g = l / 4, t = l % 4 * 2;
    const Lane& lane = lanes[l];
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = g + i % 2 * 8, column = t + i / 2 * 8;
      a[row][column] = low(lane.registers[i]);
      a[row][column + 1] = high(lane.registers[i]);
    }
    const uint32_t b0 = uint32_t(lane.value), b1 = uint32_t(lane.value >> 32);
    b[t][g] = low(b0);
    b[t + 1][g] = high(b0);
    b[t + 8][g] = low(b1);
    b[t + 9][g] = high(b1);
    c[g][t] = lane.sums[0];
    c[g][t + 1] = lane.sums[1];
    c[g + 8][t] = lane.sums[2];
    c[g + 8][t + 1] = lane.sums[3];
  }
  const Float4* const columns = reinterpret_cast<const Float4*>(b);
  for (unsigned row = 0; row < 16; row += 2) {
    Float4* const sums = reinterpret_cast<Float4*>(c[row]);
    Float4 s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    for (unsigned k = 0; k < 16; ++k) {
      const Float4 b0 = columns[2 * k], b1 = columns[2 * k + 1];
      const float x = a[row][k], y = a[row + 1][k];
      s0 += x * b0;
      s1 += x * b1;
      s2 += y * b0;
      s3 += y * b1;
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
  }
  for (unsigned l = 0; l < kWarp; ++l) {
    const unsigned g = l / 4, t = l % 4 * 2;
    lanes[l].sums[0] = c[g][t];
    lanes[l].sums[1] = c[g][t + 1];
    lanes[l].sums[2] = c[g + 8][t];
    lanes[l].sums[3] = c[g + 8][t + 1];
  }
}

}  // namespace fire::simt
