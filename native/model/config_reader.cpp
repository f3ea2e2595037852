#include "model/config_reader.h"

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

int64_t positive(const Json& parent, const char* key) {
  const Json& value = parent.at(key);
  const int64_t n = value.integer();
  if (n <= 0 || n > (int64_t{1} << 31))
    throw Error(Code::checkpoint, value.path() + " is " + std::to_string(n) + "; it must be positive");
  return n;
}

int64_t positive_or(const Json& parent, const char* key, int64_t fallback) {
  return given(parent, key) ? positive(parent, key) : fallback;
}

std::array<float, 3> three(const Json& value) {
  const auto& items = value.array();
  check(items.size() == 3, value.path(), "must have 3 entries");
  return {static_cast<float>(items[0].number()), static_cast<float>(items[1].number()),
          static_cast<float>(items[2].number())};
}

void check(bool ok, const std::string& where, const std::string& rule) {
  if (!ok) throw Error(Code::checkpoint, where + ": " + rule);
}

}  // namespace fire::config
