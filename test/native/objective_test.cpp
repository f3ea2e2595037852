// The objectives against the float64 reference of test/golden/objectives.json, through the operations that training
// uses (f32 logits on a CPU) and, for the arithmetic on sequence log-probabilities, in float64 alone.
#include "objective/objective.h"

#include <array>
#include <cmath>
#include <limits>

#include "cpu/cpu_ops.h"
#include "fixture.h"
#include "objective/row_summary.h"
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

cpu::CpuOps& ops() {
  static cpu::CpuOps instance(1, cpu::Precision::f32, cpu::Backend::native);
  return instance;
}

Objective objective_of(const Json& c) {
  const Json& k = c.at("coefficients");
  return Objective::make({c.at("objective").string(), k.at("beta").number(), k.at("alpha").number(),
                          k.at("gamma").number(), k.at("lambda").number(),
                          k.at("kl_reduction").string() == "mean" ? KlReduction::mean : KlReduction::sum});
}

/// Rows of one sequence among the gathered rows of the batch.
struct Rows {
  int64_t begin = 0, end = 0;
  bool runs = false;
};

/// A batch of logits with everything the loss computes from it, laid out as preference_step.cpp does.
class Batch {
 public:
  Batch(const Json& pairs, const Objective& objective) : objective_(objective) {
    for (const Json& pair : pairs.array()) add(pair);
  }

  void run() {
    const int64_t rows = static_cast<int64_t>(z_.size()) / vocab_, count = static_cast<int64_t>(targets_.size() / 2);
    const Tensor z = view(z_, {rows, vocab_}), zr = view(zr_, {rows, vocab_});
    const Tensor targets(targets_.data(), DType::i32, {count, 2});
    std::vector<SliceStatistics> statistics(static_cast<size_t>(rows));
    std::vector<float> target_logits(static_cast<size_t>(2 * count));
    ops().preference_statistics(z, zr, 0, targets, Tensor(statistics.data(), DType::f64, {rows, 1, 6}),
                                view(target_logits, {2, count}));
    for (const SliceStatistics& s : statistics) summaries_.push_back(summarize_row(std::span(&s, 1), true));
    for (size_t i = 0; i < pair_of_.size(); ++i) {
      const RowSummary& row = summaries_[static_cast<size_t>(targets_[2 * i])];
      logps[pair_of_[i]].policy[branch_of_[i]] += static_cast<double>(target_logits[i]) - row.lse;
      logps[pair_of_[i]].reference[branch_of_[i]] +=
          static_cast<double>(target_logits[pair_of_.size() + i]) - row.reference_lse;
    }
    for (size_t i = 0; i < kl_rows_.size(); ++i) {
      const RowSummary& row = summaries_[static_cast<size_t>(kl_rows_[i])];
      kl[kl_pair_[i]].forward += row.forward_kl / divisor(kl_pair_[i]);
      kl[kl_pair_[i]].reverse += row.reverse_kl / divisor(kl_pair_[i]);
    }
    for (size_t p = 0; p < logps.size(); ++p)
      loss.push_back(evaluate_pair(objective_, logps[p], kl[p], has_corrupted[p], scored[p][at(Branch::chosen)]));
    backward(z, zr, targets);
  }

  double mean() const {
    double sum = 0;
    for (const PairLoss& l : loss) sum += l.loss;
    return sum / static_cast<double>(loss.size());
  }

  /// After `run`: dL/dz of one sequence, row-major.
  const float* gradient(size_t pair, size_t branch) const { return z_.data() + rows[pair][branch].begin * vocab_; }
  int64_t vocab() const { return vocab_; }
  const std::vector<float>& all_gradients() const { return z_; }

  std::vector<PairLogps> logps;
  std::vector<KlSums> kl;
  std::vector<PairLoss> loss;
  std::vector<bool> has_corrupted;
  std::vector<PerBranch<Rows>> rows;
  std::vector<PerBranch<int64_t>> scored;
  float largest = 0;  // |logit|

 private:
  void add(const Json& pair) {
    const size_t index = logps.size();
    logps.emplace_back();
    kl.emplace_back();
    rows.emplace_back();
    scored.emplace_back();
    kl_count_.push_back(0);
    has_corrupted.push_back(pair.at("has_corrupted").boolean());
    for (size_t b = 0; b < branch_count; ++b) {
      const Json* sequence = pair.at("sequences").find(branch_names[b]);
      if (!sequence || !objective_.runs(static_cast<Branch>(b), has_corrupted[index])) continue;
      const auto& logits = sequence->at("logits").array();
      vocab_ = static_cast<int64_t>(logits.at(0).array().size());
      const int64_t begin = static_cast<int64_t>(z_.size()) / vocab_;
      rows[index][b] = {begin, begin + static_cast<int64_t>(logits.size()), true};
      append(logits, z_);
      append(sequence->at("ref_logits").array(), zr_);
      for (size_t t = 0; t < logits.size(); ++t) add_token(*sequence, index, b, t, static_cast<int32_t>(begin));
    }
  }

  void add_token(const Json& sequence, size_t pair, size_t branch, size_t t, int32_t begin) {
    const bool phrase = sequence.at("phrase_mask").array()[t].integer() != 0;
    auto counts = [&](Scope scope) { return scope == Scope::completion || (scope == Scope::phrase && phrase); };
    const int32_t row = begin + static_cast<int32_t>(t);
    if (counts(objective_.rank_scope)) {
      targets_.insert(targets_.end(), {row, static_cast<int32_t>(sequence.at("targets").array()[t].integer())});
      pair_of_.push_back(pair);
      branch_of_.push_back(branch);
      ++scored[pair][branch];
    }
    if (branch == at(Branch::chosen) && counts(objective_.kl_scope)) {
      kl_rows_.push_back(row);
      kl_pair_.push_back(pair);
      ++kl_count_[pair];
    }
  }

  void append(const std::vector<Json>& matrix, std::vector<float>& out) {
    for (const Json& row : matrix)
      for (const Json& x : row.array()) {
        out.push_back(static_cast<float>(x.number()));
        largest = std::max(largest, std::abs(out.back()));
      }
  }

  double divisor(size_t pair) const {
    return objective_.kl_reduction == KlReduction::mean ? static_cast<double>(std::max<int64_t>(1, kl_count_[pair]))
                                                        : 1;
  }

  void backward(Tensor z, Tensor zr, Tensor targets) {
    const double pairs = static_cast<double>(loss.size());
    std::vector<RowGradient> rows;
    for (const RowSummary& s : summaries_)
      rows.push_back(
          {static_cast<float>(s.lse), static_cast<float>(s.reference_lse), 0, 0, 0, static_cast<float>(s.reverse_kl)});
    std::vector<float> coefficients;
    for (size_t i = 0; i < pair_of_.size(); ++i) {
      coefficients.push_back(static_cast<float>(loss[pair_of_[i]].coefficient[branch_of_[i]] / pairs));
      rows[static_cast<size_t>(targets_[2 * i])].mass += coefficients.back();
    }
    for (size_t i = 0; i < kl_rows_.size(); ++i) {
      const double weight = objective_.alpha / pairs / divisor(kl_pair_[i]);
      rows[static_cast<size_t>(kl_rows_[i])].forward_kl = static_cast<float>(weight * objective_.lambda);
      rows[static_cast<size_t>(kl_rows_[i])].reverse_kl = static_cast<float>(weight * (1 - objective_.lambda));
    }
    ops().preference_backward(z, zr, 0, Tensor(rows.data(), DType::f32, {z.rows(), 6}), targets, view(coefficients));
  }

  const Objective& objective_;
  int64_t vocab_ = 1;
  std::vector<float> z_, zr_;
  std::vector<int32_t> targets_;  // (row, token) by turns
  std::vector<RowSummary> summaries_;
  std::vector<size_t> pair_of_, branch_of_, kl_pair_;
  std::vector<int32_t> kl_rows_;
  std::vector<int64_t> kl_count_;
};

/// f32 logits of size L: log-probabilities are off by L u each (u = 2^-24), a sum of at most 8 tokens by 8 L u; KL
/// terms multiply a gap of up to 2 L with probabilities off by 2 L u, of which only the likely words count.
double value_tolerance(const Batch& b) { return 32 * std::ldexp(1.0, -24) * (1.0 + b.largest); }

double number_or_zero(const Json* value) { return value && !value->is_null() ? value->number() : 0; }

void check_gradients(const Batch& batch, const Json& expected, size_t pair, double tolerance) {
  for (size_t b = 0; b < branch_count; ++b) {
    const Rows& r = batch.rows[pair][b];
    const Json* want = expected.find(branch_names[b]);
    for (int64_t t = 0; t < r.end - r.begin; ++t) {
      double sum = 0;
      for (int64_t k = 0; k < batch.vocab(); ++k) {
        const double value = batch.gradient(pair, b)[t * batch.vocab() + k];
        sum += value;
        if (!want || want->is_null()) {
          CHECK_NEAR(value, 0, 0);
        } else {
          // closed_form has one row and writes it without the list of rows
          const Json& first = want->array()[0];
          const Json& entry = first.type() == Json::Type::array
                                  ? want->array()[static_cast<size_t>(t)].array()[static_cast<size_t>(k)]
                                  : want->array()[static_cast<size_t>(k)];
          CHECK_NEAR(value, entry.number(), tolerance);
        }
      }
      CHECK_NEAR(sum, 0, tolerance);  // softmax does not feel a constant added to a row
    }
  }
}

}  // namespace

TEST("objectives: every case of the reference, through f32 operations") {
  for (const Json& c : reference().at("cases").array()) {
    const Objective objective = objective_of(c);
    Batch batch(reference().at("batches").at(c.at("batch").string()), objective);
    batch.run();
    const double tolerance = value_tolerance(batch);
    CHECK_NEAR(batch.mean(), c.at("loss").number(), tolerance * 8);
    for (size_t p = 0; p < batch.loss.size(); ++p) {
      const Json& want = c.at("per_pair").array()[p];
      CHECK_NEAR(batch.loss[p].loss, want.at("loss").number(), tolerance * 8);
      CHECK_NEAR(batch.loss[p].base, want.at("base").number(), tolerance);
      CHECK_NEAR(batch.loss[p].visual, want.at("visual").number(), tolerance);
      CHECK_NEAR(batch.loss[p].anchor, want.at("anchor").number(), tolerance);
      CHECK_NEAR(batch.loss[p].margin, number_or_zero(want.find("margin")), tolerance);
      CHECK_NEAR(batch.loss[p].visual_margin, number_or_zero(want.find("visual_margin")), tolerance);
      // The reference leaves out a direction of weight 0; the engine leaves out sequences that only such terms read.
      if (!want.at("forward_kl").is_null())
        CHECK_NEAR(batch.kl[p].forward, want.at("forward_kl").number(), tolerance * 8);
      if (!want.at("reverse_kl").is_null())
        CHECK_NEAR(batch.kl[p].reverse, want.at("reverse_kl").number(), tolerance * 8);
      for (size_t b = 0; b < branch_count; ++b) {
        if (!batch.rows[p][b].runs) continue;
        CHECK_NEAR(batch.logps[p].policy[b], want.at("policy").at(branch_names[b]).number(), tolerance);
        if (!objective.sft)
          CHECK_NEAR(batch.logps[p].reference[b], want.at("reference").at(branch_names[b]).number(), tolerance);
      }
      check_gradients(batch, c.at("grad").array()[p], p, tolerance);
    }
  }
}

TEST("objectives: the example worked out by hand") {
  for (const Json& c : reference().at("closed_form").array()) {
    const Objective objective = objective_of(c);
    Batch batch(reference().at("batches").at("closed_form"), objective);
    batch.run();
    // Logits of at most 1: a dozen f32 roundings of numbers below 4.
    CHECK_NEAR(batch.mean(), c.at("loss").number(), 1e-6);
    for (const auto& [name, want] : c.at("grad").object())
      for (size_t b = 0; b < branch_count; ++b)
        if (name == branch_names[b])
          for (size_t k = 0; k < 3; ++k) CHECK_NEAR(batch.gradient(0, b)[k], want.array()[k].number(), 1e-7);
  }
}

TEST("objectives: evaluate_pair alone, in float64") {
  for (const Json& c : reference().at("cases").array()) {
    const Objective objective = objective_of(c);
    const Batch shape(reference().at("batches").at(c.at("batch").string()), objective);
    for (size_t p = 0; p < shape.logps.size(); ++p) {
      const Json& want = c.at("per_pair").array()[p];
      PairLogps logps;
      for (size_t b = 0; b < branch_count; ++b) {
        logps.policy[b] = number_or_zero(want.at("policy").find(branch_names[b]));
        logps.reference[b] = number_or_zero(want.at("reference").find(branch_names[b]));
      }
      const KlSums kl{number_or_zero(want.find("forward_kl")), number_or_zero(want.find("reverse_kl"))};
      const PairLoss got = evaluate_pair(objective, logps, kl, shape.has_corrupted[p], shape.scored[p][0]);
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
    const Objective objective = Objective::make({"fire", 0.1, 0.01, gamma, 0.5, KlReduction::sum});
    Batch batch(reference().at("batches").at("untrained"), objective);
    batch.run();
    for (size_t p = 0; p < batch.loss.size(); ++p) {
      // Policy and reference run the same kernels on the same bits: margins and KL are zero, not nearly zero.
      CHECK(batch.loss[p].margin == 0 && batch.loss[p].visual_margin == 0);
      CHECK(batch.kl[p].forward == 0 && batch.kl[p].reverse == 0);
      CHECK_NEAR(batch.loss[p].loss, ln2 * (1 + (batch.has_corrupted[p] ? gamma : 0)), 1e-15);
      CHECK_NEAR(batch.loss[p].coefficient[0], -0.05, 1e-16);
    }
    // and so is the gradient of the KL: without the rank terms nothing is left
    const Objective kl_only = Objective::make({"fire", 0, 0.01, gamma, 0.5, KlReduction::sum});
    Batch silent(reference().at("batches").at("untrained"), kl_only);
    silent.run();
    for (const float g : silent.all_gradients()) CHECK(g == 0);
  }
}

TEST("objectives: empty masks and pairs without a corrupted image") {
  const double ln2 = std::log(2.0);
  for (const std::string& name : objective_names()) {
    const Objective o = Objective::make({name, 0.1, 0.01, 0.1, 0.5, KlReduction::sum});
    const PairLoss l = evaluate_pair(o, {}, {}, false, 0);
    CHECK(std::isfinite(l.loss));
    CHECK_NEAR(l.loss, o.sft ? 0 : ln2 * (o.anchor ? 2 : 1), 1e-15);
    CHECK(l.visual == 0 && l.coefficient[2] == 0 && l.coefficient[3] == 0);
    CHECK(!o.runs(Branch::corrupted_chosen, false) && !o.runs(Branch::corrupted_rejected, false));
  }
}

TEST("objectives: terms with weight 0 are not run") {
  const Objective no_rank = Objective::make({"fire", 0, 0.01, 0.1, 0.5, KlReduction::sum});
  CHECK(no_rank.runs(Branch::chosen, true) && !no_rank.runs(Branch::rejected, true));
  CHECK(!no_rank.runs(Branch::corrupted_chosen, true) && !no_rank.runs(Branch::corrupted_rejected, true));
  for (const double c : evaluate_pair(no_rank, {{-3, -4, -5, -6}, {-2, -2, -2, -2}}, {}, true, 2).coefficient)
    CHECK(c == 0);

  CHECK(Objective::make({"fire", 0.1, 0, 0.1, 0.5, KlReduction::sum}).kl_scope == Scope::none);
  CHECK(Objective::make({"fire", 0.1, 0.01, 0, 0.5, KlReduction::sum}).visual == Visual::none);
  CHECK(!Objective::make({"sft", 0.1, 0, 0, 0.5, KlReduction::sum}).needs_reference());
  const Objective nothing = Objective::make({"mask-dpo", 0, 0, 0, 0.5, KlReduction::sum});
  for (size_t b = 0; b < branch_count; ++b) CHECK(!nothing.runs(static_cast<Branch>(b), true));

  // lambda 0 and 1 leave one direction of the KL
  const KlSums kl{2, 5};
  auto kl_part = [&](double lambda) {
    return evaluate_pair(Objective::make({"fire", 0.1, 1, 0, lambda, KlReduction::sum}), {}, kl, true, 1).loss -
           std::log(2.0);
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
