#include "objective/objective.h"

#include <cmath>
#include <limits>

#include "tensor/error.h"

namespace fire {

std::span<const CoefficientName> coefficient_names() {
  using K = Coefficients;
  constexpr double any = std::numeric_limits<double>::max();
  static constexpr CoefficientName names[] = {
      {"beta", &K::beta, any},
      {"alpha", &K::alpha, any},
      {"gamma", &K::gamma, any},
      {"lambda", &K::lambda, 1},
      {"labelSmoothing", &K::label_smoothing, 0.5, true},  // at a half a pair says nothing
      {"tau", &K::tau, any},
      {"nllWeight", &K::nll_weight, any},
      {"textWeight", &K::text_weight, any},
      {"bcoWeight", &K::bco_weight, any},
      {"ldAlpha", &K::ld_alpha, 1},
      {"fAlpha", &K::f_alpha, any},
      {"tokenWeight", &K::token_weight, any},
      {"klWeight", &K::kl_weight, any},
      {"eta", &K::eta, any},
      {"rho", &K::rho, any},
  };
  return names;
}

void PairTerms::add(double PairLoss::*term, const Dual& value, double weight) {
  if (weight == 0) return;
  terms.*term = value.value;
  loss = loss + weight * value;
}

void PairTerms::add_preference(double PairLoss::*term, const Dual& u, double weight) {
  if (weight == 0) return;
  terms.*term = neg_log_sigmoid(u.value);
  loss = loss + chain(weight * u, weight * terms.*term, -sigmoid(-u.value));
}

namespace {

void check(const ObjectiveSpec& spec, bool ok, const std::string& what) {
  if (!ok) throw Error(Code::invalid_argument, "objective " + spec.name + ": " + what);
}

void check_coefficients(const ObjectiveSpec& spec) {
  for (const CoefficientName& c : coefficient_names()) {
    const double value = spec.k.*c.value;
    const bool bounded = c.largest < std::numeric_limits<double>::max();
    const std::string range = bounded
                                  ? "lie in [0, " + std::string(c.largest == 1 ? "1" : "0.5") + (c.is_open ? ")" : "]")
                                  : "be a number >= 0";
    check(spec, value >= 0 && value <= c.largest && !(c.is_open && value == c.largest),
          std::string(c.name) + " must " + range);
  }
}

const ObjectiveRow& row_of(const std::string& name) {
  std::string known;
  for (const ObjectiveRow& row : objective_rows()) {
    if (name == row.name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error(Code::invalid_argument, "unknown objective \"" + name + "\"; expected one of " + known);
}

double slope_of(const Dual& loss, Input input) { return loss.slope[static_cast<size_t>(input)]; }

}  // namespace

Objective Objective::make(const ObjectiveSpec& spec) {
  Objective o;
  o.row_ = &row_of(spec.name);
  check_coefficients(spec);
  o.k_ = spec.k;
  o.scope_ = spec.scope.value_or(o.row_->scope);
  for (const bool has_corrupted : {false, true}) {
    PairSums untrained;
    untrained.has_corrupted = has_corrupted;
    untrained.pairs_per_token = 1;
    PairTerms terms(o.k_, untrained);
    o.row_->loss(terms);
    check(
        spec, std::isfinite(terms.loss.value),
        "the loss of an untrained model is not finite: it divides by a coefficient that is 0, or takes its logarithm");
    o.reads_[has_corrupted] = terms.loss.reads;
  }
  return o;
}

bool Objective::runs(Branch branch, bool has_corrupted) const {
  const auto any = [&](std::initializer_list<Input> inputs) {
    return std::any_of(inputs.begin(), inputs.end(), [&](Input i) { return reads(i, has_corrupted); });
  };
  if (ranks(branch, has_corrupted)) return true;
  if (branch == Branch::chosen) return any({Input::answer_logp, Input::forward_kl, Input::reverse_kl});
  return branch == Branch::rejected && any({Input::rejected_forward_kl});
}

PairLoss Objective::evaluate(const PairSums& sums) const {
  PairTerms terms(k_, sums);
  row_->loss(terms);
  PairLoss out = terms.terms;
  const auto reward = [&](Branch b) {
    const Branch run = sums.has_corrupted ? b : on_clean_image(b);
    return sums.logps.policy[at(run)] - sums.logps.reference[at(run)];
  };
  const auto margin = [&](const auto& of) { return k_.beta * (reward(of.first) - reward(of.second)); };
  out.margin = margin(row_->prefers);
  if (sums.has_corrupted) out.visual_margin = margin(row_->visual);

  const double s = sums.weight;
  const auto slope = [&](Input input) { return s * slope_of(terms.loss, input); };
  out.loss = s * terms.loss.value;
  for (size_t b = 0; b < branch_count; ++b) out.coefficient[b] = slope(static_cast<Input>(b));
  out.answer_coefficient = slope(Input::answer_logp);
  out.kl_coefficient = {slope(Input::forward_kl), slope(Input::reverse_kl)};
  out.rejected_kl_coefficient.forward = slope(Input::rejected_forward_kl);
  return out;
}

}  // namespace fire
