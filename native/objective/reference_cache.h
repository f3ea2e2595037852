// What the reference model says about a pair does not change while an adapter trains, so its final hidden rows are kept
// and a pair that comes again (another epoch) costs no reference pass. Exact: a row does not depend on its batch, bit
// for bit (see ops.h), and the frozen head turns the same rows into the same logits.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "objective/packing.h"
#include "tensor/content_store.h"

namespace fire {

class ReferenceCache {
 public:
  /// Names the content of an image, by its id.
  using ContentOf = std::function<std::string(const std::string& id)>;

  /// Keeps the first pairs that fit: with epochs, dropping the oldest would drop what comes next. 0 = keep nothing.
  /// With a store pairs are also found, and kept, on disk. Images count by `content_of`; without it, which a store does
  /// not allow, by their ids. `adapter` is that of the reference (nullptr: it has none) and must outlive the cache.
  explicit ReferenceCache(size_t max_bytes, ContentStore* store = nullptr, ContentOf content_of = {},
                          const Adapter* adapter = nullptr)
      : max_bytes_(max_bytes),
        store_(store),
        content_of_(std::move(content_of)),
        pass_{.adapter = adapter},
        adapter_name_(adapter && store ? hex(adapter->content()) : "") {}

  using Repack = std::function<PackedBatch(std::span<const Pair>)>;

  /// Final reference hidden rows [P, H] of a packed batch, in the context's arena. Runs the decoder on the pairs that
  /// are not known, packed by `repack`; `remember` keeps them.
  Tensor rows(const Context& context, std::span<const Pair> pairs, const Objective& objective, const PackedBatch& batch,
              const Repack& repack);
  /// Copies what the last `rows` computed to the host, if there is room. Called where the host has just waited for the
  /// device, so that it waits for nothing else; the tensor that `rows` returned must still live.
  void fetch(Ops& ops);
  /// Keeps what was fetched, as far as there is room. Called when the device has something to do.
  void remember();

  size_t bytes() const { return bytes_; }
  int64_t hits() const { return hits_; }

 private:
  struct Computed {
    std::string key;
    std::vector<int32_t> rows;  // of computed_rows_
  };

  std::string key_of(const Pair& pair, const Objective& objective) const;
  /// In memory or in the store, if it has so many bytes.
  std::optional<std::vector<std::byte>> find(const std::string& key, size_t bytes);
  /// Keeps the rows in memory if there is room.
  void hold(std::string key, std::span<const std::byte> rows);

  size_t max_bytes_, bytes_ = 0;
  ContentStore* store_;
  ContentOf content_of_;
  DecoderPass pass_;          // of the reference
  std::string adapter_name_;  // by its content; only with a store, which other references share
  int64_t hits_ = 0;
  std::map<std::string, std::vector<std::byte>> rows_;  // as the device stores them
  Tensor computed_rows_;
  std::vector<Computed> computed_;
  std::vector<std::byte> fetched_;  // computed_rows_
};

}  // namespace fire
