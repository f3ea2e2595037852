// A block's shared memory and cp.async.
#include <sys/mman.h>

#include "simt/state.h"

#if SIMT_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace fire::simt {
namespace {

constexpr size_t kRegion = kMaxShared + kMaxStaticShared + kMaxSharedArrays * (kRedZone + 1024) + 4096;

SIMT_UNSEEN __attribute__((noinline)) void fill(unsigned char* to, size_t bytes) {
#if SIMT_ASAN || SIMT_TSAN
  // Not memset, whose interceptor would look at it; volatile, or the compiler makes it one.
  size_t i = 0;
  for (; i + 8 <= bytes; i += 8) *reinterpret_cast<volatile uint64_t*>(to + i) = ~uint64_t{0};
  for (; i < bytes; ++i) static_cast<volatile unsigned char*>(to)[i] = 0xff;
#else
  __builtin_memset(to, 0xff, bytes);
#endif
}

#if SIMT_TSAN

/// Whole pages for one array, for TSan forgets who touched them by whole pages.
SIMT_UNSEEN size_t pages(size_t bytes) { return (bytes + kRedZone + 4095) / 4096 * 4096; }

/// An array of its own pages: memory that no thread of another block has touched.
SIMT_UNSEEN unsigned char* place(size_t bytes, size_t) { return map_memory(pages(bytes)); }

#else

/// Usable bytes behind what the block has already, and a red zone behind them.
SIMT_UNSEEN unsigned char* place(size_t bytes, size_t alignment) {
  const size_t offset = (machine.shared_used + alignment - 1) / alignment * alignment;
  unsigned char* const data = machine.shared + offset;
  machine.shared_used = offset + bytes + kRedZone;
#if SIMT_ASAN
  __asan_unpoison_memory_region(data, bytes);
#endif
  return data;
}

#endif

SIMT_UNSEEN unsigned char* open_array(size_t bytes, size_t alignment, const char* file, int line) {
  unsigned char* const data = place(bytes, alignment);
  fill(data, bytes);
#if !SIMT_ASAN
  fill(data + bytes, kRedZone);
#endif
  const uint32_t place = uint32_t((machine.addresses + alignment - 1) / alignment * alignment);
  machine.addresses = place + uint32_t(bytes) + kRedZone;
  machine.arrays[machine.array_count++] = {data, bytes, place, file, line};
  return data;
}

}  // namespace

SIMT_UNSEEN void begin_shared() {
#if !SIMT_TSAN
  if (!machine.shared) {
    machine.shared = map_memory(kRegion);
#if SIMT_ASAN
    __asan_poison_memory_region(machine.shared, kRegion);
#endif
  }
#endif
  machine.array_count = 0;
  machine.shared_used = 0;
  machine.static_bytes = 0;
  machine.addresses = kSharedOverhead;
  // Without TSan the arrays lie as their addresses do.
  current_block.shared_window = SIMT_TSAN ? nullptr : machine.shared - kSharedOverhead;
  const size_t dynamic = machine.launch->shared_bytes;
  current_block.dynamic_shared = dynamic == 0 && SIMT_TSAN ? nullptr : open_array(dynamic, 1024, nullptr, 0);
}

namespace {

/// Written a little past its end: seen without AddressSanitizer too.
SIMT_UNSEEN bool overrun(const SharedArray& array) {
  uint64_t zone[kRedZone / 8];
  __builtin_memcpy(zone, array.data + array.bytes, kRedZone);
  uint64_t all = ~uint64_t{0};
  for (uint64_t word : zone) all &= word;
  return all != ~uint64_t{0};
}

}  // namespace

SIMT_UNSEEN void end_shared() {
  for (unsigned i = 0; i < machine.array_count; ++i) {
    const SharedArray& array = machine.arrays[i];
    if (!SIMT_ASAN && last_failure.defect == Defect::none && overrun(array))
      last_failure = {Defect::shared_overrun, nullptr, {array.file, array.line}, nullptr, nullptr, array.bytes};
#if SIMT_TSAN
    munmap(array.data, pages(array.bytes));
#endif
#if SIMT_ASAN
    __asan_poison_memory_region(array.data, array.bytes);
#endif
  }
}

SIMT_UNSEEN __attribute__((noinline)) void* allocate_static_shared(SharedSlot* slot, size_t bytes, size_t alignment,
                                                                   const char* file, int line) {
  machine.static_bytes += bytes;
  const size_t total = machine.static_bytes + machine.launch->shared_bytes;
  if (machine.static_bytes > kMaxStaticShared || total > kMaxShared)
    fail({Defect::too_much_shared, nullptr, {file, line}, &this_lane(), nullptr, total});
  if (machine.array_count == kMaxSharedArrays) fail({Defect::too_many_arrays, nullptr, {file, line}, &this_lane()});
  slot->data = open_array(bytes, alignment < 16 ? 16 : alignment, file, line);
  slot->serial = current_block.serial;
  return slot->data;
}

SIMT_UNSEEN const SharedArray* shared_array(const void* p, size_t bytes) {
  const unsigned char* const begin = static_cast<const unsigned char*>(p);
  for (unsigned i = 0; i < machine.array_count; ++i) {
    const SharedArray& array = machine.arrays[i];
    if (begin >= array.data && begin + bytes <= array.data + array.bytes) return &array;
  }
  return nullptr;
}

SIMT_UNSEEN unsigned char* shared_at(uint32_t address, size_t bytes) {
  for (unsigned i = 0; i < machine.array_count; ++i) {
    const SharedArray& array = machine.arrays[i];
    if (address >= array.address && address + bytes <= array.address + array.bytes)
      return array.data + (address - array.address);
  }
  return nullptr;
}

SIMT_UNSEEN bool in_shared(const void* p, size_t bytes) { return shared_array(p, bytes) != nullptr; }

// --- cp.async --------------------

namespace {

// Memory as the thread's copy engine touches it: seen by the sanitizers, hence never inlined.
__attribute__((noinline)) void write_16(unsigned char* to, uint64_t first, uint64_t second) {
  reinterpret_cast<uint64_t*>(to)[0] = first;
  reinterpret_cast<uint64_t*>(to)[1] = second;
}

__attribute__((noinline)) void copy_16(unsigned char* to, const unsigned char* from) {
  const uint64_t first = reinterpret_cast<const uint64_t*>(from)[0];
  const uint64_t second = reinterpret_cast<const uint64_t*>(from)[1];
  reinterpret_cast<uint64_t*>(to)[0] = first;
  reinterpret_cast<uint64_t*>(to)[1] = second;
}

SIMT_UNSEEN void perform(const Copy& copy) {
  if (copy.global)
    copy_16(copy.shared, copy.global);
  else
    write_16(copy.shared, 0, 0);
}

}  // namespace

SIMT_UNSEEN void begin_copies() {
  if (!machine.copies_used) return;
  for (unsigned i = 0; i < machine.threads; ++i) {
    CopyQueue& queue = machine.copies[i];
    queue.first = queue.issued = queue.groups_first = queue.groups = 0;
  }
  machine.copies_used = false;
}

SIMT_UNSEEN unsigned copies_under_way(const Lane& lane) {
  const CopyQueue& queue = machine.copies[lane.number];
  return queue.issued - queue.first;
}

SIMT_UNSEEN __attribute__((noinline)) void copy_async(void* shared, const void* global, bool valid, const char* file,
                                                      int line) {
  Lane& lane = this_lane();
  const uintptr_t to = reinterpret_cast<uintptr_t>(shared);
  const uintptr_t from = reinterpret_cast<uintptr_t>(global);
  if (to % 16 != 0) fail({Defect::unaligned, "the target of cp.async", {file, line}, &lane, nullptr, to});
  if (from % 16 != 0) fail({Defect::unaligned, "the source of cp.async", {file, line}, &lane, nullptr, from});
  if (!in_shared(shared, 16))
    fail({Defect::outside_shared, "the target of cp.async", {file, line}, &lane, nullptr, to});
  if (valid && in_shared(global, 1))
    fail({Defect::in_shared, "the source of cp.async", {file, line}, &lane, nullptr, from});
  CopyQueue& queue = machine.copies[lane.number];
  if (queue.issued - queue.first == kMaxCopies) fail({Defect::too_many_copies, nullptr, {file, line}, &lane});
  machine.copies_used = true;
  const Copy copy{static_cast<unsigned char*>(shared), valid ? static_cast<const unsigned char*>(global) : nullptr};
  queue.copies[queue.issued++ % kMaxCopies] = copy;
  if (current_options.eager)
    perform(copy);
  else
    write_16(copy.shared, ~uint64_t{0}, ~uint64_t{0});
}

SIMT_UNSEEN __attribute__((noinline)) void copy_async_commit() {
  CopyQueue& queue = machine.copies[this_lane().number];
  if (queue.groups - queue.groups_first == kMaxCopies) ++queue.groups_first;  // empty or waited for long ago
  queue.group_end[queue.groups++ % kMaxCopies] = queue.issued;
}

SIMT_UNSEEN __attribute__((noinline)) void copy_async_wait(unsigned pending, const char*, int) {
  CopyQueue& queue = machine.copies[this_lane().number];
  if (queue.groups - queue.groups_first <= pending) return;
  queue.groups_first = queue.groups - pending;
  const unsigned end = queue.group_end[(queue.groups_first - 1) % kMaxCopies];
  for (; queue.first != end; ++queue.first)
    if (!current_options.eager) perform(queue.copies[queue.first % kMaxCopies]);
}

}  // namespace fire::simt
