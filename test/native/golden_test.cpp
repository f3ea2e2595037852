// Every golden folder through the engine on a CPU, and that a model which is a little wrong is seen. On a GPU and on
// the emulator the same folders go through test/cuda/verify_main.cpp.
#include "cpu/cpu_ops.h"
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

/// A golden folder in which one array is another; `word` stands in the error beside its name.
void refused_with(const std::string& name, const std::string& word, const std::function<void(Tensor&)>& change) {
  TempDir dir;
  std::filesystem::copy(golden_directory("qwen3_vl"), dir.path(), std::filesystem::copy_options::recursive);
  const SafeTensors file = SafeTensors::open_file(golden_directory("qwen3_vl") + "/golden.safetensors");
  std::vector<NamedTensor> tensors;
  for (const auto& [key, tensor] : file.tensors()) {
    tensors.push_back({key, tensor});
    if (key == name) change(tensors.back().tensor);
  }
  write_safetensors(dir / "golden.safetensors", tensors, {});
  CHECK_ERROR(Code::checkpoint, (name, word), failures(dir.path(), ComputeType::bf16));
}

TEST("golden: arrays of another length, type or shape are named") {
  const auto resized = [](int64_t by) {
    // The memory behind is the rest of the file, or a page of it.
    return [by](Tensor& t) { t = Tensor(t.data(), t.dtype(), {t.size() + by}); };
  };
  const auto typed = [](DType dtype) { return [dtype](Tensor& t) { t = t.of(t.data(), dtype); }; };
  for (const char* side : {"chosen", "rejected"})
    for (const int64_t by : {-30, -1, 1, 30}) {
      refused_with("item0." + std::string(side) + ".phrase_mask", "values, expected", resized(by));
      refused_with("item1." + std::string(side) + ".position_ids", "values", resized(by));
      refused_with("item0." + std::string(side) + ".clean.lora_token_logps", "values", resized(by));
    }
  refused_with("item0.chosen.phrase_mask", "expected integers", typed(DType::f32));
  refused_with("item0.prompt_ids", "expected integers", typed(DType::bf16));
  refused_with("item0.chosen.input_ids", "does not continue", resized(-20));
  refused_with("item0.image0.rgb", "expected u8", [](Tensor& t) { t = t.reshape({t.size()}); });
  refused_with("item0.image0.rgb_corrupt", "its original is", [](Tensor& t) {
    t = t.reshape({t.dim(1), t.dim(0), 3});
  });
  refused_with("item0.pixel_values", "values", [](Tensor& t) { t = t.slice(0, 5); });
  refused_with("item0.pixel_values", "square images", [](Tensor& t) { t = t.reshape({1, 1, 1, t.size()}); });
  refused_with("item0.mpo.loss", "2 values, expected 1", resized(1));
  refused_with("item0.rejected.corrupt.ref_phrase_logp", "2 values, expected 1", resized(1));
  refused_with("train.loss", "steps", resized(-2));
  refused_with("train.grad_norm", "steps", resized(1));
  refused_with("gen.base.margin", "values, expected 32", resized(-31));
  refused_with("ar.attn_question", "image tokens]", resized(0));
  refused_with("ar.attn_question", "of another model", [](Tensor& t) { t = t.reshape({4, 3, 8}); });
  refused_with("ar.ratio", "values, expected 4", resized(-1));
  refused_with("ar.gt_tokens", "no image token", [](Tensor& t) {
    static int64_t wrong[] = {0, 6};
    t = Tensor(wrong, DType::i64, {2});
  });
  refused_with("fwd.text.logits", "f32", typed(DType::i32));
  const Adapter adapter = [] {
    static cpu::CpuOps ops(1, cpu::Precision::f32, cpu::Backend::native);
    return Adapter(ops, ModelConfig::load(golden_directory("qwen3_vl")).text, lora_spec(8));
  }();
  const std::string key = Adapter::key(adapter.modules().front(), 'A');
  for (const std::string prefix : {"grad.", "step1."}) refused_with(prefix + key, "values", resized(-1));
}

TEST("golden: positions and biases of a decoder are seen") {
  CHECK(holds(failures_with("qwen2_5_vl", "      1,\n      3,\n      3", "      3,\n      3,\n      1"),
              "rotary tables"));
  CHECK(holds(failures_with("llava", "\"rope_theta\": 1000000.0", "\"rope_theta\": 10000.0"), "logits"));
}
