#include "tensor/safetensors.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "tensor/json.h"

namespace fire {
namespace {

constexpr size_t max_header_bytes = size_t{100} << 20;

Error bad(const std::string& path, const std::string& why) {
  return std::move(Error(Code::checkpoint, path + ": " + why).with("path", path));
}

/// Our names in capitals.
std::string safetensors_dtype(DType dtype) {
  std::string text = name(dtype);
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::toupper(c); });
  return text;
}

DType parse_dtype(const std::string& text, const std::string& path, const std::string& tensor) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i64, DType::i32, DType::u8, DType::f64})
    if (text == safetensors_dtype(dtype)) return dtype;
  const bool quantized = text == "I8" || text.starts_with("F8") || text.starts_with("F4");
  throw Error(Code::unsupported,
              path + ": tensor \"" + tensor + "\" has dtype " + json_quote(text.substr(0, 20)) +
                  (quantized ? ", as quantised checkpoints have; take the model that was not quantised"
                             : "; F32, BF16 and F16 weights are supported (F64, I64, I32, U8 in data files)"))
      .with("path", path)
      .with("tensor", tensor);
}

struct Entry {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  size_t begin, end;
};

Entry parse_entry(const std::string& name, const Json& value, const std::string& path) {
  Entry entry{name, parse_dtype(value.at("dtype").string(), path, name), {}, 0, 0};
  size_t bytes = size_of(entry.dtype);
  for (const Json& d : value.at("shape").array()) {
    const int64_t dim = d.integer();
    if (dim < 0 || (dim > 0 && bytes > (size_t{1} << 50) / static_cast<size_t>(dim)))
      throw bad(path, "tensor \"" + name + "\" has an impossible shape");
    bytes *= static_cast<size_t>(dim);
    entry.shape.push_back(dim);
  }
  if (entry.shape.size() > Tensor::max_rank) throw bad(path, "tensor \"" + name + "\" has more than 5 dimensions");
  const auto& offsets = value.at("data_offsets").array();
  if (offsets.size() != 2 || offsets[0].integer() < 0 || offsets[1].integer() < offsets[0].integer())
    throw bad(path, "tensor \"" + name + "\" has bad data_offsets");
  entry.begin = static_cast<size_t>(offsets[0].integer());
  entry.end = static_cast<size_t>(offsets[1].integer());
  if (entry.end - entry.begin != bytes)
    throw bad(path, "tensor \"" + name + "\": its shape takes " + std::to_string(bytes) + " bytes, its offsets span " +
                        std::to_string(entry.end - entry.begin));
  return entry;
}

std::vector<Entry> parse_header(const MappedFile& file, const std::string& path, size_t* data_begin) {
  if (file.size() < 8) throw bad(path, "too short for a safetensors file (" + std::to_string(file.size()) + " bytes)");
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<uint64_t>(file.data()[i]);
  if (length > max_header_bytes || length > file.size() - 8)
    throw bad(path, "the header claims " + std::to_string(length) + " bytes, the file has " +
                        std::to_string(file.size()) + "; it is truncated or not a safetensors file");
  *data_begin = 8 + static_cast<size_t>(length);
  const Json header = Json::parse({reinterpret_cast<const char*>(file.data()) + 8, static_cast<size_t>(length)}, path);

  std::vector<Entry> entries;
  const size_t data_bytes = file.size() - *data_begin;
  for (const auto& [name, value] : header.object()) {
    if (name == "__metadata__") continue;
    entries.push_back(parse_entry(name, value, path));
    if (entries.back().end > data_bytes)
      throw bad(path, "tensor \"" + name + "\" ends at byte " + std::to_string(entries.back().end) +
                          " of the data, the file has " + std::to_string(data_bytes) + "; it is truncated");
  }
  std::vector<const Entry*> order;
  for (const Entry& e : entries) order.push_back(&e);
  std::sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);  // one without bytes comes first
  });
  // The format allows neither overlaps nor holes: bytes that no tensor owns could hide anything.
  size_t end = 0;
  for (const Entry* e : order) {
    if (e->begin < end) throw bad(path, "tensor \"" + e->name + "\" overlaps the one before it");
    if (e->begin > end) throw bad(path, "tensor \"" + e->name + "\" leaves a hole before it");
    end = e->end;
  }
  if (end != data_bytes)
    throw bad(path, std::to_string(data_bytes - end) + " bytes after the last tensor belong to none");
  return entries;
}

}  // namespace

void SafeTensors::add_file(const std::string& path, const std::map<std::string, std::string>* index,
                           const std::string& file_name) {
  auto file = std::make_shared<MappedFile>(path);
  size_t data_begin = 0;
  for (const Entry& e : parse_header(*file, path, &data_begin)) {
    if (index) {
      const auto it = index->find(e.name);
      if (it == index->end() || it->second != file_name)
        throw bad(path, "holds tensor \"" + e.name + "\", which the index " +
                            (it == index->end() ? "does not list" : "places in " + it->second));
    }
    const char* bytes = reinterpret_cast<const char*>(file->data()) + data_begin + e.begin;
    if (reinterpret_cast<uintptr_t>(bytes) % size_of(e.dtype) != 0) {
      // Old writers did not pad the header; such a tensor gets an aligned copy of its own.
      realigned_.push_back(std::make_shared<std::vector<char>>(bytes, bytes + (e.end - e.begin)));
      bytes = realigned_.back()->data();
    }
    tensors_.emplace(e.name, Tensor::with_dims(const_cast<char*>(bytes), e.dtype, e.shape));
  }
  files_.push_back(std::move(file));
}

SafeTensors SafeTensors::of(const std::vector<NamedTensor>& tensors, const std::string& origin) {
  SafeTensors result;
  result.origin_ = origin;
  for (const NamedTensor& t : tensors) result.tensors_.emplace(t.name, t.tensor);
  return result;
}

SafeTensors SafeTensors::open_file(const std::string& path) {
  SafeTensors result;
  result.origin_ = path;
  result.add_file(path, nullptr, "");
  return result;
}

SafeTensors SafeTensors::open_checkpoint(const std::string& directory) {
  const std::string single = directory + "/model.safetensors", index_path = single + ".index.json";
  if (file_exists(single)) return open_file(single);
  if (!file_exists(index_path))
    throw Error(Code::checkpoint, directory +
                                      " holds neither model.safetensors nor model.safetensors.index.json; is it a "
                                      "checkpoint folder in Hugging Face layout?")
        .with("path", directory);
  SafeTensors result;
  result.origin_ = index_path;
  std::map<std::string, std::string> index;
  std::vector<std::string> shards;
  const Json document = Json::load(index_path);
  for (const auto& [tensor, shard] : document.at("weight_map").object()) {
    const std::string& name = shard.string();
    if (name.empty() || name.find('/') != std::string::npos || name == "..")
      throw bad(index_path, "shard name " + json_quote(name) + " of \"" + tensor + "\" must be a plain file name");
    index.emplace(tensor, name);
    if (std::find(shards.begin(), shards.end(), name) == shards.end()) shards.push_back(name);
  }
  for (const std::string& shard : shards) {
    if (!file_exists(directory + "/" + shard))
      throw bad(index_path, "names the shard " + shard + ", which is not in the folder");
    result.add_file(directory + "/" + shard, &index, shard);
  }
  for (const auto& [tensor, shard] : index)
    if (!result.find(tensor)) throw bad(index_path, "places \"" + tensor + "\" in " + shard + ", which lacks it");
  return result;
}

void SafeTensors::require_unchanged() const {
  for (const auto& file : files_) file->require_unchanged();
}

const Tensor* SafeTensors::find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

const Tensor& SafeTensors::at(const std::string& name) const {
  if (const Tensor* t = find(name)) return *t;
  throw Error(Code::checkpoint, origin_ + " lacks the tensor \"" + name + "\"").with("tensor", name);
}

size_t SafeTensors::bytes() const {
  size_t total = 0;
  for (const auto& [name, t] : tensors_) total += t.bytes();
  return total;
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, const std::vector<NamedTensor>& tensors,
                                     const std::vector<std::pair<std::string, std::string>>& metadata)
    : file_(path) {
  std::string header = "{\"__metadata__\":{";
  for (size_t i = 0; i < metadata.size(); ++i)
    header += (i ? "," : "") + json_quote(metadata[i].first) + ":" + json_quote(metadata[i].second);
  header += "}";
  size_t at = 0;
  for (const NamedTensor& t : tensors) {
    header += "," + json_quote(t.name) + ":{\"dtype\":\"" + safetensors_dtype(t.tensor.dtype()) + "\",\"shape\":[";
    for (int i = 0; i < t.tensor.rank(); ++i) header += (i ? "," : "") + std::to_string(t.tensor.dim(i));
    header += "],\"data_offsets\":[" + std::to_string(at) + "," + std::to_string(at + t.tensor.bytes()) + "]}";
    at += t.tensor.bytes();
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  char length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  file_.write({length, 8});
  file_.write(header);
}

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::vector<std::pair<std::string, std::string>>& metadata, const Download& download) {
  SafetensorsWriter file(path, tensors, metadata);
  constexpr int64_t piece = int64_t{1} << 20;  // elements
  std::vector<char> host;
  for (const NamedTensor& t : tensors) {
    const Tensor flat = t.tensor.reshape({t.tensor.size()});
    for (int64_t begin = 0; begin < flat.size(); begin += piece) {
      const Tensor part = flat.slice(begin, std::min(begin + piece, flat.size()));
      const char* bytes = static_cast<const char*>(part.data());
      if (download) {
        host.resize(part.bytes());
        download(part, host.data());
        bytes = host.data();
      }
      file.write({bytes, part.bytes()});
    }
  }
  file.commit();
}

}  // namespace fire
