// Computed bytes in files, found by what they were computed from. Any number of processes may share the folder, and it
// may be deleted at any time: what is missing, cut or damaged is computed again.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tensor/sha256.h"

namespace fire {

/// See FeatureStore in src/engine/native.ts.
struct ContentStoreSpec {
  std::string folder, key;
  size_t max_bytes;
};

class ContentStore {
 public:
  using Key = Sha256::Digest;

  /// Makes the folder and counts what is in it. `scope` is part of every key: whatever decides the bytes beside what
  /// `key` is given. Throws ERR_FIRE_IO.
  ContentStore(const ContentStoreSpec& spec, const std::string& scope);

  Key key(std::string_view kind, std::span<const std::byte> content) const;
  std::optional<std::vector<std::byte>> find(const Key& key) const;
  /// Keeps the first that fit into `max_bytes`. What cannot be written is not kept, which costs time and nothing else.
  void keep(const Key& key, std::span<const std::byte> bytes);

 private:
  std::string path(const Key& key) const;

  std::string folder_, scope_;
  size_t max_bytes_, bytes_ = 0;
};

}  // namespace fire
