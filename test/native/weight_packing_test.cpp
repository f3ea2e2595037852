// Weights packed once: the same bits, the bytes that the plan says, and none where memory is short.
#include "check.h"
#include "cpu/cpu_ops.h"
#include "fixture.h"
#include "verify/golden.h"

using namespace fire;
using namespace fire::test;

namespace {

struct Outcome {
  std::vector<float> gradient, logprobs;
  std::vector<Generation> answers;
  size_t planned, packed;
};

/// Everything that uses weights: the tower, a step forward and back, scoring, generation.
Outcome run(const Golden& golden, EngineSpec spec) {
  Engine engine(spec);
  std::vector<Pair> pairs;
  for (const GoldenItem& item : golden.items) {
    for (const GoldenImage& image : item.images) {
      const auto rgb = [&](const Tensor& x) {
        return Rgb{image.height, image.width, static_cast<const uint8_t*>(x.data())};
      };
      engine.encode_image(image.id, rgb(image.rgb), nullptr);
      engine.encode_image(image.corrupted_id, rgb(image.rgb_corrupt), nullptr);
    }
    pairs.push_back(item.pair);
  }
  const Objective objective = Objective::make(golden.objective);
  Outcome out;
  out.planned = engine.plan(pairs, objective, single_step).packed_bytes;
  engine.accumulate(pairs, objective, single_step, nullptr);
  out.packed = static_cast<cpu::CpuOps&>(engine.ops()).packed_bytes();
  out.gradient = engine.ops().download_f32(engine.optimizer().gradient());
  out.logprobs = engine.logprobs({{pairs[0].prompt, pairs[0].images}}, true, nullptr)[0];
  out.answers =
      engine.generate({{{pairs[0].prompt, pairs[0].images}, 1}}, {6, {0, 1, 0}, {}, nullptr, 4}, true, {}, nullptr);
  return out;
}

EngineSpec packing(const std::string& name, ComputeType dtype, PackWeights mode, size_t free_bytes) {
  EngineSpec spec = engine_spec(name);
  spec.device = cpu_spec(2);
  spec.device.dtype = dtype;
  spec.device.pack_weights = mode;
  spec.device.free_bytes = free_bytes;
  return spec;
}

}  // namespace

TEST("packed weights: a step and an answer have the same bits, and take what was planned") {
  for (const char* name : {"qwen3_vl_b", "qwen2_5_vl", "llava"}) {
    const Golden golden = Golden::load(golden_directory(name), 321);
    for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
      const Outcome plain = run(golden, packing(name, dtype, PackWeights::off, 0));
      const Outcome packed = run(golden, packing(name, dtype, PackWeights::on, 0));
      CHECK(plain.planned == 0 && plain.packed == 0);
      CHECK(packed.packed > 0);
      CHECK_NEAR(packed.planned, packed.packed, 0);
      CHECK(same_bits(packed.gradient, plain.gradient) && same_bits(packed.logprobs, plain.logprobs));
      CHECK(packed.answers[0].tokens == plain.answers[0].tokens);
      CHECK(packed.answers[0].logprob == plain.answers[0].logprob);
    }
  }
}

TEST("packed weights: auto packs both forms, one or none, by the memory that is free") {
  const Golden golden = Golden::load(golden_directory("qwen3_vl_b"), 321);
  const auto bytes = [&](PackWeights mode, size_t free_bytes) {
    const Outcome out = run(golden, packing("qwen3_vl_b", ComputeType::f32, mode, free_bytes));
    CHECK_NEAR(out.planned, out.packed, 0);
    return out.packed;
  };
  Engine engine(packing("qwen3_vl_b", ComputeType::f32, PackWeights::on, 0));
  const WeightPacking& all = engine.ops().weight_packing();
  const size_t forward = all.bytes(WeightUse::forward), both = forward + all.bytes(WeightUse::backward);
  const size_t most = bytes(PackWeights::on, 0);
  CHECK(bytes(PackWeights::automatic, 4 * both) == most);
  const size_t one = bytes(PackWeights::automatic, 4 * both - 1);
  CHECK(one > 0 && one < most);
  CHECK(bytes(PackWeights::automatic, 4 * forward) == one);
  CHECK(bytes(PackWeights::automatic, 4 * forward - 1) == 0);
  CHECK(bytes(PackWeights::off, size_t{1} << 40) == 0);
}

TEST("packed weights: none beside oneDNN, and an engine for plans answers as the real one") {
  EngineSpec spec = packing("qwen3_vl_b", ComputeType::bf16, PackWeights::on, 0);
  const size_t real = Engine(spec).info().max_packed_bytes;
  spec.device.plan_only = true;
  CHECK(real > 0 && Engine(spec).info().max_packed_bytes == real);
  spec.device.gemm = GemmBackend::onednn;
  CHECK(Engine(spec).info().max_packed_bytes == 0);
  spec.device.gemm = GemmBackend::automatic;
  spec.device.kind = DeviceKind::cuda;
  CHECK(Engine(spec).info().max_packed_bytes == 0);
}
