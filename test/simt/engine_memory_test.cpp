// The memory of the emulated device: what is allocated when, that a plan says so, and what a training step asks of the
// device beside its arithmetic.
#include "cuda/watch.h"
#include "engine_problem.h"
#include "simt/runtime_faults.h"
#include "variable.h"

using namespace fire;
using namespace fire::test;

namespace {

constexpr const char* families[] = {"qwen3_vl", "qwen3_vl_b", "qwen2_5_vl", "llava", "llava_qwen2"};

/// Placeholder tokens of the images of a problem.
std::vector<int64_t> image_tokens(const Engine& engine) {
  std::vector<int64_t> tokens;
  for (const auto& [height, width] : Problem::sizes) tokens.push_back(engine.image_tokens(width, height));
  return tokens;
}

/// Bytes of the device that a run takes.
size_t planned(const PlanStats& plan, const std::vector<int64_t>& images) {
  size_t features = 0;
  for (const int64_t tokens : images)
    features += FeaturePool::rounded(plan.feature_bytes_per_token * static_cast<size_t>(tokens));
  return plan.weight_bytes + plan.adapter_bytes + plan.optimizer_bytes + plan.arena_bytes + plan.scratch_bytes +
         features;
}

void reserve(Problem& problem, const std::vector<std::vector<Pair>>& batches) {
  problem.engine.reserve(batches, problem.objective, single_step);
  problem.engine.reserve_images(image_tokens(problem.engine));
}

/// What `work` asks of the device.
template <class F>
cuda::Counters counted(F&& work) {
  const cuda::Counters before = cuda::counters();
  work();
  return cuda::counters() - before;
}

/// Pairs with nothing in common that take more than the 2 MiB which the arena of a small step is rounded up to.
std::vector<Pair> larger_than_the_unit(Problem& problem) {
  std::vector<Pair> many;
  do {
    many.push_back(problem.pairs[1]);
    many.back().prompt[0] = static_cast<int32_t>(many.size());
  } while (problem.engine.plan(many, problem.objective, single_step).activation_bytes <= size_t{2} << 20);
  return many;
}

void train(Problem& problem, const std::vector<Pair>& pairs) {
  problem.accumulate(pairs);
  problem.engine.update(adamw_spec);
}

}  // namespace

TEST("gpu memory: weights are one block, and what a run takes is what a plan says, of every family") {
  for (const char* family : families)
    for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
      EngineSpec spec = spec_of(dtype, size_t{1} << 24, family);
      spec.reference_adapter = spec.adapter;
      const size_t before = simt::allocated_bytes();
      std::optional<Engine> engine;
      const cuda::Counters opened = counted([&] { engine.emplace(spec); });
      const uint64_t workspace = 1, weights = 1,
                     adapters = dtype == ComputeType::bf16 ? 4 : 2;  // two, and their shadows
      CHECK(opened.allocations == workspace + weights + adapters && opened.releases == 0);

      Problem problem(*engine, false);
      reserve(problem, {{problem.pairs[1]}, problem.pairs});
      const std::vector<int64_t> images = image_tokens(*engine);
      spec.device.plan_only = true;
      const PlanStats plan = Engine(spec).plan(problem.pairs, problem.objective, single_step);
      const size_t expected = planned(plan, images);
      CHECK(simt::allocated_bytes() - before == expected);
      for (int step = 0; step < 2; ++step) {
        problem.encode();
        train(problem, problem.pairs);
        CHECK(simt::allocated_bytes() - before == expected);
      }
      engine.reset();
      CHECK(simt::allocated_bytes() == before);
    }
}

TEST("gpu memory: nothing is allocated for a batch that was reserved for, or one that is a little larger") {
  Engine engine(spec_of(ComputeType::bf16, 0));
  Problem problem(engine, false);
  Pair longer = problem.pairs[1];
  longer.prompt.push_back(1);
  reserve(problem, {{problem.pairs[1]}});
  const cuda::Counters known = counted([&] {
    problem.encode();
    train(problem, {problem.pairs[1]});
    train(problem, {longer});
    engine.evaluate({problem.pairs[1]}, problem.objective, single_step, nullptr);
  });
  CHECK(known.allocations == 0 && known.releases == 0);
}

TEST("gpu memory: an evaluation takes what it needs and no more, whatever was reserved for") {
  Engine engine(spec_of(ComputeType::bf16, 0));
  Problem problem(engine, false);
  const Objective likelihood = Objective::make({"sft", 0.3, 0.2, 0.5, 0.4, KlReduction::sum});
  const std::vector<Pair> many = larger_than_the_unit(problem);
  engine.reserve({many}, likelihood, single_step, false);
  problem.encode();
  const auto evaluates = [&](uint64_t allocations) {
    const cuda::Counters asked = counted([&] { engine.evaluate(many, problem.objective, single_step, nullptr); });
    CHECK(asked.allocations == allocations && asked.releases == allocations);
    CHECK(engine.arena().holds(engine.arena().peak_bytes()));
  };
  const PlanStats forward = engine.plan(many, problem.objective, single_step, false);
  CHECK(forward.activation_bytes < engine.plan(many, problem.objective, single_step).activation_bytes);
  CHECK(forward.optimizer_bytes == 0);
  evaluates(engine.arena().holds(forward.activation_bytes) ? 0 : 1);
  evaluates(0);
  CHECK(!engine.arena().holds(engine.plan(many, problem.objective, single_step).activation_bytes));
}

TEST("gpu memory: an evaluation that was reserved for allocates nothing and needs no gradient") {
  Engine engine(spec_of(ComputeType::bf16, 0));
  Problem problem(engine, false);
  const std::vector<Pair> many = larger_than_the_unit(problem);
  const cuda::Counters taken = counted([&] { engine.reserve({many}, problem.objective, single_step, false); });
  CHECK(taken.allocations == 1);  // the arena
  problem.encode();
  CHECK(engine.arena().holds(engine.plan(many, problem.objective, single_step, false).activation_bytes));
  const cuda::Counters asked = counted([&] { engine.evaluate(many, problem.objective, single_step, nullptr); });
  CHECK(asked.allocations == 0 && asked.releases == 0);
}

TEST("gpu memory: a larger batch than was reserved for takes a larger block, once") {
  Engine engine(spec_of(ComputeType::f32, 0));
  Problem problem(engine, false);
  engine.reserve({{problem.pairs[1]}}, problem.objective, single_step);
  problem.encode();
  const std::vector<Pair> many = larger_than_the_unit(problem);
  const cuda::Counters first = counted([&] { train(problem, many); });
  CHECK(first.allocations == 1 && first.releases == 1);
  const cuda::Counters again = counted([&] { train(problem, many); });
  CHECK(again.allocations == 0 && again.releases == 0);
}

TEST("gpu memory: a batch that does not fit leaves no arena that a smaller one would take for its own") {
  Engine engine(spec_of(ComputeType::bf16, 0));
  Problem problem(engine, false);
  engine.reserve({{problem.pairs[1]}}, problem.objective, single_step);
  problem.encode();
  const std::vector<Pair> many = larger_than_the_unit(problem);
  const simt::Faults sound = simt::faults();
  simt::Faults tight = sound;
  tight.memory_bytes = simt::allocated_bytes();
  simt::set_faults(tight);
  CHECK_ERROR(Code::out_of_memory, ("MiB", "free"), train(problem, many));
  const cuda::Counters first = counted([&] { train(problem, {problem.pairs[1]}); });
  CHECK(first.allocations == 1);
  CHECK(simt::allocated_bytes() == tight.memory_bytes);
  const cuda::Counters second = counted([&] { train(problem, {problem.pairs[1]}); });
  CHECK(second.allocations == 0);
  simt::set_faults(sound);
}

TEST("gpu memory: weights that do not fit are refused as a whole, with what they take") {
  const simt::Faults sound = simt::faults();
  simt::Faults tight = sound;
  tight.memory_bytes = simt::allocated_bytes() + gpu_workspace + (size_t{1} << 20);
  simt::set_faults(tight);
  CHECK_ERROR(Code::out_of_memory, ("copying the weights", "could not allocate 2 MiB", "1 MiB of"),
              Engine(spec_of(ComputeType::f32, 0)));
  simt::set_faults(sound);
}

TEST("gpu memory: where there is no memory for the room in the arena there is none") {
  Engine engine(spec_of(ComputeType::bf16, 0));
  Problem problem(engine, false);
  engine.optimizer();
  const PlanStats plan = engine.plan(problem.pairs, problem.objective, single_step);
  const size_t least = std::max(plan.activation_bytes, plan.vision_bytes), before = simt::allocated_bytes();
  const simt::Faults sound = simt::faults();
  simt::Faults tight = sound;
  tight.memory_bytes = before + least;
  simt::set_faults(tight);
  engine.reserve({problem.pairs}, problem.objective, single_step);
  CHECK(simt::allocated_bytes() == before + least);
  simt::set_faults(sound);
  problem.encode();
  const cuda::Counters step = counted([&] { train(problem, problem.pairs); });
  CHECK(step.allocations == 0 && step.releases == 0);
}

namespace {

/// What a step of the four pairs may ask for, in bf16: accumulate and update, every image released and encoded anew
/// first. The figures are those of this small model; who changes the step looks at what became of them here.
struct StepCost {
  const char* what;
  bool checkpointing, cached;
  int step;  // which one is counted
  uint64_t waits, launches, to_device, to_host, on_device, zeroed;
};

constexpr StepCost step_costs[] = {
    {"on the fly", false, false, 2, 3, 375, 131724, 1512, 3360, 83808},
    {"pairs that are new to the cache", false, true, 1, 4, 375, 131724, 4200, 3360, 83808},
    {"pairs that the cache has", false, true, 2, 3, 326, 130924, 1512, 3360, 83808},
    {"checkpointing", true, false, 2, 3, 423, 131724, 1512, 3360, 83808},
};

}  // namespace

TEST("gpu memory: a step allocates nothing, waits as often as cuda/README.md says, and launches and copies so much") {
  for (const StepCost& expected : step_costs) {
    EngineSpec spec = spec_of(ComputeType::bf16, expected.cached ? size_t{1} << 24 : 0);
    spec.checkpointing = expected.checkpointing;
    Engine engine(spec);
    Problem problem(engine, false);
    reserve(problem, {problem.pairs});
    cuda::Counters step;
    for (int i = 0; i < expected.step; ++i) {
      step = counted([&] {
        problem.encode();
        train(problem, problem.pairs);
      });
      CHECK(step.allocations == 0 && step.releases == 0);
    }
    const StepCost got{expected.what,        expected.checkpointing, expected.cached,      expected.step,
                       step.host_waits,      step.launches,          step.bytes_to_device, step.bytes_to_host,
                       step.bytes_on_device, step.bytes_zeroed};
    const auto numbers = [](const StepCost& c) {
      return std::vector<uint64_t>{c.waits, c.launches, c.to_device, c.to_host, c.on_device, c.zeroed};
    };
    if (numbers(got) != numbers(expected)) {
      std::string text = std::string(expected.what) + ":";
      for (const uint64_t number : numbers(got)) text += " " + std::to_string(number);
      check::fail(__FILE__, __LINE__, text);
    }
  }
}

TEST("gpu report: says what there is without opening CUDA on it; which kernels a GPU takes has to open it") {
  const size_t before = simt::selections();
  CHECK(gpu_report().gpus.size() == 1 && simt::selections() == before);
  CHECK(gpu_kernels("cuda:0") == "sm_90a" && simt::selections() > before);
  CHECK_ERROR(Code::invalid_argument, ("cpu", "not a GPU"), gpu_kernels("cpu"));
  CHECK_ERROR(Code::no_device, ("cuda:7"), gpu_kernels("cuda:7"));
  const Variable portable("FIRE_CUDA_ISA", "sm_80");
  CHECK(gpu_kernels("auto") == "sm_80");
}

TEST("gpu memory: what is free is what others leave, and only a GPU has it") {
  const GpuMemory before = gpu_memory("cuda:0");
  const simt::Faults sound = simt::faults();
  CHECK(before.total_bytes == sound.memory_bytes);
  CHECK(before.free_bytes == sound.memory_bytes - simt::allocated_bytes());
  const Engine engine(spec_of(ComputeType::f32, 0));
  const GpuMemory open = gpu_memory("auto");
  CHECK(open.total_bytes == before.total_bytes && open.free_bytes < before.free_bytes);
  CHECK_ERROR(Code::invalid_argument, ("cpu", "not a GPU"), gpu_memory("cpu"));
  CHECK_ERROR(Code::no_device, ("cuda:7"), gpu_memory("cuda:7"));
  simt::Faults faults = sound;
  faults.driver = simt::Driver::no_card;
  simt::set_faults(faults);
  CHECK_ERROR(Code::no_device, ("no GPU"), gpu_memory("cuda"));
  simt::set_faults(sound);
}
