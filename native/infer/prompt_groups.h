// Which prompts of a call share a prefix, in which order they are answered, and how much cache that takes.
#pragma once

#include <span>
#include <vector>

#include "objective/packing.h"

namespace fire {

struct GenerationPrompt {
  std::vector<int32_t> ids;
  std::vector<const ImageFeatures*> images;
  uint64_t seed;
};

/// Prompts that begin with the same `prefix` tokens and show the same images in them.
struct PromptGroup {
  int64_t prefix = 0;  // 0: a prompt by itself, nothing shared
  std::vector<size_t> prompts;
};

/// The length of the part of a prompt that others may share: up to its last image token; 0 without one, and where
/// nothing follows. It depends on the prompt alone, and attention is always cut there: a sum over prefix keys and then
/// own keys gives the same bits whether or not anybody shares them.
int64_t prefix_length(std::span<const int32_t> ids, int64_t image_token_id);

/// In the order of their first prompts. Answered group by group, at most as many prefixes are in use as there are
/// slots.
std::vector<PromptGroup> group_prompts(const std::vector<GenerationPrompt>& prompts, int64_t image_token_id);

/// Rows of the KV cache: [slots][own_rows] for what each running prompt has to itself, then [prefixes][prefix_rows].
struct CachePlan {
  int64_t slots = 0, own_rows = 0, prefixes = 0, prefix_rows = 0;

  int64_t own_begin(int64_t slot) const { return slot * own_rows; }
  int64_t prefix_begin(int64_t place) const { return slots * own_rows + place * prefix_rows; }
  int64_t rows() const { return prefix_begin(prefixes); }
};

CachePlan plan_cache(const std::vector<GenerationPrompt>& prompts, const std::vector<PromptGroup>& groups,
                     int64_t batch_size, int64_t max_new_tokens);

}  // namespace fire
