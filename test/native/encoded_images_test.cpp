// The images that an engine holds: equal pixels once, whatever their names.
#include <atomic>

#include "check.h"
#include "fixture.h"
#include "tower_batch.h"

using namespace fire;
using namespace fire::test;

TEST("encoded images: equal pixels under two names are one image to a step, until the last name goes") {
  for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
    EngineSpec spec = engine_spec("qwen3_vl");
    spec.device.dtype = dtype;
    Engine engine(spec);
    const auto one = noise(1, 64, 64), other = noise(2, 64, 64);
    const auto encode = [&](const std::string& id, const std::vector<uint8_t>& rgb, int64_t height, int64_t width) {
      return engine.encode_image(id, {height, width, rgb.data()}, nullptr);
    };
    const EncodedImage a = encode("a", one, 64, 64), b = encode("b", one, 64, 64), c = encode("c", other, 64, 64);
    CHECK(a.id == "a" && b.id == "b" && a.tokens == b.tokens && a.grid_h == b.grid_h && a.grid_w == b.grid_w);

    Random random(3);
    Pair pair;
    pair.prompt = random.ids(20, 0, 99);
    pair.prompt.insert(pair.prompt.begin() + 1, static_cast<size_t>(a.tokens),
                       static_cast<int32_t>(engine.config().image_token_id));
    pair.chosen = {1, 2}, pair.rejected = {3, 4};
    pair.chosen_mask = pair.rejected_mask = {0, 1};
    const Objective objective = Objective::make({"dpo", 0.1, 0, 0, 0.5, KlReduction::sum});
    const auto step = [&](const std::vector<std::string>& images, Layout layout) {
      std::vector<Pair> pairs;
      for (const std::string& id : images) {
        pairs.push_back(pair);
        pairs.back().images = {id};
      }
      return engine.evaluate(pairs, objective, {1, layout}, nullptr);
    };
    const int64_t alone = step({"a"}, Layout::packed).tokens;
    CHECK(step({"a", "b"}, Layout::packed).tokens == alone);
    CHECK(step({"a", "c"}, Layout::packed).tokens == 2 * alone);
    CHECK(step({"a", "b"}, Layout::pair).tokens == 2 * alone);
    const double loss = step({"a"}, Layout::packed).pairs[0].loss.loss;
    for (const PairStats& p : step({"a", "b"}, Layout::plain).pairs) CHECK(p.loss.loss == loss);

    engine.release_image("a");
    engine.release_image("a");
    CHECK(step({"b"}, Layout::packed).pairs[0].loss.loss == loss);
    CHECK_ERROR(Code::invalid_argument, ("\"a\""), step({"a"}, Layout::packed));
    engine.release_image("b");
    encode("a", one, 64, 64);
    CHECK(step({"a"}, Layout::packed).pairs[0].loss.loss == loss);
    // Another image under a name that was free again: what the reference said of the first is not said of it.
    engine.release_image("a");
    encode("a", other, 64, 64);
    CHECK(step({"a"}, Layout::packed).pairs[0].loss.loss == step({"c"}, Layout::plain).pairs[0].loss.loss);
  }
}

TEST("encoded images: the same bytes in another shape are another image") {
  Engine engine(engine_spec("qwen3_vl"));
  const auto rgb = noise(1, 64, 96);
  const EncodedImage wide = engine.encode_image("wide", {64, 96, rgb.data()}, nullptr);
  const EncodedImage tall = engine.encode_image("tall", {96, 64, rgb.data()}, nullptr);
  CHECK(wide.grid_w == tall.grid_h && wide.grid_h == tall.grid_w && wide.grid_w != tall.grid_w);
}

TEST("encoded images: many in one call, prepared or not; equal pixels are encoded once, and an error holds none") {
  Engine engine(engine_spec("qwen3_vl"));
  const auto one = noise(1, 64, 64), other = noise(2, 64, 96), third = noise(3, 64, 64);
  const Rgb a{64, 64, one.data()}, b{64, 96, other.data()}, c{64, 64, third.data()};
  const auto prepared = [&](const Rgb& rgb) { return prepare_image(*engine.config().vision, rgb, one_by_one); };
  const auto all = engine.encode_images(
      {{"a", a, nullptr}, {"b", {}, prepared(b)}, {"a again", {}, prepared(a)}, {"a", c, nullptr}}, nullptr);
  CHECK(all.size() == 4 && all[0].id == "a" && all[1].id == "b" && all[1].grid_w == 6 &&
        all[3].tokens == all[0].tokens);
  const auto bits = [&](const std::string& id) {
    return engine.ops().download_f32(engine.images().at(id).features->all());
  };
  CHECK(engine.images().at("a").features == engine.images().at("a again").features);
  engine.encode_images({{"c", {}, prepared(c)}}, nullptr);
  CHECK(!same_bits(bits("a"), bits("c")));
  const std::vector<float> first = bits("b");
  engine.release_image("b");
  engine.encode_image("b", b, nullptr);
  CHECK(same_bits(bits("b"), first));

  const auto thin = noise(4, 1, 300);
  CHECK_ERROR(Code::unsupported, ("300x1"), prepared({1, 300, thin.data()}));
  CHECK_ERROR(Code::unsupported, ("300x1"),
              engine.encode_images({{"d", c, nullptr}, {"thin", {1, 300, thin.data()}, nullptr}}, nullptr));
  CHECK_ERROR(Code::invalid_argument, ("\"d\""), engine.images().at("d"));
  const std::atomic<bool> stop{true};
  CHECK_ERROR(Code::aborted, (""), engine.encode_images({{"d", c, nullptr}}, &stop));
  CHECK_ERROR(Code::invalid_argument, ("\"d\""), engine.images().at("d"));
}

TEST("encoded images: what another model prepared is refused, whatever its pixels") {
  TempDir folder;
  const std::string padded = folder / "llava";
  std::filesystem::copy(golden_directory("llava"), padded);
  const std::string name = "/preprocessor_config.json", json = read_file(padded + name, 1 << 20);
  write_file(padded + name, {replaced(json, "\"do_pad\": false", "\"do_pad\": true")});
  std::vector<EngineSpec> specs;
  for (const char* family : families) specs.push_back(engine_spec(family));
  specs.push_back(engine_spec("llava"));
  specs.back().model = padded;

  const auto rgb = noise(1, 64, 96);
  for (const EngineSpec& from : specs) {
    const Engine other(from);
    const auto prepared = prepare_image(*other.config().vision, {64, 96, rgb.data()}, one_by_one);
    for (const EngineSpec& to : specs) {
      Engine engine(to);
      if (from.model == to.model) {
        engine.encode_images({{"a", {}, prepared}}, nullptr);
        continue;
      }
      CHECK_ERROR(Code::invalid_argument, ("\"a\"", "another model"),
                  engine.encode_images({{"a", {}, prepared}}, nullptr));
      engine.encode_image("a", {64, 96, rgb.data()}, nullptr);
      CHECK_ERROR(Code::invalid_argument, ("another model"), engine.encode_images({{"a", {}, prepared}}, nullptr));
    }
  }
  Engine engine(specs[0]);
  PreparedImage cut = *prepare_image(*engine.config().vision, {64, 96, rgb.data()}, one_by_one);
  cut.patches.pixels.pop_back();
  CHECK_ERROR(Code::invalid_argument, ("\"a\""),
              engine.encode_images({{"a", {}, std::make_shared<const PreparedImage>(cut)}}, nullptr));
}
