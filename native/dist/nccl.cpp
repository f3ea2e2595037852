#include "dist/nccl.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <thread>

namespace fire {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// How often the watcher looks at the communicator and at the wish to end.
constexpr auto watch_every = 20ms;
/// An end waits so long for a call that is inside NCCL before it frees what the call uses: NCCL gives up on its own
/// where it can, and where it cannot only the abort gets it out.
constexpr auto call_grace = 1s;
/// What waits for NCCL to end a communicator gives up after that, and no later than any other wait for the ranks: it
/// may itself hang where a GPU does.
constexpr double end_grace = 20;

Clock::time_point deadline_after(double seconds) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

std::string seconds_text(double seconds) { return std::to_string(static_cast<int64_t>(seconds)) + " s"; }

NcclLibrary::UniqueId unique_id_of(const std::string& digits) {
  NcclLibrary::UniqueId id{};
  const auto value = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  bool good = digits.size() == 2 * sizeof id.bytes;
  for (size_t i = 0; good && i < sizeof id.bytes; ++i) {
    const int high = value(digits[2 * i]), low = value(digits[2 * i + 1]);
    good = high >= 0 && low >= 0;
    id.bytes[i] = static_cast<char>(high * 16 + low);
  }
  if (!good) throw Error(Code::invalid_argument, "group.id is not what groupId() gave");
  return id;
}

/// The communicator, and the thread that makes it, watches it and ends it: these calls take long, and may hang. It
/// belongs to both; who hangs keeps it. No call into NCCL has the lock, so that a hang is nobody else's.
class Communicator {
 public:
  Communicator(const NcclLibrary& library, std::shared_ptr<SideQueue> queue, std::shared_ptr<GroupEnd> end)
      : library_(library), queue_(std::move(queue)), end_(std::move(end)) {}

  /// The watcher's thread, from the first to the last call.
  void watch(const NcclLibrary::UniqueId& id, int rank, int size) {
    make(id, rank, size);
    std::unique_lock lock(mutex_);
    while (phase_ == Phase::open && !leaving_ && !end_->asked()) {
      changed_.wait_for(lock, watch_every);
      if (!in_flight_) continue;
      lock.unlock();  // this thread alone ends the communicator, so it is there
      look();
      lock.lock();
    }
    if (phase_ != Phase::open) return;
    phase_ = Phase::ending;
    const bool abort = end_->asked() || in_flight_;
    if (abort) changed_.wait_for(lock, call_grace, [this] { return !calling_; });
    lock.unlock();
    if (abort) {
      library_.comm_abort(comm_);
    } else {
      library_.comm_destroy(comm_);
    }
    lock.lock();
    phase_ = Phase::ended;
    changed_.notify_all();
  }

  /// Waits until all ranks have come.
  void wait_until_made(Cancel cancel, const GroupSpec& spec) {
    const Clock::time_point deadline = deadline_after(timeout_);
    std::unique_lock lock(mutex_);
    try {
      while (phase_ == Phase::making) {
        cancel.check();
        end_->check();
        if (Clock::now() > deadline)
          throw Error(Code::ranks,
                      "NCCL: not all of the " + std::to_string(spec.size) + " ranks came to the group of rank " +
                          std::to_string(spec.rank) + " within " + seconds_text(timeout_) +
                          " (FIRE_GROUP_TIMEOUT); did one fail, or has it another group.id? NCCL_DEBUG=INFO "
                          "shows what NCCL does");
        changed_.wait_for(lock, watch_every);
      }
    } catch (const Error& e) {
      end_->ask(e.what());  // what comes too late ends itself
      throw;
    }
    end_->check();
  }

  void sum(Tensor values) {
    {
      const std::lock_guard lock(mutex_);
      check();
      calling_ = in_flight_ = true;
    }
    const int result = library_.all_reduce(values.data(), values.data(), static_cast<size_t>(values.size()),
                                           NcclLibrary::float32, NcclLibrary::sum, comm_, queue_->stream());
    {
      const std::lock_guard lock(mutex_);
      calling_ = false;
      changed_.notify_all();
    }
    if (result != NcclLibrary::success) fail("ncclAllReduce", result);
    end_->check();
  }

  double join(Cancel cancel) {
    const Clock::time_point deadline = deadline_after(timeout_);
    const double waited = queue_->wait([&] {
      cancel.check();
      if (Clock::now() > deadline)
        end_->ask("NCCL: the sums over the ranks were not done within " + seconds_text(timeout_) +
                  " (FIRE_GROUP_TIMEOUT)");
      end_->check();
    });
    const std::lock_guard lock(mutex_);
    check();
    in_flight_ = false;
    return waited;
  }

  /// The group is not used any more. False where NCCL hangs.
  bool leave() noexcept {
    std::unique_lock lock(mutex_);
    leaving_ = true;
    changed_.notify_all();
    return changed_.wait_until(lock, deadline_after(std::min(end_grace, timeout_)),
                               [this] { return phase_ == Phase::ended; });
  }

 private:
  enum class Phase : uint8_t { making, open, ending, ended };

  void make(const NcclLibrary::UniqueId& id, int rank, int size) {
    int result = NcclLibrary::success;
    std::string failure;
    NcclLibrary::Comm made = nullptr;
    try {
      queue_->enter();
      result = library_.comm_init_rank(&made, size, id, rank);
    } catch (const Error& e) {
      failure = e.what();
    }
    if (result != NcclLibrary::success) failure = describe("ncclCommInitRank", result);
    if (!failure.empty()) end_->ask(failure);
    const std::lock_guard lock(mutex_);
    comm_ = made;
    phase_ = failure.empty() ? Phase::open : Phase::ended;
    changed_.notify_all();
  }

  void look() {
    int state = NcclLibrary::success;
    const int result = library_.comm_get_async_error(comm_, &state);
    if (result != NcclLibrary::success) state = result;
    if (state != NcclLibrary::success && state != NcclLibrary::in_progress)
      end_->ask(describe("a sum over the ranks", state));
  }

  /// With the lock.
  void check() const {
    end_->check();
    if (phase_ != Phase::open) throw Error(Code::internal, "a group of NCCL that is not open");
  }

  [[noreturn]] void fail(const char* call, int result) {
    end_->ask(describe(call, result));
    end_->check();
    throw Error(Code::internal, "a group without an end");
  }

  std::string describe(const char* call, int result) const {
    std::string text = std::string("NCCL: ") + call + ": " + library_.get_error_string(result);
    const char* const last = library_.get_last_error == nullptr ? nullptr : library_.get_last_error(nullptr);
    if (last != nullptr && *last != '\0') text += std::string(" (") + last + ")";
    return text + "; NCCL_DEBUG=INFO shows more";
  }

  const NcclLibrary& library_;
  const std::shared_ptr<SideQueue> queue_;
  const std::shared_ptr<GroupEnd> end_;
  const double timeout_ = group_timeout();
  std::mutex mutex_;
  std::condition_variable changed_;
  Phase phase_ = Phase::making;
  NcclLibrary::Comm comm_ = nullptr;
  bool leaving_ = false;
  bool calling_ = false;    // a thread is inside NCCL with the communicator
  bool in_flight_ = false;  // sums have begun that nobody has waited for
};

class NcclGroup final : public ProcessGroup {
 public:
  NcclGroup(const NcclLibrary& library, const GroupSpec& spec, std::shared_ptr<SideQueue> queue, Cancel cancel,
            const std::shared_ptr<GroupEnd>& end)
      : rank_(spec.rank),
        size_(spec.size),
        queue_(queue),
        communicator_(std::make_shared<Communicator>(library, std::move(queue), end)) {
    watcher_ = std::thread([shared = communicator_, id = unique_id_of(spec.id), rank = rank_, size = size_] {
      shared->watch(id, rank, size);
    });
    try {
      communicator_->wait_until_made(cancel, spec);
    } catch (...) {
      watcher_.detach();  // it may wait for other ranks for ever
      throw;
    }
  }

  ~NcclGroup() override { leave(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void sum(Tensor values) override {
    queue_->follow();
    communicator_->sum(values);
  }
  double join(Cancel cancel) override { return communicator_->join(cancel); }
  bool leave() noexcept override {
    if (!watcher_.joinable()) return !hangs_;
    hangs_ = !communicator_->leave();
    if (hangs_) {
      watcher_.detach();
    } else {
      watcher_.join();
    }
    return !hangs_;
  }

 private:
  const int rank_, size_;
  const std::shared_ptr<SideQueue> queue_;
  const std::shared_ptr<Communicator> communicator_;
  std::thread watcher_;
  bool hangs_ = false;  // NCCL, in the end of the communicator
};

}  // namespace

std::unique_ptr<ProcessGroup> join_nccl(const NcclLibrary& library, const GroupSpec& spec,
                                        std::shared_ptr<SideQueue> queue, Cancel cancel,
                                        const std::shared_ptr<GroupEnd>& end) {
  return std::make_unique<NcclGroup>(library, spec, std::move(queue), cancel, end);
}

}  // namespace fire
