// safetensors files: read through mmap without a copy, written atomically. A checkpoint is one file or a set of shards
// with an index. Format: 8-byte little-endian header length, JSON header {name: {dtype, shape, data_offsets}}, data.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tensor/file.h"
#include "tensor/tensor.h"

namespace fire {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// Every tensor of one file or of all shards of a folder, as views into the maps. Opening checks the header fully:
/// length, dtypes, shapes against offsets, bounds, overlaps; a bad file throws ERR_FIRE_CHECKPOINT and names the
/// tensor.
class SafeTensors {
 public:
  /// Tensors that somebody else holds, as if they were a checkpoint of that name.
  static SafeTensors of(const std::vector<NamedTensor>& tensors, const std::string& origin);
  static SafeTensors open_file(const std::string& path);
  /// `model.safetensors`, or the shards of `model.safetensors.index.json`.
  static SafeTensors open_checkpoint(const std::string& directory);

  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  /// nullptr when absent.
  const Tensor* find(const std::string& name) const;
  /// Throws ERR_FIRE_CHECKPOINT when absent.
  const Tensor& at(const std::string& name) const;
  /// Where it came from, for messages.
  const std::string& origin() const { return origin_; }
  size_t bytes() const;

  /// See MappedFile.
  void require_unchanged() const;
  /// Runs what reads the tensors. Where a file changed meanwhile that is the error, whatever else came of it.
  template <class F>
  auto reading(F&& work) const {
    require_unchanged();
    const auto run = [&] {
      try {
        return work();
      } catch (const Error&) {
        require_unchanged();
        throw;
      }
    };
    if constexpr (std::is_void_v<decltype(work())>) {
      run();
      require_unchanged();
    } else {
      auto result = run();
      require_unchanged();
      return result;
    }
  }

 private:
  void add_file(const std::string& path, const std::map<std::string, std::string>* index, const std::string& file);

  std::vector<std::shared_ptr<MappedFile>> files_;
  std::vector<std::shared_ptr<std::vector<char>>> realigned_;
  std::map<std::string, Tensor> tensors_;
  std::string origin_;
};

/// A file written tensor by tensor: the header first, then the bytes in the order of `tensors`, of which only name,
/// type and shape are looked at. Atomic: it appears with `commit`. Throws ERR_FIRE_IO.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::string& path, const std::vector<NamedTensor>& tensors,
                    const std::vector<std::pair<std::string, std::string>>& metadata);
  void write(std::string_view bytes) { file_.write(bytes); }
  void commit() { file_.commit(); }

 private:
  AtomicFile file_;
};

/// Copies a piece of a tensor, wherever it lives, to the host.
using Download = std::function<void(const Tensor& piece, void* host)>;

/// Writes the tensors in the given order, with `metadata` under `__metadata__`, a few MiB at a time. Without `download`
/// the tensors are on the host. Atomic; throws ERR_FIRE_IO.
void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::vector<std::pair<std::string, std::string>>& metadata, const Download& download = {});

}  // namespace fire
