#include "model/config_reader.h"

#include <cmath>

#include "tensor/error.h"

namespace fire::config {
namespace {

/// nullptr when the key is absent or null.
const Json* given(const Json& parent, const char* key) {
  const Json* value = parent.find(key);
  return value && !value->is_null() ? value : nullptr;
}

}  // namespace

void unsupported(const Json& value, const std::string& have, const std::string& want) {
  throw Error(Code::unsupported, value.path() + " is " + have + "; this engine implements " + want);
}

void require_text(const Json& parent, const char* key, const std::string& want) {
  const Json* value = given(parent, key);
  if (value && value->string() != want) unsupported(*value, json_quote(value->string()), json_quote(want));
}

void require_flag(const Json& parent, const char* key, bool want) {
  const Json* value = given(parent, key);
  if (value && value->boolean() != want)
    unsupported(*value, value->boolean() ? "true" : "false", want ? "true" : "false");
}

void require_number(const Json& parent, const char* key, double want) {
  const Json* value = given(parent, key);
  if (value && value->number() != want) unsupported(*value, std::to_string(value->number()), std::to_string(want));
}

void require_unset(const Json& parent, const char* key) {
  const Json* value = given(parent, key);
  if (value) unsupported(*value, "set", "none");
}

int64_t positive(const Json& parent, const char* key, int64_t most) {
  const Json& value = parent.at(key);
  const int64_t n = value.integer();
  if (n <= 0 || n > most)
    throw Error(Code::checkpoint, value.path() + " is " + std::to_string(n) + "; it must be " +
                                      (n <= 0 ? "positive" : "at most " + std::to_string(most)));
  return n;
}

int64_t positive_or(const Json& parent, const char* key, int64_t fallback) {
  return given(parent, key) ? positive(parent, key) : fallback;
}

float small_number(const Json& value) {
  const double number = value.number();
  check(std::abs(number) <= 1000, value.path(), "is out of range");
  return static_cast<float>(number);
}

std::array<float, 3> three(const Json& value) {
  const auto& items = value.array();
  check(items.size() == 3, value.path(), "must have 3 entries");
  return {small_number(items[0]), small_number(items[1]), small_number(items[2])};
}

void check(bool ok, const std::string& where, const std::string& rule) {
  if (!ok) throw Error(Code::checkpoint, where + ": " + rule);
}

}  // namespace fire::config
