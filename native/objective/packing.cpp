#include "objective/packing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fire {
namespace {

/// Of the vocabulary, or the placeholder of an image, which need not be.
bool is_token(int32_t id, const ModelConfig& config) {
  return (id >= 0 && id < config.text.vocab_size) || id == config.image_token_id;
}

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

/// One row block: a prefix and its tails, all in `input`. Returns the first row of the prefix and of each tail.
struct Block {
  int32_t prefix_begin;
  std::vector<int32_t> tail_begin;
};

Block append_block(DecoderInput& input, std::span<const int32_t> prefix,
                   const std::vector<std::span<const int32_t>>& tails, std::span<const ImageFeatures* const> images,
                   const ModelConfig& config) {
  std::vector<TokenGrid> grids;
  for (const ImageFeatures* f : images) grids.push_back(f->grid);
  const Positions positions =
      sequence_positions(prefix, config.image_token_id, grids, config.text.mrope != Mrope::none);
  const int32_t begin = static_cast<int32_t>(input.tokens()), prefix_end = begin + static_cast<int32_t>(prefix.size());
  const int32_t group = input.plan.groups++;
  Block block{begin, {}};

  input.ids.insert(input.ids.end(), prefix.begin(), prefix.end());
  for (size_t axis = 0; axis < 3; ++axis)
    input.positions[axis].insert(input.positions[axis].end(), positions[axis].begin(), positions[axis].end());
  input.plan.spans.push_back({begin, prefix_end, 0, 0, begin, prefix_end, true, group});

  int32_t row = begin;
  for (const ImageFeatures* f : images) {
    ImagePlacement placement{f, {}};
    while (static_cast<int64_t>(placement.rows.size()) < f->tokens()) {
      if (input.ids[static_cast<size_t>(row)] == config.image_token_id) placement.rows.push_back(row);
      ++row;
    }
    input.images.push_back(std::move(placement));
  }

  const KeyRange prefix_rows{begin, prefix_end}, context = input.plan.add_context({&prefix_rows, 1});
  for (const auto& tail : tails) {
    const int32_t tail_begin = static_cast<int32_t>(input.tokens());
    block.tail_begin.push_back(tail_begin);
    if (tail.empty()) continue;
    input.ids.insert(input.ids.end(), tail.begin(), tail.end());
    int32_t position = next_position(positions);
    for (size_t i = 0; i < tail.size(); ++i, ++position)
      for (auto& axis : input.positions) axis.push_back(position);
    const int32_t tail_end = static_cast<int32_t>(input.tokens());
    input.plan.spans.push_back({tail_begin, tail_end, context.begin, context.end, tail_begin, tail_end, true, group});
  }
  for (int32_t i = begin; i < static_cast<int32_t>(input.tokens()); ++i) input.plan.key_row.push_back(i);
  return block;
}

/// One branch of a pair on its way into the batch.
struct Sequence {
  Branch branch;
  std::vector<Scored> scored;
  Ids fed;
};

class Packer {
 public:
  Packer(const Objective& objective, Layout layout, const ModelConfig& config, const FeatureLookup& features)
      : objective_(objective), layout_(layout), config_(config), features_(features) {}

  void add(const Pair& pair, int32_t index) {
    check_pair(pair, objective_, config_);
    pair_begin_.push_back(static_cast<int32_t>(batch_.input.tokens()));
    for (const bool corrupted : {false, true}) {
      std::vector<Sequence> sequences = sequences_of(pair, corrupted);
      const auto& ids = corrupted ? pair.corrupted_images : pair.images;
      if (layout_ == Layout::plain) {
        for (const Sequence& s : sequences) place(pair, index, {&s}, ids);
      } else if (sequences.size() == 2) {
        place(pair, index, {&sequences[0], &sequences[1]}, ids);
      } else if (sequences.size() == 1) {
        place(pair, index, {&sequences[0]}, ids);
      }
    }
  }

  /// Turns packed row numbers into places among the gathered rows.
  PackedBatch finish() {
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
    auto gathered = [&](int32_t row) {
      return static_cast<int32_t>(std::lower_bound(read.begin(), read.end(), row) - read.begin());
    };
    for (Term& t : batch_.terms) t.at.row = gathered(t.at.row);
    for (KlRow& r : batch_.kl_rows) r.row = gathered(r.row);
    for (const int32_t begin : pair_begin_) batch_.pair_rows.push_back(gathered(begin));
    batch_.pair_rows.push_back(static_cast<int64_t>(read.size()));
    return std::move(batch_);
  }

 private:
  std::vector<Sequence> sequences_of(const Pair& pair, bool corrupted) const {
    std::vector<Sequence> sequences;
    for (const Branch branch : corrupted ? std::array{Branch::corrupted_chosen, Branch::corrupted_rejected}
                                         : std::array{Branch::chosen, Branch::rejected}) {
      if (!objective_.runs(branch, pair.has_corrupted())) continue;
      Sequence s{branch, scored_tokens(pair, branch, objective_), pair.prompt};
      if (s.scored.empty()) continue;
      const Ids& answer = pair.answer(branch);
      const size_t fed = layout_ == Layout::plain ? answer.size() : static_cast<size_t>(s.scored.back().token);
      s.fed.insert(s.fed.end(), answer.begin(), answer.begin() + static_cast<std::ptrdiff_t>(fed));
      sequences.push_back(std::move(s));
    }
    return sequences;
  }

  void place(const Pair& pair, int32_t index, std::vector<const Sequence*> sequences,
             const std::vector<std::string>& image_ids) {
    const Ids& first = sequences[0]->fed;
    size_t common = first.size();
    if (sequences.size() == 2) {
      const Ids& second = sequences[1]->fed;
      common = static_cast<size_t>(std::mismatch(first.begin(), first.end(), second.begin(), second.end()).first -
                                   first.begin());
    }
    std::vector<std::span<const int32_t>> tails;
    for (const Sequence* s : sequences) tails.push_back(std::span(s->fed).subspan(common));
    Block block;
    try {
      std::vector<const ImageFeatures*> images;
      for (const std::string& id : image_ids) images.push_back(features_(id, occurrence_));
      block = append_block(batch_.input, std::span(first).first(common), tails, images, config_);
    } catch (const Error& e) {
      throw std::move(e.within("pair \"" + pair.id + "\"").with("record", pair.id));
    }
    ++occurrence_;
    for (size_t i = 0; i < sequences.size(); ++i)
      add_terms(pair, index, *sequences[i], block.prefix_begin, block.tail_begin[i], static_cast<int32_t>(common));
  }

  void add_terms(const Pair& pair, int32_t index, const Sequence& s, int32_t prefix_begin, int32_t tail_begin,
                 int32_t common) {
    const Ids& answer = pair.answer(s.branch);
    for (const Scored& t : s.scored) {
      const int32_t place = static_cast<int32_t>(pair.prompt.size()) + t.token - 1;
      const int32_t row = place < common ? prefix_begin + place : tail_begin + place - common;
      if (t.rank || t.answer)
        batch_.terms.push_back(
            {index, s.branch, {row, answer[static_cast<size_t>(t.token)]}, t.rank ? t.weight : 0, t.answer});
      if (t.kl) batch_.kl_rows.push_back({index, row, s.branch});
    }
  }

  const Objective& objective_;
  Layout layout_;
  const ModelConfig& config_;
  const FeatureLookup& features_;
  PackedBatch batch_;
  std::vector<int32_t> pair_begin_;  // first packed row of each pair
  int64_t occurrence_ = 0;
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
  Packer packer(objective, layout, config, features);
  for (size_t i = 0; i < pairs.size(); ++i) packer.add(pairs[i], static_cast<int32_t>(i));
  return packer.finish();
}

void check_sequence(std::span<const int32_t> ids, const ModelConfig& config) {
  for (const int32_t id : ids)
    if (!is_token(id, config))
      throw Error(Code::invalid_argument, "token id " + std::to_string(id) + " is outside the vocabulary of " +
                                              std::to_string(config.text.vocab_size));
  if (ids.empty()) throw Error(Code::invalid_argument, "a sequence has no tokens");
}

int32_t append_sequence(DecoderInput& input, std::span<const int32_t> ids, std::span<const ImageFeatures* const> images,
                        const ModelConfig& config) {
  check_sequence(ids, config);
  return append_block(input, ids, {}, images, config).prefix_begin;
}

}  // namespace fire
