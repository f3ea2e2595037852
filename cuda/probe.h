// Which GPUs there are, or why there are none: for `doctor`. Never throws, and exists in builds without CUDA too.
#pragma once

#include <string>
#include <vector>

#include "cuda/runtime.h"
#include "tensor/error.h"

#if FIRE_HAS_CUDA
#include "cuda/cublaslt.h"
#endif

namespace fire::cuda {

/// The kernels use instructions of compute capability 8.0 (mma.sync on bf16, cp.async). Empty when the GPU has them,
/// else what is wrong with it, to follow its name.
inline std::string objection_to(const DeviceProperties& p) {
  if (p.major >= 8) return {};
  return "has compute capability " + std::to_string(p.major) + "." + std::to_string(p.minor) +
         ", and 8.0 or later is needed (A100, RTX 30 and newer)";
}

struct ProbedDevice {
  DeviceProperties properties;
  /// Empty when `device: cuda:<index>` will be accepted.
  std::string objection;
};

struct Probe {
  std::vector<ProbedDevice> devices;
  /// Why there are no devices; empty when there are some.
  std::string reason;
};

inline Probe probe() {
  Probe found;
#if FIRE_HAS_CUDA
  try {
    for (const DeviceProperties& p : devices()) found.devices.push_back({p, objection_to(p)});
  } catch (const Error& e) {
    found.devices.clear();
    found.reason = e.what();
  }
#else
  found.reason = "built without CUDA (install the CUDA toolkit and run fire-train build)";
#endif
  return found;
}

/// The version of the optional cuBLASLt, or what the loader said. Opens the library, which is large.
inline std::string cublaslt_report() {
#if FIRE_HAS_CUDA
  return cublaslt().detail;
#else
  return "not looked for: built without CUDA";
#endif
}

}  // namespace fire::cuda
