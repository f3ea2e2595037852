// A view of dense row-major memory. Views are cheap to copy and own nothing; memory belongs to an Arena, a Storage or a
// mapped file.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/error.h"

namespace fire {

class Tensor {
 public:
  static constexpr int max_rank = 5;

  Tensor() = default;
  Tensor(void* data, DType dtype, std::initializer_list<int64_t> dims) : data_(data), dtype_(dtype) {
    for (int64_t d : dims) push(d);
  }
  template <class Dims>
  static Tensor with_dims(void* data, DType dtype, const Dims& dims) {
    Tensor t(data, dtype, {});
    for (int64_t d : dims) t.push(d);
    return t;
  }

  explicit operator bool() const { return data_ != nullptr; }
  void* data() const { return data_; }
  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  int64_t dim(int i) const { return dims_[i < 0 ? rank_ + i : i]; }
  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  /// Last dimension, and the product of all others: every tensor can be read as a matrix.
  int64_t cols() const { return rank_ == 0 ? 1 : dims_[rank_ - 1]; }
  int64_t rows() const { return cols() == 0 ? 0 : size() / cols(); }
  size_t bytes() const { return static_cast<size_t>(size()) * size_of(dtype_); }

  float* f32() const { return checked<float>(DType::f32); }
  int32_t* i32() const { return checked<int32_t>(DType::i32); }
  const bf16* b16() const { return checked<bf16>(DType::bf16); }
  const f16* h16() const { return checked<f16>(DType::f16); }

  Tensor reshape(std::initializer_list<int64_t> dims) const {
    Tensor t(data_, dtype_, dims);
    if (t.size() != size()) throw Error(Code::internal, "reshape " + describe() + " to " + t.describe());
    return t;
  }
  /// Rows [begin, end) of the first dimension.
  Tensor slice(int64_t begin, int64_t end) const {
    Tensor t = *this;
    const int64_t stride = dims_[0] == 0 ? 0 : size() / dims_[0];
    t.data_ = static_cast<char*>(data_) + static_cast<size_t>(begin * stride) * size_of(dtype_);
    t.dims_[0] = end - begin;
    return t;
  }
  /// The same shape over other memory.
  Tensor of(void* data, DType dtype) const {
    Tensor t = *this;
    t.data_ = data;
    t.dtype_ = dtype;
    return t;
  }
  /// For messages: "f32[37, 64]".
  std::string describe() const {
    std::string s = std::string(name(dtype_)) + "[";
    for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string(dims_[i]);
    return s + "]";
  }

 private:
  void push(int64_t d) {
    if (rank_ == max_rank) throw Error(Code::internal, "a tensor has at most 5 dimensions");
    dims_[rank_++] = d;
  }
  template <class T>
  T* checked(DType expected) const {
    if (dtype_ != expected)
      throw Error(Code::internal, "expected " + std::string(name(expected)) + ", got " + describe());
    return static_cast<T*>(data_);
  }

  void* data_ = nullptr;
  DType dtype_ = DType::f32;
  int rank_ = 0;
  int64_t dims_[max_rank] = {};
};

/// The types of weights and adapters in checkpoints.
inline bool is_weight(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16; }

/// Elements [begin, end) of a weight as f32, exactly.
inline void widen(const Tensor& t, int64_t begin, int64_t end, float* to) {
  if (t.dtype() == DType::bf16) {
    for (int64_t i = begin; i < end; ++i) *to++ = to_float(t.b16()[i]);
  } else if (t.dtype() == DType::f16) {
    for (int64_t i = begin; i < end; ++i) *to++ = to_float(t.h16()[i]);
  } else {
    for (int64_t i = begin; i < end; ++i) *to++ = t.f32()[i];
  }
}

inline std::vector<float> widen(const Tensor& t) {
  std::vector<float> out(static_cast<size_t>(t.size()));
  widen(t, 0, t.size(), out.data());
  return out;
}

}  // namespace fire
