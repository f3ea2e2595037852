// The images that an engine holds: equal pixels once, whatever their names.
#include "check.h"
#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

std::vector<uint8_t> noise(uint32_t seed, int64_t height, int64_t width) {
  Random random(seed);
  std::vector<uint8_t> rgb(static_cast<size_t>(height * width * 3));
  for (uint8_t& x : rgb) x = static_cast<uint8_t>(random.integer(0, 255));
  return rgb;
}

}  // namespace

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
