// Sequences are computed once as far as they begin alike: a tree of runs of tokens, laid out as packed rows
//     [ image | question 1 | y1+ | y1- | question 2 | ... ]
// in which a token that several sequences share is one row. Rows attend to the runs above their own and never to a
// sibling, and positions are those of the sequence.
#pragma once

#include <span>
#include <vector>

#include "model/decoder.h"

namespace fire {

/// Sharing fewer tokens (a chat template's first words) saves less than it costs: one more range in the attention of
/// every row behind them, and fewer groups that a backward pass can work on side by side.
constexpr size_t least_shared = 16;

/// A sequence as the decoder reads it.
struct Sequence {
  std::vector<int32_t> ids;
  /// The image that each token is a part of; nullptr = text.
  std::vector<const ImageFeatures*> images;
  Positions positions;
  /// Two sequences with one prompt share it, however short it is.
  size_t prompt_length;
};

/// Of the vocabulary, or the placeholder of an image, which need not be.
bool is_token(int32_t id, const ModelConfig& config);

/// `images` stand at the placeholders among `ids`, in order. Throws ERR_FIRE_INVALID_ARGUMENT when there are no ids,
/// one is outside the vocabulary, or the placeholders are not those of the images.
Sequence make_sequence(std::vector<int32_t> ids, std::span<const ImageFeatures* const> images, size_t prompt_length,
                       const ModelConfig& config);

/// How many tokens both begin with.
size_t common_length(const Sequence& a, const Sequence& b);

/// A run of tokens: [begin, end) of `sequence`, and of every other sequence through this node as far as it goes.
struct TreeNode {
  int32_t parent;  // -1: the root
  size_t sequence, begin, end;
};

struct SequenceTree {
  /// Parents before children, depth first, in the order in which the sequences come to them.
  std::vector<TreeNode> nodes;
  /// The node with the last token, one a sequence.
  std::vector<int32_t> last;
};

/// Where a sequence ends inside a run of others: nothing happens, as its rows are like any of the run, or the run is
/// cut there, for rows that are to come behind it.
enum class Ends : uint8_t { run_on, cut };

/// The tree of sequences that have their first token in common. Every common token is shared. No image is cut in two:
/// sequences that are alike up to its middle have all of it.
SequenceTree grow_tree(std::span<const Sequence* const> sequences, Ends ends);

/// Appends tokens [begin, end) of a sequence, and the images in them, which are whole; who sees whom is for the caller
/// to add. Returns their first row.
int32_t append_rows(DecoderInput& input, const Sequence& sequence, size_t begin, size_t end);

/// Members of trees, by their place among the sequences.
using TreeMembers = std::vector<std::vector<size_t>>;

/// Each sequence joins the first tree whose first sequence begins with the same 16 tokens or, where a prompt of the two
/// is shorter, with all of it.
TreeMembers group_by_start(std::span<const Sequence> sequences);

/// Lays out trees, a group of the plan each. Returns the row of every token, one list a sequence.
std::vector<std::vector<int32_t>> append_trees(DecoderInput& input, std::span<const Sequence> sequences,
                                               const TreeMembers& trees);

/// Lays out one sequence by itself. Returns its first row.
int32_t append_sequence(DecoderInput& input, const Sequence& sequence);

}  // namespace fire
