// The arithmetic of PTX that C++ does not have, on the cases where it is easily wrong.
#include "ptx/instructions.h"

#include <cfenv>
#include <cmath>

#include "check.h"

using namespace fire::ptx;

TEST("ptx: shifts and fields of bits at the width and beyond") {
  CHECK(shift_left(1u, 31) == 0x80000000u && shift_left(1u, 32) == 0 && shift_left(u64{1}, 63) == u64{1} << 63);
  CHECK(shift_right(s32(-8), 1) == -4 && shift_right(s32(-8), 40) == -1 && shift_right(s32(8), 40) == 0);
  CHECK(shift_right(0x80000000u, 32) == 0 && shift_right(s64(-1), 64) == -1);
  CHECK(insert_bits(0xabu, 0xffffffffu, 8, 8) == 0xffffabffu);
  CHECK(insert_bits(5u, 0x1234u, 4, 0) == 0x1234u && insert_bits(5u, 0x1234u, 0, 32) == 5u);
  CHECK(insert_bits(0xffu, 0u, 28, 8) == 0xf0000000u && insert_bits(1u, 7u, 32, 4) == 7u);
  CHECK(extract_bits(0xabcd1234u, 8, 8) == 0x12u && extract_bits(0xabcd1234u, 28, 8) == 0xau);
  CHECK(permute_bytes(0x33221100u, 0x77665544u, 0x7531) == 0x77553311u);
  CHECK(permute_bytes(0x00800000u, 0, 0x000a) == 0x000000ffu && permute_bytes(0x00700000u, 0, 0x000a) == 0);
  CHECK(funnel_left(0x80000001u, 0x2u, 1) == 5u && funnel_right(0x80000001u, 0x3u, 1) == 0xc0000000u);
  CHECK(funnel_left(1u, 2u, 32) == 2u && funnel_right(1u, 2u, 32) == 1u);
}

TEST("ptx: whole numbers wrap, carry and divide") {
  CHECK(divide(s32(-7), s32(2)) == -3 && remainder(s32(-7), s32(2)) == -1);
  CHECK(divide(std::numeric_limits<s32>::min(), s32(-1)) == std::numeric_limits<s32>::min());
  CHECK(remainder(std::numeric_limits<s64>::min(), s64(-1)) == 0);
  CHECK(divide(7u, 0u) == 0xffffffffu && remainder(7u, 0u) == 7u && divide(0xffffffffu, 0xffffffffu) == 1u);
  CHECK(multiply_high(0xffffffffu, 0xffffffffu) == 0xfffffffeu && multiply_high(s32(-1), s32(2)) == -1);
  CHECK(multiply_high(~u64{0}, ~u64{0}) == ~u64{1} && multiply_high(s64(-1), s64(-1)) == 0);
  CHECK(absolute(std::numeric_limits<s32>::min()) == std::numeric_limits<s32>::min());
  bool carry = false;
  CHECK(add_carry(0xffffffffu, 0u, true, carry) == 0 && carry);
  CHECK(add_carry(0xffffffffu, 0xffffffffu, true, carry) == 0xffffffffu && carry);
  CHECK(add_carry(1u, 2u, carry, carry) == 4u && !carry);
  CHECK(subtract_borrow(0u, 0u, true, carry) == 0xffffffffu && carry);
  CHECK(subtract_borrow(5u, 3u, carry, carry) == 1u && !carry);
  CHECK(mad_low_carry(0x10000u, 0x10000u, 5u, false, carry) == 5u && !carry);
  CHECK(mad_high_carry(0x10000u, 0x10000u, 0xffffffffu, false, carry) == 0u && carry);
}

TEST("ptx: floats round, saturate and compare as the manual says") {
  const f32 nan = std::numeric_limits<f32>::quiet_NaN(), infinity = std::numeric_limits<f32>::infinity();
  CHECK(smaller(nan, 1.0f) == 1 && larger(1.0f, nan) == 1 && std::isnan(smaller(nan, nan)));
  CHECK(std::signbit(smaller(0.0f, -0.0f)) && !std::signbit(larger(-0.0f, 0.0f)));
  CHECK(saturated(nan) == 0 && saturated(-1.0f) == 0 && saturated(2.0f) == 1 && saturated(0.5f) == 0.5f);
  CHECK(flushed(1e-40f) == 0 && std::signbit(flushed(-1e-40f)) && flushed(1e-30f) == 1e-30f);
  CHECK(to_integer<s32>(rzi(-1.5f)) == -1 && to_integer<s32>(rni(2.5f)) == 2 && to_integer<s32>(nan) == 0);
  CHECK(to_integer<s32>(3e9f) == std::numeric_limits<s32>::max() && to_integer<u32>(-3.0f) == 0);
  CHECK(to_integer<s64>(-infinity) == std::numeric_limits<s64>::min());
  CHECK(pack_bf16(1.0f, -2.0f) == 0x3f80c000u && to_bf16(nan) == 0x7fff && to_bf16(as_f32(0x3f808000u)) == 0x3f80);
  CHECK(to_bf16(as_f32(0x3f818000u)) == 0x3f82 && to_bf16(3.4e38f) == 0x7f80);
}

TEST("ptx: fma.rm rounds down, as the processor does when it is told to") {
  u32 state = 1;
  const auto next = [&] {
    state = state * 1664525u + 1013904223u;
    return as_f32((state & 0x807fffffu) | ((state >> 8) % 30 + 112) << 23);
  };
  for (int i = 0; i < 20000; ++i) {
    const volatile f32 a = next(), b = next(), c = next();
    std::fesetround(FE_DOWNWARD);
    const volatile f32 down = std::fmaf(a, b, c);
    std::fesetround(FE_TONEAREST);
    CHECK(multiply_add_down(a, b, c) == down);
  }
}
