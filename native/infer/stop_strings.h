// Strings that end an answer wherever they occur in its text, across the borders of tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fire {

/// Token t adds bytes[offsets[t], offsets[t + 1]) to the text, nothing where it is a special token. Strings and text
/// are UTF-8, so equal bytes are equal characters.
struct StopStrings {
  std::vector<std::string> strings;
  std::string bytes;
  std::vector<int32_t> offsets;  // of all tokens, and the end

  /// Throws ERR_FIRE_INVALID_ARGUMENT for an empty string and for offsets that do not cover `vocab` tokens.
  void check(int64_t vocab) const;
};

/// Follows the text of one answer.
class StopMatcher {
 public:
  /// `stops` may be null: nothing ever matches.
  explicit StopMatcher(const StopStrings* stops) : stops_(stops) {}
  /// True when the token completes a string.
  bool push(int32_t token);

 private:
  const StopStrings* stops_;
  std::string tail_;  // as much of the text as an unfinished string can have begun in
};

}  // namespace fire
