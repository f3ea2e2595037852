// The processes that train one adapter together, as one of them sees them: sums of gradients and nothing else. Here
// nobody agrees on anything: who takes part, whether all do the same work, and how one rank's failure ends the group of
// every other is decided above (src/ranks), which ends a group with `GroupEnd`.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "ops/ops.h"
#include "tensor/cancel.h"

namespace fire {

enum class Transport : uint8_t { nccl, mpi };

/// See GroupSpec in src/engine/native.ts.
struct GroupSpec {
  Transport transport;
  int rank, size;
  std::string id;
};

/// The end of a group, from any thread and at any time, even before there is one. The first reason stays.
class GroupEnd {
 public:
  void ask(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    if (asked_.load(std::memory_order_relaxed)) return;
    reason_ = reason;
    asked_.store(true, std::memory_order_release);
  }
  bool asked() const { return asked_.load(std::memory_order_acquire); }
  /// Throws ERR_FIRE_RANKS with the reason once there is one.
  void check() const {
    if (!asked()) return;
    const std::lock_guard lock(mutex_);
    throw Error(Code::ranks, reason_);
  }

 private:
  std::atomic<bool> asked_ = false;
  mutable std::mutex mutex_;
  std::string reason_;
};

/// One rank's part. One thread calls it. Every rank calls `sum` for the same ranges in the same order, and `join` after
/// the last of a step. Everything throws ERR_FIRE_RANKS once the group has ended, with the reason.
class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Begins to add up `values` (f32, memory of the device) over all ranks, in place: after the operations queued so
  /// far, beside those that come. Returns at once. The same bits on every rank, and each time with as many ranks.
  virtual void sum(Tensor values) = 0;
  /// Waits until all sums are done. Returns how long there was nothing but them to wait for, in seconds. A sum that
  /// is not done `group_timeout()` after the call ends the group. Throws what `cancel` throws.
  virtual double join(Cancel cancel) = 0;
  /// The last call but for itself: takes this rank out of the group, in order where no sum is under way, else by an
  /// abort. True: nothing writes any more to what was given to `sum`. False: the transport hangs in its end, and may
  /// write for as long as the process lives, so that this memory must never be freed.
  virtual bool leave() noexcept = 0;
};

/// Waits until all ranks of the group have come, and gives this one's part. Throws ERR_FIRE_RANKS where the transport
/// is missing or the ranks do not come together, ERR_FIRE_INVALID_ARGUMENT where it does not fit the device, and what
/// `cancel` and `end` throw. The part must not outlive `ops`.
std::unique_ptr<ProcessGroup> join_group(const GroupSpec& spec, Ops& ops, Cancel cancel,
                                         const std::shared_ptr<GroupEnd>& end);

/// A transport as `doctor` tells of it: its version, or why there is none.
struct TransportReport {
  std::string version, missing;
};
TransportReport transport_report(Transport transport);

/// Names a new group of NCCL, for GroupSpec::id: 128 bytes in hexadecimal digits. Throws ERR_FIRE_RANKS without NCCL.
std::string new_group_id();

/// How long ranks wait for each other, in seconds: FIRE_GROUP_TIMEOUT, or 600. Ranks that die or hang are seen sooner
/// by those who watch them; this is for a network that loses data without a word.
double group_timeout();

}  // namespace fire
