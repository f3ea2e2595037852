// cuda/runtime.cpp on whatever machine this is: with a GPU, with a driver alone, or with neither.
#include "check.h"
#include "cuda/probe.h"
#include "cuda/runtime_errors.h"

namespace fire::cuda {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// The error that `check` throws; an empty one when it throws none.
Error thrown(int code) {
  try {
    check(code, "some_kernel");
  } catch (const Error& e) {
    return e;
  }
  return Error(Code::internal, "");
}

// cudaError_t, fixed by CUDA's ABI.
constexpr int kInsufficientDriver = 35, kNoDevice = 100, kDriverMismatch = 803;

TEST("no driver, an old driver and no card are told apart, each with what to do") {
  const Error none = no_devices(kInsufficientDriver, 0, 13000);
  CHECK(none.code() == Code::no_device);
  CHECK(contains(none.what(), "no NVIDIA driver is installed"));
  CHECK(contains(none.what(), "CUDA 13.0 (driver 580 or later)"));

  const Error old = no_devices(kInsufficientDriver, 12080, 13000);
  CHECK(old.code() == Code::no_device);
  CHECK(contains(old.what(), "supports CUDA 12.8 at most"));
  CHECK(contains(old.what(), "needs CUDA 13.0 (driver 580 or later)"));
  CHECK(contains(old.what(), "update the driver"));

  for (const int code : {kNoDevice, 0}) {
    const Error card = no_devices(code, 13000, 13000);
    CHECK(card.code() == Code::no_device);
    CHECK(contains(card.what(), "sees no GPU"));
    CHECK(contains(card.what(), "CUDA_VISIBLE_DEVICES"));
  }

  const Error other = no_devices(kDriverMismatch, 13000, 13000);
  CHECK(other.code() == Code::no_device);
  CHECK(contains(other.what(), "cannot be used: "));
  CHECK(other.details().at(0).first == "cuda");
  CHECK(other.details().at(0).second == "cudaErrorSystemDriverMismatch");
}

TEST("an error that loses the context says so; a passing one does not") {
  CHECK(contains(thrown(0).what(), "") && thrown(0).code() == Code::internal);
  // ECC, illegal address, launch timeout, assert, hardware stack, illegal instruction, misaligned address, invalid
  // address space, invalid pc, launch failure
  for (const int code : {214, 700, 702, 710, 714, 715, 716, 717, 718, 719}) {
    CHECK(thrown(code).code() == Code::cuda);
    CHECK(contains(thrown(code).what(), "some_kernel: "));
    CHECK(contains(thrown(code).what(), "start the process again"));
  }
  // invalid value, out of memory, invalid configuration, too many resources for a launch
  for (const int code : {1, 2, 9, 701}) {
    CHECK(thrown(code).code() == Code::cuda);
    CHECK(!contains(thrown(code).what(), "start the process again"));
  }
  CHECK(thrown(700).details().at(0).second == "cudaErrorIllegalAddress");
  CHECK(contains(thrown(209).what(), "fire-train build"));
}

TEST("devices() and probe() agree, and what they promise holds") {
  const Probe found = probe();
  CHECK(found.devices.empty() != found.reason.empty());
  if (found.devices.empty()) {
    CHECK_THROWS(Error, devices());
    return;
  }
  CHECK(devices().size() == found.devices.size());
  select(0);
  const MemoryInfo memory = memory_info();
  CHECK(memory.free_bytes <= memory.total_bytes && memory.total_bytes > 0);
  CHECK(allocate(size_t{1} << 50) == nullptr);
  void* data = allocate(1000);  // the refusal left no error behind
  CHECK(data != nullptr && reinterpret_cast<uintptr_t>(data) % 256 == 0);
  const Stream stream = create_stream();
  fill_zero(data, 1000, stream);
  synchronize(stream);
  destroy_stream(stream);
  release(data);
}

TEST("a GPU that lacks the instructions is objected to") {
  DeviceProperties properties;
  properties.major = 7;
  properties.minor = 5;
  CHECK(contains(objection_to(properties), "compute capability 7.5"));
  CHECK(contains(objection_to(properties), "8.0"));
  for (const int major : {8, 9, 12}) {
    properties.major = major;
    CHECK(objection_to(properties).empty());
  }
}

}  // namespace
}  // namespace fire::cuda
