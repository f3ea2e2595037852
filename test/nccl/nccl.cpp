// A stand-in for NCCL: the entry points that native/dist uses, between processes of one machine, for the emulated GPU,
// whose memory is the host's. Ranks meet in a POSIX shared memory object that the group's id names. Like NCCL, a sum is
// only queued by the call and done by a thread of the communicator, in the stream's order; nothing but an abort ends a
// wait for a rank that never comes. Unlike NCCL, sums are in the order of ranks, and a stream that is not behind what
// the host has queued elsewhere is refused.
//
// FIRE_NCCL_STANDIN=FAULT[:N][@RANK], of the N-th sum (from 1) of that rank, or of every rank:
//   version   is a version that is too old        async  goes on for ever and reports ncclRemoteError
//   fail      refuses the sum                      block  stays inside ncclAllReduce until the communicator is aborted
//   memory    throws std::bad_alloc
// and for ever, from that sum on:
//   deaf      stays inside ncclCommGetAsyncError   stuck  stays inside ncclCommAbort
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <new>
#include <random>
#include <string>
#include <thread>

#include "simt/stream.h"

namespace {

using fire::simt::OutsideStream;

constexpr int kSuccess = 0, kSystemError = 2, kInvalidArgument = 4, kInvalidUsage = 5, kRemoteError = 6;
constexpr int kVersion = 22105, kOldVersion = 2804;
constexpr int kMaxRanks = 16;
constexpr size_t kChunk = 1 << 16;  // floats that go through the shared memory at once
constexpr auto kPause = std::chrono::microseconds(100);

thread_local std::string last_error;

int failed(int code, const std::string& why) {
  last_error = why;
  return code;
}

std::atomic<int> sums = 0;  // that this process has asked for

struct Fault {
  std::string kind;
  int64_t number = 1;
  int rank = -1;  // of every rank
};

Fault fault() {
  const char* const text = std::getenv("FIRE_NCCL_STANDIN");
  Fault found;
  if (text == nullptr) return found;
  std::string rest = text;
  if (const size_t at = rest.find('@'); at != std::string::npos) {
    found.rank = std::atoi(rest.c_str() + at + 1);
    rest.resize(at);
  }
  if (const size_t colon = rest.find(':'); colon != std::string::npos) {
    found.number = std::atoll(rest.c_str() + colon + 1);
    rest.resize(colon);
  }
  found.kind = rest;
  return found;
}

/// What the ranks share; new memory is 0. Counters only grow: rank r has written its part of round i when
/// `written[r]` > i, and has read all parts when `read[r]` > i.
struct Shared {
  std::atomic<int32_t> size, come;
  std::atomic<bool> taken[kMaxRanks];
  std::atomic<uint64_t> written[kMaxRanks], read[kMaxRanks];
  float parts[kMaxRanks][kChunk];
};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "between processes");

struct Sum {
  float* values;
  size_t count;
  OutsideStream* stream;
  bool never;  // a fault: it is not done before an abort
};

class Communicator {
 public:
  Communicator(Shared* shared, int size, int rank)
      : shared_(shared), size_(size), rank_(rank), fault_(fault()), thread_([this] { run(); }) {}

  /// What has begun is done first, but for an abort.
  void end(bool abort) {
    {
      const std::lock_guard lock(mutex_);
      aborted_ = abort;
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
    while (inside_ > 0) std::this_thread::sleep_for(kPause);
    munmap(shared_, sizeof(Shared));
  }

  int all_reduce(const float* from, float* to, size_t count, OutsideStream* stream) {
    if (stream->behind()) return failed(kInvalidUsage, "the stream does not wait for what the host has queued before");
    if (from != to) return failed(kInvalidArgument, "only sums in place are known here");
    ++calls_;
    ++sums;
    const bool faulty = calls_ == fault_.number && (fault_.rank < 0 || fault_.rank == rank_);
    if (faulty && fault_.kind == "memory") throw std::bad_alloc();
    if (faulty && (fault_.kind == "deaf" || fault_.kind == "stuck")) hangs_ = true;
    if (faulty && fault_.kind == "fail") return failed(kSystemError, "the sum was told to fail");
    if (faulty && fault_.kind == "block") {
      ++inside_;
      while (!aborted_) std::this_thread::sleep_for(kPause);
      --inside_;
      return failed(kSystemError, "the communicator was aborted");
    }
    const bool never = faulty && fault_.kind == "async";
    if (never) state_ = kRemoteError;
    stream->begin();
    const std::lock_guard lock(mutex_);
    sums_.push_back({to, count, stream, never});
    changed_.notify_all();
    return kSuccess;
  }

  int state() const { return state_; }

  void hang_if(const char* kind) const {
    while (hangs_ && fault_.kind == kind) std::this_thread::sleep_for(kPause);
  }

 private:
  void run() {
    for (;;) {
      Sum sum{};
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return ending_ || !sums_.empty(); });
        if (sums_.empty()) return;
        sum = sums_.front();
        sums_.pop_front();
      }
      while (sum.never && !aborted_) std::this_thread::sleep_for(kPause);
      for (size_t begin = 0; begin < sum.count && !aborted_; begin += kChunk)
        add(sum.values + begin, std::min(kChunk, sum.count - begin));
      sum.stream->end();
    }
  }

  void add(float* values, size_t count) {
    const auto all_have = [&](const std::atomic<uint64_t>* counters, uint64_t least) {
      return wait_until(
          [&] { return std::all_of(counters, counters + size_, [&](const auto& c) { return c >= least; }); });
    };
    if (!all_have(shared_->read, round_)) return;  // nobody needs the parts of the round before
    std::memcpy(shared_->parts[rank_], values, count * sizeof(float));
    shared_->written[rank_] = round_ + 1;
    if (!all_have(shared_->written, round_ + 1)) return;
    for (size_t i = 0; i < count; ++i) {
      float total = shared_->parts[0][i];
      for (int r = 1; r < size_; ++r) total += shared_->parts[r][i];
      values[i] = total;
    }
    shared_->read[rank_] = ++round_;
  }

  /// False: aborted meanwhile.
  template <class F>
  bool wait_until(F done) {
    while (!done()) {
      if (aborted_) return false;
      std::this_thread::sleep_for(kPause);
    }
    return true;
  }

  Shared* const shared_;
  const int size_, rank_;
  const Fault fault_;
  int64_t calls_ = 0;
  uint64_t round_ = 0;
  std::atomic<int> state_ = kSuccess;
  std::atomic<bool> aborted_ = false, hangs_ = false;
  std::atomic<int> inside_ = 0;  // threads in a call that waits for the abort
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ending_ = false;
  std::deque<Sum> sums_;
  std::thread thread_;
};

/// Taken away when all ranks have come, or at the end of a process whose group never came together.
std::string waiting_for;
void forget() {
  if (!waiting_for.empty()) shm_unlink(waiting_for.c_str());
}

struct UniqueId {
  char bytes[128];
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

/// Of the stand-in alone.
EXPORT int standin_sums() { return sums; }

EXPORT int ncclGetVersion(int* version) {
  *version = fault().kind == "version" ? kOldVersion : kVersion;
  return kSuccess;
}

EXPORT int ncclGetUniqueId(UniqueId* id) {
  std::random_device random;
  *id = {};
  std::snprintf(id->bytes, sizeof id->bytes, "/fire-nccl-%d-%08x%08x", static_cast<int>(getpid()), random(), random());
  return kSuccess;
}

EXPORT int ncclCommInitRank(void** communicator, int size, UniqueId id, int rank) {
  if (size < 1 || size > kMaxRanks || rank < 0 || rank >= size || id.bytes[0] != '/')
    return failed(kInvalidArgument, "no such rank or group");
  const int file = shm_open(id.bytes, O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) return failed(kSystemError, std::strerror(errno));
  void* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return failed(kSystemError, std::strerror(errno));
  Shared* const shared = static_cast<Shared*>(memory);
  int32_t expected = 0;
  if (!shared->size.compare_exchange_strong(expected, size) && expected != size)
    return failed(kInvalidArgument, "the ranks differ in their number");
  if (shared->taken[rank].exchange(true)) return failed(kInvalidUsage, "another process has this rank");
  waiting_for = id.bytes;
  std::atexit(forget);
  ++shared->come;
  while (shared->come < size) std::this_thread::sleep_for(kPause);
  forget();
  waiting_for.clear();
  *communicator = new Communicator(shared, size, rank);
  return kSuccess;
}

EXPORT int ncclAllReduce(const void* from, void* to, size_t count, int type, int operation, void* communicator,
                         void* stream) {
  if (type != 7 || operation != 0) return failed(kInvalidArgument, "only sums of f32 are known here");
  return static_cast<Communicator*>(communicator)
      ->all_reduce(static_cast<const float*>(from), static_cast<float*>(to), count,
                   static_cast<OutsideStream*>(stream));
}

EXPORT int ncclCommGetAsyncError(void* communicator, int* state) {
  auto* const own = static_cast<Communicator*>(communicator);
  own->hang_if("deaf");
  *state = own->state();
  return kSuccess;
}

EXPORT int ncclCommAbort(void* communicator) {
  auto* const own = static_cast<Communicator*>(communicator);
  own->hang_if("stuck");
  own->end(true);
  delete own;
  return kSuccess;
}

EXPORT int ncclCommDestroy(void* communicator) {
  auto* const own = static_cast<Communicator*>(communicator);
  own->end(false);
  delete own;
  return kSuccess;
}

EXPORT const char* ncclGetErrorString(int code) {
  switch (code) {
    case kSuccess:
      return "no error";
    case kSystemError:
      return "unhandled system error";
    case kInvalidArgument:
      return "invalid argument";
    case kInvalidUsage:
      return "invalid usage";
    case kRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "unknown result code";
  }
}

EXPORT const char* ncclGetLastError(void*) { return last_error.c_str(); }
