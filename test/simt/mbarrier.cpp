// mbarriers and named barriers. Their state is beside shared memory; the 8 bytes of an mbarrier hold a seal, so that
// who writes over one is seen, and who uses one that is not shown to him races with the seal.
#include "simt/hopper_state.h"

namespace fire::simt {
namespace {

SIMT_UNSEEN uint64_t seal_of(unsigned index) { return 0x6d62617272690000u | index; }

// As the kernel's own accesses: seen by the sanitizers, hence never inlined.
__attribute__((noinline)) void write_seal(uint64_t* address, uint64_t seal) { *address = seal; }
__attribute__((noinline)) uint64_t read_seal(const uint64_t* address) { return *address; }

SIMT_UNSEEN char* token_of(unsigned index, int32_t phase) {
  return &hopper.barrier_tokens[fiber_set()][index][phase & 1];
}

[[noreturn]] SIMT_UNSEEN void too_few_bytes(Source source, const Lane& lane) {
  fail({Defect::misuse, "too few bytes were announced at an mbarrier for the loads of TMA", source, &lane});
}

/// Which phase a thread means that has waited for `seen` before (-2: for none).
SIMT_UNSEEN int32_t wanted_phase(int32_t seen, uint32_t parity) { return seen == -2 ? -int32_t(parity) : seen + 1; }

/// Ends the phase when all of it has come, and lets those go on that wait for it.
SIMT_UNSEEN void settle(unsigned index) {
  Barrier& barrier = hopper.barriers[index];
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  for (const Transfer& load : hopper.loads)
    if (load.used && load.barrier == index && load.phase == barrier.phase) too_few_bytes(load.source, *load.lane);
  const int32_t complete = barrier.phase++;
  barrier.pending = barrier.count;
  for (unsigned i = 0; i < machine.threads; ++i) {
    Lane& lane = machine.lanes[i];
    if (lane.wait != Wait::mbarrier || lane.value != index) continue;
    hopper.seen[index][i] = complete;
    order_as(lane);
    order_pass(token_of(index, complete));
    make_ready(lane);
  }
  order_as_self();
}

}  // namespace

SIMT_UNSEEN Barrier& find_barrier(uint64_t* address, const char* file, int line) {
  use_hopper();
  Lane& lane = this_lane();
  for (unsigned i = 0; i < hopper.barrier_count; ++i) {
    Barrier& barrier = hopper.barriers[i];
    if (barrier.address != address) continue;
    if (read_seal(address) != seal_of(i))
      fail({Defect::misuse, "an mbarrier that something else was written over", {file, line}, &lane});
    return barrier;
  }
  fail({Defect::misuse, "an mbarrier that is not initialised", {file, line}, &lane});
}

SIMT_UNSEEN __attribute__((noinline)) void mbarrier_init(uint64_t* address, uint32_t count, const char* file,
                                                         int line) {
  use_hopper();
  Lane& lane = this_lane();
  const uintptr_t place = reinterpret_cast<uintptr_t>(address);
  if (place % 8 != 0) fail({Defect::misuse, "an mbarrier that is not 8-byte aligned", {file, line}, &lane});
  if (!in_shared(address, 8)) fail({Defect::outside_shared, "an mbarrier", {file, line}, &lane, nullptr, place});
  if (count == 0 || count > kMaxMbarrier)
    fail({Defect::misuse_of, "an mbarrier's count is within 1 and 2^20 - 1", {file, line}, &lane, nullptr, count});
  for (unsigned i = 0; i < hopper.barrier_count; ++i)
    if (hopper.barriers[i].address == address)
      fail({Defect::misuse, "mbarrier.init of one that is in use", {file, line}, &lane});
  if (hopper.barrier_count == kMaxBarriers)
    fail({Defect::misuse_of, "more mbarriers than the emulator has", {file, line}, &lane, nullptr, kMaxBarriers});
  const unsigned index = hopper.barrier_count++;
  hopper.barriers[index] = {address, count, count, 0, 0, false, &lane};
  for (unsigned i = 0; i < machine.threads; ++i) hopper.seen[index][i] = -2;
  write_seal(address, seal_of(index));
}

SIMT_UNSEEN __attribute__((noinline)) void fence_mbarrier_init(const char*, int) {
  for (unsigned i = 0; i < hopper.barrier_count; ++i)
    if (hopper.barriers[i].initialised_by == &this_lane()) hopper.barriers[i].fenced = true;
}

SIMT_UNSEEN __attribute__((noinline)) void mbarrier_arrive(uint64_t* address, bool announces, uint32_t bytes,
                                                           const char* file, int line) {
  Lane& lane = this_lane();
  Barrier& barrier = find_barrier(address, file, line);
  const unsigned index = unsigned(&barrier - hopper.barriers);
  if (announces && bytes > kMaxMbarrier)
    fail({Defect::misuse_of, "an mbarrier takes at most 2^20 - 1 bytes", {file, line}, &lane, nullptr, bytes});
  if (barrier.pending == 0)
    fail({Defect::misuse_of,
          "more arrivals at an mbarrier than its count",
          {file, line},
          &lane,
          nullptr,
          barrier.count});
  order_set(token_of(index, barrier.phase));
  order_products(lane, token_of(index, barrier.phase));
  barrier.bytes += bytes;
  --barrier.pending;
  if (barrier.pending == 0 && barrier.bytes < 0) too_few_bytes({file, line}, lane);
  settle(index);
}

// A GPU answers "not yet" after a while; here a thread that would have to wait is told so once, and waits when it asks
// again: who does not ask again goes on too early.
SIMT_UNSEEN __attribute__((noinline)) bool mbarrier_try_wait(uint64_t* address, uint32_t parity, const char* file,
                                                             int line) {
  const Lane& lane = this_lane();
  const Barrier& barrier = find_barrier(address, file, line);
  const unsigned index = unsigned(&barrier - hopper.barriers);
  bool& refused = hopper.refused[lane.number];
  refused = !refused && barrier.phase == wanted_phase(hopper.seen[index][lane.number], parity);
  if (refused) return false;
  mbarrier_wait(address, parity, file, line);
  return true;
}

// A thread waits for every phase in turn: only then is the parity enough to tell which one it means.
SIMT_UNSEEN __attribute__((noinline)) void mbarrier_wait(uint64_t* address, uint32_t parity, const char* file,
                                                         int line) {
  Lane& lane = this_lane();
  Barrier& barrier = find_barrier(address, file, line);
  const unsigned index = unsigned(&barrier - hopper.barriers);
  if (parity > 1) fail({Defect::misuse_of, "a parity is 0 or 1", {file, line}, &lane, nullptr, parity});
  int32_t& seen = hopper.seen[index][lane.number];
  const int32_t wanted = wanted_phase(seen, parity);
  if ((uint32_t(wanted) & 1) != parity)
    fail({Defect::misuse_of,
          "stale parity: this thread has waited for that phase of the mbarrier already",
          {file, line},
          &lane,
          nullptr,
          parity});
  if (barrier.phase > wanted + 1)
    fail({Defect::misuse_of,
          "too late at an mbarrier: the phase after the one that this thread waits for is complete",
          {file, line},
          &lane,
          nullptr,
          uint64_t(int64_t{wanted})});
  if (barrier.phase == wanted) {
    lane.source = {file, line};
    lane.value = index;
    lane.wait = Wait::mbarrier;
    park(lane);
    return;
  }
  seen = wanted;
  if (wanted >= 0) order_pass(token_of(index, wanted));
}

SIMT_UNSEEN void bytes_arrived(const Transfer& load) {
  Barrier& barrier = hopper.barriers[load.barrier];
  order_set(token_of(load.barrier, load.phase));
  order_as_self();
  barrier.bytes -= int64_t{load.map.box_rows} * load.map.box_cols * load.map.size;
  if (barrier.pending == 0 && barrier.bytes < 0) too_few_bytes(load.source, *load.lane);
  settle(load.barrier);
}

// --- named barriers --------------------

SIMT_UNSEEN __attribute__((noinline)) void named_barrier(int id, int threads, bool waits, const char* file, int line) {
  use_hopper();
  Lane& lane = this_lane();
  if (id < 1 || id >= int(kNamedBarriers))
    fail({Defect::misuse_of, "a named barrier is one of 1 to 15", {file, line}, &lane, nullptr, uint64_t(int64_t{id})});
  if (threads <= 0 || threads % int(kWarp) != 0 || threads > int(machine.threads))
    fail({Defect::misuse_of,
          "the threads of a named barrier are whole warps of the block",
          {file, line},
          &lane,
          nullptr,
          uint64_t(int64_t{threads})});
  NamedBarrier& barrier = hopper.named[id];
  if (barrier.arrived == 0) barrier.threads = unsigned(threads);
  if (barrier.threads != unsigned(threads))
    fail({Defect::misuse_of,
          "a named barrier at which others count other threads",
          {file, line},
          &lane,
          nullptr,
          barrier.threads});
  char* const token = &hopper.named_tokens[fiber_set()][id];
  order_set(token);
  if (++barrier.arrived < barrier.threads) {
    if (!waits) return;
    lane.source = {file, line};
    lane.value = uint64_t(id);
    lane.wait = Wait::named_barrier;
    park(lane);
    return;
  }
  barrier.arrived = 0;
  for (unsigned i = 0; i < machine.threads; ++i) {
    Lane& other = machine.lanes[i];
    if (other.wait != Wait::named_barrier || other.value != uint64_t(id)) continue;
    order_as(other);
    order_pass(token);
    make_ready(other);
  }
  order_as_self();
  if (waits) order_pass(token);
}

}  // namespace fire::simt
