// A second queue of a GPU, for what a library does beside the operations (native/dist).
#pragma once

#include <functional>

namespace fire {

/// One thread uses it, but for `enter`. It may outlive the operations that made it, and is then only to be destroyed.
class SideQueue {
 public:
  virtual ~SideQueue() = default;
  /// Makes its device current for the calling thread.
  virtual void enter() = 0;
  /// The cudaStream_t.
  virtual void* stream() const = 0;
  /// What is put on it from now on comes after all operations queued so far.
  virtual void follow() = 0;
  /// Blocks the host until the operations queued so far and everything on this queue have run. Meanwhile calls
  /// `check` again and again; what that throws ends the wait. Returns how long the operations had been done and this
  /// queue had not, in seconds.
  virtual double wait(const std::function<void()>& check) = 0;
};

}  // namespace fire
