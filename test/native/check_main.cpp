#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "check.h"

namespace fire::check {
namespace {

struct Test {
  std::string name;
  std::function<void()> body;
};

struct Run {
  std::string test;
  long checks = 0;
  int failures = 0;
};

constexpr int kPrintedFailures = 20;

/// A function-local static, so that registration works whatever the order of static initialisers.
std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

std::vector<std::function<void()>>& starters() {
  static std::vector<std::function<void()>> all;
  return all;
}

Run& run() {
  static Run current;
  return current;
}

bool selected(const std::string& name, const std::vector<std::string>& words) {
  bool all = true, found = false;
  for (const std::string& word : words) {
    const bool without = word.starts_with("-");
    const bool holds = name.find(word.substr(without)) != std::string::npos;
    if (without && holds) return false;
    if (without) continue;
    all = false;
    found |= holds;
  }
  return all || found;
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
    std::printf("  ... and %d more failures in \"%s\"\n", run().failures - kPrintedFailures, test.name.c_str());
  }
  return run().failures == 0;
}

}  // namespace

bool add_test(std::string name, std::function<void()> body) {
  tests().push_back({std::move(name), std::move(body)});
  return true;
}

bool at_start(std::function<void()> add) {
  starters().push_back(std::move(add));
  return true;
}

void count_check() { ++run().checks; }

int failures() { return run().failures; }

void fail(const char* file, int line, const std::string& message) {
  if (++run().failures > kPrintedFailures) return;
  std::printf("%s:%d: [%s] %s\n", file, line, run().test.c_str(), message.c_str());
  std::fflush(stdout);
}

}  // namespace fire::check

int main(int argc, char** argv) {
  using namespace fire::check;
  int passed = 0;
  int failed = 0;
  long checks = 0;
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words == std::vector<std::string>{"--help"}) {
    std::printf(
        "usage: %s [WORD | -WORD]...\nRuns the tests whose names have one of the words and no -WORD; all without.\n",
        argv[0]);
    return 0;
  }
  for (const auto& add : starters()) add();
  for (const Test& test : tests()) {
    if (!selected(test.name, words)) continue;
    const bool ok = run_test(test);
    ++(ok ? passed : failed);
    checks += run().checks;
    if (ok && run().checks == 0) std::printf("note: \"%s\" checked nothing\n", test.name.c_str());
  }
  if (passed + failed == 0) {
    std::printf("no test has such a name\n");
    failed = 1;
  }
  std::printf("%ld checks\n%d passed, %d failed\n", checks, passed, failed);
  return failed == 0 ? 0 : 1;
}
