// Batched generation with a KV cache. Prompts take free slots as others finish, so a batch stays full; what a prompt
// yields depends on its own ids, images and seed alone (see the row rule of ops.h).
#pragma once

#include <functional>
#include <vector>

#include "objective/packing.h"

namespace fire {

struct GenerationPrompt {
  std::vector<int32_t> ids;
  std::vector<const ImageFeatures*> images;
  uint64_t seed = 0;
};

struct Sampling {
  int64_t max_new_tokens = 256;
  SamplingRule rule;
  std::vector<int32_t> stop_tokens;
  int64_t batch_size = 16;
};

struct Generated {
  std::vector<int32_t> tokens;  // without the stop token
  double logprob = 0;           // at temperature 1, of the tokens and the stop token
  bool stopped = false;
};

/// Called for each new token (not for the stop token), from the thread that generates.
using TokenCallback = std::function<void(size_t prompt, int32_t token)>;

std::vector<Generated> generate(Ops& ops, const Decoder& decoder, const ModelConfig& config, const Adapter* adapter,
                                const std::vector<GenerationPrompt>& prompts, const Sampling& sampling, Arena& arena,
                                const TokenCallback& on_token, const std::atomic<bool>* cancel);

}  // namespace fire
