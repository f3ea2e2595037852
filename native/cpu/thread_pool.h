#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace fire::cpu {

/// CPUs this process may run on (the affinity mask, where the system has one); at least 1.
int available_cpus();

/// A small pool for data-parallel loops.
///
/// Tasks are taken one at a time from a shared counter and the caller works too, so a core that another process takes
/// away costs its share of the time and no more: a worker that never got to wake up is not waited for. Idle workers
/// spin for some microseconds (products follow each other closely in a layer), then sleep.
class ThreadPool {
 public:
  /// `threads` includes the caller; 0 = available_cpus(). Throws Error out_of_memory when they cannot be started.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  /// Runs body(int64_t task, int worker) once for every task in [0, tasks), worker in [0, size()), and returns when all
  /// have finished. At any moment a worker index belongs to one task. The first exception stops the tasks not yet begun
  /// and is thrown here. From inside a body of the same pool it runs serially under that body's worker index. Two
  /// threads must not call it at once.
  template <class F>
  void parallel_for(int64_t tasks, F&& body) {
    using Body = std::remove_reference_t<F>;
    Job job;
    job.run = [](void* context, int64_t task, int worker) { (*static_cast<Body*>(context))(task, worker); };
    job.context = const_cast<void*>(static_cast<const void*>(&body));
    job.tasks = tasks;
    dispatch(job);
  }

 private:
  struct Job {
    void (*run)(void* context, int64_t task, int worker) = nullptr;
    void* context = nullptr;
    int64_t tasks = 0;
  };

  void stop();
  void dispatch(const Job& job);
  void work(const Job& job, int worker);
  void worker_loop(int worker);
  bool wait_for_job(uint64_t seen);
  void wait_for_workers();

  std::vector<std::thread> workers_;
  bool spin_ = false;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  /// Guarded by mutex_; run == nullptr between jobs, which is what keeps a late worker out.
  Job job_;
  std::exception_ptr error_;
  /// Written under mutex_; atomic so that spinning does not take the lock.
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> active_{0};
  std::atomic<bool> stop_{false};
  /// The shared counter, on its own cache line.
  alignas(64) std::atomic<int64_t> next_{0};
};

}  // namespace fire::cpu
