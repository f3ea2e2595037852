// Gradients of the whole step (reference and policy forward, loss, decoder backward) against finite differences of the
// loss it reports, for every objective, with dropout and with checkpointing.
#include <cmath>

#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

/// Two pairs on different images, one of them with a corrupted form, phrases in the middle and at the end.
std::vector<Pair> sample_pairs(TinyModel& model) {
  Random random(5);
  std::vector<Pair> pairs(2);
  const std::vector<int32_t> common = random.ids(3, 0, model.last_text_token());
  for (size_t i = 0; i < pairs.size(); ++i) {
    Pair& p = pairs[i];
    p.id = "pair" + std::to_string(i);
    p.images = {i == 0 ? "0" : "1"};
    if (i == 0) p.corrupted_images = {"3"};
    p.prompt = model.prompt(random, p.images[0], 6);
    p.chosen = p.rejected = common;
    for (auto* answer : {&p.chosen, &p.rejected}) {
      const std::vector<int32_t> tail = random.ids(4 + static_cast<int64_t>(i), 0, model.last_text_token());
      answer->insert(answer->end(), tail.begin(), tail.end());
    }
    p.chosen_mask.assign(p.chosen.size(), 0);
    p.rejected_mask.assign(p.rejected.size(), 0);
    p.chosen_mask[1] = p.chosen_mask[4] = p.rejected_mask[3] = p.rejected_mask.back() = 1;
  }
  return pairs;
}

Objective sample_objective(const std::string& name, KlReduction kl_reduction = KlReduction::sum) {
  return Objective::make(full_spec(name, 0.4, 0.3, 0.6, 0.35, kl_reduction));
}

/// The same without what an objective takes as a constant, which finite differences would see.
Objective differentiable_objective(const std::string& name) {
  ObjectiveSpec spec = full_spec(name, 0.4, 0.3, 0.6, 0.35);
  if (name == "tdpo2") spec.k.alpha = 0;
  if (name == "chip") spec.k.kl_weight = 0;
  if (name == "v-dpo") spec.k.gamma = 1;
  return Objective::make(spec);
}

/// Derivative along `direction` by the fourth-order central difference.
double derivative(const std::function<double(double)>& f, double h) {
  return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h);
}

/// Checks dL/dA or dL/dB of one module along: the gradient with half of its entries dropped (a large signal, since it
/// points uphill) plus a random direction of the same length (which sees entries that are wrongly zero).
void check_matrix(TinyModel& model, const std::vector<Pair>& pairs, const Objective& objective,
                  const StepSettings& settings, const std::vector<float>& gradient, const LoraModule& m, bool is_b,
                  Random& random) {
  const int64_t begin = is_b ? m.b_begin : m.a_begin;
  const int64_t count = model.engine.adapter()->spec().rank * (is_b ? m.out : m.in);
  std::vector<double> direction(static_cast<size_t>(count));
  const double size = norm(gradient.data() + begin, count);
  if (!(size > 1e-3)) {
    check::fail(__FILE__, __LINE__, "the example gives " + module_name(m.proj) + " no gradient to speak of");
    return;
  }
  double expected = 0;
  for (size_t i = 0; i < direction.size(); ++i) {
    const double g = gradient[static_cast<size_t>(begin) + i];
    direction[i] =
        (random.chance(0.5) ? g / size : 0) + random.uniform() * std::sqrt(3.0) / std::sqrt(static_cast<double>(count));
    expected += direction[i] * g;
  }
  const std::vector<float> start = model.parameters();
  const double got = derivative(
      [&](double h) {
        std::vector<float> moved = start;
        for (size_t i = 0; i < direction.size(); ++i)
          moved[static_cast<size_t>(begin) + i] += static_cast<float>(h * direction[i]);
        model.set_parameters(moved);
        std::vector<float> unused;
        return mean_loss(model.step(pairs, objective, fire::Layout::packed, settings, &unused));
      },
      2e-2);
  model.set_parameters(start);
  // The loss (about 1) carries f32 noise of about 3e-7, which the quotient divides by about h: 2e-5. The h^4 error
  // grows with the size of the gradient.
  CHECK_NEAR(got, expected, 2e-5 + 5e-4 * size);
}

void check_objective(TinyModel& model, const Objective& objective, bool checkpointing, std::vector<size_t> modules) {
  const std::vector<Pair> pairs = sample_pairs(model);
  StepSettings settings = step_settings(static_cast<double>(pairs.size()));
  settings.dropout_step = 7;
  settings.checkpointing = checkpointing;
  std::vector<float> gradient;
  model.step(pairs, objective, fire::Layout::packed, settings, &gradient);
  Random random(3);
  for (const size_t index : modules)
    for (const bool is_b : {false, true})
      check_matrix(model, pairs, objective, settings, gradient, model.engine.adapter()->modules().at(index), is_b,
                   random);
}

}  // namespace

TEST("gradients: finite differences, every objective") {
  TinyModel model("qwen3_vl");
  // first layer q and k, second layer v and o, last layer gate, down and q (restricted to the rows read)
  for (const std::string& name : objective_names())
    check_objective(model, differentiable_objective(name), false, {0, 1, 9, 25, 27});
  check_objective(model, sample_objective("fire", KlReduction::mean), false, {2, 10, 21});
}

TEST("gradients: finite differences, one key-value head, rsLoRA, bf16 weights") {
  TinyModel model("qwen3_vl_b");
  check_objective(model, sample_objective("fire"), false, {0, 1, 2, 3, 4, 5, 6});
  check_objective(model, sample_objective("mdpo"), false, {14, 15, 16, 17, 18, 19, 20});
}

TEST("gradients: finite differences with dropout") {
  TinyModel model("qwen3_vl", "0.25");
  for (const char* name : {"fire", "mdpo", "sft"})
    check_objective(model, sample_objective(name), false, {0, 2, 13, 22, 26});
  check_objective(model, sample_objective("rrpo"), true, {5, 27});
}

TEST("gradients: arms that are one loss under two names have the same bits") {
  TinyModel model("qwen3_vl");
  const std::vector<Pair> pairs = sample_pairs(model);
  const auto spec = [](const std::string& name, auto change) {
    ObjectiveSpec spec = full_spec(name, 0.4, 0.3, 0.6, 0.35);
    change(spec);
    return Objective::make(spec);
  };
  const auto as_is = [](ObjectiveSpec&) {};
  const auto without = [](double Coefficients::*name, double value = 0) {
    return [name, value](ObjectiveSpec& s) { s.k.*name = value; };
  };
  using K = Coefficients;
  const Objective dpo = spec("dpo", as_is);
  const std::pair<Objective, Objective> arms[] = {
      {spec("mask-dpo", as_is), spec("fire", [](ObjectiveSpec& s) { s.k.alpha = s.k.gamma = 0; })},
      {spec("mask-dpo", as_is), spec("dpo", [](ObjectiveSpec& s) { s.scope = Scope::phrase; })},
      {spec("rrpo-phrase-kl", as_is), spec("fire", [](ObjectiveSpec& s) { s.k.gamma = 0, s.k.lambda = 1; })},
      {spec("rrpo", without(&K::alpha)), spec("mask-dpo", as_is)},
      {spec("fire-v1", without(&K::gamma)), spec("fire-v2", without(&K::gamma))},
      {dpo, spec("mmedpo-text", as_is)},
      {dpo, spec("hsa-dpo", as_is)},  // every score is 1
      {dpo, spec("cdpo", without(&K::label_smoothing))},
      {dpo, spec("robust", without(&K::label_smoothing))},
      {dpo, spec("r-dpo", without(&K::alpha))},
      {dpo, spec("dpo-nll", without(&K::nll_weight))},
      {dpo, spec("token-weighted-dpo", without(&K::token_weight, 1))},
      {dpo, spec("ld-dpo", without(&K::ld_alpha, 1))},
      {dpo, spec("dpo-alpha", without(&K::f_alpha, 1))},
      {dpo, spec("tdpo2", without(&K::alpha))},
      {dpo, spec("v-dpo", without(&K::gamma, 1))},
      {spec("cmdpo", as_is), spec("chip", [](ObjectiveSpec& s) { s.k.token_weight = 1, s.k.kl_weight = 0; })}};
  for (const auto& [one, other] : arms) {
    std::vector<float> gradient, same;
    const double loss = mean_loss(model.step(pairs, one, fire::Layout::packed, step_settings(), &gradient));
    CHECK(mean_loss(model.step(pairs, other, fire::Layout::packed, step_settings(), &same)) == loss);
    CHECK(same_bits(gradient, same));
    CHECK(norm(gradient.data(), static_cast<int64_t>(gradient.size())) > 0);
  }
}

TEST("gradients: checkpointing changes no bit") {
  for (const char* dropout : {"0.0", "0.3"}) {
    TinyModel model("qwen3_vl", dropout);
    const std::vector<Pair> pairs = sample_pairs(model);
    for (const auto layout : {fire::Layout::packed, fire::Layout::plain}) {
      StepSettings settings = step_settings();
      settings.dropout_step = 3;
      std::vector<float> kept, again, other_step;
      const Objective objective = sample_objective("fire");
      const double loss = mean_loss(model.step(pairs, objective, layout, settings, &kept));
      settings.checkpointing = true;
      CHECK(mean_loss(model.step(pairs, objective, layout, settings, &again)) == loss);
      CHECK(same_bits(kept, again));
      settings.dropout_step = 4;
      const double other = mean_loss(model.step(pairs, objective, layout, settings, &other_step));
      CHECK((other == loss) == (std::string(dropout) == "0.0"));
    }
  }
}

TEST("gradients: threads change no bit") {
  std::vector<float> expected;
  for (const int threads : {1, 2, 3}) {
    TinyModel model("qwen3_vl_b", "0.2", threads);
    std::vector<float> gradient;
    model.step(sample_pairs(model), sample_objective("fire"), fire::Layout::packed, step_settings(), &gradient);
    if (expected.empty()) expected = gradient;
    CHECK(same_bits(gradient, expected));
  }
}

TEST("gradients: they add up over micro-batches and scale with the normalizer") {
  TinyModel model("qwen3_vl");
  const std::vector<Pair> pairs = sample_pairs(model);
  const Objective objective = sample_objective("fire");
  const StepSettings settings = step_settings(2);
  std::vector<float> both, first, second;
  model.step(pairs, objective, fire::Layout::packed, settings, &both);
  model.step({pairs[0]}, objective, fire::Layout::packed, settings, &first);
  model.step({pairs[1]}, objective, fire::Layout::packed, settings, &second);
  for (size_t i = 0; i < both.size(); ++i) first[i] += second[i];
  // f32 sums over about 100 rows, in another order.
  const int64_t n = static_cast<int64_t>(both.size());
  CHECK(distance(both.data(), first.data(), n) < 1e-5 * norm(both.data(), n));
}

TEST("gradients: a weight scales the pair's loss and gradient, every objective, both layouts") {
  TinyModel model("qwen3_vl");
  const std::vector<Pair> pairs = sample_pairs(model);
  const double weights[] = {0.3, 1.75};
  for (const std::string& name : objective_names())
    for (const auto layout : {fire::Layout::packed, fire::Layout::plain}) {
      const Objective objective = sample_objective(name);
      // The number of pairs divides, not the sum of weights.
      StepSettings settings = step_settings(2);
      for (const Pair& p : pairs) settings.chosen_tokens += averaged_tokens(p, objective);
      std::vector<float> expected, gradient;
      std::vector<Pair> weighted = pairs;
      StepStats alone[2];
      for (size_t i = 0; i < 2; ++i) {
        alone[i] = model.step({pairs[i]}, objective, layout, settings, &gradient);
        expected.resize(gradient.size());
        for (size_t k = 0; k < gradient.size(); ++k) expected[k] += static_cast<float>(weights[i]) * gradient[k];
        weighted[i].weight = weights[i];
      }
      const StepStats stats = model.step(weighted, objective, layout, settings, &gradient);
      for (size_t i = 0; i < 2; ++i) {
        const PairLoss &with = stats.pairs[i].loss, &without = alone[i].pairs[0].loss;
        CHECK(with.loss == weights[i] * without.loss && stats.pairs[i].weight == weights[i]);
        CHECK(with.base == without.base && with.visual == without.visual && with.margin == without.margin);
      }
      // f32 sums over about 100 rows, in another order.
      const int64_t n = static_cast<int64_t>(gradient.size());
      CHECK(distance(gradient.data(), expected.data(), n) < 1e-5 * norm(expected.data(), n));

      for (Pair& p : weighted) p.weight = 0;
      CHECK(mean_loss(model.step(weighted, objective, layout, settings, &gradient)) == 0);
      CHECK(norm(gradient.data(), n) == 0);
    }
}
