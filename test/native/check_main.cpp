#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "check.h"

namespace fire::check {
namespace {

struct Test {
  const char* name;
  std::function<void()> body;
};

struct Run {
  const char* test = "";
  long checks = 0;
  int failures = 0;
};

constexpr int kPrintedFailures = 20;

/// A function-local static, so that registration works whatever the order of static initialisers.
std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

Run& run() {
  static Run current;
  return current;
}

bool selected(const std::string& name, int argc, char** argv) {
  if (argc < 2) return true;
  for (int i = 1; i < argc; ++i) {
    if (name.find(argv[i]) != std::string::npos) return true;
  }
  return false;
}

/// Returns whether the test held.
bool run_test(const Test& test) {
  run() = Run{test.name};
  try {
    test.body();
  } catch (const std::exception& error) {
    fail("(uncaught)", 0, std::string("exception: ") + error.what());
  }
  if (run().failures > kPrintedFailures) {
    std::printf("  ... and %d more failures in \"%s\"\n", run().failures - kPrintedFailures, test.name);
  }
  return run().failures == 0;
}

}  // namespace

bool add_test(const char* name, std::function<void()> body) {
  tests().push_back({name, std::move(body)});
  return true;
}

void count_check() { ++run().checks; }

void fail(const char* file, int line, const std::string& message) {
  if (++run().failures > kPrintedFailures) return;
  std::printf("%s:%d: [%s] %s\n", file, line, run().test, message.c_str());
  std::fflush(stdout);
}

}  // namespace fire::check

int main(int argc, char** argv) {
  using namespace fire::check;
  int passed = 0;
  int failed = 0;
  long checks = 0;
  for (const Test& test : tests()) {
    if (!selected(test.name, argc, argv)) continue;
    const bool ok = run_test(test);
    ++(ok ? passed : failed);
    checks += run().checks;
    if (ok && run().checks == 0) std::printf("note: \"%s\" checked nothing\n", test.name);
  }
  std::printf("%ld checks\n%d passed, %d failed\n", checks, passed, failed);
  return failed == 0 ? 0 : 1;
}
