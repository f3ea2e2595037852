// Shape checks of the operations.
#pragma once

#include <initializer_list>
#include <string>

#include "tensor/tensor.h"

namespace fire::cuda {

/// Throws ERR_FIRE_INTERNAL with the operation and its tensors when `fits` is false.
inline void require(bool fits, const char* operation, std::initializer_list<Tensor> tensors) {
  if (fits) return;
  std::string message = std::string(operation) + " of tensors that do not fit:";
  for (const Tensor& t : tensors) message += " " + (t ? t.describe() : std::string("none"));
  throw Error(Code::internal, message);
}

/// True when `t` is f32 of `size` elements.
inline bool is_f32(const Tensor& t, int64_t size) { return t.dtype() == DType::f32 && t.size() == size; }

inline bool alike(const Tensor& a, const Tensor& b) { return a.size() == b.size() && a.dtype() == b.dtype(); }

/// The data of a tensor that may be empty.
inline float* f32_or_null(const Tensor& t) { return t ? t.f32() : nullptr; }

}  // namespace fire::cuda
