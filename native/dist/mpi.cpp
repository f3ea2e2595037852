#include "dist/mpi.h"

#include <chrono>
#include <climits>
#include <deque>
#include <filesystem>
#include <thread>
#include <utility>

#include "dist/library.h"
#include "dist/mpi/fire_mpi.h"

namespace fire {
namespace {

using Clock = std::chrono::steady_clock;

/// What follows a stop: MPI cannot take back what has begun, so this process never calls it again.
std::atomic<bool> abandoned = false;

/// How often a wait asks. MPI moves data while it is asked and at no other time.
constexpr std::chrono::microseconds pause{50};

/// The folder of the addon, or of the program that this code is linked into.
std::filesystem::path own_folder() {
  Dl_info self{};
  if (dladdr(reinterpret_cast<const void*>(&mpi), &self) == 0 || self.dli_fname == nullptr) return {};
  return std::filesystem::absolute(self.dli_fname).parent_path();
}

MpiLibrary look() {
  MpiLibrary found;
  const char* const chosen = std::getenv("FIRE_MPI_LIBRARY");
  const bool named = chosen != nullptr && *chosen != '\0';
  const std::string file = named ? chosen : (own_folder() / "libfire_mpi.so").string();
  if (!named && !std::filesystem::exists(file)) {
    found.missing =
        "this build has no libfire_mpi.so: install MPI with its compiler (Debian: libopenmpi-dev and "
        "openmpi-bin) and build again (fire-train build)";
    return found;
  }
  // Global: plug-ins of MPI look for MPI's own functions.
  void* const library = open_library(file, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE, found.missing);
  if (library == nullptr) return found;
  int (*abi)() = nullptr;
  const char* (*version)() = nullptr;
  const bool complete =
      find_function(library, "fire_mpi_abi", abi) && find_function(library, "fire_mpi_version", version) &&
      find_function(library, "fire_mpi_error", found.error) && find_function(library, "fire_mpi_start", found.start) &&
      find_function(library, "fire_mpi_join", found.join) && find_function(library, "fire_mpi_sum", found.sum) &&
      find_function(library, "fire_mpi_test", found.test) && find_function(library, "fire_mpi_leave", found.leave) &&
      find_function(library, "fire_mpi_abandon", found.abandon);
  if (!complete || abi() != FIRE_MPI_ABI) {
    found.missing = file + ": is of another version of fire-train; build again (fire-train build)";
    return found;
  }
  const std::string text = version();
  found.version = text.substr(0, text.find_first_of(",\n")) + " (" + file + ")";
  return found;
}

class MpiGroup final : public ProcessGroup {
 public:
  MpiGroup(const MpiLibrary& library, const GroupSpec& spec, Cancel cancel, std::shared_ptr<GroupEnd> end)
      : library_(library), end_(std::move(end)), rank_(spec.rank), size_(spec.size), timeout_(group_timeout()) {
    if (abandoned)
      throw Error(Code::ranks,
                  "MPI: a group of this process has ended in the middle of a sum; start the process again");
    int rank = 0, size = 0;
    succeed("MPI_Init_thread", library_.start(&rank, &size));
    if (rank != rank_ || size != size_)
      throw Error(Code::ranks, "MPI made this process rank " + std::to_string(rank) + " of " + std::to_string(size) +
                                   ", not rank " + std::to_string(rank_) + " of " + std::to_string(size_) +
                                   "; start the ranks with mpirun or srun");
    void* request = nullptr;
    succeed("MPI_Comm_idup", library_.join(&communicator_, &request));
    under_way_.push_back(request);
    try {
      wait(cancel, "the ranks did not come together");
    } catch (const Error& e) {
      end_->ask(e.what());
      abandon();
      throw;
    }
  }

  ~MpiGroup() override { leave(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void sum(Tensor values) override {
    end_->check();
    for (int64_t begin = 0; begin < values.size(); begin += INT_MAX) {
      const int count = static_cast<int>(std::min<int64_t>(INT_MAX, values.size() - begin));
      void* request = nullptr;
      succeed("MPI_Iallreduce", library_.sum(communicator_, values.f32() + begin, count, &request));
      under_way_.push_back(request);
    }
    go_on();
  }

  double join(Cancel cancel) override {
    const Clock::time_point start = Clock::now();
    wait(cancel, "the sums over the ranks were not done");
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  bool leave() noexcept override {
    if (std::exchange(left_, true)) return true;
    if (end_->asked() || !under_way_.empty()) {
      abandon();
    } else {
      library_.leave(communicator_);
    }
    return true;
  }

 private:
  /// MPI cannot end a sum. It writes while it is called, so it is not called again.
  void abandon() noexcept {
    if (!abandoned.exchange(true)) library_.abandon();
  }

  /// Moves what has begun on; forgets what is done.
  void go_on() {
    while (!under_way_.empty()) {
      if (abandoned) throw Error(Code::ranks, "MPI: another group of this process has ended in the middle of a sum");
      int done = 0;
      succeed("MPI_Test", library_.test(under_way_.front(), &done));
      if (done == 0) return;
      under_way_.pop_front();
    }
  }

  void wait(Cancel cancel, const char* what) {
    const Clock::time_point start = Clock::now();
    for (;;) {
      cancel.check();
      end_->check();
      go_on();
      if (under_way_.empty()) return;
      if (std::chrono::duration<double>(Clock::now() - start).count() > timeout_)
        fail(std::string(what) + " within " + std::to_string(static_cast<int64_t>(timeout_)) +
             " s (FIRE_GROUP_TIMEOUT)");
      std::this_thread::sleep_for(pause);
    }
  }

  void succeed(const char* call, int code) {
    if (code != 0) fail(std::string(call) + ": " + library_.error(code));
  }

  [[noreturn]] void fail(const std::string& what) {
    end_->ask("MPI: " + what);
    end_->check();
    throw Error(Code::internal, "a group without an end");
  }

  const MpiLibrary& library_;
  const std::shared_ptr<GroupEnd> end_;
  const int rank_, size_;
  const double timeout_;
  void* communicator_ = nullptr;
  std::deque<void*> under_way_;  // requests, in their order
  bool left_ = false;
};

}  // namespace

const MpiLibrary& mpi() {
  static const MpiLibrary library = look();
  return library;
}

std::unique_ptr<ProcessGroup> join_mpi(const MpiLibrary& library, const GroupSpec& spec, Cancel cancel,
                                       const std::shared_ptr<GroupEnd>& end) {
  return std::make_unique<MpiGroup>(library, spec, cancel, end);
}

}  // namespace fire
