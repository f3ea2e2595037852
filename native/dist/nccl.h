// Sums over GPUs by NCCL, which is opened by name: never a link or a header dependency.
#pragma once

#include <cstddef>

#include "dist/process_group.h"

namespace fire {

/// The entry points used, with the prototypes that NCCL 2 has kept since 2.4. A result of 0 is success.
struct NcclLibrary {
  /// "2.21.5 (libnccl.so.2)", or why there is none.
  std::string version, missing;

  using Comm = void*;
  struct UniqueId {
    char bytes[128];
  };
  /// Of ncclResult_t.
  static constexpr int success = 0, in_progress = 7;
  /// ncclFloat32 and ncclSum.
  static constexpr int float32 = 7, sum = 0;

  int (*get_version)(int* version) = nullptr;
  int (*get_unique_id)(UniqueId* id) = nullptr;
  /// Returns when all ranks have come. The id goes by value.
  int (*comm_init_rank)(Comm* comm, int ranks, UniqueId id, int rank) = nullptr;
  int (*all_reduce)(const void* from, void* to, size_t count, int type, int operation, Comm comm,
                    void* stream) = nullptr;
  int (*comm_get_async_error)(Comm comm, int* result) = nullptr;
  /// Local: ends what is under way, frees.
  int (*comm_abort)(Comm comm) = nullptr;
  /// Waits for the other ranks of this machine.
  int (*comm_destroy)(Comm comm) = nullptr;
  const char* (*get_error_string)(int result) = nullptr;
  /// Of NCCL 2.13 and later, else nullptr: what went wrong, in words. Does not look at its argument.
  const char* (*get_last_error)(Comm comm) = nullptr;
};

/// Looks once: FIRE_NCCL_LIBRARY if set (and then nothing else), else libnccl.so.2, libnccl.so.
const NcclLibrary& nccl();

/// See join_group. `queue` is the GPU's second queue.
std::unique_ptr<ProcessGroup> join_nccl(const NcclLibrary& library, const GroupSpec& spec,
                                        std::shared_ptr<SideQueue> queue, Cancel cancel,
                                        const std::shared_ptr<GroupEnd>& end);

}  // namespace fire
