// The device itself: memory, transfers, weights, and what it says of itself.
#include "device.h"

#include <algorithm>
#include <utility>

#include "variable.h"

namespace fire::test {
namespace {

/// The 8 MiB of a segment of the pinned ring and more, in elements of f32.
constexpr int64_t more_than_a_segment = (int64_t{9} << 20) / 4 + 3;

TEST("the GPU names itself, its instructions and its matrix products") {
  for (const DType type : both_types) {
    cuda::CudaOps& ops = device(type);
    CHECK(ops.device_name().starts_with("cuda:0 "));
    CHECK(ops.isa_name().starts_with("sm_"));
    CHECK(ops.gemm_name() == "native");
    CHECK(ops.activation_type() == type);
    CHECK(ops.is_gpu());
    CHECK(!ops.dry());
    CHECK(ops.threads() > 0);
  }
}

TEST("the kernels of a GPU are those of its compute capability, unless others are asked for") {
  using cuda::Isa;
  const auto of = [](int major, int minor, size_t shared) {
    return cuda::isa_of({"", major, minor, 132, size_t{1} << 30, shared, ""});
  };
  constexpr size_t hopper_shared = size_t{228} << 10;
  CHECK(of(9, 0, hopper_shared) == Isa::sm_90a);
  CHECK(of(9, 0, hopper_shared - 1) == Isa::sm_80);
  for (const auto& [major, minor] : {std::pair{8, 0}, {8, 9}, {10, 0}, {12, 0}})
    CHECK(of(major, minor, hopper_shared) == Isa::sm_80);

  const cuda::DeviceProperties here = cuda::open(0);
  const auto forced = [](const char* value, const cuda::DeviceProperties& properties) {
    const Variable variable("FIRE_CUDA_ISA", value);
    return cuda::selected_isa(properties);
  };
  CHECK(forced("sm_80", here) == Isa::sm_80);
  CHECK_ERROR(Code::invalid_argument, ("FIRE_CUDA_ISA=sm_70", "sm_80 and sm_90a"), forced("sm_70", here));
  CHECK_ERROR(Code::invalid_argument, ("compute capability 9.0"),
              forced("sm_90a", {"", 8, 0, 108, size_t{1} << 30, size_t{164} << 10, ""}));
  CHECK(device(DType::bf16).isa_name().ends_with("a") == (cuda::selected_isa(here) == Isa::sm_90a));
}

TEST("a GPU that is not there is refused with the ones that are") {
  CHECK_ERROR(Code::no_device, ("there is no cuda:99", "cuda:0"),
              cuda::CudaOps ops(99, DType::f32, cuda::CudaOps::GemmChoice::native));
  CHECK_ERROR(Code::no_device, ("there is no cuda:-1"),
              cuda::CudaOps ops(-1, DType::f32, cuda::CudaOps::GemmChoice::native));
  CHECK_ERROR(Code::internal, ("i32"), cuda::CudaOps ops(0, DType::i32, cuda::CudaOps::GemmChoice::native));
}

TEST("device memory is aligned; too much of it is refused with the sizes") {
  Ops& ops = device(DType::f32);
  for (const size_t bytes : {size_t{1}, size_t{1000}}) {
    void* data = ops.allocate(bytes);
    CHECK(reinterpret_cast<uintptr_t>(data) % 64 == 0);
    ops.release(data, bytes);
  }
  CHECK_ERROR(Code::out_of_memory, ("could not allocate 1073741824 MiB on cuda:0", " are free"),
              ops.allocate(size_t{1} << 50));
  void* data = ops.allocate(64);  // the refusal changed nothing
  ops.zero(Tensor(data, DType::f32, {16}));
  CHECK(ops.download_f32(Tensor(data, DType::f32, {16})) == std::vector<float>(16, 0.0f));
  ops.release(data, 64);
}

TEST("what is uploaded comes back, whatever its type and size, although the host reuses its memory") {
  Ops& ops = device(DType::f32);
  for (const int64_t n : {int64_t{1}, int64_t{1000}, more_than_a_segment}) {
    std::vector<float> values = Random(n).floats(n), sent = values;
    Placed x(ops, DType::f32, {n});
    ops.upload(sent.data(), x);
    std::fill(sent.begin(), sent.end(), 7.0f);
    CHECK(x.get() == values);
  }
  const std::vector<int32_t> ids = {1, -2, 2147483647};
  Placed x(ops, ids, DType::i32, {3});
  std::vector<int32_t> back(3);
  ops.download(x, back.data());
  CHECK(back == ids);
  ops.upload(nullptr, Tensor(nullptr, DType::i32, {0}));
  ops.download(Tensor(nullptr, DType::i32, {0}), nullptr);
}

TEST("copies and zeros stay inside their tensors") {
  Ops& ops = device(DType::f32);
  const std::vector<float> values = Random(5).floats(100);
  Placed from(ops, values, DType::f32, {100}), to(ops, values, DType::f32, {100});
  ops.zero(to.tensor().slice(10, 20));
  ops.copy(from.tensor().slice(0, 5), to.tensor().slice(50, 55));
  std::vector<float> expected = values;
  std::fill(expected.begin() + 10, expected.begin() + 20, 0.0f);
  std::copy(values.begin(), values.begin() + 5, expected.begin() + 50);
  CHECK(to.get() == expected);
  CHECK_ERROR(Code::internal, ("f32[5]", "f32[6]"), ops.copy(from.tensor().slice(0, 5), to.tensor().slice(0, 6)));
}

TEST("weights: matrices take the activation type, vectors f32, from either type of file") {
  const int64_t rows = 3, cols = more_than_a_segment / 3;
  const std::vector<float> values = Random(6).floats(rows * cols);
  std::vector<float> wide = values;
  std::vector<bf16> narrow(values.size());
  std::transform(values.begin(), values.end(), narrow.begin(), [](float x) { return to_bf16(x); });
  const std::vector<float> round = rounded(values, DType::bf16);
  for (const DType type : both_types) {
    Ops& ops = device(type);
    for (const bool from_f32 : {true, false}) {
      void* data = from_f32 ? static_cast<void*>(wide.data()) : narrow.data();
      const DType stored = from_f32 ? DType::f32 : DType::bf16;
      const Tensor matrix = ops.adopt(Tensor(data, stored, {rows, cols}));
      CHECK(matrix.data() != data);
      CHECK(matrix.dtype() == type);
      CHECK(matrix.rank() == 2 && matrix.dim(0) == rows && matrix.dim(1) == cols);
      CHECK(ops.download_f32(matrix) == (from_f32 && type == DType::f32 ? values : round));
      const Tensor vector = ops.adopt(Tensor(data, stored, {37}));
      CHECK(vector.dtype() == DType::f32 && vector.rank() == 1 && vector.dim(0) == 37);
      const std::vector<float>& exact = from_f32 ? values : round;
      CHECK(ops.download_f32(vector) == std::vector<float>(exact.begin(), exact.begin() + 37));
    }
    std::vector<f16> halves(values.size());
    std::transform(values.begin(), values.end(), halves.begin(), [](float x) { return to_f16(x); });
    std::vector<float> widened(values.size());
    std::transform(halves.begin(), halves.end(), widened.begin(), [](f16 x) { return to_float(x); });
    CHECK(ops.download_f32(ops.adopt(Tensor(halves.data(), DType::f16, {rows, cols}))) == rounded(widened, type));
    const std::vector<float> kernel = Random(7).floats(2 * 3 * 2 * 4 * 4);
    std::vector<float> copy = kernel;
    const Tensor patches = ops.adopt(Tensor(copy.data(), DType::f32, {2, 3, 2, 4, 4}));
    CHECK(patches.rank() == 5 && patches.dtype() == type);
    CHECK(ops.download_f32(patches) == rounded(kernel, type));
  }
  std::vector<int32_t> ids(4);
  CHECK_ERROR(Code::internal, ("i32[4]"), device(DType::f32).adopt(Tensor(ids.data(), DType::i32, {4})));
}

TEST("a device that is closed leaves nothing behind") {
  device(DType::bf16);
  const size_t before = cuda::memory_info().free_bytes, least_block = size_t{16} << 20;
  {
    cuda::CudaOps ops(0, DType::bf16, cuda::CudaOps::GemmChoice::native);
    std::vector<float> values(1000);
    ops.adopt(Tensor(values.data(), DType::f32, {10, 100}));
    CHECK(cuda::memory_info().free_bytes + least_block <= before);
  }
  CHECK(cuda::memory_info().free_bytes + least_block > before);
}

}  // namespace
}  // namespace fire::test
