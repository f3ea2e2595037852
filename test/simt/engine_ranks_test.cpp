// Several ranks on emulated GPUs, processes of their own: the path of NCCL with the stand-in of test/nccl.
#include <cstdlib>
#include <thread>

#include "cuda/watch.h"
#include "dist/library.h"
#include "dist/nccl.h"
#include "engine_problem.h"
#include "ranks.h"
#include "simt/runtime_faults.h"
#include "simt/stream.h"

using namespace fire;
using namespace fire::test;

namespace {

constexpr AdamWSpec adamw{1e-4, 0.9, 0.999, 1e-8, 0.01, 1};
constexpr int steps = 3;

/// Of a process that has not looked for NCCL yet.
void use_standin(const char* fault = "") {
  setenv("FIRE_NCCL_LIBRARY", FIRE_NCCL_STANDIN, 1);
  setenv("FIRE_NCCL_STANDIN", fault, 1);
  setenv("FIRE_BUCKET_BYTES", "1", 1);  // a bucket a layer
}

/// As rank 0 gives it to the others.
std::string some_id() {
  const std::vector<float> digits = in_processes(1,
                                                 [](int) {
                                                   use_standin();
                                                   const std::string id = new_group_id();
                                                   return RankResult{{}, {id.begin(), id.end()}, ""};
                                                 })[0]
                                        .values;
  return {digits.begin(), digits.end()};
}

EngineSpec training_spec(ComputeType dtype) {
  EngineSpec spec = spec_of(dtype, size_t{1} << 24);
  spec.lora = lora_spec(4);
  spec.lora->dropout = 0;
  return spec;
}

std::vector<float> join(std::vector<float> a, const std::vector<float>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// The adapter and the first moment.
std::vector<float> state(Engine& engine) {
  return join(engine.ops().download_f32(engine.adapter()->param()),
              engine.ops().download_f32(engine.optimizer().moment1()));
}

/// Three steps over all pairs, of which this rank has those of `share`, one a micro-batch. Numbers: the norm of each
/// step, and the losses.
RankResult train(Engine& engine, const std::vector<size_t>& share, bool mark_last) {
  Problem problem(engine);
  RankResult result;
  for (int step = 0; step < steps; ++step) {
    for (size_t i = 0; i < share.size(); ++i) {
      const StepOptions options{static_cast<double>(problem.pairs.size()), Layout::packed, 0,
                                mark_last && i + 1 == share.size()};
      for (const PairStats& pair :
           engine.accumulate({problem.pairs[share[i]]}, problem.objective, options, nullptr).pairs)
        result.numbers.push_back(pair.loss.loss);
    }
    result.numbers.push_back(engine.update(adamw).grad_norm);
  }
  result.values = state(engine);
  return result;
}

RankResult alone(ComputeType dtype) {
  return in_processes(1, [&](int) {
    Engine engine(training_spec(dtype));
    return train(engine, {0, 1, 2, 3}, true);
  })[0];
}

std::vector<RankResult> together(ComputeType dtype, const std::vector<std::vector<size_t>>& shares, bool mark_last) {
  const std::string id = some_id();
  const int count = static_cast<int>(shares.size());
  return in_processes(count, [&](int rank) {
    use_standin();
    Engine engine(training_spec(dtype));
    engine.join_group({Transport::nccl, rank, count, id}, nullptr);
    return train(engine, shares[static_cast<size_t>(rank)], mark_last);
  });
}

double relative(const std::vector<float>& got, const std::vector<float>& want) {
  const int64_t n = static_cast<int64_t>(want.size());
  return distance(got.data(), want.data(), n) / norm(want.data(), n);
}

std::vector<float> half(const std::vector<float>& state, bool second) {
  const auto middle = state.begin() + static_cast<int64_t>(state.size() / 2);
  return second ? std::vector<float>(middle, state.end()) : std::vector<float>(state.begin(), middle);
}

bool is_clear(const std::vector<float>& gradient) {
  return std::all_of(gradient.begin(), gradient.end(), [](float x) { return x == 0; });
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Two ranks, of which the first trains and the second does what `other` says; what the first says.
std::vector<RankResult> pair_of_ranks(const char* fault, const std::function<RankResult(Engine&, int)>& body) {
  const std::string id = some_id();
  return in_processes(2, [&](int rank) {
    use_standin(fault);
    Engine engine(training_spec(ComputeType::f32));
    engine.join_group({Transport::nccl, rank, 2, id}, nullptr);
    return body(engine, rank);
  });
}

/// A step that must fail: what it says, and whether adapter, moments and gradient are as if it had not been.
RankResult failing_step(Engine& engine) {
  Problem problem(engine);
  const std::vector<float> before = state(engine);
  RankResult result;
  try {
    engine.accumulate(problem.pairs, problem.objective, {4, Layout::packed, 0, true}, nullptr);
    engine.update(adamw);
  } catch (const Error& e) {
    result.error = std::string(to_string(e.code())) + ": " + e.what();
  }
  result.numbers = {same_bits(state(engine), before) ? 1.0 : 0.0, is_clear(problem.gradient()) ? 1.0 : 0.0};
  CHECK_ERROR(Code::ranks, (""), problem.accumulate(problem.pairs));
  CHECK_ERROR(Code::ranks, (""), engine.update(adamw));
  engine.zero_grad();
  return result;
}

/// Ends the group of `engine` a while after its second sum has begun, as what watches the other ranks does.
std::thread ends_soon(Engine& engine) {
  std::string reason;
  int (*sums)() = nullptr;
  find_function(open_library(FIRE_NCCL_STANDIN, RTLD_NOW | RTLD_NOLOAD, reason), "standin_sums", sums);
  return std::thread([end = engine.group_end(), sums] {
    while (sums() < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    end->ask("Rank 1 failed: no space left");
  });
}

}  // namespace

TEST("gpu ranks: 2, 3 and 4 take the step that one takes with more accumulation, each rank the same bits, every time") {
  for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
    const RankResult one = alone(dtype);
    const std::vector<std::vector<std::vector<size_t>>> splits{
        {{0, 2}, {1, 3}}, {{0}, {1, 2, 3}}, {{0, 1}, {2}, {3}}, {{1, 2, 3}, {}, {0}}, {{0}, {1}, {2}, {3}}};
    for (const auto& shares : splits) {
      const std::vector<RankResult> ranks = together(dtype, shares, true);
      std::vector<double> losses(4), expected(4);
      for (const RankResult& rank : ranks) {
        CHECK(rank.error.empty());
        CHECK(same_bits(rank.values, ranks[0].values));
      }
      // f32 sums in another order.
      const double tolerance = 1e-6;
      CHECK(relative(half(ranks[0].values, false), half(one.values, false)) <= tolerance);
      CHECK(relative(half(ranks[0].values, true), half(one.values, true)) <= (dtype == ComputeType::f32 ? 1e-6 : 1e-5));
      for (size_t rank = 0; rank < ranks.size(); ++rank) {
        const size_t share = shares[rank].size();
        for (size_t step = 0; step < steps; ++step) {
          for (size_t i = 0; i < share; ++i) {
            const double want = one.numbers[step * 5 + shares[rank][i]];
            CHECK_NEAR(ranks[rank].numbers[step * (share + 1) + i], want, 2e-5 * std::abs(want));
          }
          const double want = one.numbers[step * 5 + 4];
          CHECK_NEAR(ranks[rank].numbers[step * (share + 1) + share], want, 1e-5 * want);
        }
      }
      if (shares.size() == 3) {
        const std::vector<RankResult> again = together(dtype, shares, true), unmarked = together(dtype, shares, false);
        CHECK(same_bits(again[0].values, ranks[0].values));
        CHECK(same_bits(unmarked[0].values, ranks[0].values));
      }
    }
  }
}

TEST("gpu ranks: a group that is ended while a rank waits leaves adapter and moments as they were") {
  const std::vector<RankResult> ranks = pair_of_ranks("", [](Engine& engine, int rank) {
    RankResult result;
    if (rank == 1) {  // never comes
      sleep(3);
      return result;
    }
    std::thread ender = ends_soon(engine);
    result = failing_step(engine);
    ender.join();
    return result;
  });
  CHECK(ranks[0].error == "ERR_FIRE_RANKS: Rank 1 failed: no space left");
  CHECK((ranks[0].numbers == std::vector<double>{1, 1}));
}

TEST("gpu ranks: NCCL's own errors end the step with its words, and an abort gets a rank out of a call that hangs") {
  const auto said = [](const char* fault, bool ended) {
    return pair_of_ranks(fault, [&](Engine& engine, int rank) -> RankResult {
      if (rank == 1) {
        Problem problem(engine);
        std::thread ender = ends_soon(engine);
        const RankResult result = failing_step(engine);
        ender.join();
        return result;
      }
      if (!ended) return failing_step(engine);
      std::thread ender = ends_soon(engine);
      const RankResult result = failing_step(engine);
      ender.join();
      return result;
    })[0];
  };
  for (const auto& [fault, words, ended] : {std::tuple{"async:2@0", "remote process exited", false},
                                            {"fail:1@0", "told to fail", false},
                                            {"block:2@0", "Rank 1 failed: no space left", true}}) {
    const RankResult result = said(fault, ended);
    CHECK(contains(result.error, "ERR_FIRE_RANKS"));
    CHECK(contains(result.error, words));
    CHECK((result.numbers == std::vector<double>{1, 1}));
  }
}

TEST("gpu ranks: where NCCL hangs in the end of a group, a rank goes on without it, and never frees the gradient") {
  for (const char* fault : {"deaf:1@0", "stuck:1@0"}) {
    const std::string id = some_id();
    const std::vector<RankResult> ranks = in_processes(2, [&](int rank) {
      use_standin(fault);
      setenv("FIRE_GROUP_TIMEOUT", "2", 1);
      RankResult result;
      size_t gradient = 0;
      {
        Engine engine(training_spec(ComputeType::f32));
        engine.join_group({Transport::nccl, rank, 2, id}, nullptr);
        if (rank == 1) return result;  // never comes
        gradient = engine.optimizer().gradient().bytes();
        std::thread ender = ends_soon(engine);
        result = failing_step(engine);
        ender.join();
      }
      result.numbers.push_back(simt::allocated_bytes() == gradient ? 1 : 0);
      return result;
    });
    CHECK(ranks[0].error == "ERR_FIRE_RANKS: Rank 1 failed: no space left");
    CHECK((ranks[0].numbers == std::vector<double>{1, 1, 1}));
  }
}

TEST("gpu ranks: memory that runs out in the middle of the sums ends the group and clears the gradient") {
  const std::vector<RankResult> ranks = pair_of_ranks("memory:2@0", [](Engine& engine, int rank) {
    RankResult result;
    if (rank == 1) return result;
    Problem problem(engine);
    problem.accumulate(problem.pairs);
    CHECK(!is_clear(problem.gradient()));
    const std::vector<float> before = state(engine);
    CHECK_THROWS(std::bad_alloc, engine.update(adamw));
    CHECK(same_bits(state(engine), before) && is_clear(problem.gradient()));
    CHECK_ERROR(Code::ranks, ("could not finish its step: std::bad_alloc"), problem.accumulate(problem.pairs));
    CHECK_ERROR(Code::ranks, ("could not finish its step: std::bad_alloc"), engine.update(adamw));
    engine.zero_grad();
    return result;
  });
  CHECK(ranks[0].error.empty());
}

TEST("gpu ranks: a step that is stopped before its sums begin can be taken again") {
  const std::vector<RankResult> ranks = pair_of_ranks("", [](Engine& engine, int rank) {
    Problem problem(engine);
    const std::atomic<bool> stop = rank == 0;
    const StepOptions last{8, Layout::packed, 0, true};
    RankResult result;
    try {
      engine.accumulate(problem.pairs, problem.objective, last, &stop);
    } catch (const Error& e) {
      result.error = to_string(e.code());
      engine.accumulate(problem.pairs, problem.objective, last, nullptr);
    }
    engine.update(adamw);
    result.values = state(engine);
    return result;
  });
  CHECK(ranks[0].error == "ERR_FIRE_ABORTED" && ranks[1].error.empty());
  CHECK(same_bits(ranks[0].values, ranks[1].values));
  // Twice the pairs by twice the number.
  CHECK(relative(half(ranks[0].values, true), [] {
          return in_processes(1,
                              [](int) {
                                Engine engine(training_spec(ComputeType::f32));
                                Problem problem(engine);
                                problem.accumulate(problem.pairs);
                                engine.update(adamw);
                                return RankResult{{}, half(state(engine), true), ""};
                              })[0]
              .values;
        }()) <= 1e-6);
}

TEST("gpu ranks: what was marked as the last is the last, and nothing clears sums that have begun") {
  for (const RankResult& rank : pair_of_ranks("", [](Engine&engine, int) {
         Problem problem(engine);
         engine.accumulate(problem.pairs, problem.objective, {8, Layout::packed, 0, true}, nullptr);
         CHECK_ERROR(Code::invalid_argument, ("update"), problem.accumulate(problem.pairs));
         CHECK_ERROR(Code::invalid_argument, ("update"), engine.zero_grad());
         CHECK_ERROR(Code::invalid_argument, ("lr"), engine.update({-1, 0.9, 0.999, 1e-8, 0, 0}));
         const cuda::Counters before = cuda::counters();
         engine.evaluate(problem.pairs, problem.objective, single_step, nullptr);
         engine.update(adamw);
         const cuda::Counters asked = cuda::counters() - before;
         return RankResult{{static_cast<double>(asked.allocations), static_cast<double>(engine.step())}, {}, ""};
       })) {
    CHECK(rank.error.empty());
    CHECK((rank.numbers == std::vector<double>{0, 1}));
  }
}

TEST("gpu ranks: ranks that do not come together are told why") {
  const auto first = [](const std::function<void()>& prepare, int size, Cancel cancel = nullptr) {
    const std::string id = some_id();
    return in_processes(1,
                        [&](int) -> RankResult {
                          use_standin();
                          prepare();
                          Engine engine(training_spec(ComputeType::f32));
                          engine.join_group({Transport::nccl, 0, size, id}, cancel);
                          return {};
                        })[0]
        .error;
  };
  const std::string late = first([] { setenv("FIRE_GROUP_TIMEOUT", "0.5", 1); }, 2);
  CHECK(contains(late, "ERR_FIRE_RANKS") && contains(late, "not all of the 2 ranks"));
  std::atomic<bool> cancelled = true;
  CHECK(contains(first([] {}, 2, &cancelled), "ERR_FIRE_ABORTED"));
  const std::string old = first([] { setenv("FIRE_NCCL_STANDIN", "version", 1); }, 2);
  CHECK(contains(old, "ERR_FIRE_RANKS") && contains(old, "is NCCL 2.8.4, need 2.14.0"));
  const std::string missing = first([] { setenv("FIRE_NCCL_LIBRARY", "/nowhere/libnccl.so.2", 1); }, 2);
  CHECK(contains(missing, "ERR_FIRE_RANKS") && contains(missing, "NCCL is missing: /nowhere/libnccl.so.2"));
  const std::string other = first([] { setenv("FIRE_NCCL_LIBRARY", "libm.so.6", 1); }, 2);
  CHECK(contains(other, "libm.so.6: is not NCCL"));
  // A group of one needs nothing.
  CHECK(first([] { setenv("FIRE_NCCL_LIBRARY", "/nowhere/libnccl.so.2", 1); }, 1).empty());

  const std::vector<RankResult> twins = in_processes(2, [id = some_id()](int) -> RankResult {
    use_standin();
    setenv("FIRE_GROUP_TIMEOUT", "2", 1);
    Engine engine(training_spec(ComputeType::f32));
    engine.join_group({Transport::nccl, 1, 2, id}, nullptr);
    return {};
  });
  CHECK(contains(twins[0].error + twins[1].error, "another process has this rank"));

  in_processes(1, [](int) -> RankResult {
    use_standin();
    Engine engine(training_spec(ComputeType::f32));
    CHECK_ERROR(Code::invalid_argument, ("group.id"), engine.join_group({Transport::nccl, 0, 2, "12"}, nullptr));
    CHECK_ERROR(Code::invalid_argument, ("device: cpu"), engine.join_group({Transport::mpi, 0, 2, ""}, nullptr));
    return {};
  });
}

TEST("gpu ranks: the emulator sees a stream that is not behind the operations, and an event that never was") {
  const cuda::Stream operations = cuda::create_stream(), side = cuda::create_stream();
  const cuda::Event event = cuda::create_event();
  const auto* const seen = static_cast<const simt::OutsideStream*>(side);
  void* const memory = cuda::allocate(256);
  CHECK_ERROR(Code::internal, ("never recorded"), cuda::wait_on(side, event));
  cuda::fill_zero(memory, 256, operations);
  CHECK(seen->behind());
  cuda::record(event, operations);
  cuda::wait_on(side, event);
  CHECK(!seen->behind() && cuda::happened(event));
  cuda::fill_zero(memory, 256, operations);
  CHECK(seen->behind());

  // What a library does is done when it says so.
  auto* const library = static_cast<simt::OutsideStream*>(side);
  library->begin();
  cuda::record(event, side);
  CHECK(!cuda::happened(event));
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    library->end();
  });
  cuda::wait(event);
  CHECK(cuda::happened(event));
  later.join();
  cuda::release(memory);
  cuda::destroy_event(event);
  cuda::destroy_stream(side);
  cuda::destroy_stream(operations);
}
