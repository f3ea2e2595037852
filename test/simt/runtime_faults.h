// What the pretend device of test/simt/runtime.cpp does wrong, for tests of how the engine answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace fire::simt {

enum class Driver : uint8_t { present, missing, too_old, no_card };

struct Faults {
  /// What devices() finds.
  Driver driver = Driver::present;
  /// Device memory; beyond it allocate() returns nullptr.
  size_t memory_bytes = size_t{4} << 30;
  /// Shared memory of a multiprocessor; a block gets all of it but 1 KiB.
  size_t shared_bytes = size_t{228} << 10;
  /// The next launch of a kernel with this name fails as after an illegal address, and the device with it.
  std::string failing_kernel;
};

/// Starts as the environment says: FIRE_SIMT_DRIVER=present|missing|too_old|no_card, FIRE_SIMT_MEMORY=bytes,
/// FIRE_SIMT_SHARED=bytes.
Faults faults();
void set_faults(const Faults& faults);

/// After a kernel's failure every call throws ERR_FIRE_CUDA, as on a GPU until the process is started again. This is
/// that new start.
void restart();

/// Calls of select() so far: each opens CUDA on a device, which takes some hundred MiB of a real one.
size_t selections();

/// Bytes from allocate() and allocate_pinned() that are not released yet.
size_t allocated_bytes();
size_t pinned_bytes();

}  // namespace fire::simt
