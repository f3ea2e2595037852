// Checkpoints and adapters as others write them: f16, quantised, another model's, settings that are there and empty;
// and numbers that would take all memory.
#include <bit>

#include "checkpoint_folder.h"
#include "cpu/cpu_ops.h"
#include "engine/merge.h"
#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

/// Copies what is safetensors in `from` with `store(value)` in place of every float.
template <class Half>
void write_as(const std::string& from, const std::string& to, DType dtype, Half (*store)(float)) {
  const SafeTensors file = SafeTensors::open_file(from);
  std::map<std::string, std::vector<Half>> bits;
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : file.tensors()) {
    std::vector<Half>& own = bits[name];
    for (const float value : widen(tensor)) own.push_back(store(value));
    tensors.push_back({name, tensor.of(own.data(), dtype)});
  }
  write_safetensors(to, tensors, {});
}

float through_half(float value) { return to_float(to_f16(value)); }

/// A golden folder whose weights (and adapter) went through f16, stored as f16 or as f32.
void write_model(const std::string& folder, bool half) {
  std::filesystem::copy(golden_directory("qwen3_vl"), folder, std::filesystem::copy_options::recursive);
  for (const std::string name : {"/model.safetensors", "/adapter/adapter_model.safetensors"}) {
    std::filesystem::remove(folder + name);
    const std::string from = golden_directory("qwen3_vl") + name;
    if (half) {
      write_as(from, folder + name, DType::f16, to_f16);
    } else {
      write_as(from, folder + name, DType::f32, through_half);
    }
  }
}

EngineSpec spec_of(const std::string& folder) {
  EngineSpec spec = engine_spec("qwen3_vl");
  spec.model = folder;
  spec.adapter = folder + "/adapter";
  return spec;
}

/// The golden adapter of qwen3_vl with other keys or another config.
struct AdapterFolder {
  TempDir dir;
  std::string config = read_file(golden_directory("qwen3_vl") + "/adapter/adapter_config.json", 1 << 20);
  std::function<std::string(std::string)> rename = [](std::string name) { return name; };

  std::unique_ptr<Adapter> load(Ops& ops) const {
    const SafeTensors file =
        SafeTensors::open_file(golden_directory("qwen3_vl") + "/adapter/adapter_model.safetensors");
    std::vector<NamedTensor> tensors;
    for (const auto& [name, tensor] : file.tensors())
      if (const std::string now = rename(name); !now.empty()) tensors.push_back({now, tensor});
    write_safetensors(dir / "adapter_model.safetensors", tensors, {});
    write_file(dir / "adapter_config.json", {config});
    return Adapter::load(ops, ModelConfig::load(golden_directory("qwen3_vl")).text, dir.path());
  }
};

const std::initializer_list<const char*> qwen_files{"config.json", "preprocessor_config.json",
                                                    "generation_config.json"};

}  // namespace

TEST("f16: every value widens exactly and comes back") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const f16 half{static_cast<uint16_t>(bits)};
    const float value = to_float(half);
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const double mantissa = bits & 1023;
    if (exponent == 31) {
      CHECK(mantissa == 0 ? std::isinf(value) && to_f16(value).bits == bits
                          : std::isnan(value) && std::isnan(to_float(to_f16(value))));
      continue;
    }
    const double magnitude = exponent ? std::ldexp(1 + mantissa / 1024, exponent - 15) : std::ldexp(mantissa, -24);
    CHECK(static_cast<double>(value) == (bits & 0x8000 ? -magnitude : magnitude));
    CHECK(std::signbit(value) == ((bits & 0x8000) != 0) && to_f16(value).bits == bits);
  }
}

TEST("f16: rounding is to nearest, ties to even") {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = to_float(f16{static_cast<uint16_t>(bits)}), high = to_float(f16{static_cast<uint16_t>(bits + 1)});
    const float middle = low + (high - low) / 2;  // exact: f32 has 13 more bits
    CHECK(to_f16(middle).bits == (bits & 1 ? bits + 1 : bits));
    CHECK(to_f16(std::nextafter(middle, low)).bits == bits && to_f16(std::nextafter(middle, high)).bits == bits + 1);
    CHECK(to_f16(-middle).bits == (0x8000u | (bits & 1 ? bits + 1 : bits)));
  }
  CHECK(to_f16(65519.99f).bits == 0x7bff && to_f16(65520.0f).bits == 0x7c00 && to_f16(-1e30f).bits == 0xfc00);
}

TEST("f16: packed weights are those of the widened copies, as many bytes as a plan says that has no copies") {
  TempDir dir;
  write_model(dir / "m", true);
  EngineSpec spec = spec_of(dir / "m");
  Pair pair;
  pair.id = "p";
  pair.prompt = {5, 6, 7}, pair.chosen = {8, 9}, pair.rejected = {10, 11};
  pair.chosen_mask = pair.rejected_mask = {0, 1};
  const Objective objective = Objective::make({"dpo", 0.1, 0, 0, 0.5, KlReduction::sum});
  const auto gradient = [&](PackWeights mode, bool packs) {
    spec.device.pack_weights = mode;
    Engine engine(spec);
    const size_t planned = engine.plan({pair}, objective, single_step).packed_bytes;
    engine.accumulate({pair}, objective, single_step, nullptr);
    CHECK((planned > 0) == packs && static_cast<cpu::CpuOps&>(engine.ops()).packed_bytes() == planned);
    return engine.ops().download_f32(engine.optimizer().gradient());
  };
  const std::vector<float> plain = gradient(PackWeights::off, false);
  CHECK(same_bits(gradient(PackWeights::on, true), plain));
  spec.device.plan_only = true;
  spec.device.pack_weights = PackWeights::on;
  const size_t planned = Engine(spec).info().max_packed_bytes;
  spec.device.plan_only = false;
  CHECK(planned > 0 && Engine(spec).info().max_packed_bytes == planned);
}

TEST("f16: a model and an adapter compute what their widened copies compute, bit for bit") {
  TempDir half, wide;
  write_model(half / "m", true);
  write_model(wide / "m", false);
  for (const ComputeType dtype : {ComputeType::f32, ComputeType::bf16}) {
    const auto logprobs = [&](const std::string& folder) {
      EngineSpec spec = spec_of(folder);
      spec.device.dtype = dtype;
      Engine engine(spec);
      return engine.logprobs({SequenceRef{{5, 6, 7, 8, 9, 10}, {}}}, true, nullptr)[0];
    };
    const std::vector<float> a = logprobs(half / "m"), b = logprobs(wide / "m");
    CHECK(a.size() == 5 && same_bits(a, b));
  }
  CHECK(Engine(spec_of(half / "m")).info().weight_dtypes == std::vector<std::string>{"f16"});
  // merging keeps the type: bytes that no adapter touches stay, others are rounded once
  std::filesystem::create_directories(half / "out");
  merge_adapter({half / "m", half / "m/adapter", half / "out", size_t{1} << 30, {}}, {});
  const SafeTensors before = SafeTensors::open_file(half / "m/model.safetensors");
  const SafeTensors after = SafeTensors::open_file(half / "out/model.safetensors");
  for (const auto& [name, tensor] : before.tensors()) {
    const Tensor& merged = after.at(name);
    CHECK(merged.describe() == tensor.describe());
    const bool adapted =
        name.find("language_model.layers") != std::string::npos && name.find("_proj") != std::string::npos;
    CHECK((std::memcmp(merged.data(), tensor.data(), tensor.bytes()) == 0) == !adapted);
  }
}

TEST("adapter: settings that are there and empty are as good as absent") {
  cpu::CpuOps ops(1, cpu::Precision::f32, cpu::Backend::native);
  for (const char* empty : {"[]", "{}", "null", "\"\""})
    for (const char* key : {"modules_to_save", "layer_replication", "target_parameters", "trainable_token_indices",
                            "rank_pattern", "alpha_pattern", "megatron_config", "layers_to_transform"}) {
      AdapterFolder folder;
      folder.config = "{\"" + std::string(key) + "\": " + empty +
                      R"(, "peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": null, "lora_dropout": null})";
      CHECK(folder.load(ops)->spec().rank == 8);
    }
  AdapterFolder folder;
  folder.config = R"({"modules_to_save": ["lm_head"], "peft_type": "LORA", "r": 8, "lora_alpha": 16})";
  CHECK_ERROR(Code::unsupported, ("modules_to_save", "is set"), folder.load(ops));
}

TEST("adapter: keys with the name of the adapter") {
  cpu::CpuOps ops(1, cpu::Precision::f32, cpu::Backend::native);
  const std::vector<float> plain = ops.download_f32(AdapterFolder().load(ops)->param());
  for (const std::string name : {"default", "fire", "policy-2"}) {
    AdapterFolder named;
    named.rename = [&](std::string key) { return replaced(key, ".weight", "." + name + ".weight"); };
    CHECK(same_bits(ops.download_f32(named.load(ops)->param()), plain));
  }
  AdapterFolder two;
  two.rename = [](std::string key) {
    return replaced(key, ".weight", key.find("layers.1.") == std::string::npos ? ".a.weight" : ".b.weight");
  };
  CHECK_ERROR(Code::checkpoint, ("\"a\"", "\"b\"", "folder of its own"), two.load(ops));
  AdapterFolder dotted;
  dotted.rename = [](std::string key) { return replaced(key, ".weight", ".a.b.weight"); };
  CHECK_ERROR(Code::checkpoint, ("is not a LoRA matrix"), dotted.load(ops));
}

TEST("adapter: one of another model is named as that") {
  cpu::CpuOps ops(1, cpu::Precision::f32, cpu::Backend::native);
  const auto moved = [&](const std::string& from, const std::string& to) {
    AdapterFolder folder;
    folder.rename = [=](std::string key) {
      const size_t at = key.find("layers." + from + ".");
      return at == std::string::npos ? key
             : to.empty()            ? std::string()
                                     : replaced(key, "layers." + from, "layers." + to);
    };
    folder.load(ops);
  };
  CHECK_ERROR(Code::checkpoint, ("layer 40", "the model has 4", "deeper model"), moved("1", "40"));
  CHECK_ERROR(Code::checkpoint, ("layer 2", "has 4 layers", "another model"), moved("3", ""));
  AdapterFolder wide;
  wide.config = replaced(wide.config, "\"r\": 8", "\"r\": 16");
  CHECK_ERROR(Code::checkpoint, ("lora_A", "[8, 64]", "[16, 64]"), wide.load(ops));
  wide.config = replaced(wide.config, "\"r\": 16", "\"r\": 9007199254740991");
  CHECK_ERROR(Code::checkpoint, ("expected f32[9007199254740991"), wide.load(ops));
  TextConfig narrow = ModelConfig::load(golden_directory("qwen3_vl")).text;
  narrow.hidden_size = 128;
  CHECK_ERROR(Code::checkpoint, ("another width"),
              Adapter::load(ops, narrow, golden_directory("qwen3_vl") + "/adapter"));
}

TEST("adapter: a rank that no model has is refused before anything is allocated") {
  EngineSpec spec = engine_spec("qwen3_vl");
  spec.adapter = "";
  for (const int64_t rank : {int64_t{0}, int64_t{-1}, int64_t{1025}, int64_t{1} << 31, INT64_MAX}) {
    spec.lora = lora_spec(8);
    spec.lora->rank = rank;
    CHECK_ERROR(Code::invalid_argument, ("lora.rank", std::to_string(rank)), Engine{spec});
  }
}

TEST("config: quantised checkpoints are named as such") {
  for (const std::string method : {"bitsandbytes", "gptq", "awq", "compressed-tensors"}) {
    CheckpointFolder folder("qwen3_vl", qwen_files);
    folder.replace("{", "{\"quantization_config\": {\"quant_method\": \"" + method + "\", \"bits\": 4}, ");
    CHECK_ERROR(Code::unsupported, ("quantization_config", method, "not quantised"), folder.load());
  }
  for (const std::string empty : {"null", "{}"}) {
    CheckpointFolder folder("qwen3_vl", qwen_files);
    CHECK(folder.replace("{", "{\"quantization_config\": " + empty + ", ").load().family == "qwen3_vl");
  }
}

TEST("weights: quantised ones are named as such, whatever config.json says") {
  for (const std::string ending : {"qweight", "weight.absmax", "SCB", "weight_packed"}) {
    const std::string name = "model.language_model.layers.0.self_attn.q_proj." + ending;
    CHECK_ERROR(Code::unsupported, (name, "quantised"), load_weights("qwen3_vl", [&](auto& tensors) {
                  tensors.push_back({name, tensors.front().tensor});
                }));
  }
}

TEST("merge: a sum that the type of the weights cannot hold is an error") {
  TempDir dir;
  write_model(dir / "m", true);
  const std::string config = read_file(dir / "m/adapter/adapter_config.json", 1 << 20);
  write_file(dir / "m/adapter/adapter_config.json", {replaced(config, "\"lora_alpha\": 16", "\"lora_alpha\": 1e12")});
  CHECK_ERROR(Code::nonfinite, ("_proj.lora_A", "f16"),
              merge_adapter({dir / "m", dir / "m/adapter", dir.path(), size_t{1} << 30, {}}, {}));
}

TEST("config: sizes far beyond any model are refused by name") {
  const auto refused = [&](const std::string& file, const std::string& key, const std::string& value) {
    TempDir dir;
    for (const char* name : qwen_files)
      std::filesystem::copy_file(golden_directory("qwen3_vl") + "/" + name, dir / name);
    std::string text = read_file(dir / file, 1 << 20);
    const size_t at = text.find("\"" + key + "\":") + key.size() + 3, end = text.find_first_of(",\n}", at);
    write_file(dir / file, {text.substr(0, at) + " " + value + text.substr(end)});
    CHECK_ERROR(Code::checkpoint, (key), ModelConfig::load(dir.path()));
  };
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
                          "intermediate_size", "vocab_size", "depth", "num_heads", "num_position_embeddings",
                          "patch_size", "temporal_patch_size", "spatial_merge_size", "out_hidden_size"})
    for (const char* value : {"0", "-1", "2147483648", "1000000000", "9007199254740991", "1.5", "\"8\"", "[]"})
      refused("config.json", key, value);
  for (const char* value : {"0", "-5", "2147483648", "1e15"})
    refused("preprocessor_config.json", "shortest_edge", value);
  for (const char* value : {"1e300", "-1e12"}) refused("config.json", "rms_norm_eps", value);
}
