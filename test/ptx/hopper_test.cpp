// The kernels of test/gpu/hopper_wrappers.cuh as nvcc compiled them: right by the definition, in every order of threads and
// whenever copies and products are done.
#include <string>

#include "check.h"
#include "simt/emulator.h"
#include "simt/selftest.h"

namespace fire::simt::selftest {
namespace {

/// Its kernel is not among the wrappers.
const std::string elsewhere = "persistent_product";

void check_control(const Planted& control) {
  const Options before = options();
  uint64_t bits = 0;
  for (const Schedule schedule : {Schedule::fifo, Schedule::lifo, Schedule::random})
    for (const bool eager : {false, true}) {
      set_options({.schedule = schedule, .eager = eager});
      const Result result = control.run();
      CHECK(result.right);
      CHECK(bits == 0 || bits == result.bits);
      bits = result.bits;
    }
  set_options(before);
}

void register_controls() {
  for (const Planted& control : hopper_controls())
    if (control.name != elsewhere)
      check::add_test(std::string("ptx/hopper: ") + control.name, [&control] { check_control(control); });
}
[[maybe_unused]] const bool registered = check::at_start(register_controls);

}  // namespace
}  // namespace fire::simt::selftest
