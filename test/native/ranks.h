// A test's ranks: processes of their own, forked from the test's, and what they bring back.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "check.h"
#include "tensor/error.h"

namespace fire::test {

/// What a rank brings back.
struct RankResult {
  std::vector<double> numbers;
  std::vector<float> values;
  std::string error;  // "ERR_FIRE_...: message" of what it threw
};

/// A test that hangs is a test that fails.
constexpr unsigned rank_seconds = 300;

namespace ranks {

inline void write_all(int file, const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = write(file, at, bytes);
    if (written <= 0) _exit(3);
    at += written;
    bytes -= static_cast<size_t>(written);
  }
}

inline bool read_all(int file, void* data, size_t bytes) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = read(file, at, bytes);
    if (got <= 0) return false;
    at += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

template <class T>
void send(int file, const T& items) {
  const size_t count = items.size();
  write_all(file, &count, sizeof count);
  write_all(file, items.data(), count * sizeof items[0]);
}

template <class T>
bool receive(int file, T& items) {
  size_t count = 0;
  if (!read_all(file, &count, sizeof count)) return false;
  items.resize(count);
  return read_all(file, items.data(), count * sizeof items[0]);
}

}  // namespace ranks

/// Runs `body(rank)` in `count` processes at once. What one throws is its `error`; a check that fails there, and an end
/// that is none, fail the test.
inline std::vector<RankResult> in_processes(int count, const std::function<RankResult(int)>& body) {
  std::vector<std::pair<pid_t, int>> started;
  std::fflush(nullptr);
  for (int rank = 0; rank < count; ++rank) {
    int ends[2];
    if (pipe(ends) != 0) throw Error(Code::io, "no pipe");
    const pid_t child = fork();
    if (child < 0) throw Error(Code::io, "no fork");
    if (child == 0) {
      close(ends[0]);
      alarm(rank_seconds);
      RankResult result;
      const int failures = check::failures();
      try {
        result = body(rank);
      } catch (const Error& e) {
        result.error = std::string(to_string(e.code())) + ": " + e.what();
      } catch (const std::exception& e) {
        result.error = e.what();
      }
      ranks::send(ends[1], result.numbers);
      ranks::send(ends[1], result.values);
      ranks::send(ends[1], result.error);
      std::exit(check::failures() > failures ? 1 : 0);
    }
    close(ends[1]);
    started.emplace_back(child, ends[0]);
  }
  std::vector<RankResult> results(started.size());
  for (size_t rank = 0; rank < started.size(); ++rank) {
    RankResult& result = results[rank];
    const auto [child, file] = started[rank];
    const bool whole = ranks::receive(file, result.numbers) && ranks::receive(file, result.values) &&
                       ranks::receive(file, result.error);
    close(file);
    int status = 0;
    waitpid(child, &status, 0);
    if (!whole || status != 0)
      check::fail(__FILE__, __LINE__, "rank " + std::to_string(rank) + " ended with status " + std::to_string(status));
  }
  return results;
}

}  // namespace fire::test
