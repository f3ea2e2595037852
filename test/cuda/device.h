// What the tests of the GPU's operations share. The same programs run under the emulator and on a real GPU: everything
// goes through ops.h.
#pragma once

#include <cstdlib>
#include <string>

#include "cpu/cpu_ops.h"
#include "cuda/cuda_ops.h"
#include "fixture.h"

namespace fire::test {

/// The device under test with activations of this type; one for all tests of a program.
inline cuda::CudaOps& device(DType type) {
  static cuda::CudaOps f32(0, DType::f32, cuda::CudaOps::GemmChoice::native);
  static cuda::CudaOps bf16(0, DType::bf16, cuda::CudaOps::GemmChoice::native);
  return type == DType::bf16 ? bf16 : f32;
}

/// True on a real GPU: shapes as models have them. Under the emulator, and where FIRE_TEST_SMALL is set because
/// compute-sanitizer slows everything down, shapes are small.
inline bool large() {
  return std::getenv("FIRE_TEST_SMALL") == nullptr &&
         device(DType::f32).device_name().find("simt") == std::string::npos;
}

/// The f32 operations of the CPU on one thread, which are compared with.
inline cpu::CpuOps& host() {
  static cpu::CpuOps ops(1, cpu::Precision::f32, cpu::Backend::native);
  return ops;
}

/// The two activation types a GPU has.
inline constexpr DType both_types[] = {DType::f32, DType::bf16};

/// Values as a tensor of this type holds them.
inline std::vector<float> rounded(std::vector<float> values, DType type) {
  if (type == DType::bf16)
    for (float& x : values) x = to_float(to_bf16(x));
  return values;
}

/// A tensor in device memory of exactly its size, so that a step past its end is one out of the allocation.
class OnDevice {
 public:
  /// Not initialised.
  OnDevice(Ops& ops, DType type, std::initializer_list<int64_t> dims) : ops_(ops), tensor_(nullptr, type, dims) {
    tensor_ = Tensor(ops.allocate(std::max<size_t>(tensor_.bytes(), 1)), type, dims);
  }
  /// Rounded where `type` is bf16.
  OnDevice(Ops& ops, const std::vector<float>& values, DType type, std::initializer_list<int64_t> dims)
      : OnDevice(ops, type, dims) {
    set(values);
  }
  OnDevice(Ops& ops, const std::vector<int32_t>& values, std::initializer_list<int64_t> dims)
      : OnDevice(ops, DType::i32, dims) {
    ops_.upload(values.data(), tensor_);
  }
  ~OnDevice() { ops_.release(tensor_.data(), tensor_.bytes()); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  operator Tensor() const { return tensor_; }
  Tensor tensor() const { return tensor_; }
  void set(const std::vector<float>& values) {
    if (static_cast<int64_t>(values.size()) != tensor_.size()) throw Error(Code::internal, "OnDevice: sizes differ");
    if (tensor_.dtype() == DType::f32) return ops_.upload(values.data(), tensor_);
    std::vector<bf16> narrow(values.size());
    for (size_t i = 0; i < values.size(); ++i) narrow[i] = to_bf16(values[i]);
    ops_.upload(narrow.data(), tensor_);
  }
  std::vector<float> get() const { return ops_.download_f32(tensor_); }
  std::vector<double> get_f64() const {
    std::vector<double> values(static_cast<size_t>(tensor_.size()));
    ops_.download(tensor_, values.data());
    return values;
  }

 private:
  Ops& ops_;
  Tensor tensor_;
};

/// ||a - b|| / ||b||; NaN and different lengths give infinity.
inline double relative_error(const std::vector<float>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double difference = 0, size = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  if (size == 0) return difference == 0 ? 0 : INFINITY;
  const double error = std::sqrt(difference / size);
  return std::isnan(error) ? INFINITY : error;
}

/// Largest |a - b| / max(1, |b|); NaN and different lengths give infinity.
inline double largest_error(const std::vector<float>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double e = std::abs(a[i] - b[i]) / std::max(1.0, std::abs(b[i]));
    worst = std::isnan(e) ? INFINITY : std::max(worst, e);
  }
  return worst;
}

}  // namespace fire::test
