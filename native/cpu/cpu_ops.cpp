#include "cpu/cpu_ops.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace fire::cpu {

CpuOps::CpuOps(int threads, Precision precision, Backend backend, WeightPacking packing)
    : pool_(threads),
      gemm_(pool_, precision, backend),
      packing_(std::move(packing)),
      scratch_(static_cast<size_t>(pool_.size())) {}

size_t CpuOps::packed_bytes() const {
  size_t bytes = 0;
  for (const auto& [key, matrix] : packed_) bytes += matrix.bytes();
  return bytes;
}

float* CpuOps::scratch(int worker, Slot slot, size_t n) {
  std::vector<float>& buffer = scratch_[static_cast<size_t>(worker)][static_cast<size_t>(slot)];
  if (buffer.size() < n) buffer.resize(n);
  return buffer.data();
}

void* CpuOps::allocate(size_t bytes) {
  void* data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!data)
    throw Error(Code::out_of_memory, "could not allocate " + std::to_string(bytes >> 20) + " MiB of main memory")
        .with("bytes", std::to_string(bytes));
  return data;
}

void CpuOps::release(void* data, size_t) { std::free(data); }

Tensor CpuOps::adopt(Tensor host) {
  if (host.dtype() == DType::f16) {
    std::vector<float>& copy = widened_.emplace_back(static_cast<size_t>(host.size()));
    for_slices(host.size(), int64_t{1} << 20,
               [&](int64_t begin, int64_t end) { widen(host, begin, end, copy.data() + begin); });
    host = host.of(copy.data(), DType::f32);
  }
  packing_.add(host);
  return host;
}

void CpuOps::upload(const void* host, Tensor device) {
  if (device.bytes()) std::memcpy(device.data(), host, device.bytes());
}

void CpuOps::upload_made(Tensor device, const Make& make) {
  char* const to = static_cast<char*>(device.data());
  for_slices(device.size(), int64_t{1} << 15, [&](int64_t begin, int64_t end) {
    make(begin, end, to + static_cast<size_t>(begin) * size_of(device.dtype()));
  });
}

void CpuOps::spread(int64_t tasks, const std::function<void(int64_t)>& task) {
  pool_.parallel_for(tasks, [&](int64_t i, int) { task(i); });
}

void CpuOps::download(Tensor device, void* host) {
  if (device.bytes()) std::memcpy(host, device.data(), device.bytes());
}

void CpuOps::copy(Tensor from, Tensor to) {
  if (from.bytes() != to.bytes()) throw Error(Code::internal, "copy " + from.describe() + " to " + to.describe());
  if (from.bytes()) std::memcpy(to.data(), from.data(), from.bytes());
}

void CpuOps::zero(Tensor x) {
  if (x.bytes()) std::memset(x.data(), 0, x.bytes());
}

}  // namespace fire::cpu
