// The small files of a golden checkpoint, and its tensors, to be changed before they are read again.
#pragma once

#include "cpu/cpu_ops.h"
#include "fixture.h"
#include "model/weights.h"
#include "tensor/json.h"

namespace fire::test {

class CheckpointFolder {
 public:
  CheckpointFolder(const std::string& golden, std::initializer_list<const char*> files) {
    for (const char* name : files) texts_[name] = read_file(golden_directory(golden) + "/" + name, 1 << 20);
  }
  CheckpointFolder& replace(const std::string& file, const std::string& from, const std::string& to) {
    texts_[file] = replaced(texts_[file], from, to);
    return *this;
  }
  /// In config.json.
  CheckpointFolder& replace(const std::string& from, const std::string& to) { return replace("config.json", from, to); }
  CheckpointFolder& remove(const std::string& file) {
    texts_.erase(file);
    return *this;
  }
  ModelConfig load() const {
    TempDir dir;
    for (const auto& [name, text] : texts_) {
      std::filesystem::create_directories(std::filesystem::path(dir / name).parent_path());
      write_file(dir / name, {text});
    }
    return ModelConfig::load(dir.path());
  }

 private:
  std::map<std::string, std::string> texts_;
};

/// The tensors of a golden checkpoint, written with one of them changed or left out, loaded again. Returns the number
/// of parameters.
inline int64_t load_weights(const std::string& golden, const std::function<void(std::vector<NamedTensor>&)>& change) {
  const SafeTensors source = SafeTensors::open_checkpoint(golden_directory(golden));
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : source.tensors()) tensors.push_back({name, tensor});
  change(tensors);
  TempDir dir;
  write_safetensors(dir / "model.safetensors", tensors, {});
  const SafeTensors file = SafeTensors::open_checkpoint(dir.path());
  cpu::CpuOps ops(1, cpu::Precision::f32, cpu::Backend::native);
  return Weights::load(file, ModelConfig::load(golden_directory(golden)), ops).parameters;
}

inline Tensor& named(std::vector<NamedTensor>& tensors, const std::string& name) {
  for (NamedTensor& t : tensors)
    if (t.name == name) return t.tensor;
  throw Error(Code::internal, "no " + name);
}

inline void drop(std::vector<NamedTensor>& tensors, const std::string& name) {
  named(tensors, name);
  std::erase_if(tensors, [&](const NamedTensor& t) { return t.name == name; });
}

}  // namespace fire::test
