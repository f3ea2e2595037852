#pragma once

#include <cmath>
#include <functional>
#include <sstream>
#include <string>

/// The C++ test harness: TEST("name") { ... } registers itself; CHECK and CHECK_NEAR record a failure and go on;
/// check_main.cpp runs every test whose name contains one of the command line's substrings, and none of those behind
/// a `-`.
namespace fire::check {

/// Called by TEST; the returned value only exists to make registration a static initialiser.
bool add_test(std::string name, std::function<void()> body);
/// Called before the first test; adds tests that are known then only.
bool at_start(std::function<void()> add);

/// Counts a failure of the running test and prints it (the first 20 of a test).
void fail(const char* file, int line, const std::string& message);

/// Of the running test, so far.
int failures();

/// Counts one comparison that held or failed.
void count_check();

template <class A, class B, class T>
void near(const char* file, int line, const char* text, const A& actual, const B& expected, const T& tolerance) {
  count_check();
  const double a = static_cast<double>(actual);
  const double b = static_cast<double>(expected);
  const double tol = static_cast<double>(tolerance);
  const bool both_nan = std::isnan(a) && std::isnan(b);
  if (both_nan || a == b || std::abs(a - b) <= tol) return;
  std::ostringstream out;
  out.precision(9);
  out << text << ": " << a << " and " << b << " differ by " << std::abs(a - b) << ", allowed " << tol;
  fail(file, line, out.str());
}

/// True when `body` throws an E; any other exception passes through to the test's own handler.
template <class E, class F>
bool throws(F&& body) {
  try {
    body();
  } catch (const E&) {
    return true;
  }
  return false;
}

}  // namespace fire::check

#define FIRE_CHECK_JOIN2(a, b) a##b
#define FIRE_CHECK_JOIN(a, b) FIRE_CHECK_JOIN2(a, b)

#define FIRE_CHECK_TEST(label, id)                                           \
  static void FIRE_CHECK_JOIN(fire_test_, id)();                             \
  [[maybe_unused]] static const bool FIRE_CHECK_JOIN(fire_registered_, id) = \
      ::fire::check::add_test(label, &FIRE_CHECK_JOIN(fire_test_, id));      \
  static void FIRE_CHECK_JOIN(fire_test_, id)()

/// TEST("what is promised") { ... }
#define TEST(label) FIRE_CHECK_TEST(label, __COUNTER__)

#define CHECK(condition)                                                                \
  do {                                                                                  \
    ::fire::check::count_check();                                                       \
    if (!(condition)) ::fire::check::fail(__FILE__, __LINE__, "CHECK(" #condition ")"); \
  } while (false)

/// |a - b| <= tol; equal infinities and two NaNs also pass.
#define CHECK_NEAR(a, b, tol) ::fire::check::near(__FILE__, __LINE__, "CHECK_NEAR(" #a ", " #b ")", (a), (b), (tol))

/// The statement must throw exactly this type (or one derived from it).
#define CHECK_THROWS(type, ...)                                                                             \
  do {                                                                                                      \
    ::fire::check::count_check();                                                                           \
    if (!::fire::check::throws<type>([&] { __VA_ARGS__; }))                                                 \
      ::fire::check::fail(__FILE__, __LINE__, "CHECK_THROWS(" #type ", " #__VA_ARGS__ "): nothing thrown"); \
  } while (false)
