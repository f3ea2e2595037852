#include "cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <vector>

#include "check.h"

using namespace fire::cpu;

TEST("thread pool: every task once, worker indices in range") {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    CHECK(pool.size() == threads);
    for (const int64_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> count(static_cast<size_t>(tasks));
      std::atomic<bool> in_range{true};
      pool.parallel_for(tasks, [&](int64_t task, int worker) {
        ++count[static_cast<size_t>(task)];
        if (worker < 0 || worker >= threads) in_range = false;
      });
      CHECK(in_range);
      CHECK(std::all_of(count.begin(), count.end(), [](const auto& x) { return x == 1; }));
    }
  }
}

TEST("thread pool: many short loops in a row") {
  ThreadPool pool(4);
  std::atomic<int64_t> sum{0};
  for (int round = 0; round < 3000; ++round) {
    pool.parallel_for(5, [&](int64_t task, int) { sum += task; });
  }
  CHECK(sum == 3000 * 10);
}

TEST("thread pool: the first exception reaches the caller and the pool goes on") {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    CHECK_THROWS(std::runtime_error, pool.parallel_for(100, [](int64_t task, int) {
      if (task % 7 == 3) throw std::runtime_error("task");
    }));
  }
  std::atomic<int> count{0};
  pool.parallel_for(100, [&](int64_t, int) { ++count; });
  CHECK(count == 100);
}

TEST("thread pool: a nested call keeps its worker") {
  ThreadPool pool(3);
  std::atomic<int> inner{0};
  std::atomic<bool> same{true};
  pool.parallel_for(20, [&](int64_t, int worker) {
    pool.parallel_for(10, [&](int64_t, int nested) {
      ++inner;
      if (nested != worker) same = false;
    });
  });
  CHECK(inner == 200);
  CHECK(same);
}

TEST("thread pool: a busy index belongs to one task") {
  ThreadPool pool(4);
  std::vector<int> busy(4);  // not atomic: ThreadSanitizer reports two tasks sharing an index
  pool.parallel_for(2000, [&](int64_t, int worker) { ++busy[static_cast<size_t>(worker)]; });
  CHECK(busy[0] + busy[1] + busy[2] + busy[3] == 2000);
}
