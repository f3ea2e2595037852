// The dry run's memory plan against the arena of the real step: the same code runs, so the bytes must be equal.
#include "check.h"
#include "fixture.h"
#include "shared_pairs.h"

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

TEST("plan: batches that share images, in every layout") {
  EngineSpec spec = engine_spec("qwen3_vl");
  spec.reference_cache_bytes = 0;
  Engine engine(spec);
  Random random(6);
  const int64_t sizes[][2] = {{64, 64}, {64, 96}, {96, 64}, {64, 64}};
  std::map<std::string, int64_t> tokens;
  for (int i = 0; i < 4; ++i) {
    const auto [height, width] = sizes[i];
    std::vector<uint8_t> rgb(static_cast<size_t>(height * width * 3));
    for (uint8_t& x : rgb) x = static_cast<uint8_t>(random.integer(0, 255));
    const std::string id = std::to_string(i);
    tokens[id] = engine.encode_image(id, {height, width, rgb.data()}, nullptr).tokens;
    // Another name of the same pixels; a plan cannot know.
    if (i == 0 || i == 3) engine.encode_image(id + "b", {height, width, rgb.data()}, nullptr);
  }
  SharedPairs shared(random, engine.config(), [&](const std::string& id) { return tokens.at(id.substr(0, 1)); });
  int64_t planned_more = 0;
  for (const char* name : {"fire", "dpo", "sft"})
    for (int round = 0; round < 4; ++round) {
      const std::vector<Pair> pairs = shared.batch(random.integer(1, 6));
      const Objective objective = Objective::make({name, 0.1, 0.01, 0.1, 0.5, KlReduction::sum});
      std::vector<Pair> named = pairs;
      for (Pair& p : named)
        for (auto* ids : {&p.images, &p.corrupted_images})
          for (std::string& id : *ids) id = id.substr(0, 1);
      for (const Layout layout : {Layout::packed, Layout::pair}) {
        const StepOptions options{1, layout};
        const PlanStats plan = engine.plan(named, objective, options), other = engine.plan(pairs, objective, options),
                        forward = engine.plan(named, objective, options, false);
        for (const auto& some : {named, pairs}) {
          engine.arena().reset_peak();
          const StepStats stats = engine.evaluate(some, objective, options, nullptr);
          CHECK(plan.tokens == stats.tokens && plan.rows == stats.rows);
          CHECK_NEAR(forward.activation_bytes, engine.arena().peak_bytes(), 0);
          engine.arena().reset_peak();
          engine.accumulate(some, objective, options, nullptr);
          CHECK_NEAR(plan.activation_bytes, engine.arena().peak_bytes(), 0);
        }
        CHECK(other.tokens >= plan.tokens && other.activation_bytes >= plan.activation_bytes);
        planned_more += other.tokens > plan.tokens;
      }
    }
  CHECK(planned_more > 0);
}

TEST("plan: no batch of the tower takes more than planned, whichever images are missing") {
  for (const char* family : {"qwen3_vl", "qwen2_5_vl", "llava"}) {
    EngineSpec spec = engine_spec(family);
    spec.device.kind = DeviceKind::cuda;
    spec.device.plan_only = true;
    Engine engine(spec);
    const SafeTensors file = SafeTensors::open_checkpoint(spec.model);
    const VisionSpec& vision = *engine.config().vision;
    const Objective objective = Objective::make({"dpo", 0.1, 0, 0, 0.5, KlReduction::sum});
    Random random(9);
    const int64_t most = tower_batch_patches(engine.context(), file),
                  a_batch = most / vision.blank(1).count();  // tokens, or images where each has as many
    for (int round = 0; round < 12; ++round) {
      // Some fit into a batch together, some do not, and one may be more than a batch.
      std::vector<int64_t> tokens;
      for (int i = 0; i < 6; ++i)
        tokens.push_back(random.integer(1, std::max<int64_t>(1, a_batch * (round % 4 + 1) / 6)));
      Pair pair;
      pair.prompt = random.ids(3, 0, 99);
      for (const int64_t count : tokens) {
        pair.prompt.insert(pair.prompt.end(), static_cast<size_t>(count),
                           static_cast<int32_t>(engine.config().image_token_id));
        pair.prompt.push_back(1);
        pair.images.push_back(std::to_string(pair.images.size()));
      }
      pair.chosen = {1, 2}, pair.rejected = {3, 4};
      pair.chosen_mask = pair.rejected_mask = {0, 1};
      const size_t plan = engine.plan({pair}, objective, single_step).vision_bytes;
      for (int some = 0; some < 6; ++some) {
        std::vector<Patches> missing;
        for (const int64_t count : tokens)
          if (random.integer(0, 2) > 0) missing.push_back(vision.blank(count));
        NullOps null(engine.ops());
        CHECK(tower_bytes(null, engine.context(), file, missing) <= plan);
      }
    }
  }
}

TEST("plan: images that no id names are shared by the answers of their pair alone") {
  Engine engine(engine_spec("qwen3_vl"));
  Random random(7);
  Pair pair;
  pair.prompt = random.ids(20, 0, 99);
  pair.prompt.insert(pair.prompt.begin() + 1, 6, static_cast<int32_t>(engine.config().image_token_id));
  pair.chosen = {1, 2}, pair.rejected = {3, 4};
  pair.chosen_mask = pair.rejected_mask = {0, 1};
  const Objective objective = Objective::make({"dpo", 0.1, 0, 0, 0.5, KlReduction::sum});
  CHECK(engine.plan({pair, pair}, objective, single_step).tokens == 2 * (26 + 2));
  pair.images = {"a"};
  CHECK(engine.plan({pair, pair}, objective, single_step).tokens == 26 + 2);
}
