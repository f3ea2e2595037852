// A second stream beside that of the operations.
#pragma once

#include "cuda/runtime.h"
#include "ops/side_queue.h"

namespace fire::cuda {

class SideStream final : public SideQueue {
 public:
  /// `operations` is the stream of the device's operations.
  SideStream(int device, Stream operations);
  ~SideStream() override;
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  void enter() override { select(device_); }
  void* stream() const override { return stream_; }
  void follow() override;
  double wait(const std::function<void()>& check) override;

 private:
  int device_;
  Stream operations_, stream_ = nullptr;
  Event behind_operations_ = nullptr, behind_this_ = nullptr;
};

}  // namespace fire::cuda
