// Matrices that the copy engine takes, and those that it does not.
#include "cuda/tensor_map.h"

#include "device.h"

namespace fire::test {
namespace {

using cuda::Swizzle;
using cuda::TensorMapSpec;

TEST("tensor maps: what the copy engine does not take is an error in words, what it takes is encoded") {
  cuda::CudaOps& ops = device(DType::bf16);
  unsigned char* const data = static_cast<unsigned char*>(ops.allocate(64 * 72 * 4));
  const TensorMapSpec good{data, DType::bf16, 64, 66, 72, 64, 64, Swizzle::bytes_128};
  CHECK(cuda::objection_to(good) == nullptr);
  const auto refused = [&](auto change, const char* words) {
    TensorMapSpec bad = good;
    change(bad);
    try {
      cuda::encode_tensor_map(bad);
    } catch (const Error& error) {
      return error.code() == Code::invalid_argument && std::string(error.what()).find(words) != std::string::npos;
    }
    return false;
  };
  CHECK(refused([](TensorMapSpec& s) { s.type = DType::f16; }, "neither bf16 nor f32"));
  CHECK(refused([](TensorMapSpec& s) { s.rows = 0; }, "empty"));
  CHECK(refused([](TensorMapSpec& s) { s.rows = int64_t{1} << 31; }, "2^31"));
  CHECK(refused([](TensorMapSpec& s) { s.row_stride = 64; }, "overlap"));
  CHECK(refused([](TensorMapSpec& s) { s.row_stride = 68; }, "stride is not a multiple of 16 bytes"));
  CHECK(refused([](TensorMapSpec& s) { s.row_stride = int64_t{1} << 39; }, "2^40"));
  CHECK(refused([&](TensorMapSpec& s) { s.data = data + 8; }, "address is not a multiple of 16 bytes"));
  CHECK(refused([](TensorMapSpec& s) { s.box_rows = 257; }, "256"));
  CHECK(refused([](TensorMapSpec& s) { s.box_cols = 0; }, "256"));
  CHECK(refused([](TensorMapSpec& s) { s.box_cols = 60; }, "multiples of 16 bytes"));
  CHECK(refused([](TensorMapSpec& s) { s.box_cols = 32; }, "as wide as the swizzle"));
  CHECK(refused([](TensorMapSpec& s) { s.type = DType::f32; }, "as wide as the swizzle"));
  if (cuda::devices()[0].major >= 9) {
    for (const Swizzle swizzle : {Swizzle::none, Swizzle::bytes_32, Swizzle::bytes_64, Swizzle::bytes_128})
      for (const DType type : both_types) {
        TensorMapSpec spec = good;
        spec.type = type;
        spec.swizzle = swizzle;
        spec.box_cols = cuda::swizzle_span(swizzle) / static_cast<int>(size_of(type));
        cuda::encode_tensor_map(spec);
        CHECK(cuda::objection_to(spec) == nullptr);
      }
  }
  ops.release(data, 64 * 72 * 4);
}

}  // namespace
}  // namespace fire::test
