// The emulator for tests: which order of threads, which moment of asynchronous copies. cuda/gpu.h and cuda/ptx.cuh
// bring the device side; runtime_faults.h the pretend device's failures.
//
// Blocks run one after another; the threads of a block take turns at barriers and warp collectives. Shared memory is
// new in every block, exactly as large as asked for and full of NaN (0xFF). What a GPU would answer with a hang or a
// wrong number comes back from gpu::launch as ERR_FIRE_CUDA that names the kernel, block, thread and source line:
// barriers and collectives that not all threads reach, mismatched masks, copies left unfinished, impossible launches.
// Races and accesses out of bounds are seen by building with TSan or ASan + UBSan.
//
// Not modelled: bank conflicts, coalescing, occupancy, speed, weak memory order between blocks (__threadfence does
// nothing), the tensor cores' order of sums, __launch_bounds__, clusters.
#pragma once

#include <cstdint>

namespace fire::simt {

/// Which ready thread goes on: the one that waits longest, shortest, or any.
enum class Schedule : uint8_t { fifo, lifo, random };

struct Options {
  Schedule schedule = Schedule::fifo;
  uint64_t seed = 1;  // of random; every launch draws on
  /// cp.async, TMA and wgmma write at once, the earliest legal moment. Otherwise at the latest one, the wait that
  /// covers it, and NaN until then.
  bool eager = false;
  /// Under TSan: also report two blocks that touch the same memory. Blocks of a launch have no order on a GPU.
  bool unordered_blocks = false;
};

/// Starts as the environment says: FIRE_SIMT_SCHEDULE=fifo|lifo|random[:seed], FIRE_SIMT_ASYNC=lazy|eager,
/// FIRE_SIMT_BLOCKS=ordered|unordered. Throws ERR_FIRE_INVALID_ARGUMENT for anything else.
Options options();
void set_options(const Options& options);

/// How many blocks have run in this process.
uint64_t blocks_run();

}  // namespace fire::simt
