#include "infer/prompt_groups.h"

#include <algorithm>
#include <map>

namespace fire {

int64_t prefix_length(std::span<const int32_t> ids, int64_t image_token_id) {
  const auto last = std::find(ids.rbegin(), ids.rend(), static_cast<int32_t>(image_token_id));
  return last == ids.rbegin() ? 0 : ids.rend() - last;
}

std::vector<PromptGroup> group_prompts(const std::vector<GenerationPrompt>& prompts, int64_t image_token_id) {
  using Key = std::pair<std::vector<const ImageFeatures*>, std::vector<int32_t>>;
  std::vector<PromptGroup> groups;
  std::map<Key, size_t> known;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const GenerationPrompt& p = prompts[i];
    const int64_t prefix = prefix_length(p.ids, image_token_id);
    size_t at = groups.size();
    if (prefix > 0) at = known.try_emplace({p.images, {p.ids.begin(), p.ids.begin() + prefix}}, at).first->second;
    if (at == groups.size()) groups.push_back({prefix, {}});
    groups[at].prompts.push_back(i);
  }
  return groups;
}

CachePlan plan_cache(const std::vector<GenerationPrompt>& prompts, const std::vector<PromptGroup>& groups,
                     int64_t batch_size, int64_t max_new_tokens) {
  CachePlan plan;
  plan.slots = std::clamp<int64_t>(batch_size, 1, static_cast<int64_t>(prompts.size()));
  int64_t shared = 0;
  for (const PromptGroup& g : groups) {
    if (g.prefix > 0) ++shared;
    plan.prefix_rows = std::max(plan.prefix_rows, g.prefix);
    for (const size_t i : g.prompts)  // the last new token is never fed
      plan.own_rows =
          std::max(plan.own_rows, static_cast<int64_t>(prompts[i].ids.size()) - g.prefix + max_new_tokens - 1);
  }
  plan.prefixes = std::min(plan.slots, shared);
  return plan;
}

}  // namespace fire
