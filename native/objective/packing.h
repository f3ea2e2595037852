// From pairs to one packed decoder input: all that a micro-batch runs (both answers, on the clean and on the corrupted
// image) as trees of sequences, so that pairs share the rows of an image, of a prompt, and of the words with which
// their answers begin. Nothing after the token that predicts the last scored token is fed: it cannot touch the loss.
#pragma once

#include <compare>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/sequence_tree.h"
#include "objective/objective.h"

namespace fire {

/// A tokenised pair; see PairInput in src/engine/native.ts.
struct Pair {
  std::string id;
  std::vector<int32_t> prompt, chosen, rejected;
  std::vector<uint8_t> chosen_mask, rejected_mask;
  std::vector<std::string> images, corrupted_images;
  double weight = 1;          // of its loss
  double rejected_score = 1;  // severity of what is wrong with y-
  bool has_corrupted() const { return !corrupted_images.empty(); }
  const std::vector<int32_t>& answer(Branch b) const { return answers_chosen(b) ? chosen : rejected; }
  const std::vector<uint8_t>& mask(Branch b) const { return answers_chosen(b) ? chosen_mask : rejected_mask; }
};

enum class Layout : uint8_t {
  packed,
  pair,  // nothing is shared between pairs: for comparison
  plain  // the oracle: every sequence whole and alone, every row read
};

/// `target` is read from gathered row `row`.
struct RowTarget {
  int32_t row, target;
  auto operator<=>(const RowTarget&) const = default;  // NOLINT: clang-tidy 14 takes it for a null pointer
};

/// What a token of an answer counts for.
struct Scored {
  int32_t token;  // row (prompt length + token - 1) of its sequence is read
  double weight;  // in the sum of its branch
  bool rank;      // part of that sum
  bool answer;    // part of the log-probability of the whole answer
  bool kl;        // its row's token KL counts
};

/// The tokens of a branch that the objective reads, in order.
std::vector<Scored> scored_tokens(const Pair& pair, Branch branch, const Objective& objective);
/// Tokens of an answer in the objective's scope.
int64_t tokens_in_scope(const Pair& pair, Branch branch, const Objective& objective);
/// Tokens of y+ whose likelihood the objective averages over a step: all, or those in its scope.
int64_t averaged_tokens(const Pair& pair, const Objective& objective);

/// A token whose log-probability is read.
struct Term {
  int32_t pair;
  Branch branch;
  RowTarget at;
  double weight = 1;
  bool answer = false;
};

/// A gathered row whose token KL counts for this answer of `pair`, on the clean image.
struct KlRow {
  int32_t pair;
  int32_t row;
  Branch branch;
};

struct PackedBatch {
  DecoderInput input;
  std::vector<Term> terms;
  std::vector<KlRow> kl_rows;
  /// The gathered rows that each pair reads, once each, in the order of its terms and then its KL rows: an order that
  /// other pairs do not change.
  std::vector<std::vector<int32_t>> pair_rows;
};

/// Finds the features of an image by id; throws ERR_FIRE_INVALID_ARGUMENT when it was not encoded.
using FeatureLookup = std::function<const ImageFeatures*(const std::string& id, int64_t occurrence)>;

/// `occurrence` counts the sequences so far: the plain layout encodes images anew for each.
PackedBatch pack(std::span<const Pair> pairs, const Objective& objective, Layout layout, const ModelConfig& config,
                 const FeatureLookup& features);

}  // namespace fire
