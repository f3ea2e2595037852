// TMA. A load is put off until nobody can go on without one: the latest legal moment (in eager mode it happens at
// once); which of several is first is up to the schedule. A store reads shared memory when its thread waits for that,
// and writes when it waits for the writing, or when the block ends.
#include "simt/hopper_state.h"

namespace fire::simt {
namespace {

// An element in global memory as the copy engine touches it: seen by the sanitizers, hence never inlined.
__attribute__((noinline)) uint32_t read_global(const unsigned char* from, int size) {
  return size == 2 ? *reinterpret_cast<const uint16_t*>(from) : *reinterpret_cast<const uint32_t*>(from);
}

__attribute__((noinline)) void write_global(unsigned char* to, uint32_t value, int size) {
  if (size == 2)
    *reinterpret_cast<uint16_t*>(to) = uint16_t(value);
  else
    *reinterpret_cast<uint32_t*>(to) = value;
}

SIMT_UNSEEN const MapView& view(const cuda::TensorMap* map, const char* file, int line) {
  const MapView& found = *reinterpret_cast<const MapView*>(map);
  if (reinterpret_cast<uintptr_t>(map) % 64 != 0)
    fail({Defect::misuse, "a TensorMap that is not 64-byte aligned", {file, line}, &this_lane()});
  if (found.magic != kMapMagic)
    fail({Defect::misuse, "a TensorMap that encode_tensor_map did not make", {file, line}, &this_lane()});
  return found;
}

/// A box in 16-byte pieces: where each is in shared and in global memory.
struct Piece {
  unsigned char* shared;
  uint32_t address;
  unsigned char* global;
  int first, count;  // its elements that are in the matrix
};

SIMT_UNSEEN unsigned pieces_of(const MapView& map) { return unsigned(map.box_rows * map.box_cols * map.size / 16); }

SIMT_UNSEEN Piece piece(const Transfer& transfer, unsigned number) {
  const MapView& map = transfer.map;
  const int each = 16 / map.size, in_line = map.box_cols / each;
  const int64_t row = int64_t{transfer.row} + int(number) / in_line;
  const int64_t col = int64_t{transfer.col} + int(number) % in_line * each;
  const uint32_t at = swizzled(transfer.address + number * 16, unsigned(map.swizzle));
  Piece found{transfer.shared + (at - transfer.address), at, nullptr, 0, 0};
  if (row < 0 || row >= map.rows) return found;
  const int64_t first = col < 0 ? -col : 0, end = map.cols - col < each ? map.cols - col : each;
  if (first >= end) return found;
  found.first = int(first);
  found.count = int(end - first);
  found.global = map.data + row * map.row_bytes + (col + first) * map.size;
  return found;
}

SIMT_UNSEEN char* token_of(unsigned engine) { return &hopper.transfer_tokens[fiber_set()][engine]; }

SIMT_UNSEEN void load_now(Transfer& load, unsigned slot) {
  order_as_engine(slot);
  order_pass(token_of(slot));
  for (unsigned i = 0; i < pieces_of(load.map); ++i) {
    const Piece at = piece(load, i);
    const int size = load.map.size;
    uint64_t words[2] = {0, 0};
    for (int e = 0; e < at.count; ++e) {
      const int byte = (at.first + e) * size;
      words[byte / 8] |= uint64_t{read_global(at.global + e * size, size)} << byte % 8 * 8;
    }
    async_write(at.shared, at.address, {words[0], words[1]});
  }
  load.used = false;
  --hopper.loads_used;
  bytes_arrived(load);
}

/// What a store has read of shared memory and not yet written, 16 bytes a piece.
SIMT_UNSEEN Words* held_by(unsigned slot) {
  if (!hopper.held) hopper.held = map_memory(size_t{kMaxTransfers} * kSharedWindow);
  return reinterpret_cast<Words*>(hopper.held + size_t{slot} * kSharedWindow);
}

SIMT_UNSEEN char* written_token(const Transfer& store) { return &hopper.store_tokens[fiber_set()][store.lane->number]; }

SIMT_UNSEEN void read_now(Transfer& store, unsigned slot) {
  const unsigned engine = kMaxTransfers + slot;
  order_as_engine(engine);
  order_pass(token_of(engine));
  for (unsigned i = 0; i < pieces_of(store.map); ++i) {
    const Piece at = piece(store, i);
    if (!async_sees(at.shared, at.address)) {
      order_as_self();
      fail({Defect::misuse, "missing fence.proxy.async: TMA stores what ordinary stores wrote since the last one",
            store.source, store.lane});
    }
    held_by(slot)[i] = visible_read(at.shared);
  }
  order_set(token_of(engine));
  order_as_self();
  store.read = true;
}

SIMT_UNSEEN void write_now(Transfer& store, unsigned slot) {
  order_as_engine(kMaxTransfers + slot);
  for (unsigned i = 0; i < pieces_of(store.map); ++i) {
    const Piece at = piece(store, i);
    const Words words = held_by(slot)[i];
    const int size = store.map.size;
    for (int e = 0; e < at.count; ++e) {
      const int byte = (at.first + e) * size;
      write_global(at.global + e * size, uint32_t((byte < 8 ? words.first : words.second) >> byte % 8 * 8), size);
    }
  }
  order_set(written_token(store));
  order_engine_done();
  order_as_self();
  store.written = true;
}

SIMT_UNSEEN void forget(Transfer& store) {
  store.used = false;
  --hopper.stores_used;
}

/// The oldest store that `matches`; kMaxTransfers when there is none.
template <class F>
SIMT_UNSEEN unsigned oldest_store(const F& matches) {
  unsigned oldest = kMaxTransfers;
  for (unsigned i = 0; i < kMaxTransfers; ++i) {
    const Transfer& store = hopper.stores[i];
    if (!store.used || !matches(store)) continue;
    if (oldest == kMaxTransfers || store.number < hopper.stores[oldest].number) oldest = i;
  }
  return oldest;
}

/// The engine may write at any time what it has read.
SIMT_UNSEEN bool write_oldest() {
  const unsigned slot = oldest_store([](const Transfer& store) SIMT_UNSEEN { return store.waited; });
  if (slot == kMaxTransfers) return false;
  write_now(hopper.stores[slot], slot);
  forget(hopper.stores[slot]);
  return true;
}

SIMT_UNSEEN unsigned free_slot(Transfer* transfers) {
  unsigned slot = 0;
  while (slot < kMaxTransfers && transfers[slot].used) ++slot;
  return slot;
}

SIMT_UNSEEN Transfer make(const MapView& map, const void* shared, int col, int row, const char* what, Source source) {
  const Lane& lane = this_lane();
  unsigned char* const data = static_cast<unsigned char*>(const_cast<void*>(shared));
  const SharedArray* const array = shared_array(shared, size_t(map.box_rows) * map.box_cols * map.size);
  if (!array) fail({Defect::outside_shared, what, source, &lane, nullptr, reinterpret_cast<uintptr_t>(shared)});
  Transfer made{};
  made.used = true;
  made.map = map;
  made.shared = data;
  made.address = array->address + uint32_t(data - array->data);
  made.row = row;
  made.col = col;
  made.number = hopper.transfers++;
  made.lane = &lane;
  made.source = source;
  if (made.address % unsigned(cuda::swizzle_alignment(map.swizzle)) != 0)
    fail({Defect::misuse_of, "a box in shared memory that is not aligned to its swizzle", source, &lane, nullptr,
          made.address});
  return made;
}

/// One of those under way, as the schedule has it.
SIMT_UNSEEN unsigned choose_load() {
  unsigned chosen = kMaxTransfers;
  unsigned skip = 0;
  if (current_options.schedule == Schedule::random) {
    machine.random = machine.random * 6364136223846793005u + 1442695040888963407u;
    skip = unsigned((machine.random >> 32) * hopper.loads_used >> 32);
  }
  for (unsigned i = 0; i < kMaxTransfers; ++i) {
    const Transfer& load = hopper.loads[i];
    if (!load.used) continue;
    if (current_options.schedule == Schedule::random) {
      if (skip-- == 0) return i;
      continue;
    }
    const bool later = chosen != kMaxTransfers && load.number > hopper.loads[chosen].number;
    if (chosen == kMaxTransfers || later == (current_options.schedule == Schedule::lifo)) chosen = i;
  }
  return chosen;
}

}  // namespace

SIMT_UNSEEN __attribute__((noinline)) void check_tensor_map(const cuda::TensorMap* map, const char* file, int line) {
  static_cast<void>(view(map, file, line));
}

SIMT_UNSEEN __attribute__((noinline)) void tma_load(void* shared, const cuda::TensorMap* map, int col, int row,
                                                    uint64_t* address, const char* file, int line) {
  Lane& lane = this_lane();
  use_hopper();
  const Barrier& barrier = find_barrier(address, file, line);
  if (!barrier.fenced)
    fail({Defect::misuse,
          "missing fence.mbarrier_init: TMA does not see that the mbarrier is initialised",
          {file, line},
          &lane});
  Transfer load = make(view(map, file, line), shared, col, row, "the target of a load of TMA", {file, line});
  load.barrier = unsigned(&barrier - hopper.barriers);
  load.phase = barrier.phase;
  if (hopper.loads_used == kMaxTransfers) complete_load();
  const unsigned slot = free_slot(hopper.loads);
  hopper.loads[slot] = load;
  ++hopper.loads_used;
  order_set(token_of(slot));
  for (unsigned i = 0; i < pieces_of(load.map); ++i) {
    const Piece at = piece(load, i);
    if (!async_sees(at.shared, at.address))
      fail({Defect::misuse,
            "missing fence.proxy.async: a load of TMA goes where ordinary stores wrote since the last one",
            {file, line},
            &lane});
  }
  if (current_options.eager) {
    load_now(hopper.loads[slot], slot);
    return;
  }
  order_as_engine(slot);
  order_pass(token_of(slot));
  for (unsigned i = 0; i < pieces_of(load.map); ++i) {
    const Piece at = piece(load, i);
    async_write(at.shared, at.address, {~uint64_t{0}, ~uint64_t{0}});
  }
  order_as_self();
}

SIMT_UNSEEN bool complete_load() {
  if (hopper.loads_used == 0) return false;
  const unsigned slot = choose_load();
  load_now(hopper.loads[slot], slot);
  return true;
}

SIMT_UNSEEN __attribute__((noinline)) void tma_store(const cuda::TensorMap* map, int col, int row, const void* shared,
                                                     const char* file, int line) {
  Lane& lane = this_lane();
  use_hopper();
  Transfer store = make(view(map, file, line), shared, col, row, "the source of a store of TMA", {file, line});
  store.group = hopper.store_groups[lane.number];
  if (hopper.stores_used == kMaxTransfers && !write_oldest())
    fail({Defect::misuse_of,
          "more stores of TMA under way than the emulator has",
          {file, line},
          &lane,
          nullptr,
          kMaxTransfers});
  const unsigned slot = free_slot(hopper.stores);
  hopper.stores[slot] = store;
  ++hopper.stores_used;
  order_set(token_of(kMaxTransfers + slot));
  if (!current_options.eager) return;
  read_now(hopper.stores[slot], slot);
  write_now(hopper.stores[slot], slot);
}

SIMT_UNSEEN __attribute__((noinline)) void tma_store_commit() {
  use_hopper();
  ++hopper.store_groups[this_lane().number];
}

SIMT_UNSEEN __attribute__((noinline)) void tma_store_wait(unsigned pending, bool reading) {
  use_hopper();
  Lane& lane = this_lane();
  const auto covered = [&](const Transfer& store) SIMT_UNSEEN {
    return store.lane == &lane && store.group + pending < hopper.store_groups[lane.number] &&
           !(reading && store.waited);
  };
  for (unsigned slot; (slot = oldest_store(covered)) != kMaxTransfers;) {
    Transfer& store = hopper.stores[slot];
    if (!store.read) read_now(store, slot);
    order_pass(token_of(kMaxTransfers + slot));
    store.waited = true;
    if (!reading && !store.written) write_now(store, slot);
    if (store.written) forget(store);
  }
  if (!reading) order_pass(&hopper.store_tokens[fiber_set()][lane.number]);
}

SIMT_UNSEEN void write_stores() {
  while (write_oldest()) {
  }
}

}  // namespace fire::simt
