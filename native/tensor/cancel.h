// The wish to stop a computation. It may come from any thread.
#pragma once

#include <atomic>

#include "tensor/error.h"

namespace fire {

/// A view of a flag that its owner sets. What takes long asks it between its parts: layers, images, tensors of a file.
class Cancel {
 public:
  /// nullptr: nobody ever asks to stop.
  Cancel(const std::atomic<bool>* flag = nullptr) : flag_(flag) {}
  /// Throws ERR_FIRE_ABORTED once the flag is set.
  void check() const {
    if (flag_ && flag_->load(std::memory_order_relaxed)) throw Error(Code::aborted, "stopped on request");
  }

 private:
  const std::atomic<bool>* flag_;
};

}  // namespace fire
