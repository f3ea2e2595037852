// What dropout knows a row by: all that the row sees. A row then draws one mask wherever it is computed: packed, in
// pairs or plain, in any micro-batch and order of pairs, in any process. Two rows that share a key by chance (1 in
// 2^64) share a mask, which harms nobody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/rng.h"

namespace fire {

/// The key of a row from that of the row before it in its sequence (0: none) and its token, which is an id of the
/// vocabulary or the content of an image. How many rows of the image came before is in the key of the row before.
constexpr uint64_t row_key(uint64_t before, uint64_t token) { return splitmix64(before ^ token); }

/// What Dropout::row_keys points to in an optimizer step, which is mixed in as one more token: two words for each row,
/// and behind them for each of `read`.
inline std::vector<int32_t> key_words(const std::vector<uint64_t>& keys, const std::vector<int32_t>& read,
                                      int64_t step) {
  std::vector<int32_t> words;
  words.reserve(2 * (keys.size() + read.size()));
  for (const uint64_t key : keys) {
    const uint64_t now = row_key(key, static_cast<uint64_t>(step));
    words.push_back(static_cast<int32_t>(now));
    words.push_back(static_cast<int32_t>(now >> 32));
  }
  for (const int32_t row : read) {
    const size_t at = 2 * static_cast<size_t>(row);
    words.push_back(words[at]);
    words.push_back(words[at + 1]);
  }
  return words;
}

}  // namespace fire
