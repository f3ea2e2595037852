// The vision tower over several images at once against each image alone, for any device.
#pragma once

#include "check.h"
#include "fixture.h"

namespace fire::test {

inline std::vector<uint8_t> noise(uint32_t seed, int64_t height, int64_t width) {
  Random random(seed);
  std::vector<uint8_t> rgb(static_cast<size_t>(height * width * 3));
  for (uint8_t& x : rgb) x = static_cast<uint8_t>(random.integer(0, 255));
  return rgb;
}

inline const char* const families[] = {"qwen3_vl", "qwen2_5_vl", "llava", "llava_qwen2"};

/// Bits of the features of all images together, in two orders, and of each alone. The sizes differ, also in the windows
/// at their edges.
inline void check_tower_batch(const EngineSpec& spec) {
  Engine engine(spec);
  const VisionSpec& vision = *engine.config().vision;
  const int64_t sizes[][2] = {{64, 96}, {64, 64}, {160, 64}, {64, 96}, {96, 224}};
  std::vector<Patches> patches;
  uint32_t seed = 7;
  for (const auto& [height, width] : sizes)
    patches.push_back(vision.preprocess({height, width, noise(seed++, height, width).data()}, one_by_one));
  std::vector<std::vector<float>> alone;
  for (const Patches& p : patches) alone.push_back(engine.ops().download_f32(engine.images().features_of(p)->all()));
  CHECK(!same_bits(alone[0], alone[3]));

  for (const std::vector<size_t>& order : {std::vector<size_t>{0, 1, 2, 3, 4}, std::vector<size_t>{4, 2, 0}}) {
    std::vector<NamedImage> named;
    for (const size_t i : order)
      named.push_back(
          {std::to_string(i),
           {},
           std::make_shared<const PreparedImage>(PreparedImage{
               {sizes[i][0], sizes[i][1]}, {static_cast<uint8_t>(i)}, vision.preprocessing(), patches[i]})});
    engine.encode_images(named, nullptr);
    for (const size_t i : order)
      CHECK(same_bits(engine.ops().download_f32(engine.images().at(std::to_string(i)).features->all()), alone[i]));
    for (const size_t i : order) engine.release_image(std::to_string(i));
  }
}

}  // namespace fire::test
