// What ThreadSanitizer is told. Every CUDA thread is a TSan fiber; barriers make the only order between them.
//
// A barrier is told by its last arriver on behalf of all (`together`): everybody releases, then everybody acquires.
// Were each thread to release when it arrives and to acquire when it wakes, a fast one's later release would leak
// through the token to a slow one's acquire and hide races.
//
// Tokens are the addresses of bytes. A barrier uses the byte of its first lane, so that it holds only what this lane
// knows.
#include "simt/state.h"

namespace fire::simt {

SIMT_UNSEEN unsigned fiber_set() {
  return current_options.unordered_blocks ? unsigned(current_block.serial % kFiberSets) : 0;
}

}  // namespace fire::simt

#if SIMT_TSAN

#include <sanitizer/tsan_interface.h>

namespace fire::simt {
namespace {

// Two, or the start of one thread would come after the end of another.
char start_token, end_token;
char barrier_tokens[kFiberSets * kMaxThreads];
void* engines[kFiberSets * kEngines];

SIMT_UNSEEN void become(const Fiber& fiber) { __tsan_switch_to_fiber(fiber.identity, __tsan_switch_to_fiber_no_sync); }

SIMT_UNSEEN void together(Lane* lanes, unsigned count, uint32_t mask) {
  void* const token = &barrier_tokens[lanes[mask ? __builtin_ctz(mask) : 0].fiber - machine.fibers];
  const auto member = [&](unsigned i) SIMT_UNSEEN { return mask == 0 || (mask >> i & 1) != 0; };
  for (unsigned i = 0; i < count; ++i) {
    if (!member(i)) continue;
    become(*lanes[i].fiber);
    __tsan_release(token);
  }
  for (unsigned i = 0; i < count; ++i) {
    if (!member(i)) continue;
    become(*lanes[i].fiber);
    __tsan_acquire(token);
  }
  become(*this_lane().fiber);
}

}  // namespace

SIMT_UNSEEN void order_launch_begin() { machine.host.identity = __tsan_get_current_fiber(); }
SIMT_UNSEEN void order_block_begin() { __tsan_release(&start_token); }
SIMT_UNSEEN void order_thread_begin() { __tsan_acquire(&start_token); }
SIMT_UNSEEN void order_thread_end() { __tsan_release(&end_token); }
SIMT_UNSEEN void order_block_end() {
  if (!current_options.unordered_blocks) __tsan_acquire(&end_token);
}
SIMT_UNSEEN void order_launch_end() { __tsan_acquire(&end_token); }

SIMT_UNSEEN void order_abandoned() {
  for (unsigned i = 0; i < machine.threads; ++i) {
    become(*machine.lanes[i].fiber);
    __tsan_release(&end_token);
  }
  for (void* engine : engines) {
    if (!engine) continue;
    __tsan_switch_to_fiber(engine, __tsan_switch_to_fiber_no_sync);
    __tsan_release(&end_token);
  }
  become(machine.host);
  __tsan_acquire(&end_token);
}

SIMT_UNSEEN void order_block() { together(machine.lanes, machine.threads, 0); }
SIMT_UNSEEN void order_warp(const Lane& lane, uint32_t mask) {
  together(machine.lanes + lane.number / kWarp * kWarp, kWarp, mask);
}

SIMT_UNSEEN void order_set(void* token) { __tsan_release(token); }
SIMT_UNSEEN void order_pass(void* token) { __tsan_acquire(token); }
SIMT_UNSEEN void order_as_engine(unsigned engine) {
  void*& identity = engines[fiber_set() * kEngines + engine];
  if (!identity) identity = __tsan_create_fiber(0);
  __tsan_switch_to_fiber(identity, __tsan_switch_to_fiber_no_sync);
}
SIMT_UNSEEN void order_as(const Lane& lane) { become(*lane.fiber); }
SIMT_UNSEEN void order_as_self() { become(*this_lane().fiber); }
SIMT_UNSEEN void order_engine_done() { __tsan_release(&end_token); }

}  // namespace fire::simt

#else

namespace fire::simt {

void order_launch_begin() {}
void order_block_begin() {}
void order_thread_begin() {}
void order_thread_end() {}
void order_block_end() {}
void order_launch_end() {}
void order_abandoned() {}
void order_block() {}
void order_warp(const Lane&, uint32_t) {}
void order_set(void*) {}
void order_pass(void*) {}
void order_as_engine(unsigned) {}
void order_as(const Lane&) {}
void order_as_self() {}
void order_engine_done() {}

}  // namespace fire::simt

#endif
