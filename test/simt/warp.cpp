// Warp collectives: every lane leaves its operand and parks; the last one to arrive computes for all.
#include "simt/hopper.h"
#include "simt/state.h"

namespace fire::simt {
namespace {

SIMT_UNSEEN Lane* first_lane(const Lane& lane) { return machine.lanes + lane.number / kWarp * kWarp; }

SIMT_UNSEEN bool same_place(const Lane& a, const Lane& b) {
  return a.op == b.op && a.mask == b.mask && a.source.line == b.source.line &&
         (a.source.file == b.source.file || __builtin_strcmp(a.source.file, b.source.file) == 0);
}

SIMT_UNSEEN __attribute__((noinline)) void check_mask(const Lane& lane, const Warp& warp, uint32_t bit) {
  if (!(lane.mask & bit)) fail({Defect::not_in_mask, nullptr, lane.source, &lane});
  if (const uint32_t missing = lane.mask & ~warp.existing)
    fail({Defect::no_such_lane, nullptr, lane.source, &lane, nullptr, uint64_t(__builtin_ctz(missing))});
  if (const uint32_t gone = lane.mask & warp.finished)
    fail({Defect::exited_lane, nullptr, lane.source, &lane, nullptr, uint64_t(__builtin_ctz(gone))});
}

/// Announces the lane. True for the last lane of the mask, which then has to compute and release(); the others
/// return, with false, when that is done.
///
/// Lanes may wait at different collectives with different masks (a half of the warp is ahead of the other). Two that
/// wait for each other at different ones will never go on.
SIMT_UNSEEN bool arrive(Lane& lane, WarpOp op, uint32_t mask, const char* file, int line) {
  Warp& warp = machine.warp[lane.number / kWarp];
  Lane* const lanes = first_lane(lane);
  const uint32_t bit = 1u << (lane.number % kWarp);
  lane.op = op;
  lane.mask = mask;
  lane.source = {file, line};
  if (!(mask & bit) || (mask & (~warp.existing | warp.finished))) check_mask(lane, warp, bit);
  if (warp.waiting == 0) {
    warp.leader = &lane;
    warp.with_leader = 0;
  }
  const bool with_leader = same_place(lane, *warp.leader);
  uint32_t others = with_leader ? warp.with_leader : 0;
  for (uint32_t rest = warp.waiting & mask & ~others; rest != 0; rest &= rest - 1) {
    const Lane& other = lanes[__builtin_ctz(rest)];
    if (same_place(lane, other))
      others |= rest & -rest;
    else if (other.mask & bit)
      fail({Defect::mismatched_op, nullptr, lane.source, &lane, &other});
  }
  if ((others | bit) == mask) return true;
  lane.wait = Wait::warp;
  warp.waiting |= bit;
  if (with_leader) warp.with_leader |= bit;
  park(lane);
  return false;
}

SIMT_UNSEEN void release(const Lane& lane) {
  Warp& warp = machine.warp[lane.number / kWarp];
  Lane* const lanes = first_lane(lane);
  const uint32_t others = lane.mask & ~(1u << (lane.number % kWarp));
  for (uint32_t rest = others; rest != 0; rest &= rest - 1) make_ready(lanes[__builtin_ctz(rest)]);
  warp.waiting &= ~others;
  warp.with_leader &= ~others;
  if (warp.waiting == 0 || warp.with_leader != 0) return;
  warp.leader = &lanes[__builtin_ctz(warp.waiting)];
  for (uint32_t rest = warp.waiting; rest != 0; rest &= rest - 1)
    if (same_place(*warp.leader, lanes[__builtin_ctz(rest)])) warp.with_leader |= rest & -rest;
}

SIMT_UNSEEN int source_lane(WarpOp op, int own, int operand, int width) {
  const int begin = own & ~(width - 1);
  const int end = begin + width;
  int from;
  switch (op) {
    case WarpOp::shuffle:
      return begin + (operand & (width - 1));
    case WarpOp::shuffle_up:
      from = own - operand;
      return operand < width && from >= begin ? from : own;
    case WarpOp::shuffle_down:
      from = own + operand;
      return operand < width && from < end ? from : own;
    default:
      from = own ^ operand;
      return from >= 0 && from < end ? from : own;
  }
}

SIMT_UNSEEN uint32_t fold(WarpOp op, uint32_t a, uint32_t b) {
  switch (op) {
    case WarpOp::any:
    case WarpOp::bit_or:
      return a | b;
    case WarpOp::all:
    case WarpOp::bit_and:
      return a & b;
    case WarpOp::bit_xor:
      return a ^ b;
    case WarpOp::add:
      return a + b;
    case WarpOp::min_signed:
      return int32_t(b) < int32_t(a) ? b : a;
    case WarpOp::max_signed:
      return int32_t(a) < int32_t(b) ? b : a;
    case WarpOp::min_unsigned:
      return b < a ? b : a;
    default:
      return a < b ? b : a;
  }
}

}  // namespace

SIMT_UNSEEN __attribute__((noinline)) void warp_barrier(uint32_t mask, const char* file, int line) {
  Lane& lane = this_lane();
  if (!arrive(lane, WarpOp::sync, mask, file, line)) return;
  order_warp(lane, mask);
  release(lane);
}

SIMT_UNSEEN __attribute__((noinline)) uint64_t warp_shuffle(WarpOp op, uint32_t mask, uint64_t value, int operand,
                                                            int width, const char* file, int line) {
  Lane& lane = this_lane();
  lane.value = value;
  if (width <= 0 || width > int(kWarp) || (width & (width - 1)) != 0)
    fail({Defect::shuffle_width, nullptr, {file, line}, &lane, nullptr, uint64_t(int64_t{width})});
  lane.from = uint8_t(source_lane(op, lane.number % kWarp, operand, width));
  if (!arrive(lane, op, mask, file, line)) return lane.value;
  Lane* const lanes = first_lane(lane);
  uint64_t values[kWarp];
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int i = __builtin_ctz(rest);
    values[i] = lanes[i].value;
  }
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    Lane& to = lanes[__builtin_ctz(rest)];
    if (!(mask >> to.from & 1)) fail({Defect::shuffle_source, nullptr, to.source, &to, nullptr, to.from});
    to.value = values[to.from];
  }
  release(lane);
  return lane.value;
}

SIMT_UNSEEN __attribute__((noinline)) uint32_t warp_reduce(WarpOp op, uint32_t mask, uint32_t value, const char* file,
                                                           int line) {
  Lane& lane = this_lane();
  const unsigned own = lane.number % kWarp;
  lane.value = op == WarpOp::ballot ? value << own : value;
  if (!arrive(lane, op, mask, file, line)) return uint32_t(lane.value);
  Lane* const lanes = first_lane(lane);
  const WarpOp how = op == WarpOp::ballot ? WarpOp::bit_or : op;
  uint32_t rest = mask;
  uint32_t result = uint32_t(lanes[__builtin_ctz(rest)].value);
  for (rest &= rest - 1; rest != 0; rest &= rest - 1)
    result = fold(how, result, uint32_t(lanes[__builtin_ctz(rest)].value));
  for (rest = mask; rest != 0; rest &= rest - 1) lanes[__builtin_ctz(rest)].value = result;
  release(lane);
  return result;
}

namespace {

// The row as the kernel reads it: seen by the sanitizers, hence never inlined into a function that is not.
__attribute__((noinline)) void read_row(const void* row, uint64_t (&words)[2]) {
  words[0] = static_cast<const uint64_t*>(row)[0];
  words[1] = static_cast<const uint64_t*>(row)[1];
}

}  // namespace

SIMT_UNSEEN __attribute__((noinline)) void warp_ldmatrix(WarpOp op, uint32_t* registers, const void* row,
                                                         const char* file, int line) {
  Lane& lane = this_lane();
  const uintptr_t address = reinterpret_cast<uintptr_t>(row);
  if (address % 16 != 0) fail({Defect::unaligned, "a row of ldmatrix", {file, line}, &lane, nullptr, address});
  if (!in_shared(row, 16)) fail({Defect::outside_shared, "a row of ldmatrix", {file, line}, &lane, nullptr, address});
  uint64_t words[2];
  read_row(row, words);
  registers[0] = uint32_t(words[0]);
  registers[1] = uint32_t(words[0] >> 32);
  registers[2] = uint32_t(words[1]);
  registers[3] = uint32_t(words[1] >> 32);
  lane.registers = registers;
  if (!arrive(lane, op, 0xffffffffu, file, line)) return;
  ldmatrix_all(first_lane(lane), op == WarpOp::ldmatrix_trans);
  release(lane);
}

SIMT_UNSEEN __attribute__((noinline)) void warp_mma(float* d, const uint32_t* a, uint32_t b0, uint32_t b1,
                                                    const char* file, int line) {
  Lane& lane = this_lane();
  lane.sums = d;
  lane.registers = const_cast<uint32_t*>(a);
  lane.value = uint64_t{b1} << 32 | b0;
  if (!arrive(lane, WarpOp::mma, 0xffffffffu, file, line)) return;
  mma_all(first_lane(lane));
  release(lane);
}

SIMT_UNSEEN __attribute__((noinline)) bool elect(const char* file, int line) {
  Lane& lane = this_lane();
  if (arrive(lane, WarpOp::elect, 0xffffffffu, file, line)) release(lane);
  // The manual says that it is always the same lane, not which one.
  const unsigned elected = current_options.schedule == Schedule::fifo   ? 0
                           : current_options.schedule == Schedule::lifo ? kWarp - 1
                                                                        : unsigned(current_options.seed % kWarp);
  return lane.number % kWarp == elected;
}

}  // namespace fire::simt
