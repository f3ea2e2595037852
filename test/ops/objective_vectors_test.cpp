// Every objective against test/golden/objective-vectors.json: losses, slopes and the gradient of every logit, checked
// there against the authors' and TRL's own functions. Here in float64 from its sums, and from f32 logits on every
// device.
#include <cmath>

#include "ops/logit_batch.h"

using namespace fire;
using namespace fire::test;

namespace {

constexpr std::array<const char*, branch_count> branch_names{"chosen", "rejected", "corruptedChosen",
                                                             "corruptedRejected"};

const Json& vectors() {
  static const Json json = Json::load(std::string(FIRE_TEST_DIR) + "/golden/objective-vectors.json");
  return json;
}

/// What docs/objectives.md says is left out.
bool is_left_out(const std::string& name) { return name == "aot" || name == "symmpo" || name == "wpo"; }

double number_or(const Json* value, double otherwise) {
  return value && !value->is_null() ? value->number() : otherwise;
}

Objective objective_of(const Json& c) {
  const Json& parameters = c.at("parameters");
  ObjectiveSpec spec{c.at("objective").string(), {}};
  for (const CoefficientName& k : coefficient_names()) spec.k.*k.value = number_or(parameters.find(k.name), 0);
  const Json* scope = parameters.find("scope");
  spec.scope = scope && scope->string() == "phrase" ? Scope::phrase : Scope::completion;
  return Objective::make(spec);
}

Pair pair_of(const Json& c, size_t p) {
  const Json& answers = vectors().at("inputs").at(c.at("input").string()).at("pairs").array()[p].at("answers");
  Pair pair;
  pair.id = std::to_string(p);
  for (const bool is_chosen : {true, false}) {
    const Json& answer = answers.at(is_chosen ? "chosen" : "rejected");
    for (const Json& id : answer.at("tokens").array())
      (is_chosen ? pair.chosen : pair.rejected).push_back(static_cast<int32_t>(id.integer()));
    for (const Json& m : answer.at("phrase").array())
      (is_chosen ? pair.chosen_mask : pair.rejected_mask).push_back(static_cast<uint8_t>(m.integer()));
  }
  if (c.at("hasCorrupted").array()[p].integer() != 0) pair.corrupted_images = {"v'"};
  pair.weight = c.at("weights").array()[p].number();
  if (const Json* scores = c.find("scores"); scores && !scores->is_null())
    pair.rejected_score = scores->at("rejected").array()[p].number();
  return pair;
}

LogitBatch batch_of(Ops& ops, const Json& c, const Objective& objective, bool shares) {
  const auto& pairs = vectors().at("inputs").at(c.at("input").string()).at("pairs").array();
  LogitBatch batch(ops, objective, shares);
  for (size_t p = 0; p < pairs.size(); ++p) {
    PerBranch<SequenceLogits> logits;
    for (size_t b = 0; b < branch_count; ++b)
      logits[b] = {logits_of(pairs[p].at("policy").at(branch_names[b])),
                   logits_of(pairs[p].at("reference").at(branch_names[b]))};
    batch.add(pair_of(c, p), logits);
  }
  return batch;
}

std::vector<const Json*> cases() {
  std::vector<const Json*> all;
  for (const Json& c : vectors().at("cases").array())
    if (!is_left_out(c.at("objective").string())) all.push_back(&c);
  return all;
}

/// The gradient on row `t` of a branch; 0 for a branch that the case does not have.
double gradient_of(const Json& c, size_t b, size_t p, size_t t, size_t k) {
  const Json* branch = c.at("gradients").find(branch_names[b]);
  return branch ? branch->array()[p].array()[t].array()[k].number() : 0;
}

/// Sums, over the tokens that share its row, of the gradients of the case.
using Rows = std::map<int32_t, std::vector<double>>;
Rows expected_rows(const Json& c, const LogitBatch& batch) {
  Rows rows;
  for (size_t p = 0; p < batch.rows.size(); ++p)
    for (size_t b = 0; b < branch_count; ++b)
      for (const auto& [t, row] : batch.rows[p][b]) {
        auto& sum = rows[row];
        sum.resize(static_cast<size_t>(batch.vocab()));
        for (size_t k = 0; k < sum.size(); ++k) sum[k] += gradient_of(c, b, p, t, k);
      }
  return rows;
}

/// Rows that the engine does not read have no gradient in the case either.
void check_unread(const Json& c, const LogitBatch& batch) {
  for (size_t p = 0; p < batch.rows.size(); ++p)
    for (size_t b = 0; b < branch_count; ++b) {
      const Json* branch = c.at("gradients").find(branch_names[b]);
      if (!branch) continue;
      const auto& tokens = branch->array()[p].array();
      for (size_t t = 0; t < tokens.size(); ++t)
        if (!batch.rows[p][b].contains(t))
          for (const Json& value : tokens[t].array()) CHECK(value.number() == 0);
    }
}

/// The sums of a case in float64, in the place of those that came from f32 logits.
PairSums exact_sums(const Json& c, const Objective& objective, size_t p, PairSums sums) {
  const Json& input = vectors().at("inputs").at(c.at("input").string());
  const auto sum = [&](Branch b, Scope scope, const char* key) {
    return input.at("sums")
        .array()[p]
        .at(branch_names[at(b)])
        .at(scope == Scope::phrase ? "phrase" : "completion")
        .at(key)
        .number();
  };
  const auto weighted = [&](Branch b, const char* key) {
    double total = 0;
    const auto& of = input.at("pairs")
                         .array()[p]
                         .at(std::string(key) == "lp" ? "policy" : "reference")
                         .at(branch_names[at(b)])
                         .array();
    const Pair pair = pair_of(c, p);
    for (const Scored& s : scored_tokens(pair, b, objective)) {
      if (!s.rank) continue;
      const auto& z = of[static_cast<size_t>(s.token)].array();
      double largest = -INFINITY, rest = 0;
      for (const Json& x : z) largest = std::max(largest, x.number());
      for (const Json& x : z) rest += std::exp(x.number() - largest);
      const auto target = static_cast<size_t>(pair.answer(b)[static_cast<size_t>(s.token)]);
      total += s.weight * (z[target].number() - largest - std::log(rest));
    }
    return total;
  };
  for (size_t b = 0; b < branch_count; ++b) {
    const Branch branch = static_cast<Branch>(b);
    if (!objective.ranks(branch, sums.has_corrupted)) continue;
    const bool is_plain = objective.token_weights() == TokenWeights::equal;
    sums.logps.policy[b] = is_plain ? sum(branch, objective.scope(), "lp") : weighted(branch, "lp");
    sums.logps.reference[b] = is_plain ? sum(branch, objective.scope(), "lr") : weighted(branch, "lr");
  }
  sums.answer_logp = sum(Branch::chosen, Scope::completion, "lp");
  sums.kl = {sum(Branch::chosen, objective.kl_scope(), "klForward"),
             sum(Branch::chosen, objective.kl_scope(), "klReverse")};
  sums.rejected_kl.forward = sum(Branch::rejected, objective.kl_scope(), "klForward");
  return sums;
}

/// TRL takes the alpha divergence and the odds ratio in f32 (alpha to 8e-8); the vectors are float64 throughout.
double exact_tolerance(double expected) { return 1e-11 * std::max(1.0, std::abs(expected)); }

}  // namespace

TEST("op/objective_vectors: losses and slopes in float64") {
  for (const Json* c : cases()) {
    const Objective objective = objective_of(*c);
    LogitBatch shape = batch_of(plain_device(), *c, objective, false);
    shape.run();
    double mean = 0;
    for (size_t p = 0; p < shape.stats.size(); ++p) {
      const PairLoss got = objective.evaluate(exact_sums(*c, objective, p, shape.stats[p]));
      const double s = shape.stats[p].weight, want = c->at("perPair").array()[p].at("loss").number();
      CHECK_NEAR(got.loss, s * want, exact_tolerance(want));
      mean += got.loss / static_cast<double>(shape.stats.size());
      const auto slope = [&](const char* of, const char* branch) {
        return s * number_or(c->at(of).array()[p].find(branch), 0);
      };
      for (size_t b = 0; b < branch_count; ++b) {
        double expected = slope("slopes", branch_names[b]), value = got.coefficient[b];
        // The likelihood of mpo is of the whole answer: a number of its own where the preference is on phrases.
        if (b == at(Branch::chosen) && objective.scope() == Scope::completion) value += got.answer_coefficient;
        CHECK_NEAR(value, expected, exact_tolerance(expected));
      }
      const std::pair<double, double> kl[] = {
          {got.kl_coefficient.forward, slope("klForwardSlopes", "chosen")},
          {got.kl_coefficient.reverse, slope("klReverseSlopes", "chosen")},
          {got.rejected_kl_coefficient.forward, slope("klForwardSlopes", "rejected")}};
      for (const auto& [value, expected] : kl) CHECK_NEAR(value, expected, exact_tolerance(expected));
    }
    CHECK_NEAR(mean, c->at("loss").number(), exact_tolerance(c->at("loss").number()));
  }
}

TEST("op/objective_vectors: from f32 logits to the gradient of every logit, rows apart and shared") {
  CHECK(cases().size() > 70);
  for (const Device& device : devices())
    for (const Json* c : cases())
      for (const bool shares : {false, true}) {
        const Objective objective = objective_of(*c);
        LogitBatch batch = batch_of(*device.ops, *c, objective, shares);
        batch.run();
        // Logits of size L in f32: a log-probability is off by 2 L u (u = 2^-24), a sum of 6 tokens of weight at most 4
        // by 48 L u, a KL by less. A loss moves by that times its slope, a gradient by that times its curvature and by
        // its own f32 roundings: 16 u of the largest.
        const double u = std::ldexp(1.0, -24), off = 48 * u * (1.0 + static_cast<double>(batch.largest_logit()));
        double steepest = 1;
        for (const Json& pair : c->at("slopes").array())
          for (const char* name : branch_names) steepest = std::max(steepest, std::abs(number_or(pair.find(name), 0)));
        CHECK_NEAR(batch.mean(), c->at("loss").number(), 4 * off * steepest);
        check_unread(*c, batch);
        for (const auto& [row, want] : expected_rows(*c, batch)) {
          double sum = 0;
          for (size_t k = 0; k < want.size(); ++k) {
            const double value = static_cast<double>(batch.gradient(row)[k]);
            CHECK_NEAR(value, want[k], 4 * off * steepest);
            sum += value;
          }
          CHECK_NEAR(sum, 0, 16 * u * steepest);  // softmax does not feel a constant added to a row
        }
      }
}
