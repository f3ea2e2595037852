// cuda/runtime.h on the host: one pretend device. Every allocation is a heap block of exactly the size asked for, full
// of NaN (0xFF), so that AddressSanitizer sees the first byte beyond it and a test what was never written.
#include "cuda/runtime.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "cuda/watch.h"
#include "simt/runtime_faults.h"
#include "simt/state.h"
#include "simt/stream.h"
#include "tensor/error.h"

namespace fire::simt {
namespace {

struct Blocks {
  std::map<const unsigned char*, size_t> sizes;
  size_t bytes = 0;

  void* add(size_t count) {
    void* data = nullptr;
    if (posix_memalign(&data, 256, count == 0 ? 1 : count) != 0) return nullptr;
    std::memset(data, 0xff, count);
    sizes.emplace(static_cast<unsigned char*>(data), count);
    bytes += count;
    return data;
  }
  bool remove(void* data) {
    const auto found = sizes.find(static_cast<unsigned char*>(data));
    if (found == sizes.end()) return false;
    bytes -= found->second;
    sizes.erase(found);
    std::free(data);
    return true;
  }
  bool contains(const void* data, size_t count) const {
    const unsigned char* const p = static_cast<const unsigned char*>(data);
    auto after = sizes.upper_bound(p);
    if (after == sizes.begin()) return false;
    --after;
    return size_t(p - after->first) + count <= after->second;
  }
};

struct Device {
  std::mutex mutex;
  Blocks memory, pinned;
  Faults faults;
  bool unusable = false;
  size_t selections = 0;
};

Faults from_environment() {
  Faults faults;
  const auto bad = [](const char* name, const char* value) {
    throw Error(Code::invalid_argument, std::string(name) + "=" + value + " is not a setting of the emulator")
        .with("variable", name);
  };
  if (const char* text = std::getenv("FIRE_SIMT_DRIVER")) {
    const std::string value = text;
    if (value == "missing") {
      faults.driver = Driver::missing;
    } else if (value == "too_old") {
      faults.driver = Driver::too_old;
    } else if (value == "no_card") {
      faults.driver = Driver::no_card;
    } else if (value != "present") {
      bad("FIRE_SIMT_DRIVER", text);
    }
  }
  const auto bytes = [&](const char* name, size_t& value) {
    const char* const text = std::getenv(name);
    if (text == nullptr) return;
    char* end = nullptr;
    value = std::strtoull(text, &end, 10);
    if (end == text || *end != '\0') bad(name, text);
  };
  bytes("FIRE_SIMT_MEMORY", faults.memory_bytes);
  bytes("FIRE_SIMT_SHARED", faults.shared_bytes);
  return faults;
}

/// Never destroyed: memory may be released by the destructors of other statics.
Device& device() {
  static Device* const only = [] {
    Device* made = new Device;
    made->faults = from_environment();
    return made;
  }();
  return *only;
}

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "simt: %s\n", what);
  std::abort();
}

}  // namespace

Faults faults() {
  const std::lock_guard<std::mutex> lock(device().mutex);
  return device().faults;
}

void set_faults(const Faults& faults) {
  const std::lock_guard<std::mutex> lock(device().mutex);
  device().faults = faults;
}

void restart() {
  const std::lock_guard<std::mutex> lock(device().mutex);
  device().unusable = false;
}

size_t selections() {
  const std::lock_guard<std::mutex> lock(device().mutex);
  return device().selections;
}

size_t allocated_bytes() {
  const std::lock_guard<std::mutex> lock(device().mutex);
  return device().memory.bytes;
}

size_t pinned_bytes() {
  const std::lock_guard<std::mutex> lock(device().mutex);
  return device().pinned.bytes;
}

void poison_device() {
  const std::lock_guard<std::mutex> lock(device().mutex);
  device().unusable = true;
}

bool in_device_memory(const void* p, size_t bytes) {
  const std::lock_guard<std::mutex> lock(device().mutex);
  return device().memory.contains(p, bytes);
}

void check_usable(const char* what) {
  const std::lock_guard<std::mutex> lock(device().mutex);
  if (device().unusable)
    throw Error(Code::cuda, std::string(what) +
                                ": the device is unusable after the failure of an earlier kernel; the process must be "
                                "started again");
}

void check_launch(const char* kernel) {
  check_usable(kernel);
  const std::lock_guard<std::mutex> lock(device().mutex);
  if (device().faults.failing_kernel != kernel) return;
  device().faults.failing_kernel.clear();
  device().unusable = true;
  throw Error(Code::cuda, std::string(kernel) +
                              ": an illegal memory access was encountered; the device is unusable, the process must be "
                              "started again")
      .with("kernel", kernel);
}

}  // namespace fire::simt

namespace fire::cuda {

using simt::Driver;

namespace {

using Clock = std::chrono::steady_clock;

struct PretendStream;

/// The streams there are, and what all of them are guarded by.
struct Streams {
  std::mutex mutex;
  std::condition_variable ended;
  std::set<PretendStream*> all;
};
Streams& streams() {
  static Streams* const only = new Streams;  // never destroyed: other statics may own streams
  return *only;
}

/// What the host puts on a stream has run when it comes back; what a library does there (simt/stream.h) ends later.
struct PretendStream final : simt::OutsideStream {
  uint64_t work = 0;                              // pieces that ran here
  uint64_t outside_begun = 0, outside_ended = 0;  // of a library
  std::map<const PretendStream*, uint64_t> seen;  // how much of the others' work comes before what comes here

  void begin() override {
    const std::lock_guard<std::mutex> lock(streams().mutex);
    ++outside_begun;
  }
  void end() override {
    const std::lock_guard<std::mutex> lock(streams().mutex);
    ++outside_ended;
    streams().ended.notify_all();
  }
  bool behind() const override {
    const std::lock_guard<std::mutex> lock(streams().mutex);
    bool idle = true;
    for (const PretendStream* other : streams().all) {
      const auto known = seen.find(other);
      if (known != seen.end() && other->work > known->second) return true;
      idle = idle && other->work == 0;
    }
    return seen.empty() && !idle;
  }
};

struct PretendEvent {
  bool recorded = false;
  Clock::time_point at;
  const PretendStream* stream = nullptr;
  uint64_t work = 0, outside = 0;  // of the stream, when it was recorded
};

/// With the lock: whether all that was on the stream before the event has run. A stream that is gone had run empty.
bool has_happened(const PretendEvent& event) {
  auto* const stream = const_cast<PretendStream*>(event.stream);
  return !event.recorded || !streams().all.contains(stream) || stream->outside_ended >= event.outside;
}

void wait_for(const PretendEvent& event) {
  std::unique_lock<std::mutex> lock(streams().mutex);
  streams().ended.wait(lock, [&] { return has_happened(event); });
}

PretendEvent& event_of(Event event) {
  if (!event) throw Error(Code::internal, "no event");
  return *static_cast<PretendEvent*>(event);
}

void need_stream(Stream stream, const char* what) {
  if (!stream) throw Error(Code::internal, std::string(what) + ": no stream");
}

PretendStream& stream_of(Stream stream) {
  return *static_cast<PretendStream*>(static_cast<simt::OutsideStream*>(stream));
}

/// An event behind all that is on the stream.
PretendEvent now_on(const PretendStream& stream) {
  const std::lock_guard<std::mutex> lock(streams().mutex);
  return {true, Clock::now(), &stream, stream.work, stream.outside_begun};
}

void need_device_memory(const void* data, size_t bytes, const char* what) {
  if (!simt::device().memory.contains(data, bytes))
    throw Error(Code::internal, std::string(what) + ": " + std::to_string(bytes) +
                                    " bytes that are not inside one block of device memory");
}

void need_pinned_memory(const void* data, size_t bytes, const char* what) {
  if (!simt::device().pinned.contains(data, bytes))
    throw Error(Code::internal, std::string(what) + ": " + std::to_string(bytes) +
                                    " bytes of host memory that are not inside one pinned block");
}

}  // namespace

}  // namespace fire::cuda

namespace fire::simt {

void work_on(cuda::Stream stream) {
  if (!stream) return;
  cuda::PretendStream& own = cuda::stream_of(stream);
  cuda::wait_for(cuda::now_on(own));
  const std::lock_guard<std::mutex> lock(cuda::streams().mutex);
  ++own.work;
}

}  // namespace fire::simt

namespace fire::cuda {

std::vector<DeviceProperties> devices() {
  simt::check_usable("devices");
  const simt::Faults faults = simt::faults();
  switch (faults.driver) {
    case Driver::missing:
      throw Error(Code::no_device, "no NVIDIA driver is installed").with("reason", "no-driver");
    case Driver::too_old:
      throw Error(Code::no_device, "the NVIDIA driver is too old: it supports CUDA 11.4, this build needs 13.0")
          .with("reason", "old-driver")
          .with("driver", "11.4")
          .with("runtime", "13.0");
    case Driver::no_card:
      throw Error(Code::no_device, "the NVIDIA driver sees no GPU").with("reason", "no-card");
    case Driver::present:
      break;
  }
  // As a driver that shows each process its own GPU.
  return {{"simt", 9, 0, 4, faults.memory_bytes, faults.shared_bytes, std::to_string(getpid())}};
}

void select(int device) {
  simt::check_usable("select");
  const auto all = devices();
  if (device < 0 || size_t(device) >= all.size())
    throw Error(Code::no_device, "there is no GPU " + std::to_string(device));
  const std::lock_guard<std::mutex> lock(simt::device().mutex);
  ++simt::device().selections;
}

MemoryInfo memory_info() {
  simt::check_usable("memory_info");
  const std::lock_guard<std::mutex> lock(simt::device().mutex);
  const size_t total = simt::device().faults.memory_bytes, used = simt::device().memory.bytes;
  return {used < total ? total - used : 0, total};
}

void* allocate(size_t bytes) {
  simt::check_usable("allocate");
  count(&Counters::allocations);
  const std::lock_guard<std::mutex> lock(simt::device().mutex);
  simt::Device& device = simt::device();
  const size_t total = device.faults.memory_bytes;
  if (device.memory.bytes > total || bytes > total - device.memory.bytes) return nullptr;
  return device.memory.add(bytes);
}

void release(void* data) noexcept {
  if (!data) return;
  const std::lock_guard<std::mutex> lock(simt::device().mutex);
  count(&Counters::releases);
  if (!simt::device().memory.remove(data)) simt::give_up("release of what allocate did not return");
}

void* allocate_pinned(size_t bytes) {
  simt::check_usable("allocate_pinned");
  count(&Counters::pinned_allocations);
  const std::lock_guard<std::mutex> lock(simt::device().mutex);
  void* const data = simt::device().pinned.add(bytes);
  if (!data) throw Error(Code::out_of_memory, "no " + std::to_string(bytes) + " bytes of pinned memory");
  return data;
}

void release_pinned(void* data) noexcept {
  if (!data) return;
  const std::lock_guard<std::mutex> lock(simt::device().mutex);
  if (!simt::device().pinned.remove(data)) simt::give_up("release_pinned of what allocate_pinned did not return");
}

Stream create_stream() {
  simt::check_usable("create_stream");
  auto* const made = new PretendStream;
  const std::lock_guard<std::mutex> lock(streams().mutex);
  streams().all.insert(made);
  return static_cast<simt::OutsideStream*>(made);
}

void destroy_stream(Stream stream) noexcept {
  if (!stream) return;
  PretendStream* const own = &stream_of(stream);
  {
    const std::lock_guard<std::mutex> lock(streams().mutex);
    if (own->outside_ended < own->outside_begun) simt::give_up("destroy_stream: a library is at work on it");
    streams().all.erase(own);
    for (PretendStream* other : streams().all) other->seen.erase(own);
  }
  delete own;
}

Event create_event() {
  simt::check_usable("create_event");
  return new PretendEvent;
}

void destroy_event(Event event) noexcept { delete static_cast<PretendEvent*>(event); }

void record(Event event, Stream stream) {
  simt::check_usable("record");
  need_stream(stream, "record");
  event_of(event) = now_on(stream_of(stream));
}

void wait(Event event) {
  simt::check_usable("wait");
  count(&Counters::host_waits);
  wait_for(event_of(event));
}

bool happened(Event event) {
  simt::check_usable("happened");
  const std::lock_guard<std::mutex> lock(streams().mutex);
  return has_happened(event_of(event));
}

/// Since the host's work runs at once, the host waits in the stream's place.
void wait_on(Stream stream, Event event) {
  simt::check_usable("wait_on");
  need_stream(stream, "wait_on");
  const PretendEvent& known = event_of(event);
  if (!known.recorded) throw Error(Code::internal, "wait_on: an event that was never recorded");
  wait_for(known);
  const std::lock_guard<std::mutex> lock(streams().mutex);
  if (!streams().all.contains(const_cast<PretendStream*>(known.stream))) return;
  uint64_t& seen = stream_of(stream).seen[known.stream];
  seen = std::max(seen, known.work);
}

float elapsed(Event from, Event to) {
  simt::check_usable("elapsed");
  if (!event_of(from).recorded || !event_of(to).recorded)
    throw Error(Code::cuda, "elapsed: an event that was never recorded");
  return std::chrono::duration<float, std::milli>(event_of(to).at - event_of(from).at).count();
}

void synchronize(Stream stream) {
  simt::check_usable("synchronize");
  count(&Counters::host_waits);
  need_stream(stream, "synchronize");
  wait_for(now_on(stream_of(stream)));
}

void copy_to_device(void* device, const void* host, size_t bytes, Stream stream) {
  simt::check_usable("copy_to_device");
  need_stream(stream, "copy_to_device");
  if (bytes == 0) return;
  simt::work_on(stream);
  const std::lock_guard<std::mutex> lock(simt::device().mutex);
  need_device_memory(device, bytes, "copy_to_device");
  need_pinned_memory(host, bytes, "copy_to_device");
  count(&Counters::bytes_to_device, bytes);
  std::memcpy(device, host, bytes);
}

void copy_to_host(void* host, const void* device, size_t bytes, Stream stream) {
  simt::check_usable("copy_to_host");
  need_stream(stream, "copy_to_host");
  if (bytes == 0) return;
  simt::work_on(stream);
  const std::lock_guard<std::mutex> lock(simt::device().mutex);
  need_device_memory(device, bytes, "copy_to_host");
  need_pinned_memory(host, bytes, "copy_to_host");
  count(&Counters::bytes_to_host, bytes);
  std::memcpy(host, device, bytes);
}

void copy_on_device(void* to, const void* from, size_t bytes, Stream stream) {
  simt::check_usable("copy_on_device");
  need_stream(stream, "copy_on_device");
  if (bytes == 0) return;
  simt::work_on(stream);
  const std::lock_guard<std::mutex> lock(simt::device().mutex);
  need_device_memory(to, bytes, "copy_on_device");
  need_device_memory(from, bytes, "copy_on_device");
  count(&Counters::bytes_on_device, bytes);
  std::memmove(to, from, bytes);
}

void fill_zero(void* device, size_t bytes, Stream stream) {
  simt::check_usable("fill_zero");
  need_stream(stream, "fill_zero");
  if (bytes == 0) return;
  simt::work_on(stream);
  const std::lock_guard<std::mutex> lock(simt::device().mutex);
  need_device_memory(device, bytes, "fill_zero");
  count(&Counters::bytes_zeroed, bytes);
  std::memset(device, 0, bytes);
}

void check(int code, const char* what) {
  if (code != 0) throw Error(Code::cuda, std::string(what) + ": CUDA error " + std::to_string(code));
}

}  // namespace fire::cuda
