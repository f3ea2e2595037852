#include "cuda/isa.h"

#include <cstdlib>
#include <string_view>

#include "cuda/gemm_hopper.h"
#include "tensor/error.h"

namespace fire::cuda {

Isa isa_of(const DeviceProperties& properties) {
  // Every chip of 9.0 has this much shared memory; the emulator can be told that it has less.
  constexpr size_t hopper_shared = size_t{228} << 10;
  return properties.major == 9 && properties.minor == 0 && properties.shared_bytes >= hopper_shared ? Isa::sm_90a
                                                                                                    : Isa::sm_80;
}

Isa selected_isa(const DeviceProperties& properties) {
  const Isa most = isa_of(properties) == Isa::sm_90a && has_gemm_hopper() ? Isa::sm_90a : Isa::sm_80;
  const char* const text = std::getenv("FIRE_CUDA_ISA");
  const std::string_view forced = text == nullptr ? "" : text;
  if (forced.empty()) return most;
  if (forced == "sm_80") return Isa::sm_80;
  const std::string setting = "FIRE_CUDA_ISA=" + std::string(forced);
  if (forced != "sm_90a")
    throw Error(Code::invalid_argument, setting + ": unknown instruction set; known are sm_80 and sm_90a");
  if (most != Isa::sm_90a)
    throw Error(Code::invalid_argument,
                setting + ": needs a GPU of compute capability 9.0 and a build for it (sm_90a); unset the variable");
  return most;
}

}  // namespace fire::cuda
