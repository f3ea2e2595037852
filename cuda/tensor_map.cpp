#include "cuda/tensor_map.h"

#include "cuda/runtime.h"
#include "tensor/error.h"

namespace fire::cuda {

const char* objection_to(const TensorMapSpec& spec) {
  if (spec.type != DType::bf16 && spec.type != DType::f32) return "its type is neither bf16 nor f32";
  const int64_t size = static_cast<int64_t>(size_of(spec.type));
  if (spec.rows < 1 || spec.cols < 1) return "it is empty";
  if (spec.rows > INT32_MAX || spec.cols > INT32_MAX) return "a side is over 2^31 - 1";
  if (spec.row_stride < spec.cols) return "its rows overlap";
  if (spec.row_stride * size % 16 != 0) return "its row stride is not a multiple of 16 bytes";
  if (spec.row_stride * size >= int64_t{1} << 40) return "its row stride is not below 2^40 bytes";
  if (reinterpret_cast<uintptr_t>(spec.data) % 16 != 0) return "its address is not a multiple of 16 bytes";
  if (spec.box_rows < 1 || spec.box_rows > 256 || spec.box_cols < 1 || spec.box_cols > 256)
    return "a side of its boxes is not within 1 and 256";
  const int64_t line = spec.box_cols * size;
  if (line % 16 != 0) return "the lines of its boxes are not multiples of 16 bytes";
  if (spec.swizzle != Swizzle::none && line != swizzle_span(spec.swizzle))
    return "the lines of its boxes are not as wide as the swizzle";
  return nullptr;
}

TensorMap encode_tensor_map(const TensorMapSpec& spec) {
  if (const char* objection = objection_to(spec))
    throw Error(Code::invalid_argument, std::string("a matrix that TMA does not take: ") + objection)
        .with("rows", std::to_string(spec.rows))
        .with("cols", std::to_string(spec.cols));
  return encode_tiled(spec);
}

}  // namespace fire::cuda
