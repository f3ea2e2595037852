// A reference with an adapter of its own: the policy that starts from this adapter is the reference, bit for bit.
#include "check.h"
#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

/// An engine on the golden model and adapter; `reference` is the reference's adapter.
struct Trial {
  explicit Trial(const std::string& reference, size_t cache = 0, std::optional<ContentStoreSpec> store = std::nullopt)
      : engine(spec(reference, cache, std::move(store))) {
    Random random(3);
    std::vector<uint8_t> rgb(64 * 96 * 3);
    for (const char* id : {"clean", "corrupted"}) {
      for (uint8_t& value : rgb) value = static_cast<uint8_t>(random.integer(0, 255));
      tokens = engine.encode_image(id, {64, 96, rgb.data()}, nullptr).tokens;
    }
    for (size_t i = 0; i < 3; ++i) {
      Pair& p = pairs.emplace_back();
      p.id = "p" + std::to_string(i);
      p.images = {"clean"};
      if (i != 1) p.corrupted_images = {"corrupted"};
      p.prompt = random.ids(4, 0, 99);
      p.prompt.insert(p.prompt.begin() + 2, static_cast<size_t>(tokens),
                      static_cast<int32_t>(engine.config().image_token_id));
      p.chosen = random.ids(7, 0, 99);
      p.rejected = random.ids(6, 0, 99);
      p.chosen_mask = {0, 0, 1, 1, 0, 1, 0};
      p.rejected_mask = {0, 1, 0, 0, 1, 0};
    }
  }

  static EngineSpec spec(const std::string& reference, size_t cache, std::optional<ContentStoreSpec> store) {
    EngineSpec s = engine_spec("qwen3_vl");
    s.reference_adapter = reference;
    s.reference_cache_bytes = cache;
    s.feature_store = std::move(store);
    return s;
  }

  std::vector<PairStats> evaluate(const Objective& objective, Layout layout = Layout::packed) {
    return engine.evaluate(pairs, objective, {3, layout}, nullptr).pairs;
  }

  Engine engine;
  int64_t tokens = 0;
  std::vector<Pair> pairs;
};

const std::string adapter = golden_directory("qwen3_vl") + "/adapter";

/// Largest difference of the two models that an objective saw, rewards and KLs.
double apart(const std::vector<PairStats>& pairs) {
  double most = 0;
  for (const PairStats& p : pairs) {
    for (size_t b = 0; b < p.logps.policy.size(); ++b)
      most = std::max(most, std::abs(p.logps.policy[b] - p.logps.reference[b]));
    for (const KlSums& kl : {p.kl, p.rejected_kl}) most = std::max({most, std::abs(kl.forward), std::abs(kl.reverse)});
  }
  return most;
}

}  // namespace

TEST("reference adapter: policy and reference are equal in every bit, in both layouts, for every objective") {
  Trial same(adapter), base("");
  for (const std::string& name : objective_names()) {
    const Objective objective = Objective::make(full_spec(name, 0.1, 0.01, 0.1, 0.5));
    if (!objective.needs_reference()) continue;
    CHECK(apart(base.evaluate(objective)) > 1e-3);
    CHECK(apart(same.evaluate(objective)) == 0);
    CHECK(apart(same.evaluate(objective, Layout::plain)) == 0);
  }
}

TEST("reference adapter: results that are kept belong to the adapter they were computed with") {
  TempDir dir;
  const ContentStoreSpec store{dir.path(), "model", size_t{1} << 30};
  const Objective objective = Objective::make({"fire", 0.1, 0.01, 0.1, 0.5, KlReduction::sum});
  const double of_base = apart(Trial("").evaluate(objective));
  for (int round = 0; round < 2; ++round) {  // with an empty store, and with one that has both
    Trial base("", 0, store), same(adapter, size_t{1} << 24, store);
    CHECK(apart(base.evaluate(objective)) == of_base);
    CHECK(apart(same.evaluate(objective)) == 0);
    CHECK(apart(same.evaluate(objective)) == 0);  // from memory
  }
}

TEST("reference adapter: the plan has its bytes, and those of its pass") {
  const Objective objective = Objective::make({"fire", 0.1, 0.01, 0.1, 0.5, KlReduction::sum});
  Trial same(adapter), base("");
  const PlanStats plan = same.engine.plan(same.pairs, objective, single_step);
  CHECK(plan.adapter_bytes == 2 * base.engine.plan(base.pairs, objective, single_step).adapter_bytes);
  same.engine.arena().reset_peak();
  same.engine.accumulate(same.pairs, objective, single_step, nullptr);
  CHECK_NEAR(plan.activation_bytes, same.engine.arena().peak_bytes(), 0);
}

TEST("adapter: a folder's adapter is trained with the dropout and seed of `lora`, and keeps its shape") {
  EngineSpec spec = engine_spec("qwen3_vl");
  const LoraSpec own = Engine(spec).adapter()->spec();
  spec.lora = lora_spec(own.rank + 1);
  spec.lora->dropout = 0.25f;
  spec.lora->seed = 9;
  const Engine engine(spec);
  const LoraSpec& used = engine.adapter()->spec();
  CHECK(used.rank == own.rank && used.alpha == own.alpha && used.targets == own.targets);
  CHECK(used.dropout == 0.25f && used.seed == 9);
}
