// Every operation of ops.h has cases (test/ops/cases).
#include <algorithm>
#include <regex>

#include "fixture.h"
#include "ops/case.h"

using namespace fire;
using namespace fire::test;

TEST("ops: every operation of ops.h has cases") {
  const std::string text = read_file(std::string(FIRE_TEST_DIR) + "/../native/ops/ops.h", 1 << 20);
  // What hands over memory is tested with the device (test/cuda/device_test.cpp), the side queue with native/dist.
  const std::string operations_of = text.substr(text.find("virtual void copy("));
  const std::regex declared(R"(virtual [^;=]*?(\w+)\()");
  int found = 0;
  for (auto at = std::sregex_iterator(operations_of.begin(), operations_of.end(), declared);
       at != std::sregex_iterator(); ++at, ++found) {
    const std::string name = (*at)[1];
    CHECK(std::count_if(operations().begin(), operations().end(), [&](const Operation& o) { return o.name == name; }) ==
          1);
    if (std::none_of(operations().begin(), operations().end(), [&](const Operation& o) { return o.name == name; }))
      check::fail(__FILE__, __LINE__, name + " has none");
  }
  CHECK(found == static_cast<int>(operations().size()));
}
