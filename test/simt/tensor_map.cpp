// encode_tiled of cuda/runtime.h for the pretend device.
#include <cstring>

#include "cuda/runtime.h"
#include "simt/hopper_state.h"
#include "tensor/error.h"

namespace fire::cuda {

TensorMap encode_tiled(const TensorMapSpec& spec) {
  const int64_t size = int64_t(size_of(spec.type));
  const int64_t bytes = ((spec.rows - 1) * spec.row_stride + spec.cols) * size;
  if (!simt::in_device_memory(spec.data, size_t(bytes)))
    throw Error(Code::internal,
                "a TensorMap of " + std::to_string(bytes) + " bytes that are not inside one block of device memory");
  simt::MapView view{};
  view.magic = simt::kMapMagic;
  view.data = static_cast<unsigned char*>(const_cast<void*>(spec.data));
  view.rows = spec.rows;
  view.cols = spec.cols;
  view.row_bytes = spec.row_stride * size;
  view.size = int32_t(size);
  view.box_rows = spec.box_rows;
  view.box_cols = spec.box_cols;
  view.swizzle = spec.swizzle;
  TensorMap map{};
  std::memcpy(map.opaque, &view, sizeof view);
  return map;
}

}  // namespace fire::cuda
