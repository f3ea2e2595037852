// The loss family: what each objective reads, its value, and its derivatives with respect to log-probabilities and
// token KLs. Formulas and sources: docs/objectives.md. Everything here is float64 arithmetic on a few numbers per pair.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "objective/dual.h"

namespace fire {

/// The four sequences a pair can be run on: answer y+ or y-, clean image v or corrupted image v'.
enum class Branch : uint8_t { chosen, rejected, corrupted_chosen, corrupted_rejected };
constexpr size_t branch_count = 4;
template <class T>
using PerBranch = std::array<T, branch_count>;
constexpr size_t at(Branch b) { return static_cast<size_t>(b); }
/// y+, whatever the image.
constexpr bool answers_chosen(Branch b) { return b == Branch::chosen || b == Branch::corrupted_chosen; }
constexpr bool is_corrupted(Branch b) { return b == Branch::corrupted_chosen || b == Branch::corrupted_rejected; }
/// The same answer on the clean image.
constexpr Branch on_clean_image(Branch b) { return answers_chosen(b) ? Branch::chosen : Branch::rejected; }

/// Which tokens of an answer count: the decisive phrases, or the whole completion with its end token.
enum class Scope : uint8_t { phrase, completion };

enum class KlReduction : uint8_t { sum, mean };

/// What the log-probability of a token weighs in the sum of its answer.
enum class TokenWeights : uint8_t {
  equal,
  phrase,        // token_weight on phrase tokens, 1 elsewhere
  common_length  // 1 up to the length of the shorter answer, ld_alpha beyond
};

/// See ObjectiveSpec in src/engine/native.ts. Each objective reads its own coefficients.
struct Coefficients {
  double beta = 0, alpha = 0, gamma = 0, lambda = 0;
  KlReduction kl_reduction = KlReduction::sum;
  double label_smoothing = 0, tau = 0, nll_weight = 0, text_weight = 0, bco_weight = 0, ld_alpha = 0, f_alpha = 0;
  double token_weight = 0, kl_weight = 0, eta = 0, rho = 0;
};

/// The numbers among the coefficients under the names of src/engine/objectives.ts, with the range of each.
struct CoefficientName {
  const char* name;
  double Coefficients::*value;
  double largest;        // the smallest is 0
  bool is_open = false;  // `largest` itself is too large
};
std::span<const CoefficientName> coefficient_names();

struct KlSums {
  double forward = 0, reverse = 0;
};

/// Summed log-probabilities of the scored tokens of each branch; 0 where the branch does not run.
struct PairLogps {
  PerBranch<double> policy{}, reference{};
};

/// What a step says about a pair: all that its loss is computed from.
struct PairSums {
  PairLogps logps;
  double answer_logp = 0;                          // policy, all tokens of (v, y+), where the objective reads it
  KlSums kl, rejected_kl;                          // sums (or means) over the KL rows of (v, y+) and (v, y-)
  int64_t chosen_tokens = 0, rejected_tokens = 0;  // in the objective's scope
  bool has_corrupted = false;
  double weight = 1;           // of the pair's loss
  double rejected_score = 1;   // severity of what is wrong with y-
  double pairs_per_token = 0;  // N / T of the optimizer step: its pairs over its chosen tokens
};

/// The loss of one pair before division by the number of pairs, and dLoss/dinput, both with the pair's weight; the
/// terms (before their weights in the loss) and margins are without it.
struct PairLoss {
  double loss = 0;
  double base = 0, visual = 0, anchor = 0, nll = 0, bco = 0, anchor_visual = 0, consistency = 0;
  double margin = 0, visual_margin = 0;
  PerBranch<double> coefficient{};
  double answer_coefficient = 0;
  KlSums kl_coefficient, rejected_kl_coefficient;
};

/// What the loss of one objective is written with.
class PairTerms {
 public:
  PairTerms(const Coefficients& k, const PairSums& sums) : k(k), sums(sums), has_corrupted(sums.has_corrupted) {}

  const Coefficients& k;
  const PairSums& sums;
  const bool has_corrupted;

  /// lp: policy log-probability of a sequence.
  Dual logp(Branch b) const { return {sums.logps.policy[at(b)], static_cast<Input>(b)}; }
  /// lp - lr: policy over reference.
  Dual ratio(Branch b) const { return logp(b) - Dual(sums.logps.reference[at(b)], Input::reference); }
  /// Of (v, y+): KL(reference || policy), KL(policy || reference); and the first of (v, y-).
  Dual forward_kl() const { return kl(sums.kl.forward, Input::forward_kl); }
  Dual reverse_kl() const { return kl(sums.kl.reverse, Input::reverse_kl); }
  Dual rejected_forward_kl() const { return kl(sums.rejected_kl.forward, Input::rejected_forward_kl); }
  /// lp of all tokens of (v, y+), whatever the scope.
  Dual answer_logp() const { return {sums.answer_logp, Input::answer_logp}; }
  /// Scored tokens; 1 for an answer without any, whose sums are 0.
  double tokens(Branch b) const {
    return static_cast<double>(std::max<int64_t>(1, answers_chosen(b) ? sums.chosen_tokens : sums.rejected_tokens));
  }
  /// beta * (ratio of `winner` - ratio of `loser`).
  Dual margin(Branch winner, Branch loser) const { return k.beta * (ratio(winner) - ratio(loser)); }

  /// Adds weight * value to the loss.
  void add(double PairLoss::*term, const Dual& value, double weight = 1);
  /// The same for value = -log sigmoid(u).
  void add_preference(double PairLoss::*term, const Dual& u, double weight = 1);
  /// Adds what is no term of its own.
  void add(const Dual& value) { loss = loss + value; }

  Dual loss;
  PairLoss terms;

 private:
  static Dual kl(double value, Input input) { return Dual(value, input) + Dual(0, Input::reference); }
};

/// One objective: a row of the table in objectives.cpp.
struct ObjectiveRow {
  const char* name;
  /// As published.
  Scope scope = Scope::completion;
  void (*loss)(PairTerms&) = nullptr;
  /// The sequences whose rewards make the margin; on the clean image where a pair has no corrupted one.
  std::pair<Branch, Branch> prefers = {Branch::chosen, Branch::rejected};
  /// The sequences of the visual margin; the same one twice: there is none.
  std::pair<Branch, Branch> visual = {Branch::chosen, Branch::chosen};
  TokenWeights token_weights = TokenWeights::equal;
  /// KL over the whole answer, whatever the scope.
  bool whole_kl = false;
};
std::span<const ObjectiveRow> objective_rows();

/// How an objective is asked for. Coefficients that it does not use are not looked at.
struct ObjectiveSpec {
  std::string name;
  Coefficients k;
  /// Nothing = as published.
  std::optional<Scope> scope = std::nullopt;
};

class Objective {
 public:
  /// Throws ERR_FIRE_INVALID_ARGUMENT for an unknown name or a coefficient out of range. Terms with weight 0 are
  /// switched off, so they cost nothing.
  static Objective make(const ObjectiveSpec& spec);

  const char* name() const { return row_->name; }
  const Coefficients& coefficients() const { return k_; }
  Scope scope() const { return scope_; }
  Scope kl_scope() const { return row_->whole_kl ? Scope::completion : scope_; }
  TokenWeights token_weights() const { return row_->token_weights; }

  /// Whether the loss depends on an input, for a pair with or without a corrupted image.
  bool reads(Input input, bool has_corrupted) const { return (reads(has_corrupted) & bit(input)) != 0; }
  uint32_t reads(bool has_corrupted) const { return reads_[has_corrupted]; }
  /// Whether it depends on the summed log-probability of this branch.
  bool ranks(Branch branch, bool has_corrupted) const { return reads(static_cast<Input>(branch), has_corrupted); }
  /// Whether this branch is run.
  bool runs(Branch branch, bool has_corrupted) const;
  bool needs_reference() const { return reads(Input::reference, true) || reads(Input::reference, false); }

  PairLoss evaluate(const PairSums& sums) const;

 private:
  const ObjectiveRow* row_ = nullptr;
  Coefficients k_;
  Scope scope_ = Scope::phrase;
  std::array<uint32_t, 2> reads_{};  // by has_corrupted
};

}  // namespace fire
