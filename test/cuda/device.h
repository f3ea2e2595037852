// What the tests of the GPU share beside the operations' cases (test/ops). The same programs run under the emulator and
// on a real GPU: everything goes through ops.h.
#pragma once

#include "cpu/cpu_ops.h"
#include "cuda/cuda_ops.h"
#include "fixture.h"
#include "ops/run.h"

namespace fire::test {

/// The device under test with activations of this type; one for all tests of a program.
inline cuda::CudaOps& device(DType type) {
  static cuda::CudaOps f32(0, DType::f32, cuda::CudaOps::GemmChoice::native);
  static cuda::CudaOps bf16(0, DType::bf16, cuda::CudaOps::GemmChoice::native);
  return type == DType::bf16 ? bf16 : f32;
}

/// Whether it takes the kernels of compute capability 9.0.
inline bool has_hopper() { return device(DType::bf16).isa_name() == "sm_90a"; }

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

}  // namespace fire::test
