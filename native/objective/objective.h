// The loss family: what each objective runs, its value and its derivatives with respect to sequence log-probabilities.
// Formulas and sources: docs/objectives.md. Everything here is float64 arithmetic on a few numbers per pair.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace fire {

/// The four sequences a pair can be run on: answer y+ or y-, clean image v or corrupted image v'.
enum class Branch : uint8_t { chosen, rejected, corrupted_chosen, corrupted_rejected };
constexpr size_t branch_count = 4;
template <class T>
using PerBranch = std::array<T, branch_count>;
constexpr size_t at(Branch b) { return static_cast<size_t>(b); }
/// y+, whatever the image.
constexpr bool answers_chosen(Branch b) { return b == Branch::chosen || b == Branch::corrupted_chosen; }

/// Which tokens of an answer count: the decisive phrases, or the whole completion with its end token.
enum class Scope : uint8_t { none, phrase, completion };

/// The second preference of a pair, the one that involves the corrupted image.
enum class Visual : uint8_t {
  none,
  reversed,     // (v', y-) over (v', y+): FiRe-MPO
  image,        // (v, y+) over (v', y+): FiRe-MPO ablation v1, and CoPO of mDPO
  image_answer  // (v, y+) over (v', y-): FiRe-MPO ablation v2
};

enum class KlReduction : uint8_t { sum, mean };

/// See ObjectiveSpec in src/engine/native.ts.
struct ObjectiveSpec {
  std::string name;
  double beta, alpha, gamma, lambda;
  KlReduction kl_reduction;
};

struct Objective {
  Scope rank_scope = Scope::phrase;
  Scope kl_scope = Scope::none;
  Visual visual = Visual::none;
  bool anchor = false;  // mDPO's AncPO: -log sigmoid(beta * (lp - lr) of y+)
  bool sft = false;     // mean negative log-likelihood of the chosen completion, nothing else
  double beta;
  double alpha;              // weight of the mixed KL
  double gamma;              // weight of the visual preference
  double lambda;             // forward share of the mixed KL
  KlReduction kl_reduction;  // over the KL rows

  /// sft, dpo, mdpo, rrpo, rrpo-phrase-kl, mask-dpo, fire, fire-v1, fire-v2. Terms with weight 0 are switched off, so
  /// they cost nothing. Throws ERR_FIRE_INVALID_ARGUMENT for an unknown name or a coefficient out of range.
  static Objective make(const ObjectiveSpec& spec);

  /// Whether this branch contributes, for a pair with or without a corrupted image.
  bool runs(Branch branch, bool has_corrupted) const;
  bool needs_reference() const { return !sft; }
  bool ranks() const { return !sft && beta != 0; }
};

/// Summed log-probabilities of the scored tokens of each branch; 0 where the branch does not run.
struct PairLogps {
  PerBranch<double> policy{}, reference{};
};

struct KlSums {
  double forward = 0, reverse = 0;  // sums (or means) over the KL rows of (v, y+)
};

/// The loss of one pair before division by the number of pairs, and dLoss/d policy log-probability per branch, both
/// with the pair's weight; the terms and margins are without it.
struct PairLoss {
  double loss = 0, base = 0, visual = 0, anchor = 0, margin = 0, visual_margin = 0;
  PerBranch<double> coefficient{};
};

/// `chosen_tokens` counts the scored tokens of y+ (the divisor of sft); `weight` multiplies the whole loss.
PairLoss evaluate_pair(const Objective& objective, const PairLogps& logps, const KlSums& kl, bool has_corrupted,
                       int64_t chosen_tokens, double weight = 1);

/// -log sigmoid(u) without overflow.
double neg_log_sigmoid(double u);
double sigmoid(double u);

}  // namespace fire
