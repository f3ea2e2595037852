// Which device an engine computes on, and how it is opened.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace fire {

enum class DeviceKind : uint8_t { cpu, cuda };
enum class ComputeType : uint8_t { f32, bf16 };
enum class GemmBackend : uint8_t { automatic, native, onednn, cublaslt };

struct DeviceSpec {
  DeviceKind kind;
  int index;  // of the GPU
  ComputeType dtype;
  int threads;  // of a CPU; 0 = every core this process may run on
  /// Matrix products by our own kernels (automatic, native) or by a library of the device.
  GemmBackend gemm;
  /// A device of this kind that only pretends (null_ops.h), whether the machine has one or not.
  bool plan_only;
  /// Of a CPU with its own kernels. `free_bytes` is the memory that `automatic` may look at.
  PackWeights pack_weights;
  size_t free_bytes;
};

/// Reads "cpu", "cuda", "cuda:N" or "auto" (the first GPU if there is a usable one, else the CPU) into kind and index.
/// Throws ERR_FIRE_INVALID_ARGUMENT for anything else.
void set_device(DeviceSpec& spec, const std::string& name);

/// Throws ERR_FIRE_NO_DEVICE (no such device, and why) or ERR_FIRE_INVALID_ARGUMENT (a gemm of another device).
std::unique_ptr<Ops> open_device(const DeviceSpec& spec);

/// Threads for the host's work beside the device's: those of a machine whose GPU computes, and on a CPU the calling
/// thread alone, for there the cores are the step's. Each has a pool of its own; one thread at a time may call it.
Spread host_spread(const DeviceSpec& spec);

struct GpuInfo {
  std::string name, capability;  // "NVIDIA H200", "sm_90"
  size_t total_bytes = 0;
  std::string objection;  // why it cannot be used; empty when it can
  std::string uuid;       // whatever number it has in this process
};

/// The GPUs, or why there are none. Never throws, and opens CUDA on none of them: every rank of a machine asks.
struct GpuReport {
  std::vector<GpuInfo> gpus;
  std::string reason;    // empty when there are GPUs
  std::string cublaslt;  // the library, or why it cannot be used
};
GpuReport gpu_report();

struct GpuMemory {
  size_t free_bytes = 0, total_bytes = 0;
};
/// Of the GPU with this name, see set_device. Opens CUDA on it, so that the context of this process is not free any
/// more. Throws ERR_FIRE_NO_DEVICE, or ERR_FIRE_INVALID_ARGUMENT for a device that is no GPU.
GpuMemory gpu_memory(const std::string& device);
/// Which kernels it takes: "sm_80", those of every GPU, or "sm_90a", those of Hopper too. Opens CUDA on it and throws
/// as gpu_memory, and ERR_FIRE_INVALID_ARGUMENT for an impossible FIRE_CUDA_ISA.
std::string gpu_kernels(const std::string& device);

}  // namespace fire
