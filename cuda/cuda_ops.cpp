#include "cuda/cuda_ops.h"

#include <algorithm>

#include "cuda/cublaslt.h"
#include "cuda/pinned_ring.h"
#include "cuda/probe.h"
#include "cuda/side_stream.h"

namespace fire::cuda {
namespace {

constexpr size_t workspace_step = size_t{1} << 20;

std::string numbered(int device, const std::string& name) { return "cuda:" + std::to_string(device) + " " + name; }

std::string mebibytes(size_t bytes) { return std::to_string((bytes + (size_t{1} << 20) - 1) >> 20) + " MiB"; }

/// Elements [begin, end) of a weight, each rounded once.
void narrow(const Tensor& from, int64_t begin, int64_t end, bf16* to) {
  constexpr int64_t piece = 1024;
  float wide[piece];
  for (; begin < end; begin += piece) {
    const int64_t count = std::min(piece, end - begin);
    widen(from, begin, begin + count, wide);
    for (int64_t i = 0; i < count; ++i) *to++ = to_bf16(wide[i]);
  }
}

}  // namespace

DeviceProperties open(int device) {
  const std::vector<DeviceProperties> found = devices();
  if (device < 0 || static_cast<size_t>(device) >= found.size()) {
    std::string seen;
    for (size_t i = 0; i < found.size(); ++i) seen += (i ? ", " : "") + numbered(static_cast<int>(i), found[i].name);
    throw Error(Code::no_device, "there is no cuda:" + std::to_string(device) + "; this process sees " + seen)
        .with("device", std::to_string(device));
  }
  const DeviceProperties& properties = found[static_cast<size_t>(device)];
  const std::string objection = objection_to(properties);
  if (!objection.empty())
    throw Error(Code::no_device, numbered(device, properties.name) + " " + objection + "; use device: cpu")
        .with("device", std::to_string(device));
  select(device);
  return properties;
}

CudaOps::CudaOps(int device, DType type, GemmChoice gemm, Spread spread)
    : device_(device),
      type_(type),
      spread_(std::move(spread)),
      properties_(open(device)),
      isa_(selected_isa(properties_)),
      ring_(std::make_unique<PinnedRing>()) {
  if (type != DType::f32 && type != DType::bf16)
    throw Error(Code::internal, std::string("activations of type ") + name(type));
  if (gemm == GemmChoice::cublaslt) cublaslt_ = std::make_unique<CublasLt>(cublaslt());
  weights_ = std::make_unique<Arena>(Arena::Source{[this](size_t bytes) {
                                                     try {
                                                       return allocate(bytes);
                                                     } catch (const Error& e) {
                                                       throw e.within("copying the weights to the GPU");
                                                     }
                                                   },
                                                   [this](void* p, size_t bytes) { release(p, bytes); }});
  stream_ = create_stream();
  try {
    workspace(gpu_workspace);  // now, so that a step need not
  } catch (const Error&) {
    destroy_stream(stream_);
    throw;
  }
}

CudaOps::~CudaOps() {
  try {
    select(device_);  // the thread that closes need not be the one that opened
    synchronize(stream_);
  } catch (const Error&) {
    // A lost context: what follows frees the host's part.
  }
  fire::cuda::release(workspace_);
  weights_.reset();
  cublaslt_.reset();
  ring_.reset();
  destroy_stream(stream_);
}

std::string CudaOps::device_name() const { return numbered(device_, properties_.name); }
std::string CudaOps::gemm_name() const { return cublaslt_ ? "cublaslt" : "native"; }
std::string CudaOps::isa_name() const { return name(isa_); }

size_t CudaOps::workspace_bytes() const { return cublaslt_ ? gpu_workspace + cublaslt_workspace : gpu_workspace; }

void* CudaOps::allocate(size_t bytes) {
  void* data = fire::cuda::allocate(bytes);
  if (data == nullptr) {
    const MemoryInfo memory = memory_info();
    throw Error(Code::out_of_memory, "could not allocate " + mebibytes(bytes) + " on " + device_name() + ": " +
                                         mebibytes(memory.free_bytes) + " of " + mebibytes(memory.total_bytes) +
                                         " are free")
        .with("bytes", std::to_string(bytes))
        .with("free", std::to_string(memory.free_bytes))
        .with("total", std::to_string(memory.total_bytes));
  }
  return data;
}

void CudaOps::release(void* data, size_t) {
  try {
    synchronize(stream_);  // kernels that are still queued may use it; CUDA itself does not promise to wait
  } catch (const Error&) {
    // A lost device runs nothing any more; whoever uses it next is told.
  }
  fire::cuda::release(data);
}

void CudaOps::reserve_weights(size_t bytes) { weights_->reserve(bytes); }

Tensor CudaOps::adopt(Tensor host) {
  if (!is_weight(host.dtype())) throw Error(Code::internal, "a weight is f32, bf16 or f16, not " + host.describe());
  const DType type = host.rank() >= 2 ? type_ : DType::f32;
  const size_t width = size_of(type);
  const Tensor device = host.of(weights_->take(type, {host.size()}).data(), type);
  if (host.dtype() == type) {
    upload(host.data(), device);
    return device;
  }
  const auto fill = [&](void* to, size_t offset, size_t bytes) {
    const int64_t first = static_cast<int64_t>(offset / width), end = static_cast<int64_t>((offset + bytes) / width);
    if (type == DType::f32) {
      widen(host, first, end, static_cast<float*>(to));
    } else {
      narrow(host, first, end, static_cast<bf16*>(to));
    }
  };
  ring_->upload(device.data(), device.bytes(), fill, stream_);
  return device;
}

void CudaOps::upload(const void* host, Tensor device) { ring_->upload(device.data(), host, device.bytes(), stream_); }

void CudaOps::upload_made(Tensor device, const Make& make) {
  constexpr size_t slice = size_t{1} << 16;
  const size_t width = size_of(device.dtype());
  const auto fill = [&](void* to, size_t offset, size_t bytes) {
    spread_(static_cast<int64_t>((bytes + slice - 1) / slice), [&](int64_t task) {
      const size_t begin = static_cast<size_t>(task) * slice, end = std::min(bytes, begin + slice);
      make(static_cast<int64_t>((offset + begin) / width), static_cast<int64_t>((offset + end) / width),
           static_cast<char*>(to) + begin);
    });
  };
  ring_->upload(device.data(), device.bytes(), fill, stream_);
}

std::unique_ptr<SideQueue> CudaOps::side_queue() { return std::make_unique<SideStream>(device_, stream_); }

void CudaOps::download(Tensor device, void* host) { ring_->download(host, device.data(), device.bytes(), stream_); }

void CudaOps::copy(Tensor from, Tensor to) {
  if (from.bytes() != to.bytes()) throw Error(Code::internal, "copy " + from.describe() + " to " + to.describe());
  copy_on_device(to.data(), from.data(), from.bytes(), stream_);
}

void CudaOps::zero(Tensor x) { fill_zero(x.data(), x.bytes(), stream_); }

void* CudaOps::workspace(size_t bytes) {
  if (bytes <= workspace_bytes_) return workspace_;
  // Kernels that are still queued may use the old one.
  synchronize(stream_);
  fire::cuda::release(workspace_);
  workspace_ = nullptr;
  workspace_bytes_ = 0;
  const size_t rounded = (bytes + workspace_step - 1) / workspace_step * workspace_step;
  workspace_ = allocate(rounded);
  workspace_bytes_ = rounded;
  return workspace_;
}

}  // namespace fire::cuda
