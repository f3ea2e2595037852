// What is asked of the device, counted and, where somebody asks for it, timed. Both runtimes (runtime.h) and both
// launches (gpu.h, test/simt/device.h) report here. C++17, for kernels include it.
//
// FIRE_CUDA_SYNC=1 makes the host wait after every launch, so that a fault is reported under the kernel that has it and
// not at the next wait. Slow; for finding faults.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cuda/runtime.h"

namespace fire::cuda {

/// Of this process, since it began.
struct Counters {
  uint64_t launches = 0;
  uint64_t allocations = 0, releases = 0;  ///< of device memory
  uint64_t pinned_allocations = 0;
  uint64_t host_waits = 0;  ///< `wait` and `synchronize`
  uint64_t bytes_to_device = 0, bytes_to_host = 0, bytes_on_device = 0, bytes_zeroed = 0;
};
Counters counters();
Counters operator-(const Counters& now, const Counters& before);

/// Adds to a number of `counters`; any thread may.
void count(uint64_t Counters::*what, uint64_t by = 1) noexcept;

/// Around every launch. `launched` counts it.
void launching(const char* kernel, Stream stream);
void launched(const char* kernel, Stream stream);

/// While it lives, an event stands before and behind every launch of this process: what kernels take, without what the
/// GPU waits for. One at a time; the launches of one thread.
class Profile {
 public:
  Profile();
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  struct Total {
    int64_t launches = 0;
    double milliseconds = 0;
  };
  /// By kernel, once everything that was launched has run: after a `synchronize`.
  std::map<std::string, Total> totals() const;

 private:
  friend void launching(const char*, Stream);
  friend void launched(const char*, Stream);
  struct Launch {
    std::string kernel;
    Event before, after;  // after: nullptr where the launch failed
  };

  std::vector<Launch> launches_;
};

}  // namespace fire::cuda
