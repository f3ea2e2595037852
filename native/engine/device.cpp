// Built once per kind of build: FIRE_HAS_CUDA says whether the GPU's operations are linked.
#include "engine/device.h"

#include <algorithm>
#include <charconv>

#include "cpu/cpu_ops.h"
#include "cpu/thread_pool.h"
#include "cuda/probe.h"
#include "ops/null_ops.h"
#if FIRE_HAS_CUDA
#include "cuda/cuda_ops.h"
#endif

namespace fire {
namespace {

/// Images of a step are work for so many; more would wait for memory.
constexpr int most_host_threads = 16;

/// The digits of "cuda:3", or -1.
int parse_index(const std::string& digits) {
  int index = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  return error == std::errc() && end == digits.data() + digits.size() ? index : -1;
}

cpu::Precision precision_of(const DeviceSpec& spec) {
  return spec.dtype == ComputeType::bf16 ? cpu::Precision::bf16 : cpu::Precision::f32;
}

/// Of a CPU with its own kernels: oneDNN and GPUs take weights as they are.
WeightPacking packing_of(const DeviceSpec& spec) {
  if (spec.kind == DeviceKind::cuda || spec.gemm == GemmBackend::onednn) return {};
  const cpu::KernelSet& kernels = cpu::kernel_set(cpu::selected_isa(), precision_of(spec));
  return {kernels.panel_layout(), spec.pack_weights, spec.free_bytes};
}

std::unique_ptr<Ops> open_cpu(const DeviceSpec& spec) {
  if (spec.gemm == GemmBackend::cublaslt)
    throw Error(Code::invalid_argument, "gemm: cublaslt needs device: cuda; a CPU has auto, native and onednn");
  const auto backend = spec.gemm == GemmBackend::onednn   ? cpu::Backend::onednn
                       : spec.gemm == GemmBackend::native ? cpu::Backend::native
                                                          : cpu::Backend::automatic;
  return std::make_unique<cpu::CpuOps>(spec.threads, precision_of(spec), backend, packing_of(spec));
}

/// The number of the GPU with this name; another device has nothing like `what`.
int gpu_of(const std::string& device, const char* what) {
  DeviceSpec spec{};
  set_device(spec, device);
  if (spec.kind != DeviceKind::cuda)
    throw Error(Code::invalid_argument, "device " + device + " is not a GPU: it has no " + what + " of its own");
  return spec.index;
}

[[maybe_unused]] Error no_cuda() { return Error(Code::no_device, "device cuda: " + cuda::probe().reason); }

std::unique_ptr<Ops> open_cuda([[maybe_unused]] const DeviceSpec& spec) {
#if FIRE_HAS_CUDA
  if (spec.gemm == GemmBackend::onednn)
    throw Error(Code::invalid_argument, "gemm: onednn needs device: cpu; a GPU has auto, native and cublaslt");
  if (spec.gemm == GemmBackend::cublaslt && spec.dtype == ComputeType::f32)
    throw Error(Code::invalid_argument, "gemm: cublaslt needs dtype: bf16; f32 is the reference path");
  const auto gemm =
      spec.gemm == GemmBackend::cublaslt ? cuda::CudaOps::GemmChoice::cublaslt : cuda::CudaOps::GemmChoice::native;
  return std::make_unique<cuda::CudaOps>(spec.index, spec.dtype == ComputeType::bf16 ? DType::bf16 : DType::f32, gemm,
                                         host_spread(spec));
#else
  throw no_cuda();
#endif
}

}  // namespace

void set_device(DeviceSpec& spec, const std::string& name) {
  spec.index = 0;
  if (name == "cpu") {
    spec.kind = DeviceKind::cpu;
  } else if (name == "auto") {
    const cuda::Probe found = cuda::probe();
    spec.kind = DeviceKind::cpu;
    for (size_t i = found.devices.size(); i-- > 0;) {
      if (!found.devices[i].objection.empty()) continue;
      spec.kind = DeviceKind::cuda;
      spec.index = static_cast<int>(i);
    }
  } else {
    spec.kind = DeviceKind::cuda;
    if (name != "cuda") spec.index = name.starts_with("cuda:") ? parse_index(name.substr(5)) : -1;
    if (spec.index < 0)
      throw Error(Code::invalid_argument, "device must be cpu, cuda, cuda:N or auto, not \"" + name + "\"");
  }
}

Spread host_spread(const DeviceSpec& spec) {
  if (spec.kind == DeviceKind::cpu || spec.plan_only) return one_by_one;
  const auto pool = std::make_shared<cpu::ThreadPool>(std::min(most_host_threads, cpu::available_cpus()));
  return [pool](int64_t tasks, const std::function<void(int64_t)>& task) {
    pool->parallel_for(tasks, [&](int64_t i, int) { task(i); });
  };
}

std::unique_ptr<Ops> open_device(const DeviceSpec& spec) {
  if (spec.plan_only) {
    const bool gpu = spec.kind == DeviceKind::cuda, bf16 = spec.dtype == ComputeType::bf16;
    const size_t workspaces = spec.gemm == GemmBackend::cublaslt ? gpu_workspace + cublaslt_workspace : gpu_workspace;
    return std::make_unique<NullOps>(gpu && bf16 ? DType::bf16 : DType::f32, gpu, packing_of(spec),
                                     gpu ? workspaces : 0);
  }
  return spec.kind == DeviceKind::cuda ? open_cuda(spec) : open_cpu(spec);
}

GpuMemory gpu_memory(const std::string& device) {
  [[maybe_unused]] const int index = gpu_of(device, "memory");
#if FIRE_HAS_CUDA
  cuda::open(index);
  const cuda::MemoryInfo memory = cuda::memory_info();
  return {memory.free_bytes, memory.total_bytes};
#else
  throw no_cuda();
#endif
}

std::string gpu_kernels(const std::string& device) {
  [[maybe_unused]] const int index = gpu_of(device, "kernels");
#if FIRE_HAS_CUDA
  return cuda::name(cuda::selected_isa(cuda::open(index)));
#else
  throw no_cuda();
#endif
}

GpuReport gpu_report() {
  const cuda::Probe found = cuda::probe();
  GpuReport report{{}, found.reason, cuda::cublaslt_report()};
  for (const cuda::ProbedDevice& d : found.devices)
    report.gpus.push_back({d.properties.name,
                           "sm_" + std::to_string(d.properties.major) + std::to_string(d.properties.minor),
                           d.properties.total_bytes, d.objection, d.properties.uuid});
  return report;
}

}  // namespace fire
