// The one header that makes a kernel source compile in both worlds: with nvcc for a GPU, and (with FIRE_SIMT) with an
// ordinary C++ compiler for the emulator in test/simt/, which runs the same source thread by thread on a CPU.
//
// Rules that keep a kernel runnable in both (the emulator enforces most of them):
//   - launch through gpu::launch, never <<<>>>; shared memory through SHARED and DYNAMIC_SHARED;
//   - begin with gpu::begin_kernel (ptx.cuh): a kernel may be placed on the GPU while those before it end;
//   - no inline PTX outside ptx.cuh, hopper.cuh and wgmma.cuh; every warp collective names its mask;
//   - no implicit warp synchrony, no spinning on another block, no cooperative grids;
//   - no float atomics on anything that reaches a gradient: results must not depend on the order of blocks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/watch.h"

#ifdef FIRE_SIMT
#include "simt/device.h"
#else

#include <cuda_runtime.h>

/// A static shared array; DYNAMIC_SHARED is the block's dynamic shared memory, 1024-byte aligned.
#define SHARED(type, name, count) __shared__ type name[count]
#define DYNAMIC_SHARED(name)                                          \
  extern __shared__ __align__(1024) unsigned char fire_shared_base[]; \
  unsigned char* const name = fire_shared_base

namespace fire::cuda::gpu {

/// Whether kernels of this build wait on the current device for those before them (ptx::wait_for_kernels_before): where
/// they were compiled for compute capability 9.0 or later. All were compiled for the same GPUs, so the first that a
/// thread launches speaks for all.
inline bool kernels_wait(const void* kernel, const char* what) {
  thread_local int asked = -1;
  thread_local bool answer = false;
  int device = 0;
  check(cudaGetDevice(&device), what);
  if (device != asked) {
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, kernel), what);
    asked = device, answer = attributes.ptxVersion >= 90;
  }
  return answer;
}

/// kernel<<<grid, block, shared bytes, stream>>>(arguments...), without waiting for the kernel before it where it does
/// so itself ("programmatic dependent launch"): its blocks come as those of the other leave, and what a launch costs is
/// paid meanwhile. A grid without blocks is no launch. Throws ERR_FIRE_CUDA naming `what` when the launch is refused.
template <class... P, class... A>
void launch(const char* what, dim3 grid, dim3 block, size_t shared, Stream stream, void (*kernel)(P...),
            A... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  const void* const code = reinterpret_cast<const void*>(kernel);
  if (shared > size_t{48} << 10)  // above 48 KiB a kernel has to ask
    check(cudaFuncSetAttribute(code, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), what);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &early, config.numAttrs = kernels_wait(code, what) ? 1 : 0;
  launching(what, stream);
  check(cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...), what);
  check(cudaPeekAtLastError(), what);
  launched(what, stream);
}

/// Threads that a block of this kernel may have on the current device; 0 where this build has no code for it.
template <class... P>
int most_threads(void (*kernel)(P...)) {
  cudaFuncAttributes attributes{};
  if (cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)) == cudaSuccess)
    return attributes.maxThreadsPerBlock;
  cudaGetLastError();  // or the next launch would report it
  return 0;
}

}  // namespace fire::cuda::gpu

#endif
