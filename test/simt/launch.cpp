// A launch on the host's side: options, limits, one block after another.
#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <string>

#include "simt/runtime_faults.h"
#include "simt/state.h"
#include "tensor/error.h"

namespace fire::simt {

Options current_options;
Launch (*replace_body)(const Launch& launch) = nullptr;

namespace {

std::mutex& launch_mutex() {
  static std::mutex mutex;
  return mutex;
}

[[noreturn]] void bad_setting(const char* name, const std::string& value) {
  throw Error(Code::invalid_argument, std::string(name) + "=" + value + " is not a setting of the emulator")
      .with("variable", name);
}

Options from_environment() {
  Options options;
  if (const char* text = std::getenv("FIRE_SIMT_SCHEDULE")) {
    const std::string value = text;
    const std::string kind = value.substr(0, value.find(':'));
    if (kind == "fifo") {
      options.schedule = Schedule::fifo;
    } else if (kind == "lifo") {
      options.schedule = Schedule::lifo;
    } else if (kind == "random") {
      options.schedule = Schedule::random;
    } else {
      bad_setting("FIRE_SIMT_SCHEDULE", value);
    }
    if (kind.size() < value.size()) {
      char* end = nullptr;
      options.seed = std::strtoull(value.c_str() + kind.size() + 1, &end, 10);
      if (kind != "random" || *end != '\0' || kind.size() + 1 == value.size()) bad_setting("FIRE_SIMT_SCHEDULE", value);
    }
  }
  if (const char* text = std::getenv("FIRE_SIMT_ASYNC")) {
    options.eager = std::string(text) == "eager";
    if (!options.eager && std::string(text) != "lazy") bad_setting("FIRE_SIMT_ASYNC", text);
  }
  if (const char* text = std::getenv("FIRE_SIMT_BLOCKS")) {
    options.unordered_blocks = std::string(text) == "unordered";
    if (!options.unordered_blocks && std::string(text) != "ordered") bad_setting("FIRE_SIMT_BLOCKS", text);
  }
  return options;
}

void apply(const Options& options) {
  current_options = options;
  machine.random = options.seed * 0x9e3779b97f4a7c15u + 1;
}

/// Reads the environment at the first call.
void initialise() {
  static const bool done = (apply(from_environment()), true);
  static_cast<void>(done);
}

void check_limits(const Launch& launch) {
  const dim3 &grid = launch.grid, &block = launch.block;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0) refuse_launch(launch, "a block without threads");
  if (block.x > kMaxThreads || block.y > kMaxThreads || threads > kMaxThreads)
    refuse_launch(launch, "a block has at most 1024 threads");
  if (block.z > 64) refuse_launch(launch, "a block is at most 64 threads deep");
  if (grid.x > 0x7fffffffu) refuse_launch(launch, "a grid is at most 2^31 - 1 blocks wide");
  if (grid.y > 65535 || grid.z > 65535) refuse_launch(launch, "a grid is at most 65535 blocks high and deep");
  const size_t shared = std::min(kMaxShared, faults().shared_bytes - kSharedOverhead);
  if (launch.shared_bytes > shared)
    refuse_launch(launch, "a block has at most " + std::to_string(shared >> 10) + " KiB of shared memory");
}

/// Thread indices are the same in all blocks of a launch.
SIMT_UNSEEN void number_threads(const Launch& launch) {
  const dim3& block = launch.block;
  machine.threads = block.x * block.y * block.z;
  machine.warps = (machine.threads + kWarp - 1) / kWarp;
  unsigned number = 0;
  for (unsigned z = 0; z < block.z; ++z)
    for (unsigned y = 0; y < block.y; ++y)
      for (unsigned x = 0; x < block.x; ++x) {
        Lane& lane = machine.lanes[number];
        lane.view.index = {x, y, z};
        lane.number = uint16_t(number++);
      }
  for (unsigned w = 0; w < machine.warps; ++w) {
    const unsigned left = machine.threads - w * kWarp;
    machine.warp[w].existing = left >= kWarp ? 0xffffffffu : (1u << left) - 1;
  }
}

SIMT_UNSEEN void place_block(const uint3& index) {
  current_block.index = index;
  ++current_block.serial;
}

SIMT_UNSEEN void begin_launch(const Launch& launch) {
  machine.launch = &launch;
  last_failure = {};
  machine.host.stack = nullptr;  // may be another host thread than last time
  current_block.block = launch.block;
  current_block.grid = launch.grid;
  number_threads(launch);
  order_launch_begin();
}

}  // namespace

Options options() {
  initialise();
  return current_options;
}

void set_options(const Options& options) {
  initialise();
  apply(options);
}

uint64_t blocks_run() { return current_block.serial; }

void run(const Launch& asked) {
  const std::lock_guard<std::mutex> lock(launch_mutex());
  initialise();
  check_launch(asked.kernel);
  const Launch launch = replace_body ? replace_body(asked) : asked;
  check_limits(launch);
  begin_launch(launch);
  for (unsigned z = 0; z < launch.grid.z; ++z)
    for (unsigned y = 0; y < launch.grid.y; ++y)
      for (unsigned x = 0; x < launch.grid.x; ++x) {
        place_block({x, y, z});
        begin_shared();
        begin_copies();
        begin_hopper();
        run_block();
        if (last_failure.defect != Defect::none) reset_fibers();
        end_shared();
        if (last_failure.defect == Defect::none) continue;
        poison_device();
        throw_failure();
      }
  order_launch_end();
}

}  // namespace fire::simt
