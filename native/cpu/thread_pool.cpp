#include "cpu/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <utility>

#include "tensor/error.h"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fire::cpu {
namespace {

/// Longer than the gap between two products of a layer, far shorter than a scheduler's time slice.
constexpr std::chrono::microseconds kSpin{30};

/// Which pool's body this thread is running, and as which worker; decides whether a call is nested.
struct Inside {
  const ThreadPool* pool = nullptr;
  int worker = 0;
};
thread_local Inside inside;

class InsideScope {
 public:
  InsideScope(const ThreadPool* pool, int worker) : saved_(inside) { inside = {pool, worker}; }
  ~InsideScope() { inside = saved_; }

 private:
  Inside saved_;
};

inline void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Spins until `ready()` or kSpin has passed; returns the last `ready()`.
template <class Ready>
bool spin_until(Ready ready) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return ready();
}

}  // namespace

int available_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

ThreadPool::ThreadPool(int threads) {
  const int cpus = available_cpus();
  const int count = threads > 0 ? threads : cpus;
  // With more threads than cores a spinning thread only takes time from one that has work.
  spin_ = count <= cpus;
  workers_.reserve(static_cast<size_t>(count - 1));
  try {
    for (int worker = 1; worker < count; ++worker) workers_.emplace_back([this, worker] { worker_loop(worker); });
  } catch (const std::system_error& error) {
    stop();
    throw Error(Code::out_of_memory,
                "could not start " + std::to_string(count) + " threads (" + error.what() + "); ask for fewer");
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::work(const Job& job, int worker) {
  InsideScope scope(this, worker);
  try {
    for (int64_t task = next_.fetch_add(1, std::memory_order_relaxed); task < job.tasks;
         task = next_.fetch_add(1, std::memory_order_relaxed)) {
      job.run(job.context, task, worker);
    }
  } catch (...) {
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
    next_.store(job.tasks, std::memory_order_relaxed);
  }
}

void ThreadPool::dispatch(const Job& job) {
  if (job.tasks <= 0) return;
  const bool nested = inside.pool == this;
  if (nested || job.tasks == 1 || workers_.empty()) {
    const int worker = nested ? inside.worker : 0;
    InsideScope scope(this, worker);
    for (int64_t task = 0; task < job.tasks; ++task) job.run(job.context, task, worker);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    job_ = job;
    error_ = nullptr;
    next_.store(0, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  work(job, 0);
  wait_for_workers();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

/// Every task has been taken: closes the job to late workers and waits for those that are inside one.
void ThreadPool::wait_for_workers() {
  {
    std::lock_guard lock(mutex_);
    job_ = Job{};
  }
  const auto done = [this] { return active_.load(std::memory_order_acquire) == 0; };
  if (spin_ && spin_until(done)) return;
  std::unique_lock lock(mutex_);
  idle_.wait(lock, done);
}

/// Returns false when the pool is closing.
bool ThreadPool::wait_for_job(uint64_t seen) {
  const auto ready = [this, seen] {
    return generation_.load(std::memory_order_acquire) != seen || stop_.load(std::memory_order_relaxed);
  };
  if (!spin_ || !spin_until(ready)) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, ready);
  }
  return !stop_.load(std::memory_order_relaxed);
}

void ThreadPool::worker_loop(int worker) {
  uint64_t seen = 0;
  while (wait_for_job(seen)) {
    Job job;
    {
      std::lock_guard lock(mutex_);
      seen = generation_.load(std::memory_order_relaxed);
      job = job_;
      if (job.run == nullptr) continue;
      active_.fetch_add(1, std::memory_order_relaxed);
    }
    work(job, worker);
    if (active_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      // Taking the lock orders this with the caller's check-then-wait; without it the wake-up could be lost.
      std::lock_guard lock(mutex_);
      idle_.notify_one();
    }
  }
}

}  // namespace fire::cpu
