// Sums over CPUs by MPI, through a small library of our own that is built where mpicc is (native/dist/mpi) and opened
// by name: never a link dependency.
#pragma once

#include "dist/process_group.h"

namespace fire {

/// See fire_mpi.h.
struct MpiLibrary {
  /// "Open MPI v4.1.4 (…/libfire_mpi.so)", or why there is none.
  std::string version, missing;

  const char* (*error)(int code) = nullptr;
  int (*start)(int* rank, int* size) = nullptr;
  int (*join)(void** communicator, void** request) = nullptr;
  int (*sum)(void* communicator, float* values, int count, void** request) = nullptr;
  int (*test)(void* request, int* done) = nullptr;
  int (*leave)(void* communicator) = nullptr;
  void (*abandon)() = nullptr;
};

/// Looks once: FIRE_MPI_LIBRARY if set (and then nothing else), else libfire_mpi.so beside the file that this code is
/// in.
const MpiLibrary& mpi();

/// See join_group.
std::unique_ptr<ProcessGroup> join_mpi(const MpiLibrary& library, const GroupSpec& spec, Cancel cancel,
                                       const std::shared_ptr<GroupEnd>& end);

}  // namespace fire
