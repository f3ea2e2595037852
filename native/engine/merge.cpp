#include "engine/merge.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "cpu/cpu_ops.h"
#include "model/lora.h"
#include "ops/null_ops.h"
#include "tensor/json.h"

namespace fire {
namespace {

/// The least number that a type of the file cannot hold: halfway from its largest one to the next power of two.
float rounds_to_infinity(DType type) {
  if (type == DType::f16) return 65520.0f;
  return type == DType::bf16 ? 0x1.ffp127f : INFINITY;
}

/// W + scale * B A as the bytes of W's type.
class MergedWeight {
 public:
  MergedWeight(Ops& ops, const Adapter& adapter) : ops_(ops), adapter_(adapter) {}

  std::string_view of(const Tensor& weight, const LoraModule& m) {
    const LoraView lora = adapter_.view(m);
    scaled_b_.resize(static_cast<size_t>(lora.b.size()));
    for (size_t i = 0; i < scaled_b_.size(); ++i) scaled_b_[i] = lora.scale * lora.b.f32()[i];
    sum_ = widen(weight);
    const Tensor b(scaled_b_.data(), DType::f32, {m.out, adapter_.spec().rank});
    ops_.linear_backward(b, lora.a, Tensor(sum_.data(), DType::f32, {m.out, m.in}), true);
    const float end = rounds_to_infinity(weight.dtype());
    if (!std::all_of(sum_.begin(), sum_.end(), [&](float value) { return std::abs(value) < end; }))
      throw Error(Code::nonfinite, "merging " + Adapter::key(m, 'A') + " gives a weight that " + name(weight.dtype()) +
                                       " cannot hold; nothing was merged")
          .with("tensor", Adapter::key(m, 'A'));
    if (weight.dtype() == DType::f32) return {reinterpret_cast<const char*>(sum_.data()), sum_.size() * sizeof(float)};
    rounded_.resize(sum_.size());
    const bool half = weight.dtype() == DType::f16;
    for (size_t i = 0; i < sum_.size(); ++i) rounded_[i] = half ? to_f16(sum_[i]).bits : to_bf16(sum_[i]).bits;
    return {reinterpret_cast<const char*>(rounded_.data()), rounded_.size() * sizeof(uint16_t)};
  }

 private:
  Ops& ops_;
  const Adapter& adapter_;
  std::vector<float> scaled_b_, sum_;
  std::vector<uint16_t> rounded_;  // bits of bf16 or f16
};

std::string renamed(const std::string& name, const MergeSpec& spec) {
  for (const auto& [from, to] : spec.rename)
    if (name.starts_with(from)) return to + name.substr(from.size());
  return name;
}

std::string shard_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

MergeStats merge(const MergeSpec& spec, const SafeTensors& file, Cancel cancel) {
  const ModelConfig config = ModelConfig::load(spec.model);
  cpu::CpuOps ops(0, cpu::Precision::f32, cpu::Backend::native);
  NullOps check(DType::f32, false);    // widens nothing
  Weights::load(file, config, check);  // claims every tensor, so a checkpoint that does not fit is named here
  const auto adapter = Adapter::load(ops, config.text, spec.adapter);
  const std::string prefix = Claims(file, ops).prefix_of("embed_tokens.weight", config.names.prefixes);
  std::map<std::string, const LoraModule*> adapted;
  for (const LoraModule& m : adapter->modules())
    adapted[prefix + "layers." + std::to_string(m.layer) + "." + module_name(m.proj) + ".weight"] = &m;

  std::vector<std::vector<NamedTensor>> shards(1);
  size_t in_shard = 0;
  for (const auto& [name, tensor] : file.tensors()) {
    if (in_shard > 0 && in_shard + tensor.bytes() > spec.shard_bytes) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back({name, tensor});
    in_shard += tensor.bytes();
  }

  MergeStats stats;
  MergedWeight merged(ops, *adapter);
  std::string index;
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string name = shard_name(s, shards.size());
    std::vector<NamedTensor> entries;
    for (const NamedTensor& t : shards[s]) {
      entries.push_back({renamed(t.name, spec), t.tensor});
      index += (index.empty() ? "\n    " : ",\n    ") + json_quote(entries.back().name) + ": " + json_quote(name);
    }
    SafetensorsWriter writer(spec.output + "/" + name, entries, {{"format", "pt"}});
    for (const NamedTensor& t : shards[s]) {
      cancel.check();
      const auto found = adapted.find(t.name);
      const char* bytes = static_cast<const char*>(t.tensor.data());
      writer.write(found == adapted.end() ? std::string_view(bytes, t.tensor.bytes())
                                          : merged.of(t.tensor, *found->second));
      stats.merged += found != adapted.end();
      stats.bytes += t.tensor.bytes();
      ++stats.tensors;
    }
    file.require_unchanged();
    writer.commit();
    stats.files.push_back(name);
  }
  if (shards.size() > 1) {
    stats.files.push_back("model.safetensors.index.json");
    write_file(spec.output + "/" + stats.files.back(),
               {"{\n  \"metadata\": {\"total_size\": " + std::to_string(stats.bytes) + "},\n  \"weight_map\": {", index,
                "\n  }\n}\n"});
  }
  return stats;
}

}  // namespace

MergeStats merge_adapter(const MergeSpec& spec, Cancel cancel) {
  const SafeTensors file = SafeTensors::open_checkpoint(spec.model);
  return file.reading([&] { return merge(spec, file, cancel); });
}

}  // namespace fire
