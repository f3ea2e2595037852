// Logits in place of a model: the loss of a step and its gradient, by the code that training uses, from rows that a
// test gives. A row that predicts a token of y+ and one of y- after the same words is one row where their logits are
// equal.
#pragma once

#include <map>

#include "objective/step_loss.h"
#include "ops/run.h"
#include "tensor/json.h"

namespace fire::test {

/// Logits of one sequence: row t predicts token t of its answer.
struct SequenceLogits {
  std::vector<std::vector<float>> policy, reference;
};

inline std::vector<std::vector<float>> logits_of(const Json& matrix) {
  std::vector<std::vector<float>> rows;
  for (const Json& row : matrix.array()) {
    rows.emplace_back();
    for (const Json& x : row.array()) rows.back().push_back(static_cast<float>(x.number()));
  }
  return rows;
}

class LogitBatch {
 public:
  /// `shares`: rows with equal logits after the same words of one image are one row, as in a packed batch.
  LogitBatch(Ops& ops, const Objective& objective, bool shares = false)
      : ops_(ops), objective_(objective), shares_(shares) {}

  /// Sequences that the objective does not run are not looked at. The corrupted form is there where the pair has images
  /// of that name.
  void add(const Pair& pair, const PerBranch<SequenceLogits>& logits) {
    pairs_.push_back(pair);
    rows.emplace_back();
    for (size_t b = 0; b < branch_count; ++b) {
      const Branch branch = static_cast<Branch>(b);
      if (!objective_.runs(branch, pair.has_corrupted())) continue;
      for (const Scored& s : scored_tokens(pair, branch, objective_)) {
        const size_t token = static_cast<size_t>(s.token);
        const int32_t row = row_of(branch, token, logits[b]);
        rows.back()[b][token] = row;
        if (s.rank || s.answer)
          batch_.terms.push_back({static_cast<int32_t>(pairs_.size()) - 1,
                                  branch,
                                  {row, pair.answer(branch)[token]},
                                  s.rank ? s.weight : 0,
                                  s.answer});
        if (s.kl) batch_.kl_rows.push_back({static_cast<int32_t>(pairs_.size()) - 1, row, branch});
      }
    }
  }

  void run() {
    const StepLoss loss(pairs_, objective_, batch_, static_cast<double>(pairs_.size()), 0);
    const int64_t count = static_cast<int64_t>(batch_.terms.size());
    if (height() == 0) {
      stats = loss.losses({});
      return;
    }
    std::vector<int32_t> flat;
    for (const Term& t : batch_.terms) flat.insert(flat.end(), {t.at.row, t.at.target});
    const Placed z(ops_, z_, DType::f32, {height(), vocab_}), zr(ops_, zr_, DType::f32, {height(), vocab_});
    const Placed targets(ops_, flat, DType::i32, {count, 2});
    const Tensor reference = objective_.needs_reference() ? zr.tensor() : Tensor();
    readings = read(z, reference, targets, count);
    stats = loss.losses(readings);

    std::vector<float> gradients;
    for (const RowGradient& g : loss.row_gradients(readings, stats))
      gradients.insert(gradients.end(), {g.lse, g.reference_lse, g.mass, g.forward_kl, g.reverse_kl, g.reverse_value});
    ops_.preference_backward(z, reference, 0, Placed(ops_, gradients, DType::f32, {height(), 6}), targets,
                             Placed(ops_, loss.coefficients(stats), DType::f32, {count}));
    gradient_ = z.get();
  }

  double mean() const {
    double sum = 0;
    for (const PairStats& s : stats) sum += s.loss.loss;
    return sum / static_cast<double>(stats.size());
  }
  int64_t vocab() const { return vocab_; }
  int64_t height() const { return vocab_ == 0 ? 0 : static_cast<int64_t>(z_.size()) / vocab_; }
  /// After `run`: dL/dz of a row.
  const float* gradient(int32_t row) const { return gradient_.data() + row * vocab_; }
  const std::vector<float>& all_gradients() const { return gradient_; }
  float largest_logit() const {
    float largest = 0;
    for (const float x : z_) largest = std::max(largest, std::abs(x));
    for (const float x : zr_) largest = std::max(largest, std::abs(x));
    return largest;
  }

  /// Row of each token that is read, by pair and branch.
  std::vector<PerBranch<std::map<size_t, int32_t>>> rows;
  std::vector<PairStats> stats;
  RowReadings readings;

 private:
  int32_t row_of(Branch branch, size_t token, const SequenceLogits& logits) {
    const Pair& pair = pairs_.back();
    if (shares_ && !answers_chosen(branch)) {
      const Branch other = is_corrupted(branch) ? Branch::corrupted_chosen : Branch::chosen;
      const auto& known = rows.back()[at(other)];
      const auto it = known.find(token);
      const bool same_words =
          token <= pair.chosen.size() &&
          std::equal(pair.rejected.begin(), pair.rejected.begin() + static_cast<std::ptrdiff_t>(token),
                     pair.chosen.begin());
      if (it != known.end() && same_words && holds(it->second, logits.policy[token], logits.reference[token]))
        return it->second;
    }
    vocab_ = static_cast<int64_t>(logits.policy[token].size());
    z_.insert(z_.end(), logits.policy[token].begin(), logits.policy[token].end());
    zr_.insert(zr_.end(), logits.reference[token].begin(), logits.reference[token].end());
    return static_cast<int32_t>(height()) - 1;
  }

  bool holds(int32_t row, const std::vector<float>& policy, const std::vector<float>& reference) const {
    return std::equal(policy.begin(), policy.end(), z_.begin() + row * vocab_) &&
           std::equal(reference.begin(), reference.end(), zr_.begin() + row * vocab_);
  }

  RowReadings read(Tensor z, Tensor reference, Tensor targets, int64_t count) const {
    const int64_t height = z.rows();
    const Placed statistics(ops_, DType::f64, {height, 1, 6}), target_logits(ops_, DType::f32, {2, count});
    ops_.preference_statistics(z, reference, 0, targets, statistics, target_logits);
    const Doubles raw = statistics.values();
    const std::vector<float> values = target_logits.get();
    RowReadings out;
    for (size_t r = 0; r < static_cast<size_t>(height); ++r) {
      const double* const s = raw.data() + 6 * r;
      const SliceStatistics slice{s[0], s[1], s[2], s[3], s[4], s[5]};
      out.rows.push_back(summarize_row(std::span(&slice, 1), static_cast<bool>(reference)));
    }
    for (size_t i = 0; i < batch_.terms.size(); ++i) {
      const RowSummary& row = out.rows[static_cast<size_t>(batch_.terms[i].at.row)];
      out.policy.push_back(static_cast<double>(values[i]) - row.lse);
      out.reference.push_back(reference ? static_cast<double>(values[batch_.terms.size() + i]) - row.reference_lse
                                        : 0.0);
    }
    return out;
  }

  Ops& ops_;
  const Objective objective_;
  const bool shares_;
  std::vector<Pair> pairs_;
  PackedBatch batch_;
  int64_t vocab_ = 0;
  std::vector<float> z_, zr_, gradient_;
};

}  // namespace fire::test
