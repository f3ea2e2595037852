// Work of the host that may run on several threads, for code that owns none.
#pragma once

#include <cstdint>
#include <functional>

namespace fire {

/// Runs task(i) once for every i in [0, tasks), in any order, maybe from several threads at once; returns when all have
/// ended. The first exception is thrown here.
using Spread = std::function<void(int64_t tasks, const std::function<void(int64_t)>& task)>;

/// On the calling thread.
inline void one_by_one(int64_t tasks, const std::function<void(int64_t)>& task) {
  for (int64_t i = 0; i < tasks; ++i) task(i);
}

}  // namespace fire
