// The table of objectives: a row a loss. What a row does not read is not run, and its slopes are derived (dual.h), so
// the formula is all there is to write. Sources, published coefficients, pairs without a corrupted image:
// docs/objectives.md; the same names with words and published coefficients: src/engine/objectives.ts.
#include "objective/objective.h"

namespace fire {
namespace {

constexpr Branch chosen = Branch::chosen, rejected = Branch::rejected;
constexpr Branch corrupted_chosen = Branch::corrupted_chosen, corrupted_rejected = Branch::corrupted_rejected;
constexpr auto base = &PairLoss::base, visual = &PairLoss::visual, anchor = &PairLoss::anchor, nll = &PairLoss::nll;

Dual text_margin(const PairTerms& t) { return t.margin(chosen, rejected); }
/// beta * d of one sequence.
Dual reward(const PairTerms& t, Branch b) { return t.k.beta * t.ratio(b); }
/// d / n: the mean over the tokens.
Dual mean_ratio(const PairTerms& t, Branch b) { return t.ratio(b) / t.tokens(b); }
Dual mean_logp(const PairTerms& t, Branch b) { return t.logp(b) / t.tokens(b); }
/// -N/T * lp: over the pairs of a step it averages to the mean over their tokens.
Dual token_mean_nll(const PairTerms& t, const Dual& logp) { return -t.sums.pairs_per_token * logp; }

void sft(PairTerms& t) { t.add(base, -mean_logp(t, chosen)); }

void text_preference(PairTerms& t) { t.add_preference(base, text_margin(t)); }

void mixed_kl(PairTerms& t) { t.add(t.k.alpha * (t.k.lambda * t.forward_kl() + (1 - t.k.lambda) * t.reverse_kl())); }

template <Branch winner, Branch loser>
void fire_loss(PairTerms& t) {
  text_preference(t);
  if (t.has_corrupted) t.add_preference(visual, t.margin(winner, loser), t.k.gamma);
  mixed_kl(t);
}

void rrpo(PairTerms& t) {
  text_preference(t);
  t.add(t.k.alpha * t.forward_kl());
}

void mdpo(PairTerms& t) {
  text_preference(t);
  if (t.has_corrupted) t.add_preference(visual, t.margin(chosen, corrupted_chosen));
  t.add_preference(anchor, reward(t, chosen));
}

void hinge(PairTerms& t) { t.add(base, positive_part(1 - text_margin(t))); }

void ipo(PairTerms& t) { t.add(base, square(mean_ratio(t, chosen) - mean_ratio(t, rejected) - 1 / (2 * t.k.beta))); }

void sigmoid_norm(PairTerms& t) {
  t.add_preference(base, t.k.beta * (mean_ratio(t, chosen) - mean_ratio(t, rejected)));
}

void cdpo(PairTerms& t) {
  const Dual m = text_margin(t);
  t.add(base, neg_log_sigmoid(m) + t.k.label_smoothing * m);
}

void robust(PairTerms& t) {
  const double e = t.k.label_smoothing;
  const Dual m = text_margin(t);
  t.add(base, neg_log_sigmoid(m) - (e / (1 - 2 * e)) * m);
}

void bco_pair(PairTerms& t) { t.add(base, neg_log_sigmoid(reward(t, chosen)) + neg_log_sigmoid(-reward(t, rejected))); }

void nca_pair(PairTerms& t) {
  const Dual plus = reward(t, chosen), minus = reward(t, rejected);
  t.add(base, neg_log_sigmoid(plus) + 0.5 * neg_log_sigmoid(-plus) + 0.5 * neg_log_sigmoid(-minus));
}

void apo_zero(PairTerms& t) { t.add(base, sigmoid(-reward(t, chosen)) + sigmoid(reward(t, rejected))); }

void apo_down(PairTerms& t) { t.add(base, sigmoid(reward(t, chosen)) + sigmoid(-text_margin(t))); }

void exo(PairTerms& t) {
  const double e = t.k.label_smoothing;
  const Dual m = text_margin(t);
  t.add(base,
        sigmoid(m) * (-neg_log_sigmoid(m) - std::log(1 - e)) + sigmoid(-m) * (-neg_log_sigmoid(-m) - std::log(e)));
}

/// q * e^-m is written as e^(log q - m): neither factor overflows alone.
void discopop(PairTerms& t) {
  const Dual m = text_margin(t), scaled = m / t.k.tau;
  t.add(base, sigmoid(-scaled) * neg_log_sigmoid(m) + exp(-neg_log_sigmoid(scaled) - m));
}

void sppo(PairTerms& t) {
  const double half = 1 / (2 * t.k.beta);
  t.add(base, square(t.ratio(chosen) - half) + square(t.ratio(rejected) + half));
}

/// DPO on g(d) for an f-divergence in place of the reverse KL.
template <Dual (*g)(const PairTerms&, const Dual&)>
void f_divergence(PairTerms& t) {
  t.add_preference(base, t.k.beta * (g(t, t.ratio(chosen)) - g(t, t.ratio(rejected))));
}
Dual jensen_shannon(const PairTerms&, const Dual& d) { return -neg_log_sigmoid(d); }
Dual forward(const PairTerms&, const Dual& d) { return -exp(-d); }
/// TRL bounds the exponent so that e^x stays within f32.
Dual alpha_divergence(const PairTerms& t, const Dual& d) {
  const double power = t.k.f_alpha - 1;
  return power == 0 ? d : exp(at_most(power * d, 80)) / power;
}

void r_dpo(PairTerms& t) {
  t.add_preference(base, text_margin(t) + t.k.alpha * (t.tokens(chosen) - t.tokens(rejected)));
}

void hsa_dpo(PairTerms& t) {
  t.add_preference(base, t.k.beta * (t.ratio(chosen) - t.sums.rejected_score * t.ratio(rejected)));
}

void dpo_nll(PairTerms& t) {
  text_preference(t);
  t.add(nll, -mean_logp(t, chosen), t.k.nll_weight);
}

void mpo(PairTerms& t) {
  t.add_preference(base, text_margin(t), t.k.text_weight);
  t.add(&PairLoss::bco, neg_log_sigmoid(reward(t, chosen)) + neg_log_sigmoid(-reward(t, rejected)), t.k.bco_weight);
  t.add(nll, token_mean_nll(t, t.answer_logp()), t.k.nll_weight);
}

void simpo(PairTerms& t) {
  t.add_preference(base, t.k.beta * (mean_logp(t, chosen) - mean_logp(t, rejected)) - t.k.gamma);
}

void cpo(PairTerms& t) {
  t.add_preference(base, t.k.beta * (t.logp(chosen) - t.logp(rejected)));
  t.add(nll, token_mean_nll(t, t.logp(chosen)), t.k.nll_weight);
}

/// log(p / (1 - p)) of the mean log-probability of a token, which rounding may take to 0 or above: f32 logits leave
/// 1e-7.
Dual log_odds(const PairTerms& t, Branch b) {
  const Dual a = at_most(mean_logp(t, b), -1e-7);
  const double rest = -std::expm1(a.value);
  return a - chain(a, std::log(rest), -std::exp(a.value) / rest);
}

void orpo(PairTerms& t) {
  t.add_preference(base, log_odds(t, chosen) - log_odds(t, rejected), t.k.beta);
  t.add(nll, token_mean_nll(t, t.logp(chosen)));
}

void tdpo1(PairTerms& t) {
  t.add_preference(base, t.k.beta * (t.ratio(chosen) - t.ratio(rejected) - (t.rejected_forward_kl() - t.forward_kl())));
}

void tdpo2(PairTerms& t) {
  const Dual kl = t.rejected_forward_kl() - detached(t.forward_kl());
  t.add_preference(base, t.k.beta * (t.ratio(chosen) - t.ratio(rejected) - t.k.alpha * kl));
}

void mmedpo_visual(PairTerms& t) {
  t.add_preference(base, t.margin(chosen, t.has_corrupted ? corrupted_rejected : rejected));
}

void copo(PairTerms& t) {
  if (t.has_corrupted) t.add_preference(base, t.margin(chosen, corrupted_chosen));
}

/// What CHiP prefers beside the text, inside the same sigmoid.
Dual visual_ratio(const PairTerms& t) { return t.has_corrupted ? t.ratio(chosen) - t.ratio(corrupted_chosen) : Dual(); }

void cmdpo(PairTerms& t) { t.add_preference(base, t.k.beta * (t.ratio(chosen) - t.ratio(rejected) + visual_ratio(t))); }

void chip(PairTerms& t) {
  const Dual kl = t.rejected_forward_kl() - detached(t.forward_kl());
  t.add_preference(base, t.k.beta * (t.ratio(chosen) - t.ratio(rejected) + visual_ratio(t) - t.k.kl_weight * kl));
}

/// log-probabilities guided away from what the policy says of v': a number that it is not trained to change.
Dual guided(const PairTerms& t, Branch on_image, Branch corrupted) {
  if (!t.has_corrupted) return t.ratio(on_image);
  return (t.k.gamma - 1) * (t.logp(on_image) - detached(t.logp(corrupted))) + t.ratio(on_image);
}

void v_dpo(PairTerms& t) {
  t.add_preference(base, t.k.beta * (guided(t, chosen, corrupted_chosen) - guided(t, rejected, corrupted_rejected)));
}

/// SymMPO with y- as the answer that is right for v'. The consistency is on ratios, not on rewards, as released.
void symmpo_pair(PairTerms& t) {
  t.add_preference(base, text_margin(t), 1 + t.k.lambda);
  t.add_preference(anchor, reward(t, chosen), t.k.eta);
  if (!t.has_corrupted) return;
  t.add_preference(visual, t.margin(corrupted_rejected, corrupted_chosen), t.k.lambda);
  t.add_preference(&PairLoss::anchor_visual, reward(t, corrupted_rejected), t.k.eta);
  t.add(&PairLoss::consistency,
        square(t.ratio(chosen) - t.ratio(rejected) - t.ratio(corrupted_rejected) + t.ratio(corrupted_chosen)), t.k.rho);
}

}  // namespace

std::span<const ObjectiveRow> objective_rows() {
  constexpr Scope phrase = Scope::phrase;
  static constexpr ObjectiveRow rows[] = {
      {.name = "sft", .loss = sft, .prefers = {chosen, chosen}},
      {.name = "dpo", .loss = text_preference},
      {.name = "mdpo", .loss = mdpo, .visual = {chosen, corrupted_chosen}},
      {.name = "mask-dpo", .scope = phrase, .loss = text_preference},
      {.name = "rrpo", .scope = phrase, .loss = rrpo, .whole_kl = true},
      {.name = "rrpo-phrase-kl", .scope = phrase, .loss = rrpo},
      {.name = "fire",
       .scope = phrase,
       .loss = fire_loss<corrupted_rejected, corrupted_chosen>,
       .visual = {corrupted_rejected, corrupted_chosen}},
      {.name = "fire-v1",
       .scope = phrase,
       .loss = fire_loss<chosen, corrupted_chosen>,
       .visual = {chosen, corrupted_chosen}},
      {.name = "fire-v2",
       .scope = phrase,
       .loss = fire_loss<chosen, corrupted_rejected>,
       .visual = {chosen, corrupted_rejected}},

      // Other functions of the margin, or of the two rewards.
      {.name = "hinge", .loss = hinge},
      {.name = "ipo", .loss = ipo},
      {.name = "sigmoid-norm", .loss = sigmoid_norm},
      {.name = "cdpo", .loss = cdpo},
      {.name = "robust", .loss = robust},
      {.name = "bco-pair", .loss = bco_pair},
      {.name = "nca-pair", .loss = nca_pair},
      {.name = "apo-zero", .loss = apo_zero},
      {.name = "apo-down", .loss = apo_down},
      {.name = "discopop", .loss = discopop},
      {.name = "sppo-hard", .loss = sppo},
      {.name = "exo-pair", .loss = exo},
      {.name = "dpo-js", .loss = f_divergence<jensen_shannon>},
      {.name = "dpo-forward-kl", .loss = f_divergence<forward>},
      {.name = "dpo-alpha", .loss = f_divergence<alpha_divergence>},

      // Lengths, scores, likelihood.
      {.name = "r-dpo", .loss = r_dpo},
      {.name = "hsa-dpo", .loss = hsa_dpo},
      {.name = "dpo-nll", .loss = dpo_nll},
      {.name = "mpo", .loss = mpo},
      {.name = "simpo", .loss = simpo},
      {.name = "cpo", .loss = cpo},
      {.name = "orpo", .loss = orpo},

      // Weights and KLs of tokens.
      {.name = "token-weighted-dpo", .loss = text_preference, .token_weights = TokenWeights::phrase},
      {.name = "ld-dpo", .loss = text_preference, .token_weights = TokenWeights::common_length},
      {.name = "tdpo1", .loss = tdpo1},
      {.name = "tdpo2", .loss = tdpo2},

      // Both images.
      {.name = "mmedpo-text", .loss = text_preference},
      {.name = "mmedpo-visual", .loss = mmedpo_visual, .prefers = {chosen, corrupted_rejected}},
      {.name = "copo", .loss = copo, .prefers = {chosen, corrupted_chosen}},
      {.name = "cmdpo", .loss = cmdpo, .visual = {chosen, corrupted_chosen}},
      {.name = "chip",
       .loss = chip,
       .visual = {chosen, corrupted_chosen},
       .token_weights = TokenWeights::phrase,
       .whole_kl = true},
      {.name = "v-dpo", .loss = v_dpo, .visual = {chosen, corrupted_chosen}},
      {.name = "symmpo-pair", .loss = symmpo_pair, .visual = {corrupted_rejected, corrupted_chosen}},
  };
  return rows;
}

}  // namespace fire
