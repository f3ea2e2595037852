// What is counted and timed of the device.
#include "cuda/watch.h"

#include "device.h"

namespace fire::test {
namespace {

using cuda::Counters;

Counters counted(const std::function<void()>& work) {
  const Counters before = cuda::counters();
  work();
  return cuda::counters() - before;
}

TEST("counters: memory, launches, waits, bytes by direction") {
  cuda::CudaOps& ops = device(DType::f32);
  const Tensor x(ops.allocate(4000), DType::f32, {1000}), y(ops.allocate(4000), DType::f32, {1000});
  const std::vector<float> values(1000, 1.0f);
  const Counters moved = counted([&] {
    ops.upload(values.data(), x);
    ops.copy(x.slice(0, 500), y.slice(0, 500));
    ops.zero(y.slice(500, 600));
  });
  CHECK(moved.bytes_to_device == 4000 && moved.bytes_to_host == 0);
  CHECK(moved.bytes_on_device == 2000 && moved.bytes_zeroed == 400);
  CHECK(moved.launches == 0 && moved.allocations == 0 && moved.releases == 0);

  const Counters added = counted([&] { ops.add(x, y); });
  CHECK(added.launches == 1 && added.host_waits == 0 && added.bytes_to_device == 0);

  const Counters downloaded = counted([&] { ops.download_f32(y); });
  CHECK(downloaded.bytes_to_host == 4000 && downloaded.host_waits == 1);

  const Counters memory = counted([&] {
    void* const pinned = cuda::allocate_pinned(64);
    ops.release(ops.allocate(64), 64);
    cuda::release_pinned(pinned);
  });
  CHECK(memory.allocations == 1 && memory.releases == 1 && memory.pinned_allocations == 1);
  ops.release(x.data(), 4000);
  ops.release(y.data(), 4000);
}

TEST("a profile has every launch under its kernel's name, and only while it lives") {
  cuda::CudaOps& ops = device(DType::f32);
  const Placed x(ops, std::vector<float>(1000, 1.0f), DType::f32, {1000});
  const Placed y(ops, std::vector<float>(1000, 2.0f), DType::f32, {1000});
  ops.add(x, y);
  const Counters before = cuda::counters();
  std::map<std::string, cuda::Profile::Total> totals;
  {
    const cuda::Profile profile;
    CHECK_ERROR(Code::internal, ("there is a profile already"), cuda::Profile second);
    ops.add(x, y);
    ops.add(x, y);
    ops.gelu(y, Gelu::tanh);
    cuda::synchronize(ops.stream());
    totals = profile.totals();
  }
  int64_t launches = 0;
  for (const auto& [kernel, total] : totals) {
    CHECK(!kernel.empty() && total.milliseconds > 0);
    launches += total.launches;
  }
  CHECK(totals.size() == 2 && launches == 3);
  CHECK((cuda::counters() - before).launches == 3);
}

}  // namespace
}  // namespace fire::test
