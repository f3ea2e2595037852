// Shared memory as the asynchronous side (TMA, wgmma) sees it: a second copy, to which loads of TMA write too and
// ordinary stores only by fence.proxy.async. Where the two differ, a fence is missing.
#include "simt/hopper_state.h"

namespace fire::simt {

Hopper hopper;

namespace {

// Eight bytes at a time, and volatile: a sanitizer would look at memcpy.
SIMT_UNSEEN __attribute__((noinline)) void copy_words(unsigned char* to, const unsigned char* from, size_t bytes) {
#if SIMT_ASAN || SIMT_TSAN
  size_t i = 0;
  for (; i + 8 <= bytes; i += 8)
    *reinterpret_cast<volatile uint64_t*>(to + i) = *reinterpret_cast<const volatile uint64_t*>(from + i);
  for (; i < bytes; ++i) *static_cast<volatile unsigned char*>(to + i) = from[i];
#else
  __builtin_memcpy(to, from, bytes);
#endif
}

__attribute__((noinline)) void write_16(unsigned char* to, Words words) {
  reinterpret_cast<uint64_t*>(to)[0] = words.first;
  reinterpret_cast<uint64_t*>(to)[1] = words.second;
}

}  // namespace

__attribute__((noinline)) Words visible_read(const unsigned char* p) {
  return {reinterpret_cast<const uint64_t*>(p)[0], reinterpret_cast<const uint64_t*>(p)[1]};
}

SIMT_UNSEEN void begin_hopper() { hopper.used = false; }

// Products before loads: one that does not wait for its operands meets them before they have come.
SIMT_UNSEEN bool make_progress() { return hopper.used && (complete_products() || complete_load()); }

SIMT_UNSEEN void use_hopper() {
  if (hopper.used) return;
  hopper.used = true;
  if (!hopper.async_view) hopper.async_view = map_memory(kSharedWindow);
  uint64_t* const words = reinterpret_cast<uint64_t*>(hopper.async_view);
  for (unsigned i = 0; i < kSharedWindow / 8; ++i) *static_cast<volatile uint64_t*>(words + i) = ~uint64_t{0};
  hopper.barrier_count = hopper.loads_used = hopper.stores_used = 0;
  for (unsigned i = 0; i < kMaxTransfers; ++i) hopper.loads[i].used = hopper.stores[i].used = false;
  // Registers are given out by eights, and a thread has at most 255.
  const unsigned each = kRegisterFile / machine.threads / 8 * 8;
  for (Warpgroup& group : hopper.warpgroups) {
    group.joined = group.first = group.issued = group.wanted = 0;
    group.due = false;
    forget_registers(group);
    group.registers = each < 256 ? each : 248;
    for (Accumulator& accumulator : group.accumulators) accumulator.used = false;
  }
  hopper.free_registers = 0;
  for (unsigned i = 0; i < machine.threads; ++i) {
    hopper.store_groups[i] = hopper.product_groups[i] = 0;
    hopper.fenced[i] = hopper.refused[i] = false;
  }
  for (NamedBarrier& barrier : hopper.named) barrier.arrived = 0;
}

SIMT_UNSEEN __attribute__((noinline)) uint32_t shared_address(const void* p, const char* file, int line) {
  const SharedArray* const array = shared_array(p, 0);
  if (!array)
    fail({Defect::outside_shared,
          "the operand of an instruction",
          {file, line},
          &this_lane(),
          nullptr,
          reinterpret_cast<uintptr_t>(p)});
  return array->address + uint32_t(static_cast<const unsigned char*>(p) - array->data);
}

SIMT_UNSEEN __attribute__((noinline)) void* at_shared_address(uint32_t address, const char* file, int line) {
  unsigned char* const p = shared_at(address, 0);
  if (!p) fail({Defect::outside_shared, "the address of an instruction", {file, line}, &this_lane(), nullptr, address});
  return p;
}

SIMT_UNSEEN __attribute__((noinline)) void fence_async_shared() {
  use_hopper();
  for (unsigned i = 0; i < machine.array_count; ++i) {
    const SharedArray& array = machine.arrays[i];
    copy_words(hopper.async_view + array.address, array.data, array.bytes);
  }
  for (unsigned i = 0; i < hopper.barrier_count; ++i)
    if (hopper.barriers[i].initialised_by == &this_lane()) hopper.barriers[i].fenced = true;
}

SIMT_UNSEEN bool async_sees(const unsigned char* p, uint32_t address) {
  const uint64_t* const now = reinterpret_cast<const uint64_t*>(p);
  const uint64_t* const seen = reinterpret_cast<const uint64_t*>(hopper.async_view + address);
  return now[0] == seen[0] && now[1] == seen[1];
}

SIMT_UNSEEN void async_write(unsigned char* p, uint32_t address, Words words) {
  uint64_t* const seen = reinterpret_cast<uint64_t*>(hopper.async_view + address);
  seen[0] = words.first;
  seen[1] = words.second;
  write_16(p, words);
}

SIMT_UNSEEN uint32_t swizzled(uint32_t address, unsigned bits) {
  return address ^ ((address >> 7 & ((1u << bits) - 1)) << 4);
}

}  // namespace fire::simt
