// The one exception type of the engine: a code for programs, a message for people, details for logs.
#pragma once

#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace fire {

/// src/errors.ts has a class for each; test/errors.test.ts holds the two lists against each other.
enum class Code {
  invalid_argument,
  unsupported,
  io,
  checkpoint,
  nonfinite,
  out_of_memory,
  no_device,
  cuda,
  ranks,
  closed,
  aborted,
  internal,
};

/// The stable spelling that reaches JavaScript, for instance "ERR_FIRE_CHECKPOINT".
const char* to_string(Code code);

class Error : public std::exception {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  /// Attaches a machine-readable detail ("path", "errno", "tensor", "bytes", ...); chainable before `throw`.
  Error& with(std::string key, std::string value) {
    details_.emplace_back(std::move(key), std::move(value));
    return *this;
  }

  /// The same error with more context in front of its message.
  Error within(const std::string& context) const {
    Error outer = *this;
    outer.message_ = context + ": " + message_;
    return outer;
  }

  /// The same error with an explanation behind its message.
  Error followed_by(const std::string& explanation) const {
    Error longer = *this;
    longer.message_ += ": " + explanation;
    return longer;
  }

  const char* what() const noexcept override { return message_.c_str(); }
  Code code() const { return code_; }
  const std::vector<std::pair<std::string, std::string>>& details() const { return details_; }

 private:
  Code code_;
  std::string message_;
  std::vector<std::pair<std::string, std::string>> details_;
};

inline const char* to_string(Code code) {
  switch (code) {
    case Code::invalid_argument:
      return "ERR_FIRE_INVALID_ARGUMENT";
    case Code::unsupported:
      return "ERR_FIRE_UNSUPPORTED";
    case Code::io:
      return "ERR_FIRE_IO";
    case Code::checkpoint:
      return "ERR_FIRE_CHECKPOINT";
    case Code::nonfinite:
      return "ERR_FIRE_NONFINITE";
    case Code::out_of_memory:
      return "ERR_FIRE_OUT_OF_MEMORY";
    case Code::no_device:
      return "ERR_FIRE_NO_DEVICE";
    case Code::cuda:
      return "ERR_FIRE_CUDA";
    case Code::ranks:
      return "ERR_FIRE_RANKS";
    case Code::closed:
      return "ERR_FIRE_CLOSED";
    case Code::aborted:
      return "ERR_FIRE_ABORTED";
    case Code::internal:
      return "ERR_FIRE_INTERNAL";
  }
  return "ERR_FIRE_INTERNAL";
}

}  // namespace fire
