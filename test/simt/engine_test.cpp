// The engine on the GPU's device class, kernels run by the emulator: what the golden folders do not ask. Bits that must
// be equal, memory, and failures in the middle of a step.
#include <map>
#include <optional>
#include <set>

#include "cuda/watch.h"
#include "engine_problem.h"
#include "simt/emulator.h"
#include "simt/runtime_faults.h"
#include "tower_batch.h"
#include "variable.h"

using namespace fire;
using namespace fire::test;

namespace {

void set_parameters(Engine& engine, const std::vector<float>& host) {
  engine.adapter()->parameters().assign(0, static_cast<int64_t>(host.size()), host.data());
}

std::vector<double> losses(const StepStats& stats) {
  std::vector<double> all;
  for (const PairStats& p : stats.pairs) all.push_back(p.loss.loss);
  return all;
}

}  // namespace

TEST(
    "gpu engine: a pair has the same loss alone and in a batch, bit for bit, and cached reference rows change no bit") {
  for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
    Engine plain(spec_of(dtype, 0)), cached(spec_of(dtype, size_t{1} << 24));
    Problem a(plain), b(cached);
    const std::vector<double> together = losses(a.accumulate(a.pairs));
    const std::vector<float> gradient = a.gradient();
    std::vector<double> apart;
    for (const Pair& p : a.pairs) apart.push_back(losses(a.accumulate({p}))[0]);
    CHECK(same_bits(together, apart));

    b.accumulate({b.pairs[1]});  // one pair is known before the others
    cached.zero_grad();
    for (int epoch = 0; epoch < 2; ++epoch) {
      CHECK(same_bits(losses(b.accumulate(b.pairs)), together));
      CHECK(same_bits(b.gradient(), gradient));
      cached.zero_grad();
    }
  }
}

TEST(
    "gpu engine: before training, rewards and KL are exactly 0, of a fresh adapter and of one that is its own "
    "reference") {
  for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
    EngineSpec fresh = spec_of(dtype, size_t{1} << 24), own = fresh;
    fresh.adapter = "";
    fresh.lora = lora_spec(4);
    own.reference_adapter = own.adapter;
    for (const EngineSpec& spec : {fresh, own}) {
      Engine engine(spec);
      Problem problem(engine);
      for (const PairStats& p : engine.evaluate(problem.pairs, problem.objective, {3, Layout::packed}, nullptr).pairs) {
        for (size_t b = 0; b < p.logps.policy.size(); ++b) CHECK(p.logps.policy[b] == p.logps.reference[b]);
        CHECK(p.kl.forward == 0 && p.kl.reverse == 0);
      }
    }
  }
}

TEST("gpu engine: a weight scales the pair's loss and gradient") {
  for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
    Engine engine(spec_of(dtype, 0));
    Problem problem(engine);
    std::vector<Pair> pairs = {problem.pairs[0]};
    const double loss = losses(problem.accumulate(pairs))[0];
    std::vector<float> expected = problem.gradient();
    for (const float weight : {0.25f, 1.5f, 0.0f}) {
      engine.zero_grad();
      pairs[0].weight = static_cast<double>(weight);
      CHECK(losses(problem.accumulate(pairs))[0] == static_cast<double>(weight) * loss);
      const std::vector<float> got = problem.gradient();
      std::vector<float> scaled = expected;
      for (float& x : scaled) x *= weight;
      // bf16 gradients of activations round 1.5 x otherwise than x.
      const double tolerance = dtype == ComputeType::f32 ? 1e-6 : 2e-2;
      const int64_t n = static_cast<int64_t>(got.size());
      CHECK(distance(got.data(), scaled.data(), n) <= tolerance * norm(scaled.data(), n));
    }
  }
}

TEST("gpu engine: products read the adapter's very numbers, rounded, whoever wrote them last") {
  TempDir dir;
  const auto read = [](Engine& engine) {
    const Parameters& parameters = engine.adapter()->parameters();
    std::vector<float> want = engine.ops().download_f32(parameters.values());
    if (engine.ops().activation_type() == DType::bf16)
      for (float& x : want) x = to_float(to_bf16(x));
    CHECK(same_bits(engine.ops().download_f32(parameters.operands()), want));
    return want;
  };
  for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
    EngineSpec spec = spec_of(dtype, 0);
    Engine engine(spec);
    const std::vector<float> loaded = read(engine);
    Problem problem(engine);
    const auto step = [&] {
      problem.accumulate(problem.pairs);
      AdamWSpec large = adamw_spec;  // so that bf16 shows it
      large.lr = 1e-2;
      engine.update(large);
      return read(engine);
    };
    const std::vector<float> one = step();
    engine.save_state(dir / "state");
    const std::vector<float> two = step();
    CHECK(!same_bits(one, loaded) && !same_bits(two, one));
    engine.load_state(dir / "state");
    CHECK(same_bits(read(engine), one));
    // What a step starts from is what it had started from: the bits of its gradient follow from those of the operands.
    CHECK(same_bits(step(), two));
    spec.adapter.clear();
    spec.lora = lora_spec(4);
    Engine fresh(spec);
    read(fresh);
  }
}

TEST("gpu engine: a step that makes the adapter not finite names the tensor, and nothing is saved") {
  TempDir dir;
  Engine engine(spec_of(ComputeType::f32, 0));
  Problem problem(engine);
  problem.accumulate(problem.pairs);
  std::vector<float> param = engine.ops().download_f32(engine.adapter()->param());
  param.back() = INFINITY;
  set_parameters(engine, param);
  CHECK_ERROR(Code::nonfinite, ("step 1", "lora_B"), engine.update(adamw_spec));
  CHECK_ERROR(Code::nonfinite, ("lora_B"), engine.save_adapter(dir / "adapter", ""));
  CHECK_ERROR(Code::nonfinite, ("lora_B"), engine.save_state(dir / "state"));
}

TEST("gpu engine: the plan is the arena of the real step, in one block, and a step leaves no memory behind") {
  for (const bool checkpointing : {false, true}) {
    EngineSpec spec = spec_of(ComputeType::bf16, 0);
    spec.checkpointing = checkpointing;
    Engine engine(spec);
    Problem problem(engine);
    const PlanStats plan = engine.plan(problem.pairs, problem.objective, single_step);
    problem.accumulate(problem.pairs);
    engine.update(adamw_spec);
    const size_t before = simt::allocated_bytes(), pinned = simt::pinned_bytes();
    engine.arena().reset_peak();
    problem.accumulate(problem.pairs);
    CHECK(plan.activation_bytes == engine.arena().peak_bytes());
    engine.update(adamw_spec);
    CHECK(simt::allocated_bytes() == before && simt::pinned_bytes() == pinned);
  }
}

TEST("gpu engine: images together and alone are the same bits, in every family and type") {
  for (const char* family : families)
    for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
      EngineSpec spec = engine_spec(family);
      set_device(spec.device, "cuda:0");
      spec.device.dtype = dtype;
      check_tower_batch(spec);
    }
}

TEST("gpu engine: images come and go without the device's allocator") {
  Engine engine(spec_of(ComputeType::bf16, 0));
  const int64_t sides[] = {64, 96, 128, 160};
  const auto turn = [&](int round) {
    std::vector<NamedImage> images;
    std::vector<std::vector<uint8_t>> pixels;
    for (int i = 0; i < 4; ++i) {
      const int64_t height = sides[i], width = sides[(i + round) % 4];
      pixels.push_back(noise(static_cast<uint32_t>(round * 4 + i), height, width));
      images.push_back({std::to_string(i), {height, width, pixels.back().data()}, nullptr});
    }
    for (const NamedImage& image : images) engine.release_image(image.id);
    engine.encode_images(images, nullptr);
  };
  for (int round = 0; round < 4; ++round) turn(round);
  const size_t before = simt::allocated_bytes(), pinned = simt::pinned_bytes();
  for (int round = 4; round < 12; ++round) {
    turn(round);
    CHECK(simt::allocated_bytes() == before && simt::pinned_bytes() == pinned);
  }
}

TEST("gpu engine: stored dropout masks are the CPU's, recomputed layers draw them again, and the plan counts them") {
  const auto gradient = [](const DeviceSpec& device, bool checkpointing) {
    EngineSpec spec = spec_of(ComputeType::f32, 0);
    spec.device = device;
    spec.checkpointing = checkpointing;
    spec.lora = lora_spec(1);  // its dropout; the rest is the folder's
    Engine engine(spec);
    Problem problem(engine);
    const PlanStats plan = engine.plan(problem.pairs, problem.objective, single_step);
    engine.arena().reset_peak();
    problem.accumulate(problem.pairs);
    if (engine.ops().is_gpu()) CHECK(plan.activation_bytes == engine.arena().peak_bytes());
    return problem.gradient();
  };
  const DeviceSpec gpu = spec_of(ComputeType::f32, 0).device;
  const std::vector<float> stored = gradient(gpu, false), cpu = gradient(cpu_spec(), false);
  CHECK(same_bits(gradient(gpu, true), stored));
  // f32 sums in another order; a mask that differs in one of a hundred places would be off by about a tenth of this
  // norm.
  const int64_t n = static_cast<int64_t>(stored.size());
  CHECK(distance(stored.data(), cpu.data(), n) <= 1e-4 * norm(cpu.data(), n));
}

TEST("gpu engine: with dropout, every layout, micro-batch, order of pairs and name of an image gives the same step") {
  for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
    EngineSpec spec = spec_of(dtype, 0);
    spec.lora = lora_spec(1);
    spec.lora->dropout = 0.3f;
    Engine engine(spec);
    Problem problem(engine);
    const std::vector<double> whole = losses(problem.accumulate(problem.pairs));
    const std::vector<float> expected = problem.gradient();
    // Sums in another order; bf16 gradients of activations are rounded sums.
    const double noise = dtype == ComputeType::f32 ? 1e-5 : 2e-2;
    const int64_t n = static_cast<int64_t>(expected.size());
    const auto same = [&](const std::vector<double>& got) {
      CHECK(same_bits(got, whole));
      const std::vector<float> gradient = problem.gradient();
      CHECK(distance(gradient.data(), expected.data(), n) <= noise * norm(expected.data(), n));
      engine.zero_grad();
    };
    same(whole);
    for (const Layout layout : {Layout::pair, Layout::plain})
      same(losses(engine.accumulate(problem.pairs, problem.objective, {4, layout}, nullptr)));
    std::vector<double> apart(whole.size());
    for (size_t p = apart.size(); p-- > 0;) apart[p] = losses(problem.accumulate({problem.pairs[p]}))[0];
    same(apart);
    std::vector<Pair> renamed = problem.pairs;
    for (int i = 0; i < Problem::images; ++i) engine.release_image(std::to_string(i));
    problem.encode("other ");
    for (Pair& p : renamed)
      for (auto* images : {&p.images, &p.corrupted_images})
        for (std::string& image : *images) image = "other " + image;
    same(losses(problem.accumulate(renamed)));
    // The masks play a part: those of the next step are others.
    AdamWSpec still = adamw_spec;
    still.lr = 0;
    engine.update(still);
    CHECK(!same_bits(losses(problem.accumulate(renamed)), whole));
  }
}

TEST(
    "gpu engine: products that end in SwiGLU, of an adapter whose rows TMA takes, give the step of the portable "
    "kernels") {
  constexpr const char* fused[] = {"gemm swiglu sm_90a", "gemm swiglu_backward sm_90a"};
  const auto gradient = [&](bool hopper) {
    std::optional<Variable> portable;
    if (!hopper) portable.emplace("FIRE_CUDA_ISA", "sm_80");
    EngineSpec spec = spec_of(ComputeType::bf16, 0);
    spec.adapter = "";
    spec.lora = lora_spec(8);
    Engine engine(spec);
    Problem problem(engine);
    const cuda::Profile profile;
    for (int step = 0; step < 2; ++step) {  // in the first B is 0
      problem.accumulate(problem.pairs);
      if (step > 0) break;
      AdamWSpec large = adamw_spec;
      large.lr = 1e-2;
      engine.update(large);
    }
    const std::vector<float> found = problem.gradient();
    for (const char* kernel : fused) CHECK(profile.totals().contains(kernel) == hopper);
    return found;
  };
  const std::vector<float> got = gradient(true), expected = gradient(false);
  const int64_t n = static_cast<int64_t>(got.size());
  CHECK(distance(got.data(), expected.data(), n) <= 1e-2 * norm(expected.data(), n));
}

TEST("gpu engine: with dropout, Hopper's products take the whole step, with the bits of those for every GPU") {
  using Totals = std::map<std::string, cuda::Profile::Total>;
  const auto step = [](Totals& kernels) {
    EngineSpec spec = spec_of(ComputeType::bf16, 0, "qwen3_vl");  // its rows are whole pieces of 16 bytes
    spec.adapter = "";
    spec.lora = lora_spec(16);
    spec.lora->dropout = 0.3f;
    Engine engine(spec);
    Problem problem(engine);
    const cuda::Profile profile;
    const std::vector<double> whole = losses(problem.accumulate(problem.pairs));
    std::vector<float> gradient = problem.gradient();
    kernels = profile.totals();
    gradient.insert(gradient.end(), whole.begin(), whole.end());
    return gradient;
  };
  Totals own, portable;
  const std::vector<float> usual = step(own);
  const Variable isa("FIRE_CUDA_ISA", "sm_80");
  CHECK(same_bits(step(portable), usual));
  CHECK(own.contains("gemm sm_90a") && own.contains("round rows") && !own.contains("gemm"));
  CHECK(portable.contains("gemm") && !portable.contains("gemm sm_90a"));
}

TEST("gpu engine: the order of threads and the moment of copies change no bit of a step") {
  std::vector<std::vector<float>> gradients;
  const simt::Options start = simt::options();
  for (const auto& [schedule, eager] : {std::pair{simt::Schedule::fifo, false}, {simt::Schedule::random, true}}) {
    simt::Options options = start;
    options.schedule = schedule;
    options.eager = eager;
    simt::set_options(options);
    Engine engine(spec_of(ComputeType::bf16, 0));
    Problem problem(engine);
    problem.accumulate(problem.pairs);
    gradients.push_back(problem.gradient());
  }
  simt::set_options(start);
  CHECK(same_bits(gradients[0], gradients[1]));
}

TEST("gpu engine: a question has the same bits alone and beside others about its image") {
  for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
    Engine engine(spec_of(dtype, 0));
    const Problem p(engine);
    Random random(4);
    std::vector<PromptRef> questions;
    for (const int64_t tail : {1, 3, 70})  // the last takes more than one tile of keys
      for (const size_t pair : {0, 1}) {
        std::vector<int32_t> ids = p.pairs[pair].prompt;
        ids.resize(end_of_images(ids, engine.config().image_token_id));
        const std::vector<int32_t> text = random.ids(tail, 0, 99);
        ids.insert(ids.end(), text.begin(), text.end());
        questions.push_back({{ids, p.pairs[pair].images}, questions.size()});
      }
    const SamplingSpec sampling{4, {1.3, 1, 0}, {}, nullptr, 4};
    const std::vector<Generation> together = engine.generate(questions, sampling, true, {}, nullptr);
    for (size_t i = 0; i < questions.size(); ++i) {
      const Generation alone = engine.generate({questions[i]}, sampling, true, {}, nullptr)[0];
      CHECK(alone.tokens == together[i].tokens && alone.logprob == together[i].logprob);
    }
  }
}

TEST("gpu engine: a loss that is not finite names its pairs and leaves the gradients alone") {
  Engine engine(spec_of(ComputeType::f32, 0));
  Problem problem(engine);
  problem.accumulate(problem.pairs);
  const std::vector<float> gradient = problem.gradient();
  std::vector<float> broken = engine.ops().download_f32(engine.adapter()->param());
  const std::vector<float> sound = broken;
  broken[0] = NAN;
  set_parameters(engine, broken);
  CHECK_ERROR(Code::nonfinite, ("pair-0", "pair-2"), problem.accumulate(problem.pairs));
  CHECK(same_bits(problem.gradient(), gradient));
  set_parameters(engine, sound);
  CHECK(std::isfinite(losses(problem.accumulate(problem.pairs))[0]));  // and it goes on
}

TEST("gpu engine: out of memory says what was asked for and what is free; then it goes on") {
  Engine engine(spec_of(ComputeType::bf16, 0));
  Problem problem(engine);
  engine.optimizer();
  engine.arena().clear();  // what the images needed would do for this small step
  const simt::Faults sound = simt::faults();
  simt::Faults tight = sound;
  tight.memory_bytes = simt::allocated_bytes() + 4096;
  simt::set_faults(tight);
  CHECK_ERROR(Code::out_of_memory, ("MiB", "free"), problem.accumulate(problem.pairs));
  simt::set_faults(sound);
  CHECK(std::isfinite(losses(problem.accumulate(problem.pairs))[0]));
}

TEST("gpu engine: a kernel that faults loses the device, and every later call says so") {
  Engine engine(spec_of(ComputeType::f32, 0));
  Problem problem(engine);
  const simt::Faults sound = simt::faults();
  simt::Faults faulty = sound;
  faulty.failing_kernel = "swiglu";
  simt::set_faults(faulty);
  CHECK_ERROR(Code::cuda, ("swiglu"), problem.accumulate(problem.pairs));
  simt::set_faults(sound);
  CHECK_ERROR(Code::cuda, ("start"), problem.accumulate(problem.pairs));
  simt::restart();
}

TEST("gpu engine: no driver, an old one and no card are told apart; auto then means the CPU") {
  const simt::Faults sound = simt::faults();
  std::set<std::string> reasons;
  for (const simt::Driver driver : {simt::Driver::missing, simt::Driver::too_old, simt::Driver::no_card}) {
    simt::Faults faults = sound;
    faults.driver = driver;
    simt::set_faults(faults);
    reasons.insert(gpu_report().reason);
    DeviceSpec spec = cpu_spec();
    set_device(spec, "auto");
    CHECK(spec.kind == DeviceKind::cpu && gpu_report().gpus.empty());
    set_device(spec, "cuda");
    CHECK_ERROR(Code::no_device, (gpu_report().reason), open_device(spec));
  }
  CHECK(reasons.size() == 3 && !reasons.count(""));
  simt::set_faults(sound);
  DeviceSpec spec = cpu_spec();
  set_device(spec, "auto");
  CHECK(spec.kind == DeviceKind::cuda && spec.index == 0);
  for (const char* wrong : {"gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "cuda:1 "})
    CHECK_ERROR(Code::invalid_argument, (wrong, "cuda:N"), set_device(spec, wrong));
  set_device(spec, "cuda:7");
  CHECK_ERROR(Code::no_device, ("cuda:7"), open_device(spec));
  spec.index = 0;
  spec.gemm = GemmBackend::onednn;
  CHECK_ERROR(Code::invalid_argument, ("onednn"), open_device(spec));
}
