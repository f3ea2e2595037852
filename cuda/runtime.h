// The little of the CUDA runtime that the device needs, in plain C++: device.cpp and the launchers are written against
// it. Two implementations: runtime.cpp (cudart, linked statically) and test/simt/runtime.cpp (the emulator).
// Every function throws fire::Error: ERR_FIRE_NO_DEVICE, ERR_FIRE_OUT_OF_MEMORY or ERR_FIRE_CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fire::cuda {

struct TensorMap;
struct TensorMapSpec;

/// cudaStream_t and cudaEvent_t without their header.
using Stream = void*;
using Event = void*;

struct DeviceProperties {
  std::string name;
  int major = 0, minor = 0;
  int multiprocessors = 0;
  size_t total_bytes = 0;
  size_t shared_bytes = 0;  ///< shared memory of a multiprocessor
  std::string uuid;         ///< the same for every process, whatever number the GPU has there
};

struct MemoryInfo {
  size_t free_bytes = 0, total_bytes = 0;
};

/// The GPUs that this process sees. Throws ERR_FIRE_NO_DEVICE with the reason: no driver, a driver that is too old
/// (both versions), no card.
std::vector<DeviceProperties> devices();
/// Makes `device` current for the calling thread.
void select(int device);
MemoryInfo memory_info();

/// Device memory, 256-byte aligned; nullptr when the device has not that much.
void* allocate(size_t bytes);
void release(void* data) noexcept;
/// Page-locked host memory, the only kind that is copied without stopping the host.
void* allocate_pinned(size_t bytes);
void release_pinned(void* data) noexcept;

Stream create_stream();
void destroy_stream(Stream stream) noexcept;
Event create_event();
void destroy_event(Event event) noexcept;
void record(Event event, Stream stream);
/// Blocks the host until the event has happened.
void wait(Event event);
/// Whether the event has happened; one that was never recorded has. Does not block.
bool happened(Event event);
/// What is put on the stream from now on comes after the event. The host does not wait.
void wait_on(Stream stream, Event event);
/// Milliseconds between two events that have happened.
float elapsed(Event from, Event to);
/// Blocks the host until the stream is empty. A fault of an earlier kernel surfaces here.
void synchronize(Stream stream);

/// All three return at once; `host` must be pinned and stay until the stream has passed this point.
void copy_to_device(void* device, const void* host, size_t bytes, Stream stream);
void copy_to_host(void* host, const void* device, size_t bytes, Stream stream);
void copy_on_device(void* to, const void* from, size_t bytes, Stream stream);
void fill_zero(void* device, size_t bytes, Stream stream);

/// The driver's cuTensorMapEncodeTiled; tensor_map.h has what checks the matrix first.
TensorMap encode_tiled(const TensorMapSpec& spec);

/// Throws ERR_FIRE_CUDA when `code` (a cudaError_t) is not cudaSuccess. A fault that leaves the context unusable
/// (illegal address, launch failure, ...) says so: the process must be started again.
void check(int code, const char* what);

}  // namespace fire::cuda
