// Fibers of the block's threads: who runs, who waits, how a block starts and ends.
#include "simt/state.h"

namespace fire::simt {

Machine machine;
Failure last_failure;
const ThreadView* current_thread = &machine.lanes[0].view;
BlockView current_block;

namespace {

SIMT_UNSEEN Lane& take_ready() {
  unsigned at;
  if (current_options.schedule == Schedule::fifo) {
    at = machine.ready_first;
    machine.ready_first = (at + 1) % kMaxThreads;
    --machine.ready_count;
    return machine.lanes[machine.ready[at]];
  }
  at = --machine.ready_count;
  if (current_options.schedule == Schedule::random) {
    machine.random = machine.random * 6364136223846793005u + 1442695040888963407u;
    const unsigned drawn = unsigned((machine.random >> 32) * (at + 1) >> 32);
    const uint16_t number = machine.ready[drawn];
    machine.ready[drawn] = machine.ready[at];
    return machine.lanes[number];
  }
  return machine.lanes[machine.ready[at]];
}

SIMT_UNSEEN Lane& next_lane(Lane& waiting) {
  while (machine.ready_count == 0)
    if (!make_progress()) fail({Defect::deadlock, nullptr, waiting.source, &waiting});
  return take_ready();
}

SIMT_UNSEEN __attribute__((noinline)) void finish(Lane& lane) {
  Warp& warp = machine.warp[lane.number / kWarp];
  lane.wait = Wait::finished;
  lane.source = {nullptr, 0};
  if (const unsigned left = machine.copies_used ? copies_under_way(lane) : 0)
    fail({Defect::unfinished_copies, nullptr, lane.source, &lane, nullptr, left});
  check_hopper(lane, machine.finished + 1 == machine.threads);
  if (machine.at_barrier != 0)
    fail({Defect::exit_before_barrier, nullptr, machine.first_at_barrier->source, &lane, machine.first_at_barrier});
  const uint32_t bit = 1u << (lane.number % kWarp);
  warp.finished |= bit;
  for (uint32_t rest = warp.waiting; rest != 0; rest &= rest - 1) {
    const Lane& other = machine.lanes[lane.number / kWarp * kWarp + unsigned(__builtin_ctz(rest))];
    if (other.mask & bit) fail({Defect::exit_from_mask, nullptr, other.source, &lane, &other});
  }
  if (machine.finished++ == 0) machine.first_finished = &lane;

  Fiber* const fiber = lane.fiber;
  if (machine.finished == machine.threads) {
    if (!SIMT_TSAN) machine.idle[machine.idle_count++] = fiber;
    switch_fiber(*fiber, machine.host);
    return;
  }
  Lane& next = next_lane(lane);
  current_thread = &next.view;
  if (!next.fiber) {
    next.fiber = fiber;  // a thread that has not started yet needs no switch
    return;
  }
  if (!SIMT_TSAN) machine.idle[machine.idle_count++] = fiber;
  switch_fiber(*fiber, *next.fiber);
}

// Runs one thread after another; suspended in finish() while idle.
SIMT_UNSEEN void fiber_main() {
  enter_fiber();
  for (;;) {
    order_thread_begin();
    machine.launch->body(machine.launch->arguments);
    order_thread_end();
    finish(this_lane());
  }
}

SIMT_UNSEEN Fiber* take_fiber() {
  if (machine.idle_count == 0) {
    Fiber& fiber = machine.fibers[machine.fibers_made];
    prepare_fiber(fiber, machine.fibers_made++, fiber_main);
    return &fiber;
  }
  return machine.idle[--machine.idle_count];
}

// TSan keeps a thread by its fiber: one for each lane.
SIMT_UNSEEN Fiber* own_fiber(unsigned lane) {
  Fiber& fiber = machine.fibers[fiber_set() * kMaxThreads + lane];
  if (!fiber.stack) prepare_fiber(fiber, lane, fiber_main);
  return &fiber;
}

SIMT_UNSEEN void go_on(Fiber& from, Lane& next) {
  if (!next.fiber) next.fiber = take_fiber();
  current_thread = &next.view;
  switch_fiber(from, *next.fiber);
}

}  // namespace

SIMT_UNSEEN void make_ready(Lane& lane) {
  lane.wait = Wait::ready;
  machine.ready[(machine.ready_first + machine.ready_count++) % kMaxThreads] = lane.number;
}

SIMT_UNSEEN __attribute__((noinline)) void park(Lane& lane) {
  Lane& next = next_lane(lane);
  if (&next != &lane) go_on(*lane.fiber, next);
}

SIMT_UNSEEN void fail(const Failure& failure) {
  last_failure = failure;
  switch_fiber(*this_lane().fiber, machine.host);
  __builtin_unreachable();
}

SIMT_UNSEEN __attribute__((noinline)) void block_barrier(const char* file, int line) {
  Lane& lane = this_lane();
  lane.source = {file, line};
  if (machine.finished != 0) fail({Defect::barrier_after_exit, nullptr, lane.source, &lane, machine.first_finished});
  if (machine.at_barrier == 0) {
    machine.first_at_barrier = &lane;
  } else {
    const Source& first = machine.first_at_barrier->source;
    // The same text may have several addresses, one for each source file.
    if (first.line != line || (first.file != file && __builtin_strcmp(first.file, file) != 0))
      fail({Defect::divergent_barrier, nullptr, lane.source, &lane, machine.first_at_barrier});
  }
  if (++machine.at_barrier < machine.threads) {
    lane.wait = Wait::barrier;
    park(lane);
    return;
  }
  machine.at_barrier = 0;
  order_block();
  for (unsigned i = 0; i < machine.threads; ++i)
    if (i != lane.number) make_ready(machine.lanes[i]);
}

SIMT_UNSEEN void run_block() {
  machine.finished = 0;
  machine.at_barrier = 0;
  machine.ready_first = 0;
  machine.ready_count = machine.threads;
  for (unsigned i = 0; i < machine.threads; ++i) {
    Lane& lane = machine.lanes[i];
    machine.ready[i] = uint16_t(i);
    lane.wait = Wait::not_started;
    lane.fiber = SIMT_TSAN ? own_fiber(i) : nullptr;
  }
  for (unsigned w = 0; w < machine.warps; ++w) machine.warp[w].waiting = machine.warp[w].finished = 0;
  order_block_begin();
  go_on(machine.host, take_ready());
  order_block_end();
}

SIMT_UNSEEN void reset_fibers() {
  order_abandoned();
  machine.idle_count = 0;
  for (unsigned i = 0; i < kFiberSets * kMaxThreads; ++i) {
    Fiber& fiber = machine.fibers[i];
    if (!fiber.stack) continue;
    prepare_fiber(fiber, i, fiber_main);
    if (!SIMT_TSAN) machine.idle[machine.idle_count++] = &fiber;
  }
}

}  // namespace fire::simt
