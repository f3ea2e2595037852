// Folds a LoRA adapter into the checkpoint it was trained on: W + scale * B A, in the type that W is stored in.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tensor/cancel.h"

namespace fire {

struct MergeSpec {
  std::string model, adapter;  // folders
  std::string output;          // an existing folder; receives the weights and, with several shards, their index
  size_t shard_bytes;          // no shard is larger, unless a single tensor is
  /// (prefix, its replacement) of tensor names; the first that fits. For another layout of the same model.
  std::vector<std::pair<std::string, std::string>> rename;
};

struct MergeStats {
  std::vector<std::string> files;
  int64_t tensors = 0, merged = 0;
  size_t bytes = 0;
};

/// The sum is taken in f32 and rounded once. Tensors that the adapter does not touch keep their bytes. Throws
/// ERR_FIRE_CHECKPOINT when adapter and model do not fit, ERR_FIRE_IO, ERR_FIRE_ABORTED.
MergeStats merge_adapter(const MergeSpec& spec, Cancel cancel);

}  // namespace fire
