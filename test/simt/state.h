// The emulator's own state; only its .cpp files include this. Plain arrays: the functions that touch them must be
// invisible to the sanitizers, and a std::vector's members would not be.
#pragma once

#include <string>

#include "simt/emulator.h"
#include "simt/fiber.h"
#include "simt/machine.h"

namespace fire::simt {

constexpr unsigned kWarp = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxWarps = kMaxThreads / kWarp;
constexpr size_t kMaxShared = size_t{227} << 10;       // static and dynamic, of a block
constexpr size_t kSharedOverhead = size_t{1} << 10;    // what CUDA itself takes of every block
constexpr size_t kMaxStaticShared = size_t{48} << 10;  // nvcc's limit
constexpr uint32_t kSharedWindow = 1u << 18;           // addresses of shared memory
constexpr unsigned kMaxSharedArrays = 64;
constexpr size_t kRedZone = 64;
constexpr unsigned kMaxCopies = 512;  // under way of one thread
constexpr unsigned kEngines = 136;    // that copy by themselves
// Sets of fibers that blocks use in turn when they are to have no order between them.
constexpr unsigned kFiberSets = SIMT_TSAN ? 4 : 1;

enum class Wait : uint8_t {
  not_started,
  ready,
  barrier,
  warp,
  named_barrier,
  mbarrier,
  warpgroup,
  registers,
  finished
};

struct Source {
  const char* file;
  int line;
};

/// One CUDA thread.
struct Lane {
  ThreadView view;  // first: current_thread points here
  Fiber* fiber;
  Source source;  // of the collective at which it waits
  uint16_t number;
  Wait wait;
  WarpOp op;
  uint8_t from;  // shuffles: the lane whose value this one receives
  uint32_t mask;
  uint64_t value;       // its operand, then its result
  uint32_t* registers;  // ldmatrix: result; mma: A
  float* sums;          // mma: C and D
};

struct Warp {
  uint32_t waiting, finished, existing;  // lanes, as masks
  uint32_t with_leader;                  // the waiting lanes that are at the same collective as `leader`
  const Lane* leader;
};

/// What went wrong, filled in where it is seen and told by report.cpp on the host's stack.
enum class Defect : uint8_t {
  none,
  divergent_barrier,    // other: a thread that waits at another line
  barrier_after_exit,   // other: a thread that has left
  exit_before_barrier,  // other: a thread that waits
  deadlock,
  not_in_mask,
  no_such_lane,       // value: lane
  exited_lane,        // value: lane
  mismatched_op,      // other: the lane that differs
  exit_from_mask,     // other: the lane that waits for this one
  shuffle_width,      // value: width
  shuffle_source,     // value: lane outside of the mask
  unaligned,          // value: address, of `what`
  outside_shared,     // value: address, of `what`
  in_shared,          // value: address, of `what`
  unfinished_copies,  // value: how many
  too_many_copies,
  too_much_shared,  // value: bytes
  too_many_arrays,
  shared_overrun,
  misuse,        // what: in words
  misuse_of,     // the same, with value
  disagreement,  // what; other: the thread that differs
};

struct Failure {
  Defect defect = Defect::none;
  const char* what = nullptr;
  Source source{nullptr, 0};
  const Lane* lane = nullptr;
  const Lane* other = nullptr;
  uint64_t value = 0;
};

struct SharedArray {
  unsigned char* data;
  size_t bytes;
  uint32_t address;  // as instructions see it
  const char* file;
  int line;
};

struct Copy {
  unsigned char* shared;
  const unsigned char* global;  // nullptr: zeros
};

struct CopyQueue {
  unsigned first, issued;         // copies under way: [first, issued) of `copies`, a ring
  unsigned groups_first, groups;  // closed groups: [groups_first, groups) of `group_end`, a ring
  unsigned group_end[kMaxCopies];
  Copy copies[kMaxCopies];
};

/// No initial values: zeros, before any initialiser of the program runs and without space in the program file.
struct Machine {
  const Launch* launch;
  unsigned threads, warps;

  // Ready threads: a ring for FIFO, a pile for LIFO and random.
  unsigned ready_first, ready_count;
  uint16_t ready[kMaxThreads];
  uint64_t random;

  Lane lanes[kMaxThreads];
  Warp warp[kMaxWarps];
  unsigned finished;
  const Lane* first_finished;
  unsigned at_barrier;
  const Lane* first_at_barrier;

  Fiber host;
  Fiber fibers[kFiberSets * kMaxThreads];
  unsigned fibers_made;
  Fiber* idle[kMaxThreads];
  unsigned idle_count;

  // Shared memory: dynamic at the start, then the static arrays in the order in which the block first reaches them.
  unsigned char* shared;
  size_t shared_used;   // up to the end of the last array's red zone
  size_t static_bytes;  // sum of the static arrays
  SharedArray arrays[kMaxSharedArrays];
  unsigned array_count;
  uint32_t addresses;  // given to arrays

  bool copies_used;
  CopyQueue copies[kMaxThreads];
};

extern Machine machine;
extern Failure last_failure;
extern Options current_options;
/// A program that runs other bodies than the sources' (test/ptx) sets it.
extern Launch (*replace_body)(const Launch& launch);

SIMT_UNSEEN inline Lane& this_lane() { return *const_cast<Lane*>(reinterpret_cast<const Lane*>(current_thread)); }

// schedule.cpp
void make_ready(Lane& lane);
/// Lets other threads run until somebody made this one ready.
void park(Lane& lane);
/// Ends the launch: goes back to the host and never returns.
[[noreturn]] void fail(const Failure& failure);
/// Runs the threads of the current block; last_failure says how it ended.
void run_block();
/// Forgets every fiber's past after a failure.
void reset_fibers();

// order.cpp: what TSan is told about the order of accesses; nothing otherwise.
void order_launch_begin();
void order_block_begin();
void order_thread_begin();
void order_thread_end();
void order_block_end();
void order_launch_end();
/// After a failure: threads that will never go on end here.
void order_abandoned();
/// A barrier of the whole block, or of some lanes of a warp: whatever one of them did before it happened before
/// whatever another does after it.
void order_block();
void order_warp(const Lane& lane, uint32_t mask);
/// What came before order_set in the one that is running comes before what follows order_pass in the other. `token` is
/// any byte.
void order_set(void* token);
void order_pass(void* token);
/// The accesses that follow are those of an engine that copies by itself, or of a thread that is parked; until
/// order_as_self.
void order_as_engine(unsigned engine);
void order_as(const Lane& lane);
void order_as_self();
/// What the engine that is running did comes before the host goes on.
void order_engine_done();
unsigned fiber_set();

// shared.cpp
void begin_shared();
void end_shared();
/// Whether [p, p + bytes) lies in one shared array of the block.
bool in_shared(const void* p, size_t bytes);
/// The array of the block that has [p, p + bytes), and its inverse by address; nullptr where there is none.
const SharedArray* shared_array(const void* p, size_t bytes);
unsigned char* shared_at(uint32_t address, size_t bytes);
void begin_copies();
unsigned copies_under_way(const Lane& lane);

// tensor_core.cpp: on behalf of all 32 lanes of a warp, the first of which is given.
void ldmatrix_all(Lane* lanes, bool transposed);
void mma_all(Lane* lanes);

// What Hopper adds (hopper_state.h). Nobody is ready: lets something come true that was put off; false when there is
// nothing.
bool make_progress();
void begin_hopper();
/// A thread leaves the kernel, `last` of its block: it must have waited for what it started.
void check_hopper(const Lane& lane, bool last);

// report.cpp: the error for last_failure.
[[noreturn]] void throw_failure();
[[noreturn]] void refuse_launch(const Launch& launch, const std::string& reason);

// runtime.cpp: both checks throw while the device is unusable, the launch's also when this kernel is to fail.
void check_usable(const char* what);
void check_launch(const char* kernel);
void poison_device();
bool in_device_memory(const void* p, size_t bytes);

}  // namespace fire::simt
