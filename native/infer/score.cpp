#include "infer/score.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "objective/packing.h"
#include "objective/row_summary.h"

namespace fire {
namespace {

[[noreturn]] void throw_nonfinite(int64_t position) {
  throw Error(Code::nonfinite, "position " + std::to_string(position) + " gave numbers that are not finite");
}

/// Rows that go through the decoder together: enough for matrix products at full speed. A longer sequence goes alone.
constexpr size_t pass_rows = 2048;
/// Rows whose logits are in memory together.
constexpr int64_t logit_rows = 128;

/// The members of a tree in the order of their leaves: in no other has each so much in common with the one before it,
/// images included, whose tokens have all the same id.
std::vector<size_t> by_leaves(std::span<const Sequence> sequences, const std::vector<size_t>& tree) {
  std::vector<const Sequence*> members;
  for (const size_t s : tree) members.push_back(&sequences[s]);
  const SequenceTree grown = grow_tree(members, Ends::cut);
  std::vector<std::pair<int32_t, size_t>> leaves;
  for (size_t m = 0; m < tree.size(); ++m) leaves.push_back({grown.last[m], tree[m]});
  std::sort(leaves.begin(), leaves.end());
  std::vector<size_t> order;
  for (const auto& [leaf, s] : leaves) order.push_back(s);
  return order;
}

/// Trees of about `pass_rows` rows in each pass.
std::vector<TreeMembers> cut_into_passes(std::span<const Sequence> sequences) {
  std::vector<TreeMembers> passes;
  size_t rows = pass_rows;  // of the last pass
  for (const std::vector<size_t>& tree : group_by_start(sequences)) {
    const Sequence* before = nullptr;  // in this tree and pass
    for (const size_t s : by_leaves(sequences, tree)) {
      const size_t length = sequences[s].ids.size();
      size_t added = before ? length - common_length(*before, sequences[s]) : length;
      if (rows + added > pass_rows) {
        passes.emplace_back();
        rows = 0;
        before = nullptr;
        added = length;
      }
      if (!before) passes.back().emplace_back();
      passes.back().back().push_back(s);
      rows += added;
      before = &sequences[s];
    }
  }
  return passes;
}

/// What is read of the logits: of each gathered row, and of each target.
struct Readings {
  std::vector<double> lse;
  std::vector<float> logits;
};

/// `targets` in order of their rows.
Readings read_logits(const Context& context, const Tensor& hidden, const std::vector<RowTarget>& targets) {
  Ops& ops = context.ops;
  Arena& arena = context.arena;
  const Decoder decoder(context);
  const int64_t vocab = context.config.text.vocab_size, slices = vocabulary_slices(vocab);
  Readings read;
  auto first = targets.begin();
  for (int64_t begin = 0; begin < hidden.rows(); begin += logit_rows) {
    Arena::Scope scope(arena);
    const int64_t end = std::min(begin + logit_rows, hidden.rows()), rows = end - begin;
    std::vector<int32_t> flat;
    for (; first != targets.end() && first->row < end; ++first)
      flat.insert(flat.end(), {first->row - static_cast<int32_t>(begin), first->target});
    const int64_t count = static_cast<int64_t>(flat.size()) / 2;
    const Tensor z = arena.f32({rows, vocab}), target_logits = arena.f32({2, count});
    const Tensor statistics = arena.take(DType::f64, {rows, slices, 6});
    decoder.head(hidden.slice(begin, end), 0, z);
    ops.preference_statistics(z, {}, 0, ops.upload_i32(arena, flat).reshape({count, 2}), statistics, target_logits);
    std::vector<SliceStatistics> host(static_cast<size_t>(rows * slices));
    ops.download(statistics, host.data());
    for (size_t row = 0; row < static_cast<size_t>(rows); ++row)
      read.lse.push_back(
          summarize_row(std::span(host).subspan(row * static_cast<size_t>(slices), static_cast<size_t>(slices)), false)
              .lse);
    std::vector<float> values(static_cast<size_t>(2 * count));
    ops.download(target_logits, values.data());
    read.logits.insert(read.logits.end(), values.begin(), values.begin() + count);
  }
  return read;
}

/// The token that position `i` predicts, as a target; that of a placeholder that is no token stands for nothing.
int32_t target_at(const Sequence& sequence, size_t i) { return std::max(sequence.ids[i + 1], 0); }

/// Scores the members of some trees in one pass.
void score(const Context& context, const Adapter* adapter, std::span<const Sequence> sequences,
           const TreeMembers& trees, std::vector<std::vector<float>>& logprobs) {
  Arena::Scope scope(context.arena);
  DecoderInput input;
  const auto rows = append_trees(input, sequences, trees);
  std::vector<RowTarget> targets;
  for (size_t s = 0; s < sequences.size(); ++s)
    for (size_t i = 0; i + 1 < rows[s].size(); ++i) targets.push_back({rows[s][i], target_at(sequences[s], i)});
  if (targets.empty()) return;
  std::sort(targets.begin(), targets.end());
  targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
  std::vector<int32_t>& read_rows = input.read_rows;
  std::vector<RowTarget> gathered;
  for (const auto& [row, token] : targets) {
    if (read_rows.empty() || read_rows.back() != row) read_rows.push_back(row);
    gathered.push_back({static_cast<int32_t>(read_rows.size()) - 1, token});
  }
  DecoderPass pass;
  pass.adapter = adapter;
  const Readings read = read_logits(context, Decoder(context).forward(input, pass, nullptr), gathered);
  for (size_t s = 0; s < sequences.size(); ++s)
    for (size_t i = 0; i + 1 < rows[s].size(); ++i) {
      const RowTarget target{rows[s][i], target_at(sequences[s], i)};
      const size_t at = static_cast<size_t>(std::lower_bound(targets.begin(), targets.end(), target) - targets.begin());
      const double lse = read.lse[static_cast<size_t>(gathered[at].row)];
      if (!std::isfinite(lse)) throw_nonfinite(static_cast<int64_t>(i));
      const bool is_token = sequences[s].ids[i + 1] >= 0;
      logprobs[s].push_back(is_token ? static_cast<float>(static_cast<double>(read.logits[at]) - lse)
                                     : std::numeric_limits<float>::quiet_NaN());
    }
}

}  // namespace

std::vector<std::vector<float>> token_logprobs(const Context& context, const Adapter* adapter,
                                               std::span<const Sequence> sequences) {
  std::vector<std::vector<float>> logprobs(sequences.size());
  for (const TreeMembers& pass : cut_into_passes(sequences)) score(context, adapter, sequences, pass, logprobs);
  return logprobs;
}

std::vector<std::vector<float>> image_attention(const Context& context, const Adapter* adapter,
                                                const Sequence& sequence, const std::vector<int32_t>& positions) {
  Arena::Scope scope(context.arena);
  DecoderInput input;
  append_sequence(input, sequence);
  std::vector<int32_t> columns;
  for (const ImagePlacement& image : input.images) columns.insert(columns.end(), image.rows.begin(), image.rows.end());
  std::vector<AttentionRequest> requests;
  for (const int32_t p : positions) {
    if (p < 0 || p >= input.tokens())
      throw Error(Code::invalid_argument, "position " + std::to_string(p) + " is outside the sequence of " +
                                              std::to_string(input.tokens()) + " tokens");
    requests.push_back({p, columns, {}});
    input.read_rows.push_back(p);
  }
  std::sort(input.read_rows.begin(), input.read_rows.end());
  input.read_rows.erase(std::unique(input.read_rows.begin(), input.read_rows.end()), input.read_rows.end());
  DecoderPass pass;
  pass.adapter = adapter;
  pass.attention = &requests;
  Decoder(context).forward(input, pass, nullptr);
  std::vector<std::vector<float>> weights;
  for (AttentionRequest& r : requests) {
    if (!std::all_of(r.weights.begin(), r.weights.end(), [](float w) { return std::isfinite(w); }))
      throw_nonfinite(r.query_row);
    weights.push_back(std::move(r.weights));
  }
  return weights;
}

}  // namespace fire
