// The arithmetic of wgmma: descriptors taken apart bit by bit, operands read from where they say, sums. Layouts:
// cuda/wgmma.cuh.
#include "simt/hopper_state.h"

namespace fire::simt {
namespace {

typedef float Float4 __attribute__((vector_size(16)));

/// A matrix descriptor.
struct Descriptor {
  uint32_t start, leading, stride;  // bytes
  uint32_t base_offset;
  unsigned swizzle_bits;  // 0 to 3: none, 32, 64, 128 bytes
};

SIMT_UNSEEN Descriptor decode(uint64_t bits) {
  const auto field = [](uint64_t b, unsigned at) SIMT_UNSEEN { return uint32_t(b >> at & 0x3fff) << 4; };
  const unsigned mode = unsigned(bits >> 62);
  return {field(bits, 0), field(bits, 16), field(bits, 32), uint32_t(bits >> 49 & 7), mode == 0 ? 0 : 4 - mode};
}

SIMT_UNSEEN void check_descriptor(uint64_t bits, const Lane& lane) {
  constexpr uint64_t meant =
      0x3fff | uint64_t{0x3fff} << 16 | uint64_t{0x3fff} << 32 | uint64_t{7} << 49 | uint64_t{3} << 62;
  if (bits & ~meant)
    fail({Defect::misuse_of, "a descriptor of wgmma with bits that mean nothing", lane.source, &lane, nullptr, bits});
  const Descriptor d = decode(bits);
  if (d.base_offset != 0)
    fail({Defect::misuse_of, "a descriptor of wgmma with a base offset: align the tile instead", lane.source, &lane,
          nullptr, d.base_offset});
  const uint32_t span = 16u << d.swizzle_bits, pattern = 8 * span;
  if (d.swizzle_bits != 0 && d.start % pattern >= span)
    fail({Defect::misuse_of, "a descriptor of wgmma that starts within the swizzle's pattern, not in its first line",
          lane.source, &lane, nullptr, d.start});
}

/// Where the 16-byte piece is that has 8 elements of k (K-major: line = row, piece = 0, 1) or of the rows (MN-major:
/// line = k, piece = row / 8).
SIMT_UNSEEN uint32_t address_of(const Descriptor& d, bool mn_major, unsigned line, unsigned piece) {
  const uint32_t span = 16u << d.swizzle_bits;
  uint32_t at = d.start + line % 8 * span;
  if (d.swizzle_bits == 0)
    at += mn_major ? piece * d.stride + line / 8 * d.leading : line / 8 * d.stride + piece * d.leading;
  else if (mn_major)
    at += piece / (span / 16) * d.leading + piece % (span / 16) * 16 + line / 8 * d.stride;
  else
    at += line / 8 * d.stride + piece * 16;
  return swizzled(at & (kSharedWindow - 1), d.swizzle_bits);
}

SIMT_UNSEEN float number(uint64_t words, unsigned i) {
  const uint32_t bits = uint32_t(words >> i % 4 * 16) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

/// An operand as floats: of A [64][16], of B [16][n].
struct Tile {
  float* values;
  unsigned row_step, k_step;  // from one row (of A, column of B) or k to the next
};

SIMT_UNSEEN void read_piece(const Descriptor& d, bool mn_major, unsigned line, unsigned piece, const Tile& tile,
                            const Lane& lane, const Product& product) {
  const uint32_t address = address_of(d, mn_major, line, piece);
  const unsigned char* const p = shared_at(address, 16);
  if (!p || !async_sees(p, address)) order_as_self();
  if (!p) fail({Defect::outside_shared, "an operand of wgmma", product.source, &lane, nullptr, address});
  if (!async_sees(p, address))
    fail({Defect::misuse, "missing fence.proxy.async: wgmma reads what ordinary stores wrote since the last one",
          product.source, &lane});
  const Words words = visible_read(p);
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned row = mn_major ? piece * 8 + i : line, k = mn_major ? line : piece * 8 + i;
    tile.values[row * tile.row_step + k * tile.k_step] = number(i < 4 ? words.first : words.second, i);
  }
}

/// Piece i of an operand of `rows` rows is read by thread i % 128: all of them read, as far as order is concerned.
SIMT_UNSEEN void read_operand(uint64_t bits, bool mn_major, unsigned rows, const Tile& tile, const Lane* lanes,
                              const Product& product) {
  const Descriptor d = decode(bits);
  const unsigned pieces = 2 * rows, in_line = mn_major ? rows / 8 : 2;
  for (unsigned t = 0; t < kWarpgroup && t < pieces; ++t) {
    order_as(lanes[t]);
    for (unsigned i = t; i < pieces; i += kWarpgroup)
      read_piece(d, mn_major, i / in_line, i % in_line, tile, lanes[t], product);
  }
  order_as_self();
}

SIMT_UNSEEN void read_registers(const Product& product, float (&a)[64][16]) {
  for (unsigned t = 0; t < kWarpgroup; ++t)
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = t / kWarp * 16 + t % kWarp / 4 + i % 2 * 8, k = t % 4 * 2 + i / 2 * 8;
      a[row][k] = number(product.fragments[t][i], 0);
      a[row][k + 1] = number(product.fragments[t][i], 1);
    }
}

}  // namespace

SIMT_UNSEEN void check_operands(const WgmmaOperands& operands, const Lane& lane) {
  if (!operands.registers) check_descriptor(operands.a, lane);
  check_descriptor(operands.b, lane);
}

// As mma.sync (tensor_core.cpp): each sum runs over k = 0 .. 15 in order, on top of what it was.
SIMT_UNSEEN __attribute__((noinline)) void execute(Product& product, Lane* lanes) {
  static float a[64][16];
  alignas(16) static float b[16][256];
  const WgmmaOperands& operands = product.operands;
  const int n = operands.n;
  if (operands.registers)
    read_registers(product, a);
  else
    read_operand(operands.a, operands.trans_a, 64, {a[0], 16, 1}, lanes, product);
  read_operand(operands.b, operands.trans_b, unsigned(n), {b[0], 1, 256}, lanes, product);
  for (unsigned row = 0; row < 64; ++row) {
    float* const sums = product.accumulator->values[row];
    for (int column = 0; column < n; column += 8) {
      Float4* const out = reinterpret_cast<Float4*>(sums + column);
      Float4 s0 = out[0], s1 = out[1];
      if (!operands.accumulate) s0 = s1 = Float4{};
      for (unsigned k = 0; k < 16; ++k) {
        const Float4* const in = reinterpret_cast<const Float4*>(b[k] + column);
        s0 += a[row][k] * in[0];
        s1 += a[row][k] * in[1];
      }
      out[0] = s0;
      out[1] = s1;
    }
  }
}

}  // namespace fire::simt
