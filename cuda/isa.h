// Which kernels a GPU takes where there are several: those of every GPU, or those of its own generation.
#pragma once

#include <cstdint>

#include "cuda/runtime.h"

namespace fire::cuda {

enum class Isa : uint8_t {
  sm_80,   ///< mma.sync and cp.async, which every supported GPU has
  sm_90a,  ///< wgmma and TMA beside them, which compute capability 9.0 has and no later one
};

inline const char* name(Isa isa) { return isa == Isa::sm_90a ? "sm_90a" : "sm_80"; }

/// The most that the GPU can do.
Isa isa_of(const DeviceProperties& properties);

/// What the kernels of the current device are chosen by: the most that it can do and this build has code for, or what
/// FIRE_CUDA_ISA says (sm_80 or sm_90a; for tests and benches). Throws ERR_FIRE_INVALID_ARGUMENT when that is unknown
/// or too much.
Isa selected_isa(const DeviceProperties& properties);

}  // namespace fire::cuda
