// How runtime.cpp words what cudart reports; a header of its own for its test, which needs neither driver nor GPU.
#pragma once

#include "tensor/error.h"

namespace fire::cuda {

/// Why cudaGetDeviceCount found no GPU: its cudaError_t and the versions that cudaDriverGetVersion (0: no driver) and
/// cudaRuntimeGetVersion give.
Error no_devices(int code, int driver, int runtime);

}  // namespace fire::cuda
