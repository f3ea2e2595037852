// The dry run's memory plan against the arena of the real step: the same code runs, so the bytes must be equal.
#include "check.h"
#include "fixture.h"

using namespace fire;
using namespace fire::test;

TEST("plan: activation bytes, tokens and rows are those of the real step") {
  for (const bool checkpointing : {false, true}) {
    for (const char* name : {"fire", "dpo", "sft"}) {
      EngineSpec spec = engine_spec("qwen3_vl");
      spec.checkpointing = checkpointing;
      spec.reference_cache_bytes = 0;
      Engine engine(spec);
      Random random(3);
      std::vector<uint8_t> rgb(64 * 96 * 3);
      for (uint8_t& x : rgb) x = static_cast<uint8_t>(random.integer(0, 255));
      const EncodedImage image = engine.encode_image("a", {64, 96, rgb.data()}, nullptr);
      Pair pair;
      pair.id = "p";
      pair.images = pair.corrupted_images = {"a"};
      pair.prompt = random.ids(5, 0, 99);
      pair.prompt.insert(pair.prompt.begin() + 2, static_cast<size_t>(image.tokens),
                         static_cast<int32_t>(engine.config().image_token_id));
      pair.chosen = random.ids(9, 0, 99);
      pair.rejected = random.ids(8, 0, 99);
      pair.chosen_mask = {0, 0, 1, 1, 0, 0, 1, 0, 0};
      pair.rejected_mask = {0, 1, 0, 0, 0, 0, 0, 0};
      const std::vector<Pair> pairs(3, pair);
      const Objective objective = Objective::make({name, 0.1, 0.01, 0.1, 0.5, KlReduction::sum});

      const PlanStats plan = engine.plan(pairs, objective, single_step);
      engine.arena().reset_peak();
      const StepStats stats = engine.accumulate(pairs, objective, single_step, nullptr);
      CHECK(plan.tokens == stats.tokens && plan.rows == stats.rows);
      CHECK_NEAR(plan.activation_bytes, engine.arena().peak_bytes(), 0);
    }
  }
}
