// Token log-probabilities of many sequences in one call: the bits of one by one.
#include "infer/score.h"

#include "check.h"
#include "fixture.h"

using namespace fire;
using namespace fire::test;

TEST("score: sequences that share images and words have the bits that they have alone") {
  for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
    EngineSpec spec = engine_spec("qwen3_vl");
    spec.device.dtype = dtype;
    Engine engine(spec);
    Random random(4);
    std::vector<int64_t> tokens;
    for (int i = 0; i < 3; ++i) {
      std::vector<uint8_t> rgb(64 * 96 * 3);
      for (uint8_t& x : rgb) x = static_cast<uint8_t>(random.integer(0, 255));
      tokens.push_back(engine.encode_image(std::to_string(i), {64, 96, rgb.data()}, nullptr).tokens);
    }
    const std::vector<int32_t> head = random.ids(18, 0, 99);
    std::vector<SequenceRef> sequences;
    for (int i = 0; i < 40; ++i) {
      SequenceRef s{head, {}};
      if (random.chance(0.2)) s.ids = random.ids(3, 0, 99);
      while (s.images.size() < 2 && random.chance(0.6)) {
        const size_t image = static_cast<size_t>(random.integer(0, 2));
        s.images.push_back(std::to_string(image));
        s.ids.insert(s.ids.end(), static_cast<size_t>(tokens[image]),
                     static_cast<int32_t>(engine.config().image_token_id));
        s.ids.push_back(7);
      }
      const std::vector<int32_t> answer = random.ids(random.integer(0, 9), 1, 3);
      s.ids.insert(s.ids.end(), answer.begin(), answer.end());
      sequences.push_back(s);
    }
    sequences.push_back({{5}, {}});                      // nothing to predict
    sequences.push_back(sequences[0]);                   // twice the same
    sequences.push_back({random.ids(2100, 0, 99), {}});  // longer than a pass
    sequences.push_back({sequences.back().ids, {}});
    sequences.back().ids[1500] = 100;
    for (const bool adapter : {true, false}) {
      const auto together = engine.logprobs(sequences, adapter, nullptr);
      CHECK(together.size() == sequences.size());
      for (size_t s = 0; s < sequences.size(); ++s) {
        CHECK(together[s].size() == sequences[s].ids.size() - 1);
        CHECK(same_bits(together[s], engine.logprobs({sequences[s]}, adapter, nullptr)[0]));
      }
    }
    CHECK(engine.logprobs({}, true, nullptr).empty());
  }
}

TEST("score: images and words in common are computed once") {
  EngineSpec spec = engine_spec("qwen3_vl");
  Engine engine(spec);
  Random random(5);
  const std::vector<int32_t> prompt = random.ids(600, 0, 99);
  std::vector<SequenceRef> sequences(12, SequenceRef{prompt, {}});
  for (size_t i = 0; i < sequences.size(); ++i) sequences[i].ids.push_back(static_cast<int32_t>(i));
  const auto peak = [&](const std::vector<SequenceRef>& some) {
    engine.arena().reset_peak();
    engine.logprobs(some, true, nullptr);
    return engine.arena().peak_bytes();
  };
  const size_t alone = peak({sequences[0]});
  CHECK(peak(sequences) < alone + alone / 10);
}

TEST("score: memory has a bound, whatever the number of sequences") {
  EngineSpec spec = engine_spec("qwen3_vl");
  Engine engine(spec);
  Random random(6);
  std::vector<SequenceRef> sequences;
  for (int i = 0; i < 60; ++i) sequences.push_back({random.ids(200, 0, 99), {}});
  const auto peak = [&](size_t count) {
    engine.arena().reset_peak();
    engine.logprobs({sequences.begin(), sequences.begin() + static_cast<std::ptrdiff_t>(count)}, true, nullptr);
    return engine.arena().peak_bytes();
  };
  CHECK(peak(30) == peak(60));
  CHECK(peak(1) < peak(30));
}
