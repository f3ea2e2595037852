// Numbers that the environment may set.
#pragma once

#include <cstdlib>
#include <string>

#include "tensor/error.h"

namespace fire {

/// The variable's value, or `otherwise` where it is not set or empty. Throws ERR_FIRE_INVALID_ARGUMENT for what is not
/// a number in [least, most].
inline double number_from_environment(const char* name, double least, double most, double otherwise) {
  const char* const text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (*end == '\0' && value >= least && value <= most) return value;
  throw Error(Code::invalid_argument, std::string(name) + "=" + text + " is not a number from " +
                                          std::to_string(static_cast<int64_t>(least)) + " to " +
                                          std::to_string(static_cast<int64_t>(most)))
      .with("variable", name);
}

}  // namespace fire
