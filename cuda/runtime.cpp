#include "cuda/runtime.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>

#include "cuda/runtime_errors.h"
#include "cuda/tensor_map.h"
#include "cuda/watch.h"

namespace fire::cuda {
namespace {

/// CUDA's 12080 as "12.8".
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

/// The first driver of a CUDA major version ("CUDA minor version compatibility" in NVIDIA's release notes).
std::string driver_for(int runtime) {
  const int major = runtime / 1000;
  const char* driver = major == 12 ? "525" : major == 13 ? "580" : nullptr;
  return driver == nullptr ? "" : " (driver " + std::string(driver) + " or later)";
}

/// Errors after which every call of this process fails: the header says of each that the process must be terminated and
/// relaunched, or that the context is gone.
bool is_sticky(int code) {
  switch (code) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorContextIsDestroyed:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
      return true;
    default:
      return false;
  }
}

/// What to do about an error, where there is something to do.
const char* advice(int code) {
  if (is_sticky(code)) return "; the GPU's context is lost: start the process again";
  switch (code) {
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidKernelImage:
      return "; this build has no code for this GPU: build on this machine (fire-train build)";
    case cudaErrorUnsupportedPtxVersion:
      return "; the NVIDIA driver is older than the CUDA toolkit of this build: update the driver";
    case cudaErrorDevicesUnavailable:
      return "; another process holds the GPU exclusively";
    default:
      return "";
  }
}

std::string description(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
std::string name_of(int code) { return cudaGetErrorName(static_cast<cudaError_t>(code)); }

void succeed(cudaError_t code, const char* what) { check(static_cast<int>(code), what); }

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t native_event(Event event) { return static_cast<cudaEvent_t>(event); }

}  // namespace

Error no_devices(int code, int driver, int runtime) {
  std::string message;
  if (code == cudaErrorInsufficientDriver && driver == 0) {
    message = "no NVIDIA driver is installed on this machine; install one that supports CUDA " + version_text(runtime) +
              driver_for(runtime) + ", or use device: cpu";
  } else if (code == cudaErrorInsufficientDriver) {
    message = "the NVIDIA driver of this machine supports CUDA " + version_text(driver) +
              " at most, and this build needs CUDA " + version_text(runtime) + driver_for(runtime) +
              "; update the driver, build with an older CUDA toolkit, or use device: cpu";
  } else if (code == cudaSuccess || code == cudaErrorNoDevice) {
    message =
        "the NVIDIA driver is installed but this process sees no GPU; look at `nvidia-smi` and at "
        "CUDA_VISIBLE_DEVICES, "
        "or use device: cpu";
  } else {
    message =
        "the GPUs of this machine cannot be used: " + description(code) + "; look at `nvidia-smi`, or use device: cpu";
  }
  Error error(Code::no_device, message);
  if (code != cudaSuccess) error.with("cuda", name_of(code));
  return error;
}

namespace {

std::string hexadecimal(const cudaUUID_t& uuid) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (const char byte : uuid.bytes) {
    const auto value = static_cast<unsigned char>(byte);
    text += digits[value / 16];
    text += digits[value % 16];
  }
  return text;
}

}  // namespace

std::vector<DeviceProperties> devices() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess || count == 0) {
    cudaGetLastError();
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    throw no_devices(static_cast<int>(code), driver, runtime);
  }
  std::vector<DeviceProperties> found(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    succeed(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties");
    found[static_cast<size_t>(i)] = {properties.name,
                                     properties.major,
                                     properties.minor,
                                     properties.multiProcessorCount,
                                     properties.totalGlobalMem,
                                     properties.sharedMemPerMultiprocessor,
                                     hexadecimal(properties.uuid)};
  }
  return found;
}

void select(int device) { succeed(cudaSetDevice(device), "cudaSetDevice"); }

MemoryInfo memory_info() {
  MemoryInfo info;
  succeed(cudaMemGetInfo(&info.free_bytes, &info.total_bytes), "cudaMemGetInfo");
  return info;
}

void* allocate(size_t bytes) {
  count(&Counters::allocations);
  void* data = nullptr;
  const cudaError_t code = cudaMalloc(&data, std::max<size_t>(bytes, 1));
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // or the next launch would report it
    return nullptr;
  }
  succeed(code, "cudaMalloc");
  return data;
}

void release(void* data) noexcept {
  if (data == nullptr) return;
  count(&Counters::releases);
  cudaFree(data);
}

void* allocate_pinned(size_t bytes) {
  count(&Counters::pinned_allocations);
  void* data = nullptr;
  const cudaError_t code = cudaMallocHost(&data, std::max<size_t>(bytes, 1));
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error(Code::out_of_memory,
                "could not get " + std::to_string(bytes >> 20) +
                    " MiB of page-locked main memory; free main memory or lower referenceCacheBytes")
        .with("bytes", std::to_string(bytes));
  }
  succeed(code, "cudaMallocHost");
  return data;
}

void release_pinned(void* data) noexcept { cudaFreeHost(data); }

Stream create_stream() {
  cudaStream_t stream = nullptr;
  succeed(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  return stream;
}

void destroy_stream(Stream stream) noexcept {
  if (stream != nullptr) cudaStreamDestroy(native(stream));
}

Event create_event() {
  cudaEvent_t event = nullptr;
  succeed(cudaEventCreate(&event), "cudaEventCreate");
  return event;
}

void destroy_event(Event event) noexcept {
  if (event != nullptr) cudaEventDestroy(native_event(event));
}

void record(Event event, Stream stream) {
  succeed(cudaEventRecord(native_event(event), native(stream)), "cudaEventRecord");
}

void wait(Event event) {
  count(&Counters::host_waits);
  succeed(cudaEventSynchronize(native_event(event)), "cudaEventSynchronize");
}

bool happened(Event event) {
  const cudaError_t code = cudaEventQuery(native_event(event));
  if (code == cudaErrorNotReady) {
    cudaGetLastError();  // or the next launch would report it
    return false;
  }
  succeed(code, "cudaEventQuery");
  return true;
}

void wait_on(Stream stream, Event event) {
  succeed(cudaStreamWaitEvent(native(stream), native_event(event), 0), "cudaStreamWaitEvent");
}

float elapsed(Event from, Event to) {
  float milliseconds = 0;
  succeed(cudaEventElapsedTime(&milliseconds, native_event(from), native_event(to)), "cudaEventElapsedTime");
  return milliseconds;
}

void synchronize(Stream stream) {
  count(&Counters::host_waits);
  succeed(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize");
}

void copy_to_device(void* device, const void* host, size_t bytes, Stream stream) {
  if (bytes == 0) return;
  count(&Counters::bytes_to_device, bytes);
  succeed(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, native(stream)), "copy to the device");
}

void copy_to_host(void* host, const void* device, size_t bytes, Stream stream) {
  if (bytes == 0) return;
  count(&Counters::bytes_to_host, bytes);
  succeed(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, native(stream)), "copy to the host");
}

void copy_on_device(void* to, const void* from, size_t bytes, Stream stream) {
  if (bytes == 0) return;
  count(&Counters::bytes_on_device, bytes);
  succeed(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, native(stream)), "copy on the device");
}

void fill_zero(void* device, size_t bytes, Stream stream) {
  if (bytes == 0) return;
  count(&Counters::bytes_zeroed, bytes);
  succeed(cudaMemsetAsync(device, 0, bytes, native(stream)), "fill with zeros");
}

namespace {

/// By name, as all of the driver: the addon loads on machines that have none.
decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  succeed(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
          "cudaGetDriverEntryPoint");
  if (found != cudaDriverEntryPointSuccess || function == nullptr)
    throw Error(Code::cuda, "the NVIDIA driver has no cuTensorMapEncodeTiled: update it to one of CUDA 12 or later");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

CUtensorMapSwizzle native(Swizzle swizzle) {
  switch (swizzle) {
    case Swizzle::bytes_32:
      return CU_TENSOR_MAP_SWIZZLE_32B;
    case Swizzle::bytes_64:
      return CU_TENSOR_MAP_SWIZZLE_64B;
    case Swizzle::bytes_128:
      return CU_TENSOR_MAP_SWIZZLE_128B;
    case Swizzle::none:
      break;
  }
  return CU_TENSOR_MAP_SWIZZLE_NONE;
}

}  // namespace

TensorMap encode_tiled(const TensorMapSpec& spec) {
  static const auto encode = tensor_map_encoder();
  static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap),
                "TensorMap is a CUtensorMap without its header");
  const bool half = spec.type == DType::bf16;
  const cuuint64_t sides[] = {static_cast<cuuint64_t>(spec.cols), static_cast<cuuint64_t>(spec.rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(spec.row_stride) * (half ? 2 : 4)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(spec.box_cols), static_cast<cuuint32_t>(spec.box_rows)};
  const cuuint32_t steps[] = {1, 1};
  TensorMap map;
  const CUresult code = encode(
      reinterpret_cast<CUtensorMap*>(&map), half ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
      2, const_cast<void*>(spec.data), sides, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, native(spec.swizzle),
      CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (code != CUDA_SUCCESS)
    throw Error(Code::cuda, "cuTensorMapEncodeTiled: CUDA error " + std::to_string(static_cast<int>(code)))
        .with("rows", std::to_string(spec.rows))
        .with("cols", std::to_string(spec.cols));
  return map;
}

void check(int code, const char* what) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // a passing error must not be reported again by the next launch
  throw Error(Code::cuda, std::string(what) + ": " + description(code) + " (" + name_of(code) + ")" + advice(code))
      .with("cuda", name_of(code));
}

}  // namespace fire::cuda
