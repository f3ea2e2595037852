#include "model/sequence_tree.h"

#include <algorithm>
#include <optional>

#include "model/row_keys.h"

namespace fire {
namespace {

bool same_token(const Sequence& a, const Sequence& b, size_t at) {
  return a.ids[at] == b.ids[at] && a.images[at] == b.images[at];
}

/// The first place in [begin, end) where they differ, or the end of what both have of it.
size_t alike_until(const Sequence& a, const Sequence& b, size_t begin, size_t end) {
  end = std::min({end, a.ids.size(), b.ids.size()});
  while (begin < end && same_token(a, b, begin)) ++begin;
  return begin;
}

class TreeGrower {
 public:
  TreeGrower(std::span<const Sequence* const> sequences, Ends ends) : sequences_(sequences), ends_(ends) {
    tree_.last.resize(sequences.size());
  }

  /// Nodes for sequences that have one path up to `depth` and a token there.
  void grow(std::vector<size_t> members, size_t depth, int32_t parent) {
    while (!members.empty()) {
      const Sequence& first = *sequences_[members[0]];
      const auto others = std::stable_partition(members.begin(), members.end(),
                                                [&](size_t s) { return same_token(*sequences_[s], first, depth); });
      add_node({members.begin(), others}, depth, parent);
      members.erase(members.begin(), others);
    }
  }

  SequenceTree take() { return std::move(tree_); }

 private:
  void add_node(const std::vector<size_t>& members, size_t depth, int32_t parent) {
    const size_t longest = *std::max_element(members.begin(), members.end(), [&](size_t a, size_t b) {
      return sequences_[a]->ids.size() < sequences_[b]->ids.size();
    });
    size_t end = sequences_[longest]->ids.size();
    for (const size_t s : members) {
      const size_t until = alike_until(*sequences_[s], *sequences_[longest], depth, end);
      if (until < sequences_[s]->ids.size() || ends_ == Ends::cut) end = until;
    }
    const int32_t node = static_cast<int32_t>(tree_.nodes.size());
    tree_.nodes.push_back({parent, longest, depth, end});
    std::vector<size_t> going_on;
    for (const size_t s : members) {
      if (sequences_[s]->ids.size() > end) {
        going_on.push_back(s);
      } else {
        tree_.last[s] = node;
      }
    }
    grow(std::move(going_on), end, node);
  }

  std::span<const Sequence* const> sequences_;
  Ends ends_;
  SequenceTree tree_;
};

/// Appends one tree to an input.
class TreeLayout {
 public:
  TreeLayout(DecoderInput& input, std::span<const Sequence* const> sequences)
      : input_(input), sequences_(sequences), tree_(grow_tree(sequences, Ends::run_on)), group_(input.plan.groups++) {
    for (const TreeNode& node : tree_.nodes) append(node);
  }

  /// The row of every token of a sequence.
  std::vector<int32_t> rows(size_t sequence) const {
    std::vector<int32_t> rows(sequences_[sequence]->ids.size());
    size_t end = rows.size();
    for (int32_t n = tree_.last[sequence]; n >= 0;) {
      const TreeNode& node = tree_.nodes[static_cast<size_t>(n)];
      const Placed& placed = placed_[static_cast<size_t>(n)];
      for (size_t i = node.begin; i < end; ++i) rows[i] = placed.rows.begin + static_cast<int32_t>(i - node.begin);
      end = node.begin;
      n = node.parent;
    }
    return rows;
  }

 private:
  struct Placed {
    KeyRange rows, context;
    std::optional<KeyRange> below;  // the context of its children
  };

  void append(const TreeNode& node) {
    const KeyRange context = node.parent < 0 ? KeyRange{0, 0} : context_below(static_cast<size_t>(node.parent));
    const int32_t begin = append_rows(input_, *sequences_[node.sequence], node.begin, node.end),
                  end = static_cast<int32_t>(input_.tokens());
    for (int32_t row = begin; row < end; ++row) input_.plan.key_row.push_back(row);
    append_keys(node);
    input_.plan.spans.push_back({begin, end, context.begin, context.end, begin, end, true, group_});
    placed_.push_back({{begin, end}, context, std::nullopt});
  }

  void append_keys(const TreeNode& node) {
    const Sequence& sequence = *sequences_[node.sequence];
    uint64_t key = 0;
    if (node.parent >= 0)
      key = input_.row_keys[static_cast<size_t>(placed_[static_cast<size_t>(node.parent)].rows.end) - 1];
    for (size_t i = node.begin; i < node.end; ++i) {
      const ImageFeatures* image = sequence.images[i];
      key = row_key(key, image ? image->content : static_cast<uint32_t>(sequence.ids[i]));
      input_.row_keys.push_back(key);
    }
  }

  /// The rows above a node's children: those above itself and its own, in one range where they touch.
  KeyRange context_below(size_t node) {
    Placed& placed = placed_[node];
    if (!placed.below) {
      AttentionPlan& plan = input_.plan;
      std::vector<KeyRange> ranges(plan.ranges.begin() + placed.context.begin,
                                   plan.ranges.begin() + placed.context.end);
      if (!ranges.empty() && ranges.back().end == placed.rows.begin) {
        ranges.back().end = placed.rows.end;
      } else {
        ranges.push_back(placed.rows);
      }
      placed.below = plan.add_context(ranges);
    }
    return *placed.below;
  }

  DecoderInput& input_;
  std::span<const Sequence* const> sequences_;
  SequenceTree tree_;
  int32_t group_;
  std::vector<Placed> placed_;
};

}  // namespace

bool is_token(int32_t id, const ModelConfig& config) {
  return (id >= 0 && id < config.text.vocab_size) || id == config.image_token_id;
}

Sequence make_sequence(std::vector<int32_t> ids, std::span<const ImageFeatures* const> images, size_t prompt_length,
                       const ModelConfig& config) {
  if (ids.empty()) throw Error(Code::invalid_argument, "a sequence has no tokens");
  for (const int32_t id : ids)
    if (!is_token(id, config))
      throw Error(Code::invalid_argument, "token id " + std::to_string(id) + " is outside the vocabulary of " +
                                              std::to_string(config.text.vocab_size));
  std::vector<TokenGrid> grids;
  for (const ImageFeatures* image : images) grids.push_back(image->grid);
  Positions positions = sequence_positions(ids, config.image_token_id, grids, config.text.mrope != Mrope::none);
  std::vector<const ImageFeatures*> image_at(ids.size());
  auto at = ids.begin();
  for (const ImageFeatures* image : images) {
    at = std::find(at, ids.end(), static_cast<int32_t>(config.image_token_id));
    std::fill_n(image_at.begin() + (at - ids.begin()), image->tokens(), image);
    at += image->tokens();
  }
  return {std::move(ids), std::move(image_at), std::move(positions), prompt_length};
}

size_t common_length(const Sequence& a, const Sequence& b) { return alike_until(a, b, 0, a.ids.size()); }

SequenceTree grow_tree(std::span<const Sequence* const> sequences, Ends ends) {
  TreeGrower grower(sequences, ends);
  std::vector<size_t> all(sequences.size());
  for (size_t s = 0; s < all.size(); ++s) all[s] = s;
  grower.grow(std::move(all), 0, -1);
  return grower.take();
}

int32_t append_rows(DecoderInput& input, const Sequence& sequence, size_t begin, size_t end) {
  const int32_t first = static_cast<int32_t>(input.tokens());
  const auto append = [&](const std::vector<int32_t>& from, std::vector<int32_t>& to) {
    to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(begin),
              from.begin() + static_cast<std::ptrdiff_t>(end));
  };
  append(sequence.ids, input.ids);
  for (size_t axis = 0; axis < 3; ++axis) append(sequence.positions[axis], input.positions[axis]);
  int64_t missing = 0;  // rows of the image that is being placed
  for (size_t i = begin; i < end; ++i) {
    const ImageFeatures* image = sequence.images[i];
    if (!image) continue;
    if (missing == 0) {
      input.images.push_back({image, {}});
      missing = image->tokens();
    }
    input.images.back().rows.push_back(first + static_cast<int32_t>(i - begin));
    --missing;
  }
  return first;
}

TreeMembers group_by_start(std::span<const Sequence> sequences) {
  TreeMembers trees;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const Sequence& joining = sequences[s];
    const auto tree = std::find_if(trees.begin(), trees.end(), [&](const std::vector<size_t>& members) {
      const Sequence& first = sequences[members[0]];
      const size_t least = std::min({least_shared, first.prompt_length, joining.prompt_length});
      return alike_until(first, joining, 0, least) == least;
    });
    if (tree == trees.end()) {
      trees.push_back({s});
    } else {
      tree->push_back(s);
    }
  }
  return trees;
}

std::vector<std::vector<int32_t>> append_trees(DecoderInput& input, std::span<const Sequence> sequences,
                                               const TreeMembers& trees) {
  std::vector<std::vector<int32_t>> rows(sequences.size());
  for (const std::vector<size_t>& members : trees) {
    std::vector<const Sequence*> tree;
    for (const size_t s : members) tree.push_back(&sequences[s]);
    const TreeLayout layout(input, tree);
    for (size_t i = 0; i < members.size(); ++i) rows[members[i]] = layout.rows(i);
  }
  return rows;
}

int32_t append_sequence(DecoderInput& input, const Sequence& sequence) {
  return append_trees(input, {&sequence, 1}, {{0}})[0][0];
}

}  // namespace fire
