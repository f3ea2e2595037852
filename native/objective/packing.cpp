#include "objective/packing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fire {
namespace {

using Ids = std::vector<int32_t>;

void check_pair(const Pair& pair, const Objective& objective, const ModelConfig& config) {
  auto fail = [&](const std::string& why) {
    throw Error(Code::invalid_argument, "pair \"" + pair.id + "\": " + why).with("record", pair.id);
  };
  if (!(pair.weight >= 0 && std::isfinite(pair.weight))) fail("its weight must be a number >= 0");
  if (!(pair.rejected_score >= 0 && std::isfinite(pair.rejected_score)))
    fail("its rejected score must be a number >= 0");
  if (pair.prompt.empty()) fail("the prompt has no tokens");
  if (pair.chosen.empty()) fail("the chosen answer has no tokens");
  const bool reads_rejected = objective.runs(Branch::rejected, pair.has_corrupted()) ||
                              objective.runs(Branch::corrupted_rejected, pair.has_corrupted());
  if (pair.rejected.empty() && reads_rejected) fail("the rejected answer has no tokens");
  if (pair.chosen.size() != pair.chosen_mask.size() || pair.rejected.size() != pair.rejected_mask.size())
    fail("an answer and its mask differ in length");
  if (pair.has_corrupted() && pair.corrupted_images.size() != pair.images.size())
    fail("it has " + std::to_string(pair.images.size()) + " image(s) and " +
         std::to_string(pair.corrupted_images.size()) + " corrupted image(s)");
  for (const Ids* ids : {&pair.prompt, &pair.chosen, &pair.rejected})
    for (const int32_t id : *ids)
      if (!is_token(id, config))
        fail("token id " + std::to_string(id) + " is outside the vocabulary of " +
             std::to_string(config.text.vocab_size));
  for (const Ids* ids : {&pair.chosen, &pair.rejected})
    if (std::find(ids->begin(), ids->end(), static_cast<int32_t>(config.image_token_id)) != ids->end())
      fail("an answer holds an image placeholder token");
}

/// A branch of a pair that is run, and what is read of it.
struct Reading {
  int32_t pair;
  Branch branch;
  std::vector<Scored> scored;
};

class Packer {
 public:
  Packer(std::span<const Pair> pairs, const Objective& objective, Layout layout, const ModelConfig& config,
         const FeatureLookup& features)
      : pairs_(pairs), objective_(objective), layout_(layout), config_(config), features_(features) {}

  PackedBatch pack() {
    for (size_t p = 0; p < pairs_.size(); ++p) add(static_cast<int32_t>(p));
    const auto rows = append_trees(batch_.input, sequences_, trees());
    for (size_t s = 0; s < readings_.size(); ++s) add_terms(readings_[s], rows[s]);
    gather();
    return std::move(batch_);
  }

 private:
  /// Lists what of a pair is run.
  void add(int32_t index) {
    const Pair& pair = pairs_[static_cast<size_t>(index)];
    check_pair(pair, objective_, config_);
    for (const Branch branch :
         {Branch::chosen, Branch::rejected, Branch::corrupted_chosen, Branch::corrupted_rejected}) {
      if (!objective_.runs(branch, pair.has_corrupted())) continue;
      std::vector<Scored> scored = scored_tokens(pair, branch, objective_);
      if (scored.empty()) continue;
      sequences_.push_back(sequence_of(pair, branch, scored));
      readings_.push_back({index, branch, std::move(scored)});
    }
  }

  Sequence sequence_of(const Pair& pair, Branch branch, const std::vector<Scored>& scored) const {
    const Ids& answer = pair.answer(branch);
    const size_t fed = layout_ == Layout::plain ? answer.size() : static_cast<size_t>(scored.back().token);
    Ids ids = pair.prompt;
    ids.insert(ids.end(), answer.begin(), answer.begin() + static_cast<std::ptrdiff_t>(fed));
    try {
      std::vector<const ImageFeatures*> images;
      for (const std::string& id : is_corrupted(branch) ? pair.corrupted_images : pair.images)
        images.push_back(features_(id, static_cast<int64_t>(sequences_.size())));
      return make_sequence(std::move(ids), images, pair.prompt.size(), config_);
    } catch (const Error& e) {
      throw std::move(e.within("pair \"" + pair.id + "\"").with("record", pair.id));
    }
  }

  TreeMembers trees() const {
    if (layout_ == Layout::packed) return group_by_start(sequences_);
    TreeMembers trees;
    for (size_t s = 0; s < readings_.size(); ++s) {
      const bool joins = layout_ == Layout::pair && s > 0 && readings_[s - 1].pair == readings_[s].pair &&
                         is_corrupted(readings_[s - 1].branch) == is_corrupted(readings_[s].branch);
      if (joins) {
        trees.back().push_back(s);
      } else {
        trees.push_back({s});
      }
    }
    return trees;
  }

  /// `rows`: of the reading's sequence.
  void add_terms(const Reading& reading, const std::vector<int32_t>& rows) {
    const Pair& pair = pairs_[static_cast<size_t>(reading.pair)];
    const Ids& answer = pair.answer(reading.branch);
    for (const Scored& t : reading.scored) {
      const size_t token = static_cast<size_t>(t.token);
      const int32_t row = rows[pair.prompt.size() + token - 1];
      if (t.rank || t.answer)
        batch_.terms.push_back({reading.pair, reading.branch, {row, answer[token]}, t.rank ? t.weight : 0, t.answer});
      if (t.kl) batch_.kl_rows.push_back({reading.pair, row, reading.branch});
    }
  }

  /// Turns packed row numbers into places among the gathered rows.
  void gather() {
    std::vector<int32_t>& read = batch_.input.read_rows;
    if (layout_ == Layout::plain) {
      read.resize(static_cast<size_t>(batch_.input.tokens()));
      std::iota(read.begin(), read.end(), 0);
    } else {
      for (const Term& t : batch_.terms) read.push_back(t.at.row);
      for (const KlRow& r : batch_.kl_rows) read.push_back(r.row);
      std::sort(read.begin(), read.end());
      read.erase(std::unique(read.begin(), read.end()), read.end());
    }
    batch_.pair_rows.resize(pairs_.size());
    const auto gathered = [&](int32_t pair, int32_t& row) {
      row = static_cast<int32_t>(std::lower_bound(read.begin(), read.end(), row) - read.begin());
      std::vector<int32_t>& rows = batch_.pair_rows[static_cast<size_t>(pair)];
      if (std::find(rows.begin(), rows.end(), row) == rows.end()) rows.push_back(row);
    };
    for (Term& t : batch_.terms) gathered(t.pair, t.at.row);
    for (KlRow& r : batch_.kl_rows) gathered(r.pair, r.row);
  }

  std::span<const Pair> pairs_;
  const Objective& objective_;
  Layout layout_;
  const ModelConfig& config_;
  const FeatureLookup& features_;
  std::vector<Sequence> sequences_;
  std::vector<Reading> readings_;  // one a sequence
  PackedBatch batch_;
};

/// Whether a token (0 or 1 in the mask) is in the scope.
bool in_scope(Scope scope, uint8_t mask) { return scope == Scope::completion || mask != 0; }

/// Of the `ordinal`-th token in scope.
double weight_of(const Objective& objective, bool in_phrase, int64_t ordinal, int64_t common_length) {
  switch (objective.token_weights()) {
    case TokenWeights::equal:
      return 1;
    case TokenWeights::phrase:
      return in_phrase ? objective.coefficients().token_weight : 1;
    case TokenWeights::common_length:
      return ordinal < common_length ? 1 : objective.coefficients().ld_alpha;
  }
  return 1;
}

}  // namespace

int64_t tokens_in_scope(const Pair& pair, Branch branch, const Objective& objective) {
  const auto& mask = pair.mask(branch);
  return std::count_if(mask.begin(), mask.end(), [&](uint8_t m) { return in_scope(objective.scope(), m); });
}

int64_t averaged_tokens(const Pair& pair, const Objective& objective) {
  return objective.reads(Input::answer_logp, pair.has_corrupted()) ? static_cast<int64_t>(pair.chosen.size())
                                                                   : tokens_in_scope(pair, Branch::chosen, objective);
}

std::vector<Scored> scored_tokens(const Pair& pair, Branch branch, const Objective& objective) {
  const auto reads = [&](Input input) { return objective.reads(input, pair.has_corrupted()); };
  const bool ranks = objective.ranks(branch, pair.has_corrupted());
  const bool answer = branch == Branch::chosen && reads(Input::answer_logp);
  const bool kl = branch == Branch::chosen ? reads(Input::forward_kl) || reads(Input::reverse_kl)
                                           : branch == Branch::rejected && reads(Input::rejected_forward_kl);
  const int64_t common_length =
      std::min(tokens_in_scope(pair, Branch::chosen, objective), tokens_in_scope(pair, Branch::rejected, objective));
  const auto& mask = pair.mask(branch);
  std::vector<Scored> scored;
  int64_t ordinal = 0;
  for (size_t t = 0; t < mask.size(); ++t) {
    const bool counts = in_scope(objective.scope(), mask[t]);
    const Scored s{static_cast<int32_t>(t), weight_of(objective, mask[t] != 0, ordinal, common_length), ranks && counts,
                   answer, kl && in_scope(objective.kl_scope(), mask[t])};
    ordinal += counts;
    if (s.rank || s.answer || s.kl) scored.push_back(s);
  }
  return scored;
}

PackedBatch pack(std::span<const Pair> pairs, const Objective& objective, Layout layout, const ModelConfig& config,
                 const FeatureLookup& features) {
  return Packer(pairs, objective, layout, config, features).pack();
}

}  // namespace fire
