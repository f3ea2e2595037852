// Bump allocation for activations: memory is taken in stack order and given back by rewinding to a mark, so a step
// allocates nothing once the first one has run. The arena also records its high-water mark; on a dry run (see
// ops/null_ops.h) that mark *is* the memory plan, computed by the very code that will run.
#pragma once

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "tensor/tensor.h"

namespace fire {

class Arena {
 public:
  /// Where blocks come from; `allocate` returns memory aligned to 64 bytes or throws ERR_FIRE_OUT_OF_MEMORY.
  struct Source {
    std::function<void*(size_t)> allocate;
    std::function<void(void*, size_t)> release;
  };

  static constexpr size_t default_block = size_t{64} << 20;
  /// What a tensor of so many bytes takes.
  static constexpr size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + 63) / 64 * 64; }

  explicit Arena(Source source, size_t block_bytes = default_block)
      : source_(std::move(source)), block_bytes_(block_bytes) {}
  ~Arena() { clear(); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  Tensor take(DType dtype, std::initializer_list<int64_t> dims) {
    Tensor t(nullptr, dtype, dims);
    return Tensor::with_dims(raw(t.bytes()), dtype, std::vector<int64_t>(dims));
  }
  Tensor f32(std::initializer_list<int64_t> dims) { return take(DType::f32, dims); }

  /// Everything taken while a Scope lives is given back when it ends.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), block_(arena.block_), used_(arena.used_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t block_, used_;
  };

  /// Whether so many bytes can be taken from the first block.
  bool holds(size_t bytes) const { return !blocks_.empty() && blocks_[0].bytes >= bytes; }
  /// Makes room for `bytes` in one block, so that what is taken until then allocates nothing. Nothing may be in use.
  void reserve(size_t bytes) {
    if (holds(bytes)) return;
    clear();
    blocks_.push_back({source_.allocate(bytes), bytes});
  }

  size_t peak_bytes() const { return peak_; }
  void reset_peak() { peak_ = 0; }

  void clear() {
    for (Block& b : blocks_) source_.release(b.data, b.bytes);
    blocks_.clear();
    block_ = used_ = 0;
  }

 private:
  struct Block {
    void* data;
    size_t bytes;
  };

  void* raw(size_t bytes) {
    bytes = rounded(bytes);
    while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) {
      const size_t size = std::max(bytes, block_bytes_);
      blocks_.push_back({source_.allocate(size), size});
      used_ = 0;
    }
    void* p = static_cast<char*>(blocks_[block_].data) + used_;
    used_ += bytes;
    size_t below = 0;
    for (size_t i = 0; i < block_; ++i) below += blocks_[i].bytes;
    peak_ = std::max(peak_, below + used_);
    return p;
  }

  Source source_;
  size_t block_bytes_;
  std::vector<Block> blocks_;
  size_t block_ = 0, used_ = 0, peak_ = 0;
};

}  // namespace fire
