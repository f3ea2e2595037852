// Every golden folder through the engine on a CPU, and that a model which is a little wrong is seen. On a GPU and on
// the emulator the same folders go through test/cuda/verify_main.cpp.
#include "fixture.h"
#include "verify/verify.h"

using namespace fire;
using namespace fire::test;

namespace {

std::vector<std::string> golden_folders() {
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(golden_directory("")))
    if (std::filesystem::exists(entry.path() / "golden.json")) folders.push_back(entry.path().string());
  return folders;
}

/// The groups that do not pass.
std::vector<std::string> failures(const std::string& folder, ComputeType dtype) {
  VerifySpec spec{folder, cpu_spec(2)};
  spec.device.dtype = dtype;
  std::vector<std::string> groups;
  for (const VerifyRow& row : verify(spec, {}))
    if (!row.pass) groups.push_back(row.group);
  return groups;
}

/// With one thing changed in config.json.
std::vector<std::string> failures_with(const std::string& golden, const std::string& from, const std::string& to) {
  TempDir dir;
  std::filesystem::copy(golden_directory(golden), dir.path(), std::filesystem::copy_options::recursive);
  write_file(dir / "config.json", {replaced(read_file(dir / "config.json", 1 << 20), from, to)});
  return failures(dir.path(), ComputeType::f32);
}

bool holds(const std::vector<std::string>& groups, const std::string& group) {
  return std::find(groups.begin(), groups.end(), group) != groups.end();
}

}  // namespace

TEST("golden: every folder, in f32 and bf16") {
  const std::vector<std::string> folders = golden_folders();
  CHECK(folders.size() >= 5);
  for (const std::string& folder : folders)
    for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16})
      for (const std::string& group : failures(folder, dtype))
        check::fail(__FILE__, __LINE__,
                    folder + (dtype == ComputeType::f32 ? ", f32: " : ", bf16: ") + group + " is off");
}

TEST("golden: what tells a tower from its neighbours is seen") {
  CHECK(
      holds(failures_with("llava", "\"vision_feature_layer\": -1", "\"vision_feature_layer\": -2"), "vision features"));
  CHECK(holds(failures_with("llava_qwen2", "\"mm_vision_select_layer\": -2", "\"mm_vision_select_layer\": -1"),
              "vision features"));
  CHECK(holds(failures_with("qwen2_5_vl", "\"window_size\": 56", "\"window_size\": 112"), "vision tower"));
  const std::string full = "\"fullatt_block_indexes\": [\n      1\n    ]";
  CHECK(holds(failures_with("qwen2_5_vl", full, "\"fullatt_block_indexes\": []"), "vision features"));
}

TEST("golden: positions and biases of a decoder are seen") {
  CHECK(holds(failures_with("qwen2_5_vl", "      1,\n      3,\n      3", "      3,\n      3,\n      1"),
              "rotary tables"));
  CHECK(holds(failures_with("llava", "\"rope_theta\": 1000000.0", "\"rope_theta\": 10000.0"), "logits"));
}
