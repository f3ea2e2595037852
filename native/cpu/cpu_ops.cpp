#include "cpu/cpu_ops.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace fire::cpu {

CpuOps::CpuOps(int threads, Precision precision, Backend backend)
    : pool_(threads), gemm_(pool_, precision, backend), scratch_(static_cast<size_t>(pool_.size())) {}

float* CpuOps::scratch(int worker, int slot, size_t n) {
  auto& slots = scratch_[static_cast<size_t>(worker)];
  while (slots.size() <= static_cast<size_t>(slot)) slots.push_back(std::make_unique<std::vector<float>>());
  std::vector<float>& buffer = *slots[static_cast<size_t>(slot)];
  if (buffer.size() < n) buffer.resize(n);
  return buffer.data();
}

void* CpuOps::allocate(size_t bytes) {
  void* data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!data)
    throw Error(Code::out_of_memory, "could not allocate " + std::to_string(bytes >> 20) +
                                         " MiB of main memory; lower microBatchSize or set checkpointing: true")
        .with("bytes", std::to_string(bytes));
  return data;
}

void CpuOps::release(void* data, size_t) { std::free(data); }

void CpuOps::upload(const void* host, Tensor device) {
  if (device.bytes()) std::memcpy(device.data(), host, device.bytes());
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

std::vector<float> widen(const Tensor& t) {
  std::vector<float> out(static_cast<size_t>(t.size()));
  if (t.dtype() == DType::f32) {
    std::copy_n(t.f32(), out.size(), out.begin());
  } else {
    const bf16* in = t.b16();
    for (size_t i = 0; i < out.size(); ++i) out[i] = to_float(in[i]);
  }
  return out;
}

}  // namespace fire::cpu
