// Every planted fault is seen by the modes that are to see it, and correct kernels by none. Each runs in a process of its
// own (this program again, told by FIRE_SIMT_PLANTED what to run), for a sanitizer ends the process or its exit code.
#include "simt/selftest.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
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
  const Ending ending = run_child(planted, run);
  const bool unordered = std::string(run.blocks) == "unordered";
  const bool race = SIMT_TSAN && (planted.race || (planted.race_of_blocks && unordered));
  const bool memory = SIMT_ASAN && planted.memory != nullptr;
  expect(ending.says("data race") == race, planted, run, race ? "a race is not seen" : "a race where there is none",
         ending);
  if (SIMT_TSAN) expect(ending.status == (race ? 66 : 0), planted, run, "another exit code expected", ending);
  if (race) expect(ending.says("selftest_faults.cpp:"), planted, run, "the race has no source line", ending);
  if (memory) {
    expect(ending.status != 0 && ending.says(planted.memory), planted, run, "a wrong access is not seen", ending);
    return;  // the process has ended there
  }
  expect(!ending.says("AddressSanitizer") && !ending.says("runtime error"), planted, run,
         "a wrong access where there is none", ending);
  if (planted.report) expect(ending.says(planted.report), planted, run, "the fault is not reported", ending);
  if (planted.report) expect(ending.says("outcome: reported"), planted, run, "the launch did not throw", ending);
  if (planted.wrong_in & run.mode) expect(ending.says("outcome: wrong"), planted, run, "the result is right", ending);
  if (!planted.report) expect(!ending.says("outcome: reported"), planted, run, "an unexpected report", ending);
}

const Planted* find(const std::string& name) {
  for (const auto* list : {&faults(), &controls()})
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
  for (const Planted& planted : faults())
    for (const Run& run : runs) check_fault(planted, run);
}

TEST("correct kernels give the same bits in every mode and no report") {
  for (const Planted& planted : controls()) {
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

}  // namespace fire::simt::selftest
