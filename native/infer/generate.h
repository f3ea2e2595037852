// Batched generation with a KV cache. Prompts take free slots as others finish, so a batch stays full, and what prompts
// begin with in common (an image, a question that is asked several times) is computed and kept once. What a prompt
// yields depends on its own ids, images and seed alone (see the row rule of ops.h).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "infer/shared_parts.h"
#include "infer/stop_strings.h"

namespace fire {

/// See SamplingSpec in src/engine/native.ts.
struct SamplingSpec {
  int64_t max_new_tokens;
  SamplingRule rule;
  std::vector<int32_t> stop_tokens;
  std::shared_ptr<const StopStrings> stop_strings;  // or none
  int64_t batch_size;
};

struct Generation {
  std::vector<int32_t> tokens;  // without the stop token, with those that spell a stop string
  double logprob = 0;           // at temperature 1, of the tokens and the stop token
  bool stopped = false;
};

/// Called from the thread that generates; either may be empty.
struct GenerationEvents {
  /// For each new token, not for the stop token.
  std::function<void(size_t prompt, int32_t token)> on_token;
  /// Once for each prompt, as it ends.
  std::function<void(size_t prompt, const Generation& result)> on_end;
};

/// Of the model with `adapter`; nullptr = the reference. A seed a prompt. One result a prompt, in their order.
std::vector<Generation> generate(const Context& context, const Adapter* adapter, const std::vector<Sequence>& prompts,
                                 std::span<const uint64_t> seeds, const SamplingSpec& sampling,
                                 const GenerationEvents& events);

}  // namespace fire
