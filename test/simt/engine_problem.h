// What the tests of the engine on the emulated device share: a spec, and a few pairs about images.
#pragma once

#include "fixture.h"

namespace fire::test {

inline EngineSpec spec_of(ComputeType dtype, size_t reference_cache_bytes, const std::string& golden = "qwen3_vl_b") {
  EngineSpec spec = engine_spec(golden);
  set_device(spec.device, "cuda:0");
  spec.device.dtype = dtype;
  spec.reference_cache_bytes = reference_cache_bytes;
  return spec;
}

/// Two images of one size and one of another, each pair about one of them. The last pair asks what the first asks.
struct Problem {
  explicit Problem(Engine& engine, bool encoded = true) : engine(engine) {
    if (encoded) encode();
    Random random(5);
    for (int i = 0; i < 3; ++i) {
      Pair p;
      p.id = "pair-" + std::to_string(i);
      p.images = {std::to_string(i % 2)};
      if (i % 2 == 0) p.corrupted_images = {"2"};
      const int64_t tokens = engine.image_tokens(sizes[i % 2][1], sizes[i % 2][0]);
      p.prompt = random.ids(3 + i, 0, 99);
      p.prompt.insert(p.prompt.begin() + 1, static_cast<size_t>(tokens),
                      static_cast<int32_t>(engine.config().image_token_id));
      p.chosen = random.ids(6 + i, 0, 99);
      p.rejected = random.ids(5, 0, 99);
      p.chosen_mask.assign(p.chosen.size(), 0);
      p.rejected_mask = {0, 1, 1, 0, 0};
      p.chosen_mask[2] = p.chosen_mask[3] = 1;
      pairs.push_back(p);
    }
    pairs.push_back(pairs[0]);
    pairs[3].id = "pair-3";
    pairs[3].chosen[1] += 1;  // part where the first pair's answer goes on
    std::swap(pairs[3].rejected, pairs[3].chosen);
    std::swap(pairs[3].rejected_mask, pairs[3].chosen_mask);
  }

  /// All images, whatever the engine held before, under these names and a number.
  void encode(const std::string& name = "") {
    Random random(7);
    for (int i = 0; i < images; ++i) {
      const auto [height, width] = sizes[i];
      std::vector<uint8_t> rgb(static_cast<size_t>(height * width * 3));
      for (uint8_t& x : rgb) x = static_cast<uint8_t>(random.integer(0, 255));
      engine.release_image(name + std::to_string(i));
      engine.encode_image(name + std::to_string(i), {height, width, rgb.data()}, nullptr);
    }
  }

  StepStats accumulate(const std::vector<Pair>& some) {
    return engine.accumulate(some, objective, {4, Layout::packed}, nullptr);
  }
  std::vector<float> gradient() { return engine.ops().download_f32(engine.optimizer().gradient()); }

  static constexpr int images = 3;
  static constexpr int64_t sizes[images][2] = {{64, 64}, {64, 96}, {64, 64}};
  Engine& engine;
  std::vector<Pair> pairs;
  const Objective objective = Objective::make({"fire", 0.3, 0.2, 0.5, 0.4, KlReduction::sum});
};

}  // namespace fire::test
