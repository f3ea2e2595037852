// A tensor with device memory of its own.
#pragma once

#include "ops/ops.h"

namespace fire {

/// The memory lives as long as this object, which must not outlive `ops`. Its values are undefined at first.
class DeviceTensor {
 public:
  DeviceTensor(Ops& ops, DType dtype, std::initializer_list<int64_t> dims)
      : ops_(ops), view_(ops.allocate(Tensor(nullptr, dtype, dims).bytes()), dtype, dims) {}
  ~DeviceTensor() {
    if (!leaked_) ops_.release(view_.data(), view_.bytes());
  }
  DeviceTensor(const DeviceTensor&) = delete;
  DeviceTensor& operator=(const DeviceTensor&) = delete;

  const Tensor& view() const { return view_; }
  /// The memory stays taken when this object goes.
  void leak() { leaked_ = true; }

 private:
  Ops& ops_;
  Tensor view_;
  bool leaked_ = false;
};

}  // namespace fire
