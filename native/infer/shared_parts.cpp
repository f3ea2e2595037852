#include "infer/shared_parts.h"

#include <algorithm>
#include <numeric>

namespace fire {
namespace {

/// Without its last token, or the image that it ends with.
void drop_end(Sequence& s) {
  size_t end = s.ids.size() - 1;
  if (s.images[end])
    while (end > 0 && s.images[end - 1]) --end;
  s.ids.resize(end);
  s.images.resize(end);
  for (auto& axis : s.positions) axis.resize(end);
}

/// Adds the parts of one tree, and its prompts in the order of their leaves.
void add_tree(SharedParts& shared, const SequenceTree& tree, const std::vector<size_t>& members) {
  const size_t nodes = tree.nodes.size();
  std::vector<size_t> through(nodes, 0);  // how many prompts pass each node
  std::vector<std::vector<size_t>> ending(nodes);
  for (size_t m = 0; m < members.size(); ++m) {
    ending[static_cast<size_t>(tree.last[m])].push_back(members[m]);
    for (int32_t n = tree.last[m]; n >= 0; n = tree.nodes[static_cast<size_t>(n)].parent)
      ++through[static_cast<size_t>(n)];
  }
  std::vector<int32_t> part_of(nodes);  // the last part on the way to each node, itself included
  for (size_t n = 0; n < nodes; ++n) {  // depth first, so prompts that share a part follow one another
    const TreeNode& node = tree.nodes[n];
    const int32_t above = node.parent < 0 ? -1 : part_of[static_cast<size_t>(node.parent)];
    const SharedPart* parent = above < 0 ? nullptr : &shared.parts[static_cast<size_t>(above)];
    const size_t begin = parent ? parent->end : 0;
    part_of[n] = above;
    if (through[n] > 1 && node.end - begin >= least_shared) {
      part_of[n] = static_cast<int32_t>(shared.parts.size());
      shared.parts.push_back(
          {above, members[node.sequence], begin, node.end, parent ? parent->level + 1 : 0, through[n]});
    }
    for (const size_t prompt : ending[n]) {
      shared.of[prompt] = part_of[n];
      shared.order.push_back(prompt);
    }
  }
}

}  // namespace

SharedParts share_parts(std::vector<Sequence> prompts) {
  SharedParts shared;
  shared.of.assign(prompts.size(), -1);
  shared.tree.resize(prompts.size());
  for (Sequence& s : prompts) drop_end(s);
  size_t trees = 0;
  for (const std::vector<size_t>& members : group_by_start(prompts)) {
    std::vector<const Sequence*> sequences;
    std::vector<size_t> with_tokens;
    for (const size_t m : members) {
      shared.tree[m] = trees;
      if (prompts[m].ids.empty()) {
        shared.order.push_back(m);
      } else {
        with_tokens.push_back(m);
        sequences.push_back(&prompts[m]);
      }
    }
    ++trees;
    if (!sequences.empty()) add_tree(shared, grow_tree(sequences, Ends::cut), with_tokens);
  }
  return shared;
}

CachePlan plan_cache(std::span<const Sequence> prompts, const SharedParts& shared, int64_t batch_size,
                     int64_t max_new_tokens) {
  CachePlan plan;
  plan.slots = std::clamp<int64_t>(batch_size, 1, static_cast<int64_t>(prompts.size()));
  for (size_t i = 0; i < prompts.size(); ++i)  // the last new token is never fed
    plan.own_rows =
        std::max(plan.own_rows, static_cast<int64_t>(prompts[i].ids.size() - shared.own_begin(i)) + max_new_tokens - 1);
  for (const SharedPart& part : shared.parts) {
    if (part.level == plan.levels.size()) plan.levels.emplace_back();
    CachePlan::Level& level = plan.levels[part.level];
    level.places = std::min(level.places + 1, plan.slots);
    level.rows = std::max(level.rows, static_cast<int64_t>(part.rows()));
  }
  int64_t begin = plan.slots * plan.own_rows;
  for (CachePlan::Level& level : plan.levels) {
    level.begin = begin;
    begin = level.place_begin(level.places);
  }
  return plan;
}

}  // namespace fire
