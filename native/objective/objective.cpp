#include "objective/objective.h"

#include <algorithm>
#include <cmath>

#include "tensor/error.h"

namespace fire {

double neg_log_sigmoid(double u) { return std::max(-u, 0.0) + std::log1p(std::exp(-std::abs(u))); }

double sigmoid(double u) { return u >= 0 ? 1 / (1 + std::exp(-u)) : std::exp(u) / (1 + std::exp(u)); }

Objective Objective::make(const ObjectiveSpec& spec) {
  const std::string& name = spec.name;
  const auto check = [&](bool ok, const std::string& what) {
    if (!ok) throw Error(Code::invalid_argument, "objective " + name + ": " + what);
  };
  for (const auto& [coefficient, value] : {std::pair{"beta", spec.beta}, {"alpha", spec.alpha}, {"gamma", spec.gamma}})
    check(std::isfinite(value) && value >= 0, std::string(coefficient) + " must be a number >= 0");
  check(spec.lambda >= 0 && spec.lambda <= 1, "lambda must lie in [0, 1]");

  Objective o;
  o.beta = spec.beta;
  o.alpha = spec.alpha;
  o.gamma = spec.gamma;
  o.lambda = spec.lambda;
  o.kl_reduction = spec.kl_reduction;
  if (name == "fire" || name == "fire-v1" || name == "fire-v2") {
    o.kl_scope = Scope::phrase;
    o.visual = name == "fire" ? Visual::reversed : name == "fire-v1" ? Visual::image : Visual::image_answer;
  } else if (name == "rrpo") {
    o.kl_scope = Scope::completion;
    o.lambda = 1;
  } else if (name == "rrpo-phrase-kl") {
    o.kl_scope = Scope::phrase;
    o.lambda = 1;
  } else if (name == "mask-dpo") {
    // The phrase masks and nothing else.
  } else if (name == "dpo") {
    o.rank_scope = Scope::completion;
  } else if (name == "mdpo") {
    o.rank_scope = Scope::completion;
    o.visual = Visual::image;
    o.gamma = 1;
    o.anchor = true;
  } else if (name == "sft") {
    o.rank_scope = Scope::completion;
    o.sft = true;
  } else {
    throw Error(Code::invalid_argument,
                "unknown objective \"" + name +
                    "\"; expected sft, dpo, mdpo, rrpo, rrpo-phrase-kl, mask-dpo, fire, fire-v1 or fire-v2");
  }
  if (o.alpha == 0) o.kl_scope = Scope::none;
  if (o.kl_scope == Scope::none) o.alpha = 0;
  if (o.gamma == 0) o.visual = Visual::none;
  return o;
}

bool Objective::runs(Branch branch, bool has_corrupted) const {
  if (sft) return branch == Branch::chosen;
  const bool visual_term = has_corrupted && ranks();
  switch (branch) {
    case Branch::chosen:
      return ranks() || kl_scope != Scope::none;
    case Branch::rejected:
      return ranks();
    case Branch::corrupted_chosen:
      return visual_term && (visual == Visual::reversed || visual == Visual::image);
    case Branch::corrupted_rejected:
      return visual_term && (visual == Visual::reversed || visual == Visual::image_answer);
  }
  return false;
}

namespace {

/// Adds weight * (-log sigmoid(beta * (reward gap))) of `winner` over `loser` and its derivatives.
double add_preference(const Objective& o, const PairLogps& l, Branch winner, Branch loser, double weight, PairLoss& out,
                      double* term) {
  auto log_ratio = [&](Branch b) { return l.policy[at(b)] - l.reference[at(b)]; };
  const double margin = o.beta * (log_ratio(winner) - log_ratio(loser));
  const double slope = -o.beta * weight * sigmoid(-margin);
  out.coefficient[at(winner)] += slope;
  out.coefficient[at(loser)] -= slope;
  *term = neg_log_sigmoid(margin);
  out.loss += weight * *term;
  return margin;
}

PairLoss unweighted(const Objective& o, const PairLogps& l, const KlSums& kl, bool has_corrupted,
                    int64_t chosen_tokens) {
  PairLoss out;
  if (o.sft) {
    const double n = static_cast<double>(std::max<int64_t>(chosen_tokens, 1));
    out.base = out.loss = -l.policy[at(Branch::chosen)] / n;
    out.coefficient[at(Branch::chosen)] = -1 / n;
    return out;
  }
  out.margin = add_preference(o, l, Branch::chosen, Branch::rejected, 1, out, &out.base);
  if (has_corrupted && o.visual != Visual::none) {
    const Branch winner = o.visual == Visual::reversed ? Branch::corrupted_rejected : Branch::chosen;
    const Branch loser = o.visual == Visual::image_answer ? Branch::corrupted_rejected : Branch::corrupted_chosen;
    out.visual_margin = add_preference(o, l, winner, loser, o.gamma, out, &out.visual);
  }
  if (o.anchor) {
    const double reward = o.beta * (l.policy[at(Branch::chosen)] - l.reference[at(Branch::chosen)]);
    out.anchor = neg_log_sigmoid(reward);
    out.coefficient[at(Branch::chosen)] -= o.beta * sigmoid(-reward);
    out.loss += out.anchor;
  }
  if (o.kl_scope != Scope::none) out.loss += o.alpha * (o.lambda * kl.forward + (1 - o.lambda) * kl.reverse);
  return out;
}

}  // namespace

PairLoss evaluate_pair(const Objective& o, const PairLogps& l, const KlSums& kl, bool has_corrupted,
                       int64_t chosen_tokens, double weight) {
  PairLoss out = unweighted(o, l, kl, has_corrupted, chosen_tokens);
  out.loss *= weight;
  for (double& slope : out.coefficient) slope *= weight;
  return out;
}

}  // namespace fire
