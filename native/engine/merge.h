// Folds a LoRA adapter into the checkpoint it was trained on: W + scale * B A, in the type that W is stored in.
#pragma once

#include <atomic>
#include <string>
#include <utility>
#include <vector>

namespace fire {

struct MergeSpec {
  std::string model, adapter;  // folders
  std::string output;          // an existing folder; receives the weights and, with several shards, their index
  size_t shard_bytes = size_t{5'000'000'000};
  /// (prefix, its replacement) of tensor names; the first that fits. For another layout of the same model.
  std::vector<std::pair<std::string, std::string>> rename;
};

struct MergeReport {
  std::vector<std::string> files;
  int64_t tensors = 0, merged = 0;
  size_t bytes = 0;
};

/// The sum is taken in f32 and rounded once. Tensors that the adapter does not touch keep their bytes. Throws
/// ERR_FIRE_CHECKPOINT when adapter and model do not fit, ERR_FIRE_IO, ERR_FIRE_ABORTED.
MergeReport merge_adapter(const MergeSpec& spec, const std::atomic<bool>* cancel);

}  // namespace fire
