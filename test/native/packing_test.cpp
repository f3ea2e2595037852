// The packed layout (a tree of what sequences begin with, rows that nothing reads left out) against the plain one
// (every sequence whole and alone) on random pairs; logits in chunks; pairs that must be refused.
#include <cmath>
#include <set>

#include "fixture.h"
#include "shared_pairs.h"

using namespace fire;
using namespace fire::test;
using fire::Layout;

namespace {

enum class Kind { random, no_image, prefix, identical, empty_chosen, empty_rejected, both_empty, ends, count };

std::vector<uint8_t> random_mask(Random& random, size_t n) {
  std::vector<uint8_t> mask(n);
  for (uint8_t& m : mask) m = random.chance(0.3);
  mask[static_cast<size_t>(random.integer(0, static_cast<int64_t>(n) - 1))] = 1;
  return mask;
}

Pair random_pair(TinyModel& model, Random& random, Kind kind, const std::string& id) {
  Pair p;
  p.id = id;
  const bool has_image = kind != Kind::no_image && random.chance(0.8);
  if (has_image) {
    const int64_t which = random.integer(0, 2);
    p.images = {std::to_string(which)};
    if (which == 0 && random.chance(0.7)) p.corrupted_images = {"3"};
  }
  p.prompt = model.prompt(random, has_image ? p.images[0] : "", random.integer(1, 12));
  const int32_t last = model.last_text_token();
  const std::vector<int32_t> common = random.ids(random.integer(0, 5), 0, last);
  p.chosen = p.rejected = common;
  for (auto* answer : {&p.chosen, &p.rejected}) {
    const std::vector<int32_t> tail = random.ids(random.integer(1, 7), 0, last);
    answer->insert(answer->end(), tail.begin(), tail.end());
  }
  if (kind == Kind::prefix)
    p.rejected.assign(p.chosen.begin(), p.chosen.begin() + static_cast<std::ptrdiff_t>((p.chosen.size() + 1) / 2));
  if (kind == Kind::identical) p.rejected = p.chosen;
  p.chosen_mask = random_mask(random, p.chosen.size());
  p.rejected_mask = random_mask(random, p.rejected.size());
  if (kind == Kind::identical) p.rejected_mask = p.chosen_mask;
  if (kind == Kind::empty_chosen || kind == Kind::both_empty) p.chosen_mask.assign(p.chosen.size(), 0);
  if (kind == Kind::empty_rejected || kind == Kind::both_empty) p.rejected_mask.assign(p.rejected.size(), 0);
  if (kind == Kind::ends)
    p.chosen_mask.front() = p.rejected_mask.front() = p.chosen_mask.back() = p.rejected_mask.back() = 1;
  return p;
}

Objective sample_objective(const std::string& name) { return Objective::make(full_spec(name, 0.3, 0.2, 0.5, 0.4)); }

/// A pair that every test below can start from: one image, phrase in the middle of both answers.
Pair sound_pair(TinyModel& model) {
  Random random(21);
  Pair p;
  p.id = "record-17";
  p.images = {"0"};
  p.corrupted_images = {"3"};
  p.prompt = model.prompt(random, "0", 6);
  p.chosen = random.ids(7, 0, 99);
  p.rejected = random.ids(8, 100, 199);
  p.chosen_mask = {0, 0, 1, 1, 0, 0, 0};
  p.rejected_mask = {0, 1, 0, 0, 0, 0, 0, 0};
  return p;
}

/// Values have the same bits: a row does not depend on its batch, nor on where its sequence is cut. Gradients are sums
/// over rows in another order: the golden folders measure 3e-6 relative noise between two orders. Modules with a
/// gradient that nearly cancels are held to the size of the whole, and where the whole cancels (identical answers) to
/// the size of the terms, at most about 5.
void compare_steps(TinyModel& model, const StepStats& a, const StepStats& b, const std::vector<float>& ga,
                   const std::vector<float>& gb) {
  for (size_t p = 0; p < a.pairs.size(); ++p) {
    const PairStats &x = a.pairs[p], &y = b.pairs[p];
    CHECK(x.loss.loss == y.loss.loss && x.loss.margin == y.loss.margin);
    CHECK(x.loss.visual_margin == y.loss.visual_margin);
    CHECK(x.kl.forward == y.kl.forward && x.kl.reverse == y.kl.reverse);
    CHECK(x.logps.policy == y.logps.policy && x.logps.reference == y.logps.reference);
    CHECK(x.chosen_tokens == y.chosen_tokens && x.rejected_tokens == y.rejected_tokens);
  }
  const double whole = norm(gb.data(), static_cast<int64_t>(gb.size()));
  const int64_t rank = model.engine.adapter()->spec().rank;
  for (const LoraModule& m : model.engine.adapter()->modules())
    for (const auto& [begin, count] : {std::pair{m.a_begin, rank * m.in}, std::pair{m.b_begin, rank * m.out}}) {
      const double size = norm(gb.data() + begin, count);
      CHECK_NEAR(distance(ga.data() + begin, gb.data() + begin, count), 0, 1e-5 * size + 2e-6 * whole + 5e-6);
    }
}

void compare_layouts(TinyModel& model, const std::vector<Pair>& pairs, const Objective& objective) {
  const StepSettings settings = step_settings(static_cast<double>(pairs.size()));
  std::vector<float> plain_gradient;
  const StepStats plain = model.step(pairs, objective, Layout::plain, settings, &plain_gradient);
  int64_t tokens = plain.tokens, rows = plain.rows;
  for (const Layout layout : {Layout::pair, Layout::packed}) {
    std::vector<float> gradient;
    const StepStats stats = model.step(pairs, objective, layout, settings, &gradient);
    compare_steps(model, stats, plain, gradient, plain_gradient);
    CHECK(stats.tokens <= tokens && stats.rows <= rows);
    tokens = stats.tokens;
    rows = stats.rows;
  }
}

}  // namespace

TEST("packing: packed equals plain on random batches, every objective") {
  for (const char* golden : {"qwen3_vl", "qwen3_vl_b"}) {
    TinyModel model(golden);
    Random random(77);
    for (const std::string& name : objective_names()) {
      for (int round = 0; round < 10; ++round) {
        std::vector<Pair> pairs;
        const int64_t count = random.integer(1, 4);
        for (int64_t i = 0; i < count; ++i)
          pairs.push_back(random_pair(model, random,
                                      static_cast<Kind>(random.integer(0, static_cast<int64_t>(Kind::count) - 1)),
                                      "r" + std::to_string(i)));
        compare_layouts(model, pairs, sample_objective(name));
      }
    }
  }
}

TEST("packing: packed equals plain on every special kind of pair") {
  TinyModel model("qwen3_vl");
  Random random(78);
  for (int kind = 0; kind < static_cast<int>(Kind::count); ++kind)
    for (const char* name : {"fire", "mdpo", "rrpo"})
      compare_layouts(model, {random_pair(model, random, static_cast<Kind>(kind), "k")}, sample_objective(name));
}

/// A model and random pairs that share images, questions and answers.
struct SharedWorld {
  explicit SharedWorld(uint32_t seed, const char* golden = "qwen3_vl", int threads = 1, const char* dropout = "0.0")
      : model(golden, dropout, threads),
        random(seed),
        pairs(random, model.engine.config(), [this](const std::string& id) { return model.image_tokens(id); }) {}

  TinyModel model;
  Random random;
  SharedPairs pairs;
};

TEST("packing: pairs that share images, questions and answers, packed and by pair, equal plain, every objective") {
  SharedWorld w(80);
  const int64_t image_token = w.model.engine.config().image_token_id;
  int64_t packed_tokens = 0, pair_tokens = 0;
  for (const std::string& name : objective_names())
    for (int round = 0; round < 6; ++round) {
      const std::vector<Pair> pairs = w.pairs.batch(w.random.integer(1, 7));
      const Objective objective = sample_objective(name);
      compare_layouts(w.model, pairs, objective);
      const int64_t packed = w.model.packed(pairs, objective, Layout::packed).input.tokens(),
                    by_pair = w.model.packed(pairs, objective, Layout::pair).input.tokens();
      CHECK(packed == distinct_tokens(pairs, objective, image_token, true));
      CHECK(by_pair == distinct_tokens(pairs, objective, image_token, false));
      packed_tokens += packed;
      pair_tokens += by_pair;
    }
  CHECK(packed_tokens < pair_tokens * 2 / 3);
}

TEST("packing: a pair has the same bits alone, beside others, in every layout and with every number of threads") {
  std::vector<std::vector<double>> losses;
  std::vector<std::vector<float>> gradients;
  for (const int threads : {1, 2, 3}) {
    SharedWorld w(81, "qwen3_vl_b", threads);
    for (const char* name : {"fire", "rrpo", "mpo"}) {
      const Objective objective = sample_objective(name);
      const std::vector<Pair> pairs = w.pairs.batch(6);
      StepSettings settings = step_settings(6);
      settings.chosen_tokens = 40;
      std::vector<float> gradient;
      std::vector<double> together;
      for (const PairStats& p : w.model.step(pairs, objective, Layout::packed, settings, &gradient).pairs)
        together.push_back(p.loss.loss);
      for (const Layout layout : {Layout::packed, Layout::pair, Layout::plain})
        for (size_t p = 0; p < pairs.size(); ++p)
          CHECK(w.model.step({pairs[p]}, objective, layout, settings, nullptr).pairs[0].loss.loss == together[p]);
      losses.push_back(together);
      gradients.push_back(gradient);
    }
  }
  for (size_t i = 3; i < losses.size(); ++i)
    CHECK(same_bits(losses[i], losses[i % 3]) && same_bits(gradients[i], gradients[i % 3]));
}

TEST("packing: dropout draws one mask for a shared token, and checkpointing draws it again") {
  SharedWorld w(82, "qwen3_vl", 1, "0.3");
  const Objective objective = sample_objective("fire");
  const std::vector<Pair> pairs = w.pairs.batch(5);
  StepSettings settings = step_settings(5);
  settings.dropout_step = 3;
  std::vector<float> kept, again;
  const double loss = mean_loss(w.model.step(pairs, objective, Layout::packed, settings, &kept));
  settings.checkpointing = true;
  CHECK(mean_loss(w.model.step(pairs, objective, Layout::packed, settings, &again)) == loss);
  CHECK(same_bits(kept, again));
  // The same image on both sides: what both read has one mask, be it one row or two.
  Pair twins = sound_pair(w.model);
  twins.corrupted_images = twins.images;
  for (const Layout layout : {Layout::packed, Layout::pair, Layout::plain})
    CHECK(w.model.step({twins}, sample_objective("mdpo"), layout, settings, &kept).pairs[0].loss.visual_margin == 0);
}

TEST("packing: with dropout, every layout, micro-batch and order of pairs draws the same masks, every objective") {
  SharedWorld w(84, "qwen3_vl", 1, "0.3");
  for (const std::string& name : objective_names())
    for (int round = 0; round < 3; ++round) {
      const Objective objective = sample_objective(name);
      std::vector<Pair> pairs = w.pairs.batch(w.random.integer(2, 5));
      compare_layouts(w.model, pairs, objective);
      StepSettings settings = step_settings(static_cast<double>(pairs.size()));
      settings.chosen_tokens = 40;
      settings.dropout_step = round;
      std::vector<float> whole, parts(w.model.parameters().size()), part;
      const StepStats together = w.model.step(pairs, objective, Layout::packed, settings, &whole);
      StepStats apart = together;
      for (size_t p = pairs.size(); p-- > 0;) {
        apart.pairs[p] = w.model.step({pairs[p]}, objective, Layout::packed, settings, &part).pairs[0];
        for (size_t i = 0; i < parts.size(); ++i) parts[i] += part[i];
      }
      compare_steps(w.model, apart, together, parts, whole);
      std::reverse(pairs.begin(), pairs.end());
      StepStats reversed = w.model.step(pairs, objective, Layout::packed, settings, &parts);
      std::reverse(reversed.pairs.begin(), reversed.pairs.end());
      compare_steps(w.model, reversed, together, parts, whole);
    }
}

TEST("packing: masks change with the optimizer step, and evaluation has none") {
  TinyModel model("qwen3_vl", "0.3");
  std::set<double> losses;
  std::vector<float> gradient;
  StepSettings settings = step_settings();
  for (const int64_t step : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{1} << 32}) {
    settings.dropout_step = step;
    losses.insert(
        mean_loss(model.step({sound_pair(model)}, sample_objective("fire"), Layout::packed, settings, &gradient)));
  }
  losses.insert(
      mean_loss(model.step({sound_pair(model)}, sample_objective("fire"), Layout::packed, settings, nullptr)));
  CHECK(losses.size() == 5);
}

TEST("packing: a pair that comes twice weighs twice and feeds nothing more") {
  SharedWorld w(83);
  for (const std::string& name : objective_names()) {
    const Objective objective = sample_objective(name);
    Pair once = sound_pair(w.model), twice = once;
    once.weight = 0.75;
    twice.weight = 1.5;
    StepSettings settings = step_settings(2);
    settings.chosen_tokens = 9;
    std::vector<float> two, one;
    const StepStats both = w.model.step({once, once}, objective, Layout::packed, settings, &two);
    const StepStats single = w.model.step({twice}, objective, Layout::packed, settings, &one);
    CHECK(both.tokens == single.tokens && both.rows == single.rows);
    CHECK(both.pairs[0].loss.loss == both.pairs[1].loss.loss &&
          2 * both.pairs[0].loss.loss == single.pairs[0].loss.loss);
    // The two halves of a row's gradient are summed in float64 and rounded once, those of its targets in f32.
    const int64_t n = static_cast<int64_t>(one.size());
    CHECK(distance(two.data(), one.data(), n) <= 1e-6 * norm(one.data(), n));
  }
}

TEST("packing: identical answers cancel to the last bit") {
  TinyModel model("qwen3_vl");
  Random random(79);
  const Pair p = random_pair(model, random, Kind::identical, "same");
  for (const char* name : {"dpo", "mask-dpo"}) {
    std::vector<float> gradient;
    const StepStats stats = model.step({p}, sample_objective(name), Layout::packed, step_settings(), &gradient);
    CHECK(stats.pairs[0].loss.margin == 0);
    CHECK(norm(gradient.data(), static_cast<int64_t>(gradient.size())) == 0);
  }
}

TEST("packing: the prefix is fed once, and nothing after the last token that counts") {
  TinyModel model("qwen3_vl");
  Pair p = sound_pair(model);
  p.corrupted_images.clear();
  const Objective objective = sample_objective("fire");
  const PackedBatch batch = model.packed({p}, objective, Layout::packed);
  // chosen: tokens 0, 1 and 2 predict 3, the last in the mask; rejected: token 0 predicts 1
  CHECK(batch.input.tokens() == static_cast<int64_t>(p.prompt.size()) + 3 + 1);
  CHECK(batch.input.read_rows.size() == 3 && batch.terms.size() == 3 && batch.kl_rows.size() == 2);
  CHECK(tokens_in_scope(p, Branch::chosen, objective) == 2 && tokens_in_scope(p, Branch::rejected, objective) == 1);

  std::vector<float> gradient, changed_gradient;
  const double loss = mean_loss(model.step({p}, objective, Layout::packed, step_settings(), &gradient));
  Pair changed = p;
  changed.chosen[4] = changed.chosen[6] = changed.rejected[2] = 300;
  CHECK(mean_loss(model.step({changed}, objective, Layout::packed, step_settings(), &changed_gradient)) == loss);
  CHECK(same_bits(gradient, changed_gradient));

  // the corrupted image costs a block of its own
  CHECK(model.packed({sound_pair(model)}, objective, Layout::packed).input.tokens() == 2 * batch.input.tokens());
  CHECK(model.packed({p}, objective, Layout::plain).input.tokens() ==
        static_cast<int64_t>(2 * p.prompt.size() + p.chosen.size() + p.rejected.size()));
}

TEST("packing: words that both answers begin with are shared") {
  TinyModel model("qwen3_vl");
  Pair p = sound_pair(model);
  p.corrupted_images.clear();
  p.rejected = p.chosen;
  p.rejected[3] = 7;
  p.rejected_mask = p.chosen_mask = {0, 0, 0, 1, 0, 1, 0};
  const PackedBatch batch = model.packed({p}, sample_objective("mask-dpo"), Layout::packed);
  // prompt, three common words, and words 3 and 4 of each side
  CHECK(batch.input.tokens() == static_cast<int64_t>(p.prompt.size()) + 3 + 2 * 2);
  // the first decision is read from one row by both sides
  CHECK(batch.input.read_rows.size() == 3 && batch.terms.size() == 4);
}

TEST("packing: positions go on after the prefix on every tail") {
  TinyModel model("qwen3_vl");
  const Pair p = sound_pair(model);
  const PackedBatch batch = model.packed({p}, sample_objective("dpo"), Layout::packed);
  const size_t prefix = p.prompt.size();
  const size_t tail = p.chosen.size() - 1;
  const Positions& at = batch.input.positions;
  for (size_t axis = 0; axis < 3; ++axis) {
    CHECK(at[axis][prefix] == at[0][prefix]);
    CHECK(at[axis][prefix + tail] == at[0][prefix]);  // the rejected tail starts over
    CHECK(at[axis][prefix + tail - 1] == at[0][prefix] + static_cast<int32_t>(tail) - 1);
  }
}

TEST("packing: a vocabulary that is streamed in chunks gives the loss bit for bit, and the gradients") {
  const int64_t vocab = 2 * vocabulary_slice + 3000;
  TempDir folder;
  write_wide_model(golden_directory("qwen3_vl"), folder.path(), vocab);
  TinyModel model(folder.path());
  Random random(4);
  std::vector<Pair> pairs;
  for (const Kind kind : {Kind::random, Kind::prefix, Kind::ends})
    pairs.push_back(random_pair(model, random, kind, "c"));
  for (const char* name : {"fire", "rrpo", "sft"}) {
    const Objective objective = sample_objective(name);
    std::vector<float> whole, chunked;
    const StepStats expected = model.step(pairs, objective, Layout::packed, step_settings(), &whole);
    const size_t slice = static_cast<size_t>(expected.rows * vocabulary_slice) * 2 * sizeof(float);
    for (const size_t slices : {0, 1, 2}) {  // 0: less than one fits, one is taken
      StepSettings settings = step_settings();
      settings.logits_budget = slices * slice;
      const StepStats got = model.step(pairs, objective, Layout::packed, settings, &chunked);
      CHECK(mean_loss(got) == mean_loss(expected));
      // dL/dhidden is a sum over the vocabulary that is now cut in parts: the last bits of f32 sums move.
      CHECK(distance(whole.data(), chunked.data(), static_cast<int64_t>(whole.size())) <=
            2e-6 * norm(whole.data(), static_cast<int64_t>(whole.size())));
    }
  }
}

TEST("packing: nothing to score is a constant loss without gradient") {
  TinyModel model("qwen3_vl");
  Random random(9);
  const Pair p = random_pair(model, random, Kind::both_empty, "e");
  std::vector<float> gradient;
  const StepStats stats = model.step({p}, Objective::make({"mask-dpo", 0.1, 0, 0, 0.5, KlReduction::sum}),
                                     Layout::packed, step_settings(), &gradient);
  CHECK_NEAR(mean_loss(stats), std::log(2.0), 1e-15);
  CHECK(stats.tokens == 0 && stats.rows == 0);
  CHECK(norm(gradient.data(), static_cast<int64_t>(gradient.size())) == 0);
}

TEST("packing: a pair that cannot be right is refused by its id") {
  TinyModel model("qwen3_vl");
  const Objective objective = sample_objective("fire");
  const Pair sound = sound_pair(model);
  auto refused = [&](const std::string& word, auto&& change) {
    Pair p = sound;
    change(p);
    for (const Layout layout : {Layout::packed, Layout::plain})
      CHECK_ERROR(Code::invalid_argument, ("record-17", word), model.packed({p}, objective, layout));
  };
  const int32_t image = static_cast<int32_t>(model.engine.config().image_token_id);
  const int32_t vocab = static_cast<int32_t>(model.engine.config().text.vocab_size);
  refused("placeholder", [&](Pair& p) { p.chosen[1] = image; });
  refused("placeholder", [&](Pair& p) { p.rejected.back() = image; });
  refused(std::to_string(vocab), [&](Pair& p) { p.prompt[0] = vocab; });
  refused("-1", [&](Pair& p) { p.chosen[0] = -1; });
  refused("mask", [&](Pair& p) { p.chosen_mask.pop_back(); });
  refused("mask", [&](Pair& p) { p.rejected_mask.push_back(1); });
  for (const double weight : {-1.0, -1e-300, static_cast<double>(INFINITY), static_cast<double>(NAN)})
    refused("weight", [&](Pair& p) { p.weight = weight; });
  refused("no tokens", [&](Pair& p) { p.prompt.clear(); });
  refused("no tokens", [&](Pair& p) { p.chosen.clear(), p.chosen_mask.clear(); });
  refused("no tokens", [&](Pair& p) { p.rejected.clear(), p.rejected_mask.clear(); });
  refused("corrupted", [&](Pair& p) { p.corrupted_images.push_back("3"); });
  refused("placeholder", [&](Pair& p) { p.images.clear(), p.corrupted_images.clear(); });
  refused("placeholder", [&](Pair& p) { p.images.push_back("1"), p.corrupted_images.push_back("1"); });
  refused("placeholder", [&](Pair& p) { p.images = {"1"}; });  // another size
  refused("placeholder", [&](Pair& p) { p.prompt.push_back(image); });
  refused("placeholder", [&](Pair& p) { p.prompt.erase(std::find(p.prompt.begin(), p.prompt.end(), image)); });
}

TEST("packing: a loss that is not finite names its pairs and leaves the gradients alone") {
  TinyModel model("qwen3_vl");
  std::vector<Pair> pairs{sound_pair(model), sound_pair(model)};
  pairs[1].id = "record-18";
  std::vector<float> broken = model.parameters();
  broken[static_cast<size_t>(model.engine.adapter()->modules().back().b_begin)] = NAN;
  const std::vector<float> start = model.parameters();
  model.set_parameters(broken);
  std::vector<float> gradient;
  CHECK_ERROR(Code::nonfinite, ("record-17", "record-18"),
              model.step(pairs, sample_objective("fire"), Layout::packed, step_settings(), &gradient));
  const std::vector<float> after = model.engine.ops().download_f32(model.engine.optimizer().gradient());
  CHECK(norm(after.data(), static_cast<int64_t>(after.size())) == 0);
}
