// The objectives against the float64 reference of test/golden/objectives.json, through the operations that training
// uses (f32 logits on a CPU) and, for the arithmetic on sequence log-probabilities, in float64 alone.
#include "objective/objective.h"

#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "fixture.h"
#include "ops/logit_batch.h"
#include "tensor/json.h"

using namespace fire;
using namespace fire::test;

namespace {

constexpr std::array<const char*, branch_count> branch_names{"chosen", "rejected", "corrupted_chosen",
                                                             "corrupted_rejected"};

const Json& reference() {
  static const Json json = Json::load(std::string(FIRE_TEST_DIR) + "/golden/objectives.json");
  return json;
}

Objective objective_of(const Json& c) {
  const Json& k = c.at("coefficients");
  return Objective::make({c.at("objective").string(), k.at("beta").number(), k.at("alpha").number(),
                          k.at("gamma").number(), k.at("lambda").number(),
                          k.at("kl_reduction").string() == "mean" ? KlReduction::mean : KlReduction::sum});
}

/// The pairs of a batch, in the words of LogitBatch.
LogitBatch batch_of(const Json& pairs, const Objective& objective) {
  LogitBatch batch(plain_device(), objective);
  for (const Json& json : pairs.array()) {
    Pair pair;
    if (json.at("has_corrupted").boolean()) pair.corrupted_images = {"v'"};
    PerBranch<SequenceLogits> logits;
    for (size_t b = 0; b < branch_count; ++b) {
      const Json* sequence = json.at("sequences").find(branch_names[b]);
      if (!sequence) continue;
      logits[b] = {logits_of(sequence->at("logits")), logits_of(sequence->at("ref_logits"))};
      const bool is_chosen = answers_chosen(static_cast<Branch>(b));
      auto& answer = is_chosen ? pair.chosen : pair.rejected;
      auto& mask = is_chosen ? pair.chosen_mask : pair.rejected_mask;
      answer.clear(), mask.clear();
      for (const Json& id : sequence->at("targets").array()) answer.push_back(static_cast<int32_t>(id.integer()));
      for (const Json& m : sequence->at("phrase_mask").array()) mask.push_back(static_cast<uint8_t>(m.integer()));
    }
    batch.add(pair, logits);
  }
  return batch;
}

/// f32 logits of size L: log-probabilities are off by L u each (u = 2^-24), a sum of at most 8 tokens by 8 L u; KL
/// terms multiply a gap of up to 2 L with probabilities off by 2 L u, of which only the likely words count.
double value_tolerance(const LogitBatch& b) { return 32 * std::ldexp(1.0, -24) * (1.0 + b.largest_logit()); }

double number_or_zero(const Json* value) { return value && !value->is_null() ? value->number() : 0; }

/// Rows that nothing reads have a gradient of exactly 0.
void check_gradients(const LogitBatch& batch, const Json& expected, size_t pair, double tolerance) {
  for (size_t b = 0; b < branch_count; ++b) {
    const Json* want = expected.find(branch_names[b]);
    if (!want || want->is_null()) {
      CHECK(batch.rows[pair][b].empty());
      continue;
    }
    for (size_t t = 0; t < want->array().size(); ++t) {
      const auto& entries = want->array()[t].array();
      const auto row = batch.rows[pair][b].find(t);
      double sum = 0;
      for (size_t k = 0; k < entries.size(); ++k) {
        const bool is_read = row != batch.rows[pair][b].end();
        const double value = is_read ? static_cast<double>(batch.gradient(row->second)[k]) : 0;
        CHECK_NEAR(value, entries[k].number(), is_read ? tolerance : 0);
        sum += value;
      }
      CHECK_NEAR(sum, 0, tolerance);  // softmax does not feel a constant added to a row
    }
  }
}

}  // namespace

TEST("objectives: every case of the reference, through f32 operations") {
  for (const Json& c : reference().at("cases").array()) {
    const Objective objective = objective_of(c);
    LogitBatch batch = batch_of(reference().at("batches").at(c.at("batch").string()), objective);
    batch.run();
    const double tolerance = value_tolerance(batch);
    CHECK_NEAR(batch.mean(), c.at("loss").number(), tolerance * 8);
    for (size_t p = 0; p < batch.stats.size(); ++p) {
      const PairStats& got = batch.stats[p];
      const Json& want = c.at("per_pair").array()[p];
      CHECK_NEAR(got.loss.loss, want.at("loss").number(), tolerance * 8);
      CHECK_NEAR(got.loss.base, want.at("base").number(), tolerance);
      CHECK_NEAR(got.loss.visual, want.at("visual").number(), tolerance);
      CHECK_NEAR(got.loss.anchor, want.at("anchor").number(), tolerance);
      CHECK_NEAR(got.loss.margin, number_or_zero(want.find("margin")), tolerance);
      CHECK_NEAR(got.loss.visual_margin, number_or_zero(want.find("visual_margin")), tolerance);
      // The reference leaves out a direction of weight 0; the engine leaves out sequences that only such terms read.
      if (!want.at("forward_kl").is_null()) CHECK_NEAR(got.kl.forward, want.at("forward_kl").number(), tolerance * 8);
      if (!want.at("reverse_kl").is_null()) CHECK_NEAR(got.kl.reverse, want.at("reverse_kl").number(), tolerance * 8);
      for (size_t b = 0; b < branch_count; ++b) {
        if (!objective.ranks(static_cast<Branch>(b), got.has_corrupted)) continue;
        CHECK_NEAR(got.logps.policy[b], want.at("policy").at(branch_names[b]).number(), tolerance);
        if (objective.needs_reference())
          CHECK_NEAR(got.logps.reference[b], want.at("reference").at(branch_names[b]).number(), tolerance);
      }
      check_gradients(batch, c.at("grad").array()[p], p, tolerance);
    }
  }
}

TEST("objectives: the example worked out by hand") {
  for (const Json& c : reference().at("closed_form").array()) {
    LogitBatch batch = batch_of(reference().at("batches").at("closed_form"), objective_of(c));
    batch.run();
    // Logits of at most 1: a dozen f32 roundings of numbers below 4.
    CHECK_NEAR(batch.mean(), c.at("loss").number(), 1e-6);
    for (const auto& [name, want] : c.at("grad").object())
      for (size_t b = 0; b < branch_count; ++b)
        if (name == branch_names[b])
          for (size_t k = 0; k < 3; ++k)
            CHECK_NEAR(batch.gradient(batch.rows[0][b].at(0))[k], want.array()[k].number(), 1e-7);
  }
}

TEST("objectives: the arithmetic on log-probabilities alone, in float64") {
  for (const Json& c : reference().at("cases").array()) {
    const Objective objective = objective_of(c);
    LogitBatch shape = batch_of(reference().at("batches").at(c.at("batch").string()), objective);
    shape.run();
    for (size_t p = 0; p < shape.stats.size(); ++p) {
      const Json& want = c.at("per_pair").array()[p];
      PairSums sums = shape.stats[p];
      for (size_t b = 0; b < branch_count; ++b) {
        if (!objective.ranks(static_cast<Branch>(b), sums.has_corrupted)) continue;
        sums.logps.policy[b] = number_or_zero(want.at("policy").find(branch_names[b]));
        sums.logps.reference[b] = number_or_zero(want.at("reference").find(branch_names[b]));
      }
      sums.kl = {number_or_zero(want.find("forward_kl")), number_or_zero(want.find("reverse_kl"))};
      const PairLoss got = objective.evaluate(sums);
      // Differences of log-probabilities of up to a few thousand: 1e-12 relative.
      const std::pair<double, double> values[] = {{got.loss, want.at("loss").number()},
                                                  {got.base, want.at("base").number()},
                                                  {got.visual, want.at("visual").number()},
                                                  {got.anchor, want.at("anchor").number()},
                                                  {got.margin, number_or_zero(want.find("margin"))},
                                                  {got.visual_margin, number_or_zero(want.find("visual_margin"))}};
      for (const auto& [value, expected] : values)
        CHECK_NEAR(value, expected, 1e-12 * std::max(1.0, std::abs(expected)));
    }
  }
}

TEST("objectives: an untrained policy") {
  const double ln2 = std::log(2.0);
  for (const double gamma : {0.0, 0.1, 0.7}) {
    const Json& pairs = reference().at("batches").at("untrained");
    LogitBatch batch = batch_of(pairs, Objective::make({"fire", 0.1, 0.01, gamma, 0.5, KlReduction::sum}));
    batch.run();
    for (const PairStats& s : batch.stats) {
      // Policy and reference run the same kernels on the same bits: margins and KL are zero, not nearly zero.
      CHECK(s.loss.margin == 0 && s.loss.visual_margin == 0);
      CHECK(s.kl.forward == 0 && s.kl.reverse == 0);
      CHECK_NEAR(s.loss.loss, ln2 * (1 + (s.has_corrupted ? gamma : 0)), 1e-15);
      CHECK_NEAR(s.loss.coefficient[0], -0.05, 1e-16);
    }
    // and so is the gradient of the KL: without the rank terms nothing is left
    LogitBatch silent = batch_of(pairs, Objective::make({"fire", 0, 0.01, gamma, 0.5, KlReduction::sum}));
    silent.run();
    CHECK(!silent.all_gradients().empty());
    for (const float g : silent.all_gradients()) CHECK(g == 0);
  }
}

TEST("objectives: empty masks and pairs without a corrupted image") {
  // Losses of answers without a scored token and without a twin: all sums are 0.
  const double ln2 = std::log(2.0);
  const std::map<std::string, double> others = {{"sft", 0}, {"mdpo", 2 * ln2}};
  for (const std::string& name : published_objectives()) {
    const Objective o = Objective::make({name, 0.1, 0.01, 0.1, 0.5, KlReduction::sum});
    const PairLoss l = o.evaluate({});
    CHECK_NEAR(l.loss, others.contains(name) ? others.at(name) : ln2, 1e-15);
    CHECK(l.visual == 0 && l.coefficient[2] == 0 && l.coefficient[3] == 0);
    CHECK(!o.runs(Branch::corrupted_chosen, false) && !o.runs(Branch::corrupted_rejected, false));
  }
}

TEST("objectives: terms with weight 0 are not run") {
  const Objective no_rank = Objective::make({"fire", 0, 0.01, 0.1, 0.5, KlReduction::sum});
  CHECK(no_rank.runs(Branch::chosen, true) && !no_rank.runs(Branch::rejected, true));
  CHECK(!no_rank.runs(Branch::corrupted_chosen, true) && !no_rank.runs(Branch::corrupted_rejected, true));
  PairSums far;
  far.logps = {{-3, -4, -5, -6}, {-2, -2, -2, -2}};
  far.has_corrupted = true;
  for (const double c : no_rank.evaluate(far).coefficient) CHECK(c == 0);

  const auto reads = [](const ObjectiveSpec& spec, Input input) { return Objective::make(spec).reads(input, true); };
  CHECK(reads({"fire", 0.1, 0.01, 0.1, 0.5, KlReduction::sum}, Input::reverse_kl));
  CHECK(!reads({"fire", 0.1, 0, 0.1, 0.5, KlReduction::sum}, Input::forward_kl));
  CHECK(!reads({"fire", 0.1, 0.01, 0.1, 1, KlReduction::sum}, Input::reverse_kl));
  CHECK(!reads({"fire", 0.1, 0.01, 0, 0.5, KlReduction::sum}, Input::logp_corrupted_chosen));
  CHECK(!Objective::make({"sft", 0.1, 0, 0, 0.5, KlReduction::sum}).needs_reference());
  const Objective nothing = Objective::make({"mask-dpo", 0, 0, 0, 0.5, KlReduction::sum});
  for (size_t b = 0; b < branch_count; ++b) CHECK(!nothing.runs(static_cast<Branch>(b), true));

  // lambda 0 and 1 leave one direction of the KL
  PairSums sums;
  sums.kl = {2, 5};
  auto kl_part = [&](double lambda) {
    return Objective::make({"fire", 0.1, 1, 0, lambda, KlReduction::sum}).evaluate(sums).loss - std::log(2.0);
  };
  CHECK_NEAR(kl_part(1), 2, 1e-15);
  CHECK_NEAR(kl_part(0), 5, 1e-15);
  CHECK_NEAR(kl_part(0.25), 0.25 * 2 + 0.75 * 5, 1e-15);
}

TEST("objectives: coefficients out of range are refused by name") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_ERROR(Code::invalid_argument, ("fire", "beta"), Objective::make({"fire", -1, 0, 0, 0.5, KlReduction::sum}));
  CHECK_ERROR(Code::invalid_argument, ("beta"), Objective::make({"fire", nan, 0, 0, 0.5, KlReduction::sum}));
  CHECK_ERROR(Code::invalid_argument, ("alpha"), Objective::make({"fire", 1, -0.1, 0, 0.5, KlReduction::sum}));
  CHECK_ERROR(Code::invalid_argument, ("gamma"), Objective::make({"fire", 1, 0, INFINITY, 0.5, KlReduction::sum}));
  CHECK_ERROR(Code::invalid_argument, ("lambda"), Objective::make({"fire", 1, 0, 0, 1.01, KlReduction::sum}));
  CHECK_ERROR(Code::invalid_argument, ("lambda"), Objective::make({"fire", 1, 0, 0, nan, KlReduction::sum}));
  CHECK_ERROR(Code::invalid_argument, ("ppo", "mask-dpo"), Objective::make({"ppo", 1, 0, 0, 0.5, KlReduction::sum}));
}

TEST("objectives: sigmoid of extreme margins") {
  for (const double u : {-1e308, -1e4, -745.0, 0.0, 745.0, 1e4, 1e308}) {
    CHECK(std::isfinite(neg_log_sigmoid(u)) && neg_log_sigmoid(u) >= 0);
    CHECK(sigmoid(u) >= 0 && sigmoid(u) <= 1);
  }
  CHECK_NEAR(neg_log_sigmoid(-1000), 1000, 1e-12);
  CHECK_NEAR(neg_log_sigmoid(40), std::exp(-40.0), 1e-30);
  CHECK_NEAR(sigmoid(-40), std::exp(-40.0), 1e-30);
}
