// The reference cache must change no bit: cold, warm, partly known, in another batch, full, and across objectives.
#include "objective/reference_cache.h"

#include "check.h"
#include "fixture.h"
#include "shared_pairs.h"

using namespace fire;
using namespace fire::test;

namespace {

Pair make_pair(TinyModel& model, Random& random, const std::string& id, bool corrupted) {
  Pair p;
  p.id = id;
  p.images = {"0"};
  if (corrupted) p.corrupted_images = {"3"};
  p.prompt = model.prompt(random, "0", random.integer(2, 9));
  p.chosen = random.ids(random.integer(3, 9), 0, model.last_text_token());
  p.rejected = random.ids(random.integer(3, 9), 0, model.last_text_token());
  p.chosen_mask.assign(p.chosen.size(), 0);
  p.rejected_mask.assign(p.rejected.size(), 0);
  p.chosen_mask[p.chosen.size() / 2] = p.rejected_mask[p.rejected.size() / 3] = 1;
  return p;
}

struct Result {
  std::vector<double> losses;
  std::vector<float> gradient;
  bool operator==(const Result& other) const {
    return same_bits(losses, other.losses) && same_bits(gradient, other.gradient);
  }
};

Result run(TinyModel& model, const std::vector<Pair>& pairs, const Objective& objective, ReferenceCache* cache,
           Layout layout = Layout::packed) {
  Arena& arena = model.engine.arena();
  Arena::Scope scope(arena);
  StepSettings settings = step_settings(static_cast<double>(pairs.size()));
  const auto repack = [&](std::span<const Pair> some) {
    return model.packed({some.begin(), some.end()}, objective, layout);
  };
  if (cache) settings.reference = cache->rows(model.engine.context(), pairs, objective, repack(pairs), repack);
  settings.on_losses = [&] {
    if (cache) cache->fetch(model.engine.ops());
  };
  Result result;
  const StepStats stats = model.step(pairs, objective, layout, settings, &result.gradient);
  for (const PairStats& p : stats.pairs) result.losses.push_back(p.loss.loss);
  if (cache) cache->remember();
  return result;
}

}  // namespace

TEST("reference cache: cold, warm, mixed and full give the same bits as none") {
  for (const std::string& name : objective_names()) {
    const Objective objective = Objective::make(full_spec(name, 0.1, 0.01, 0.1, 0.5));
    if (!objective.needs_reference()) continue;
    TinyModel model("qwen3_vl");
    Random random(5);
    std::vector<Pair> pairs;
    for (int i = 0; i < 5; ++i) pairs.push_back(make_pair(model, random, "p" + std::to_string(i), i != 2));
    ReferenceCache cache(size_t{1} << 24);
    const std::vector<Pair> first(pairs.begin(), pairs.begin() + 3), second(pairs.begin() + 1, pairs.end());
    CHECK(run(model, first, objective, &cache) == run(model, first, objective, nullptr));
    CHECK(cache.hits() == 0);
    CHECK(run(model, first, objective, &cache) == run(model, first, objective, nullptr));
    CHECK(cache.hits() == 3);
    CHECK(run(model, second, objective, &cache) == run(model, second, objective, nullptr));
    CHECK(cache.hits() == 5);

    ReferenceCache tiny(1);
    CHECK(run(model, first, objective, &tiny) == run(model, first, objective, nullptr));
    CHECK(tiny.bytes() == 0);
  }
}

TEST("reference cache: a changed mask, image or objective is another pair") {
  TinyModel model("qwen3_vl");
  Random random(6);
  const Objective fire = Objective::make({"fire", 0.1, 0.01, 0.1, 0.5, KlReduction::sum});
  Pair pair = make_pair(model, random, "p", true);
  ReferenceCache cache(size_t{1} << 24);
  run(model, {pair}, fire, &cache);
  Pair other = pair;
  std::swap(other.images, other.corrupted_images);
  CHECK(run(model, {other}, fire, &cache) == run(model, {other}, fire, nullptr));
  other = pair;
  std::fill(other.chosen_mask.begin(), other.chosen_mask.end(), uint8_t{1});
  CHECK(run(model, {other}, fire, &cache) == run(model, {other}, fire, nullptr));
  const Objective dpo = Objective::make({"dpo", 0.1, 0, 0, 0.5, KlReduction::sum});
  CHECK(run(model, {pair}, dpo, &cache) == run(model, {pair}, dpo, nullptr));
  CHECK(cache.hits() == 0);
}

TEST("reference cache: pairs that share rows, known and not, in any company and order, change no bit") {
  for (const char* name : {"fire", "mdpo", "chip", "tdpo2"}) {
    const Objective objective = Objective::make(full_spec(name, 0.1, 0.01, 0.1, 0.5));
    TinyModel model("qwen3_vl");
    Random random(8);
    SharedPairs shared(random, model.engine.config(), [&](const std::string& id) { return model.image_tokens(id); });
    std::vector<Pair> pairs = shared.batch(9);
    ReferenceCache cache(size_t{1} << 24);
    for (int round = 0; round < 12; ++round) {
      std::vector<Pair> batch;
      for (const Pair& p : pairs)
        if (random.chance(0.4)) batch.push_back(p);
      if (random.chance(0.5)) std::reverse(batch.begin(), batch.end());
      if (batch.empty()) continue;
      CHECK(run(model, batch, objective, &cache) == run(model, batch, objective, nullptr));
    }
    CHECK(cache.hits() > 10);
    // What one layout kept another one reads.
    const int64_t hits = cache.hits();
    CHECK(run(model, pairs, objective, &cache, Layout::pair) == run(model, pairs, objective, nullptr, Layout::pair));
    CHECK(cache.hits() > hits + 5);
  }
}

TEST("reference cache: the rows of a pair come in another order behind a pair with its answers the other way round") {
  TinyModel model("qwen3_vl");
  Random random(9);
  const Objective objective = Objective::make(full_spec("fire", 0.1, 0.01, 0.1, 0.5));
  const Pair pair = make_pair(model, random, "p", true);
  Pair swapped = pair;
  std::swap(swapped.chosen, swapped.rejected);
  std::swap(swapped.chosen_mask, swapped.rejected_mask);
  ReferenceCache cache(size_t{1} << 24);
  run(model, {pair}, objective, &cache);
  for (const auto& batch : {std::vector{swapped, pair}, std::vector{pair, swapped}, std::vector{swapped}})
    CHECK(run(model, batch, objective, &cache) == run(model, batch, objective, nullptr));
  CHECK(cache.hits() == 4);
}
