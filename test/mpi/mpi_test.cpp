// Several ranks on CPUs: started by mpirun, each runs these tests (cmake/tests.cmake).
#include <cstdlib>

#include "dist/gradient_sum.h"
#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

constexpr AdamWSpec adamw{1e-4, 0.9, 0.999, 1e-8, 0.01, 1};
constexpr int steps = 3;
constexpr size_t pair_count = 6;

int of_environment(const char* name) {
  const char* const text = std::getenv(name);
  if (!text) throw Error(Code::internal, std::string(name) + " is not set: start this program with mpirun");
  return std::atoi(text);
}
const int rank = of_environment("OMPI_COMM_WORLD_RANK"), size = of_environment("OMPI_COMM_WORLD_SIZE");

EngineSpec training_spec() {
  EngineSpec spec = engine_spec("qwen3_vl");
  spec.lora = lora_spec(4);
  spec.lora->dropout = 0;
  return spec;
}

/// About no image, of different lengths.
std::vector<Pair> some_pairs() {
  Random random(11);
  std::vector<Pair> pairs;
  for (size_t i = 0; i < pair_count; ++i) {
    Pair p;
    p.id = "pair-" + std::to_string(i);
    p.prompt = random.ids(3 + static_cast<int64_t>(i), 0, 99);
    p.chosen = random.ids(5 + static_cast<int64_t>(2 * i), 0, 99);
    p.rejected = random.ids(4, 0, 99);
    p.chosen_mask.assign(p.chosen.size(), 0);
    p.chosen_mask[2] = p.chosen_mask[3] = 1;
    p.rejected_mask = {0, 1, 1, 0};
    pairs.push_back(p);
  }
  return pairs;
}

struct Trained {
  std::vector<double> norms;
  std::vector<float> adapter, moment;
};

/// Steps over all pairs, of which this rank has those that `has` says, one a micro-batch.
Trained train(Engine& engine, const std::function<bool(size_t)>& has, bool mark_last) {
  const std::vector<Pair> pairs = some_pairs();
  const Objective objective = Objective::make({"fire", 0.3, 0.2, 0.5, 0.4, KlReduction::sum});
  size_t last = 0;
  for (size_t i = 0; i < pair_count; ++i)
    if (has(i)) last = i;
  Trained result;
  for (int step = 0; step < steps; ++step) {
    for (size_t i = 0; i < pair_count; ++i)
      if (has(i))
        engine.accumulate({pairs[i]}, objective, {pair_count, Layout::packed, 0, mark_last && i == last}, nullptr);
    const UpdateStats stats = engine.update(adamw);
    CHECK(stats.seconds_waited >= 0);
    result.norms.push_back(stats.grad_norm);
  }
  result.adapter = engine.ops().download_f32(engine.adapter()->param());
  result.moment = engine.ops().download_f32(engine.optimizer().moment1());
  return result;
}

Trained alone() {
  Engine engine(training_spec());
  return train(
      engine, [](size_t) { return true; }, true);
}

Trained together(const std::function<bool(size_t)>& has, bool mark_last) {
  setenv("FIRE_BUCKET_BYTES", "1", 1);  // a bucket a layer
  Engine engine(training_spec());
  engine.join_group({Transport::mpi, rank, size, ""}, nullptr);
  return train(engine, has, mark_last);
}

double relative(const std::vector<float>& got, const std::vector<float>& want) {
  const int64_t n = static_cast<int64_t>(want.size());
  return distance(got.data(), want.data(), n) / norm(want.data(), n);
}

/// Whether every rank has these bits: halves of them, whose sums f32 holds exactly.
bool same_on_all_ranks(const std::vector<float>& values) {
  const auto end = std::make_shared<GroupEnd>();
  const std::unique_ptr<Ops> ops = open_device(cpu_spec());
  const auto group = join_group({Transport::mpi, rank, size, ""}, *ops, nullptr, end);
  std::vector<float> halves;
  for (const float value : values) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    halves.insert(halves.end(), {static_cast<float>(bits >> 16), static_cast<float>(bits & 0xffff)});
  }
  std::vector<float> summed = halves;
  group->sum(Tensor(summed.data(), DType::f32, {static_cast<int64_t>(summed.size())}));
  group->join(nullptr);
  for (float& half : halves) half *= static_cast<float>(size);
  return same_bits(summed, halves);
}

}  // namespace

TEST("mpi: ranks take the step that one takes with more accumulation, each the same bits, every time") {
  const Trained one = alone();
  const std::vector<std::function<bool(size_t)>> splits{
      [](size_t i) { return static_cast<int>(i) % size == rank; },
      // The last rank has none, the first most.
      [](size_t i) { return size == 1 || (i < 4 ? rank == 0 : static_cast<int>(i) % (size - 1) == rank); },
  };
  for (const auto& has : splits) {
    const Trained ours = together(has, true);
    // f32 sums in another order.
    CHECK(relative(ours.adapter, one.adapter) <= 1e-6);
    CHECK(relative(ours.moment, one.moment) <= 1e-6);
    for (int step = 0; step < steps; ++step)
      CHECK_NEAR(ours.norms[static_cast<size_t>(step)], one.norms[static_cast<size_t>(step)],
                 1e-5 * one.norms[static_cast<size_t>(step)]);
    CHECK(same_on_all_ranks(ours.adapter) && same_on_all_ranks(ours.moment));
    CHECK(same_bits(together(has, true).adapter, ours.adapter));
    CHECK(same_bits(together(has, false).adapter, ours.adapter));
  }
}

TEST("mpi: one that was built without threads is refused, each time") {
  Engine engine(training_spec());
  for (int time = 0; time < 2; ++time)
    CHECK_ERROR(Code::ranks, ("MPI_Init_thread", "without threads"),
                engine.join_group({Transport::mpi, rank, size, ""}, nullptr));
}

TEST("mpi: what MPI made must be what was asked for, and a GPU's transport is refused") {
  Engine engine(training_spec());
  CHECK_ERROR(Code::invalid_argument, ("device: cuda"), engine.join_group({Transport::nccl, rank, size, ""}, nullptr));
  CHECK_ERROR(Code::ranks, ("MPI made this process rank", "mpirun"),
              engine.join_group({Transport::mpi, rank, size + 1, ""}, nullptr));
}
