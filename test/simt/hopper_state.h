// The emulator's own state for what Hopper adds: mbarriers, TMA, wgmma, named barriers, registers. As state.h.
#pragma once

#include "simt/hopper.h"
#include "simt/state.h"

namespace fire::simt {

constexpr unsigned kWarpgroup = 128;
constexpr unsigned kMaxWarpgroups = kMaxThreads / kWarpgroup;
constexpr unsigned kMaxBarriers = 64;     // of a block
constexpr unsigned kMaxTransfers = 64;    // loads, and stores, of a block under way
constexpr unsigned kMaxProducts = 64;     // wgmma of a warpgroup under way
constexpr unsigned kMaxAccumulators = 8;  // of a warpgroup under way
constexpr unsigned kMaxUsed = 16;         // registers of products that are remembered
constexpr unsigned kNamedBarriers = 16;
constexpr unsigned kRegisterFile = 65536;          // 32-bit registers of a multiprocessor
constexpr uint32_t kMaxMbarrier = (1u << 20) - 1;  // arrivals, and bytes, of a phase

/// What encode_tiled leaves in a TensorMap.
struct MapView {
  uint64_t magic;
  unsigned char* data;
  int64_t rows, cols, row_bytes;
  int32_t size, box_rows, box_cols;  // size: bytes of an element
  cuda::Swizzle swizzle;
};
static_assert(sizeof(MapView) <= sizeof(cuda::TensorMap), "a view fits into a map");
constexpr uint64_t kMapMagic = 0x66697265206d6170;

struct Barrier {
  uint64_t* address;
  uint32_t count, pending;
  int64_t bytes;  // announced and not yet there
  int32_t phase;  // the one that is not complete
  bool fenced;    // the copy engine may use it
  const Lane* initialised_by;
};

/// A load or a store of one box.
struct Transfer {
  bool used;
  bool read, waited, written;  // stores: shared memory, by its thread for that, global memory
  MapView map;
  unsigned char* shared;
  uint32_t address;  // of `shared`, as instructions see it
  int row, col;
  uint64_t number;  // counts, so that the oldest is known
  const Lane* lane;
  Source source;
  unsigned barrier;  // loads: whose bytes they are
  int32_t phase;     // loads: of it, when they were issued
  uint32_t group;    // stores
};

/// The sums that some products of a warpgroup add to while they are under way: [64, n].
struct Accumulator {
  bool used;
  int n;
  float* of[kWarpgroup];  // each thread's registers
  alignas(16) float values[64][256];
};

struct Product {
  WgmmaOperands operands;
  Accumulator* accumulator;
  uint32_t group;
  bool done;
  Source source;
  uint32_t fragments[kWarpgroup][4];
};

/// Registers that products of a warpgroup have used, sums or A, and what was in them at each thread's last fence.
struct UsedRegisters {
  const void* of[kWarpgroup];  // nullptr: nothing is known
  unsigned count;
  bool fenced[kWarpgroup];
  uint64_t at_fence[kWarpgroup];
};

/// What a thread brings to an instruction of its warpgroup.
enum class Joint : uint8_t { none, product, wait, registers };
struct Request {
  Joint joint;
  bool grow;
  int count;  // pending groups, or registers
  WgmmaOperands operands;
};

struct Warpgroup {
  unsigned joined;
  const Lane* leader;      // the first of those that have joined
  unsigned first, issued;  // products under way: [first, issued) of `products`, a ring
  Product products[kMaxProducts];
  Accumulator accumulators[kMaxAccumulators];
  UsedRegisters used[kMaxUsed];
  unsigned next_used;
  unsigned registers;  // of each thread
  unsigned wanted;     // registers that it waits for; 0: none
  bool due;            // it waits for products
};

struct NamedBarrier {
  unsigned threads, arrived;
};

static_assert(2 * kMaxTransfers + kMaxWarpgroups <= kEngines, "an engine for each");

struct Hopper {
  bool used;  // in this block

  unsigned barrier_count;
  Barrier barriers[kMaxBarriers];
  int32_t seen[kMaxBarriers][kMaxThreads];  // the last phase that a thread has waited for
  bool refused[kMaxThreads];                // told "not yet" when it last asked

  uint64_t transfers;  // issued
  unsigned loads_used, stores_used;
  Transfer loads[kMaxTransfers], stores[kMaxTransfers];
  uint32_t store_groups[kMaxThreads];  // closed ones of each thread
  unsigned char* held;                 // what stores have read, by slot

  unsigned char* async_view;  // shared memory as TMA and wgmma see it, by address

  Request requests[kMaxThreads];
  uint32_t product_groups[kMaxThreads];  // closed ones
  bool fenced[kMaxThreads];              // wgmma_fence since the registers could be touched
  Warpgroup warpgroups[kMaxWarpgroups];
  unsigned free_registers;

  NamedBarrier named[kNamedBarriers];

  // For order.cpp, by set of fibers: blocks without order have none through these either.
  char barrier_tokens[kFiberSets][kMaxBarriers][2];  // even and odd phases
  char transfer_tokens[kFiberSets][2 * kMaxTransfers];
  char store_tokens[kFiberSets][kMaxThreads];  // what the stores of a thread have written
  char named_tokens[kFiberSets][kNamedBarriers];
  char product_tokens[kFiberSets][kMaxWarpgroups];  // what its products have read
};

extern Hopper hopper;

/// Called by whatever Hopper has and Ampere has not: the block's state is made at its first use.
void use_hopper();

// mbarrier.cpp
Barrier& find_barrier(uint64_t* address, const char* file, int line);
/// Bytes of a load have come.
void bytes_arrived(const Transfer& load);

// async_proxy.cpp
/// 16 bytes, in registers: the sanitizers would take a buffer of the emulator for the kernel's.
struct Words {
  uint64_t first, second;
};
/// Whether the asynchronous side sees what is in 16 bytes of shared memory; `address` as instructions see it.
bool async_sees(const unsigned char* p, uint32_t address);
/// An asynchronous write of 16 bytes: seen by both sides.
void async_write(unsigned char* p, uint32_t address, Words words);
/// A read on behalf of whoever order.cpp says is running; seen by the sanitizers.
Words visible_read(const unsigned char* p);
/// The byte offset of a 16-byte piece after swizzling.
uint32_t swizzled(uint32_t address, unsigned mode_bits);

// tma.cpp, warpgroup.cpp: what was put off, one of it; false when there is nothing.
bool complete_load();
bool complete_products();
/// At the end of the block: what stores have read and not yet written.
void write_stores();
/// What the products of the thread's warpgroup have read, up to its last wait, comes before what follows order_pass:
/// each of its threads may say so for all.
void order_products(const Lane& lane, void* token);

// wgmma_registers.cpp
void forget_registers(Warpgroup& group);
/// The thread's fence: remembers what is in the registers that products have used before.
void note_fence(const Lane& lane);
/// Whether no thread of those from `lanes` on has written to these registers since its fence, as far as it is known;
/// else the thread.
const Lane* written_since_fence(const Lane* lanes, const void* const (&registers)[kWarpgroup], unsigned count);
/// The emulator itself has written to them.
void note_written(const Lane* lanes, const void* const (&registers)[kWarpgroup]);

// wgmma.cpp
void check_operands(const WgmmaOperands& operands, const Lane& lane);
/// On behalf of the 128 threads from `lanes` on.
void execute(Product& product, Lane* lanes);

}  // namespace fire::simt
