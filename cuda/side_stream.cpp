#include "cuda/side_stream.h"

#include <chrono>
#include <thread>

#include "cuda/watch.h"

namespace fire::cuda {
namespace {

using Clock = std::chrono::steady_clock;

/// How often the host asks. Far less than a sum takes, far more than asking does.
constexpr std::chrono::microseconds pause{50};

void wait_while_checking(Event event, const std::function<void()>& check) {
  for (;;) {
    check();
    if (happened(event)) return;
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace

SideStream::SideStream(int device, Stream operations)
    : device_(device),
      operations_(operations),
      stream_(create_stream()),
      behind_operations_(create_event()),
      behind_this_(create_event()) {}

SideStream::~SideStream() {
  destroy_event(behind_this_);
  destroy_event(behind_operations_);
  destroy_stream(stream_);
}

void SideStream::follow() {
  record(behind_operations_, operations_);
  wait_on(stream_, behind_operations_);
}

double SideStream::wait(const std::function<void()>& check) {
  count(&Counters::host_waits);
  record(behind_operations_, operations_);
  record(behind_this_, stream_);
  wait_while_checking(behind_operations_, check);
  const Clock::time_point start = Clock::now();
  wait_while_checking(behind_this_, check);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace fire::cuda
