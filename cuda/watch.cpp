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
  active->launches_.push_back({kernel, create_event(), nullptr});
  record(active->launches_.back().before, stream);
}

void launched(const char* kernel, Stream stream) {
  count(&Counters::launches);
  if (active != nullptr) {
    Event& after = active->launches_.back().after;
    after = create_event();
    record(after, stream);
  }
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
  for (const auto& [kernel, before, after] : launches_) {
    destroy_event(before);
    if (after) destroy_event(after);
  }
}

std::map<std::string, Profile::Total> Profile::totals() const {
  std::map<std::string, Total> found;
  for (const auto& [kernel, before, after] : launches_) {
    if (!after) continue;
    Total& total = found[kernel];
    ++total.launches;
    total.milliseconds += static_cast<double>(elapsed(before, after));
  }
  return found;
}

}  // namespace fire::cuda
