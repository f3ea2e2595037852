#include "cuda/watch.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "tensor/error.h"

namespace fire::cuda {
namespace {

Counters all;
Profile* active = nullptr;

bool waits_after_launches() {
  static const bool wanted = [] {
    const char* const value = std::getenv("FIRE_CUDA_SYNC");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return wanted;
}

constexpr uint64_t Counters::*fields[] = {
    &Counters::launches,           &Counters::allocations,     &Counters::releases,
    &Counters::pinned_allocations, &Counters::host_waits,      &Counters::bytes_to_device,
    &Counters::bytes_to_host,      &Counters::bytes_on_device, &Counters::bytes_zeroed};
static_assert(sizeof fields / sizeof *fields * sizeof(uint64_t) == sizeof(Counters));

}  // namespace

Counters counters() {
  Counters now;
  for (const auto field : fields) now.*field = std::atomic_ref(all.*field).load(std::memory_order_relaxed);
  return now;
}

Counters operator-(const Counters& now, const Counters& before) {
  Counters difference;
  for (const auto field : fields) difference.*field = now.*field - before.*field;
  return difference;
}

void count(uint64_t Counters::*what, uint64_t by) noexcept {
  std::atomic_ref(all.*what).fetch_add(by, std::memory_order_relaxed);
}

void launching(const char* kernel, Stream stream) {
  if (active == nullptr) return;
  active->kernels_.emplace_back(kernel);
  active->mark(stream);
}

void launched(const char* kernel, Stream stream) {
  count(&Counters::launches);
  if (active != nullptr) active->mark(stream);
  if (!waits_after_launches()) return;
  try {
    synchronize(stream);
  } catch (const Error& e) {
    throw e.within(kernel);
  }
}

Profile::Profile() {
  if (active != nullptr) throw Error(Code::internal, "there is a profile already");
  active = this;
}

Profile::~Profile() {
  active = nullptr;
  for (const Event event : marks_) destroy_event(event);
}

void Profile::mark(Stream stream) {
  marks_.push_back(create_event());
  record(marks_.back(), stream);
}

std::map<std::string, Profile::Total> Profile::totals() const {
  std::map<std::string, Total> found;
  for (size_t i = 0; 2 * i + 1 < marks_.size(); ++i) {
    Total& total = found[kernels_[i]];
    ++total.launches;
    total.milliseconds += static_cast<double>(elapsed(marks_[2 * i], marks_[2 * i + 1]));
  }
  return found;
}

}  // namespace fire::cuda
