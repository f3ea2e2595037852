// Every planted fault is seen by the modes that are to see it, and correct kernels by none. Each runs in a process of
// its own (this program again, told by FIRE_SIMT_PLANTED what to run), for a sanitizer ends the process or its exit
// code.
#include "simt/selftest.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "check.h"
#include "simt/fiber.h"
#include "simt/runtime_faults.h"
#include "tensor/error.h"

extern char** environ;

namespace fire::simt::selftest {
namespace {

constexpr const char* kVariable = "FIRE_SIMT_PLANTED";
constexpr const char* kChildTest = "the planted kernel of this process";

struct Run {
  const char* name;
  unsigned mode;
  const char *schedule, *async, *blocks;
};

#if SIMT_TSAN
const Run runs[] = {{"fifo", fifo, "fifo", "lazy", "ordered"},
                    {"random", any_order, "random:1", "lazy", "ordered"},
                    {"unordered blocks", fifo, "fifo", "lazy", "unordered"}};
#else
const Run runs[] = {{"fifo", fifo, "fifo", "lazy", "ordered"},
                    {"lifo", lifo, "lifo", "lazy", "ordered"},
                    {"random", any_order, "random:1", "lazy", "ordered"},
                    {"eager", eager, "fifo", "eager", "ordered"}};
#endif

struct Ending {
  int status = -1;  // exit code; -1 after a signal
  std::string text;
  bool says(const std::string& words) const { return text.find(words) != std::string::npos; }
};

Ending run_child(const Planted& planted, const Run& run) {
  std::vector<std::string> variables = {
      std::string(kVariable) + "=" + planted.name,
      std::string("FIRE_SIMT_SCHEDULE=") + run.schedule,
      std::string("FIRE_SIMT_ASYNC=") + run.async,
      std::string("FIRE_SIMT_BLOCKS=") + run.blocks,
      "UBSAN_OPTIONS=halt_on_error=1",
      "ASAN_OPTIONS=detect_leaks=0",
      "TSAN_OPTIONS=exitcode=66",
  };
  std::vector<char*> environment;
  for (std::string& v : variables) environment.push_back(v.data());
  for (char** v = environ; *v; ++v) {
    const std::string name = std::string(*v).substr(0, std::string(*v).find('=') + 1);
    bool replaced = false;
    for (const std::string& own : variables) replaced = replaced || own.compare(0, name.size(), name) == 0;
    if (!replaced) environment.push_back(*v);
  }
  environment.push_back(nullptr);
  std::string program = "/proc/self/exe", test = kChildTest;
  char* const arguments[] = {program.data(), test.data(), nullptr};

  int ends[2];
  if (pipe(ends) != 0) throw Error(Code::internal, "no pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addclose(&actions, ends[1]);
  pid_t child = 0;
  const int error = posix_spawn(&child, program.c_str(), &actions, nullptr, arguments, environment.data());
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (error != 0) {
    close(ends[0]);
    throw Error(Code::internal, "cannot start this program again");
  }
  Ending ending;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) ending.text.append(buffer, size_t(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  ending.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ending;
}

void expect(bool holds, const Planted& planted, const Run& run, const std::string& what, const Ending& ending) {
  check::count_check();
  if (holds) return;
  check::fail(__FILE__, __LINE__,
              std::string(planted.name) + ", " + run.name + ": " + what + " (exit code " +
                  std::to_string(ending.status) + "):\n" + ending.text.substr(0, 1500));
}

void check_fault(const Planted& planted, const Run& run) {
  if (SIMT_TSAN && planted.memory) return;  // what lies beyond the end may be another thread's, or not
  const Ending ending = run_child(planted, run);
  const bool unordered = std::string(run.blocks) == "unordered";
  const bool race = SIMT_TSAN && (planted.race || (planted.race_of_blocks && unordered));
  const bool memory = SIMT_ASAN && planted.memory != nullptr;
  expect(ending.says("data race") == race, planted, run, race ? "a race is not seen" : "a race where there is none",
         ending);
  if (SIMT_TSAN) expect(ending.status == (race ? 66 : 0), planted, run, "another exit code expected", ending);
  if (race) expect(ending.says("_faults.cpp:"), planted, run, "the race has no source line", ending);
  if (memory) {
    expect(ending.status != 0 && ending.says(planted.memory), planted, run, "a wrong access is not seen", ending);
    return;  // the process has ended there
  }
  expect(!ending.says("AddressSanitizer") && !ending.says("runtime error"), planted, run,
         "a wrong access where there is none", ending);
  const bool report = planted.report && (planted.report_in & run.mode) != 0;
  if (report) expect(ending.says(planted.report), planted, run, "the fault is not reported", ending);
  if (report) expect(ending.says("outcome: reported"), planted, run, "the launch did not throw", ending);
  if (planted.wrong_in & run.mode) expect(ending.says("outcome: wrong"), planted, run, "the result is right", ending);
  if (!report) expect(!ending.says("outcome: reported"), planted, run, "an unexpected report", ending);
}

const Planted* find(const std::string& name) {
  for (const auto* list : {&planted_faults(), &hopper_faults(), &controls(), &hopper_controls()})
    for (const Planted& planted : *list)
      if (name == planted.name) return &planted;
  return nullptr;
}

/// The line that the parent reads.
void run_here(const Planted& planted) {
  try {
    const Result result = planted.run();
    std::printf("outcome: %s %016llx\n", result.right ? "right" : "wrong",
                static_cast<unsigned long long>(result.bits));
  } catch (const Error& error) {
    std::printf("outcome: reported %s %s\n", to_string(error.code()), error.what());
  }
}

/// The message of the ERR_FIRE_CUDA that the body throws; empty when it throws none.
template <class F>
std::string cuda_error(F&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.code() == Code::cuda ? error.what() : std::string("another code: ") + error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST("the planted kernel of this process") {
  if (const char* name = std::getenv(kVariable)) {
    const Planted* planted = find(name);
    CHECK(planted != nullptr);
    if (planted) run_here(*planted);
    return;
  }
  CHECK(find("missing_barrier") != nullptr);
  CHECK(find("no such fault") == nullptr);
}

TEST("every planted fault is seen by the modes that are to see it") {
  for (const auto* list : {&planted_faults(), &hopper_faults()})
    for (const Planted& planted : *list)
      for (const Run& run : runs) check_fault(planted, run);
}

TEST("correct kernels give the same bits in every mode and no report") {
  std::vector<Planted> all = controls();
  all.insert(all.end(), hopper_controls().begin(), hopper_controls().end());
  for (const Planted& planted : all) {
    std::string first;
    for (const Run& run : runs) {
      const Ending ending = run_child(planted, run);
      const size_t at = ending.text.find("outcome: right ");
      expect(at != std::string::npos && ending.status == 0, planted, run, "a wrong result", ending);
      expect(!ending.says("Sanitizer") && !ending.says("runtime error"), planted, run, "a false report", ending);
      if (at == std::string::npos) continue;
      const std::string bits = ending.text.substr(at, 31);
      if (first.empty()) first = bits;
      expect(bits == first, planted, run, "other bits than in the first mode", ending);
    }
  }
}

// --- in this process --------------------

__global__ void store(float* y) { y[threadIdx.x] = 1; }
__global__ void uneven_barrier(float* y) {
  if (threadIdx.x >= 32) __syncthreads();  // line of the next test
  y[threadIdx.x] = 1;
}
constexpr int kBarrierLine = __LINE__ - 3;
__global__ void large_static(float* y) {
  SHARED(float, s, (48 << 10) / 4 + 1);
  y[threadIdx.x] = s[threadIdx.x];
}
__global__ void static_and_dynamic(float* y) {
  SHARED(float, s, 256);
  DYNAMIC_SHARED(bytes);
  y[threadIdx.x] = s[threadIdx.x] + float(bytes[0]);
}

TEST("a defect is thrown with kernel, block, thread and line, and the device is unusable until a new start") {
  Array<float> y(64);
  for (const Schedule schedule : {Schedule::fifo, Schedule::lifo, Schedule::random}) {
    const Options before = options();
    Options other = before;
    other.schedule = schedule;
    set_options(other);
    try {
      cuda::gpu::launch("uneven_barrier", 2, 64, 0, nullptr, uneven_barrier, y.data());
      CHECK(!"nothing thrown");
    } catch (const Error& error) {
      CHECK(error.code() == Code::cuda);
      CHECK(contains(error.what(), "kernel uneven_barrier, block (0, 0, 0), thread ("));
      CHECK(contains(error.what(), "selftest.cpp:" + std::to_string(kBarrierLine)));
    }
    CHECK(contains(cuda_error([&] { launch(1, 64, 0, store, y.data()); }), "must be started again"));
    CHECK(contains(cuda_error([] { cuda::memory_info(); }), "must be started again"));
    CHECK(contains(cuda_error([] { cuda::allocate(4); }), "must be started again"));
    restart();
    CHECK(cuda_error([&] { launch(1, 64, 0, store, y.data()); }).empty());
    CHECK(y[63] == 1);
    set_options(before);
  }
}

TEST("launches that no GPU takes are refused, and the device stays usable") {
  Array<float> y(1024);
  const auto refused = [&](dim3 grid, dim3 block, size_t shared) {
    return cuda_error([&] { launch(grid, block, shared, store, y.data()); });
  };
  CHECK(contains(refused(1, 1025, 0), "1024 threads"));
  CHECK(contains(refused(1, dim3(32, 33), 0), "1024 threads"));
  CHECK(contains(refused(1, dim3(1, 1, 65), 0), "64 threads deep"));
  CHECK(contains(refused(1, 0, 0), "without threads"));
  CHECK(contains(refused(dim3(1, 65536), 32, 0), "65535"));
  CHECK(contains(refused(dim3(1, 1, 65536), 32, 0), "65535"));
  CHECK(contains(refused(1, 32, (227 << 10) + 1), "227 KiB"));
  CHECK(refused(1, 1024, 227 << 10).empty());
  CHECK(refused(dim3(0, 70000), 5000, 0).empty());  // no blocks: no launch
  CHECK(contains(cuda_error([&] { launch(1, 32, 0, large_static, y.data()); }), "too much shared memory"));
  restart();
  CHECK(contains(cuda_error([&] { launch(1, 32, (227 << 10) - 1023, static_and_dynamic, y.data()); }),
                 "too much shared memory"));
  restart();
  CHECK(cuda_error([&] { launch(1, 32, (227 << 10) - 1024, static_and_dynamic, y.data()); }).empty());
}

TEST("the pretend device fails as it is told") {
  const Faults before = faults();
  Faults broken = before;
  const auto no_device = [](const char* reason) {
    try {
      cuda::devices();
    } catch (const Error& error) {
      return error.code() == Code::no_device && contains(error.what(), reason);
    }
    return false;
  };
  CHECK(cuda::devices().size() == 1 && cuda::devices()[0].name == "simt");
  CHECK_THROWS(Error, cuda::select(1));
  broken.driver = Driver::missing;
  set_faults(broken);
  CHECK(no_device("no NVIDIA driver"));
  broken.driver = Driver::too_old;
  set_faults(broken);
  CHECK(no_device("11.4"));
  broken.driver = Driver::no_card;
  set_faults(broken);
  CHECK(no_device("no GPU"));

  broken = before;
  broken.memory_bytes = allocated_bytes() + 1000;
  set_faults(broken);
  void* const some = cuda::allocate(600);
  CHECK(some != nullptr);
  CHECK(cuda::memory_info().free_bytes == 400 && cuda::memory_info().total_bytes == broken.memory_bytes);
  CHECK(cuda::allocate(401) == nullptr);
  void* const rest = cuda::allocate(400);
  CHECK(rest != nullptr);
  cuda::release(rest);
  cuda::release(some);
  CHECK(cuda::memory_info().free_bytes == 1000);

  broken = before;
  broken.failing_kernel = "second";
  set_faults(broken);
  Array<float> y(32);
  CHECK(cuda_error([&] { cuda::gpu::launch("first", 1, 32, 0, nullptr, store, y.data()); }).empty());
  CHECK(contains(cuda_error([&] { cuda::gpu::launch("second", 1, 32, 0, nullptr, store, y.data()); }), "illegal"));
  CHECK(contains(cuda_error([&] { cuda::gpu::launch("first", 1, 32, 0, nullptr, store, y.data()); }),
                 "must be started again"));
  restart();
  set_faults(before);
}

TEST("copies are between pinned and device memory only") {
  const size_t device_before = allocated_bytes(), pinned_before = pinned_bytes();
  cuda::Stream stream = cuda::create_stream();
  cuda::Event event = cuda::create_event();
  unsigned char* const device = static_cast<unsigned char*>(cuda::allocate(100));
  unsigned char* const pinned = static_cast<unsigned char*>(cuda::allocate_pinned(100));
  unsigned char pageable[100] = {};
  CHECK(device[99] == 0xff && reinterpret_cast<uintptr_t>(device) % 256 == 0);
  const auto internal = [](auto&& body) {
    try {
      body();
    } catch (const Error& error) {
      return error.code() == Code::internal;
    }
    return false;
  };
  CHECK(internal([&] { cuda::copy_to_device(device, pageable, 100, stream); }));
  CHECK(internal([&] { cuda::copy_to_host(pageable, device, 100, stream); }));
  CHECK(internal([&] { cuda::copy_to_device(device + 1, pinned, 100, stream); }));
  CHECK(internal([&] { cuda::copy_to_device(device, pinned + 1, 100, stream); }));
  CHECK(internal([&] { cuda::copy_on_device(device, pinned, 100, stream); }));
  CHECK(internal([&] { cuda::fill_zero(pinned, 100, stream); }));
  for (int i = 0; i < 100; ++i) pinned[i] = static_cast<unsigned char>(i);
  cuda::copy_to_device(device, pinned, 100, stream);
  cuda::record(event, stream);
  cuda::wait(event);
  CHECK(device[42] == 42);
  cuda::fill_zero(device + 42, 1, stream);
  cuda::copy_on_device(device, device + 50, 50, stream);
  cuda::copy_to_host(pinned, device, 100, stream);
  cuda::synchronize(stream);
  CHECK(pinned[0] == 50 && pinned[42] == 92 && pinned[99] == 99);
  CHECK_THROWS(Error, cuda::check(2, "something"));
  cuda::release_pinned(pinned);
  cuda::release(device);
  cuda::destroy_event(event);
  cuda::destroy_stream(stream);
  CHECK(allocated_bytes() == device_before && pinned_bytes() == pinned_before);
}

TEST("an environment that means nothing is an error") {
  const Planted& planted = controls().front();
  const auto fails = [&](const Run& run) {
    return run_child(planted, run).says("outcome: reported ERR_FIRE_INVALID_ARGUMENT FIRE_SIMT_");
  };
  CHECK(fails({"", 0, "sideways", "lazy", "ordered"}));
  CHECK(fails({"", 0, "random:x", "lazy", "ordered"}));
  CHECK(fails({"", 0, "fifo:1", "lazy", "ordered"}));
  CHECK(fails({"", 0, "fifo", "late", "ordered"}));
  CHECK(fails({"", 0, "fifo", "lazy", "shuffled"}));
  CHECK(!fails({"", 0, "random", "lazy", "ordered"}));
}

}  // namespace fire::simt::selftest
