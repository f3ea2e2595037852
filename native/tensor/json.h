// A small strict JSON reader (RFC 8259) for the files a checkpoint consists of. In the tree because the engine must
// build on GPU nodes that have a compiler and nothing else. Bounded in depth and number of values, so that its memory
// is, and linear in its text; duplicate keys refused, errors say where.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fire {

class Json {
 public:
  enum class Type { null, boolean, number, string, array, object };

  /// Parses a whole document; `origin` (a file name) goes into error messages. Throws ERR_FIRE_CHECKPOINT.
  static Json parse(std::string_view text, const std::string& origin);
  /// Reads and parses a file of at most `max_bytes`. Throws ERR_FIRE_IO or ERR_FIRE_CHECKPOINT.
  static Json load(const std::string& path, size_t max_bytes = size_t{64} << 20);

  Type type() const { return type_; }
  bool is_null() const { return type_ == Type::null; }

  /// Typed access; a wrong type throws ERR_FIRE_CHECKPOINT and names this value's path.
  bool boolean() const;
  double number() const;
  int64_t integer() const;
  const std::string& string() const;
  const std::vector<Json>& array() const;
  const std::vector<std::pair<std::string, Json>>& object() const;

  /// Member of an object or nullptr; `at` throws when it is missing.
  const Json* find(std::string_view key) const;
  const Json& at(std::string_view key) const;

  /// Where this value stands, for messages: "config.json: text_config.hidden_size".
  std::string path() const;

 private:
  friend class JsonParser;
  struct Place;
  [[noreturn]] void wrong_type(const char* expected) const;

  Type type_ = Type::null;
  bool boolean_ = false;
  double number_ = 0;
  std::string string_;
  std::vector<Json> array_;
  std::vector<std::pair<std::string, Json>> object_;
  std::vector<uint32_t> by_key_;  // the members of a large object, in the order of their keys
  std::shared_ptr<const Place> place_;
};

/// A JSON string literal with its quotes.
std::string json_quote(std::string_view text);

}  // namespace fire
