// Device memory for what comes and goes while the device works: the features of images. A device's own allocator may
// wait for all queued work (cudaMalloc and cudaFree do), so blocks are taken from it once and kept until the pool goes.
// Inside a block the first range that is large enough is used, in order of address, and ranges that are given back join
// their neighbours. So the pool grows to what was once in use together, plus what lies between: another block is taken
// only when no range of any block is large enough. Memory is given back while queued work may still read it: the next
// user's writes are queued behind.
#pragma once

#include <algorithm>
#include <iterator>
#include <map>
#include <vector>

#include "tensor/arena.h"

namespace fire {

class BlockPool {
 public:
  /// `block_bytes` 0: nothing is kept, every range is the device's own (a CPU, where allocating waits for nobody).
  BlockPool(Arena::Source source, size_t block_bytes) : source_(std::move(source)), block_bytes_(block_bytes) {}
  ~BlockPool() {
    for (const Block& b : blocks_) source_.release(b.data, b.bytes);
  }
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  void* take(size_t bytes) {
    bytes = rounded(bytes);
    if (block_bytes_ == 0) return source_.allocate(bytes);
    for (Block& b : blocks_)
      if (void* found = take_from(b, bytes)) return found;
    const size_t size = std::max(bytes, block_bytes_);
    blocks_.push_back({static_cast<char*>(source_.allocate(size)), size, {{0, size}}});
    return take_from(blocks_.back(), bytes);
  }

  void give(void* data, size_t bytes) {
    bytes = rounded(bytes);
    if (block_bytes_ == 0) return source_.release(data, bytes);
    char* const at = static_cast<char*>(data);
    Block& b = *std::find_if(blocks_.begin(), blocks_.end(),
                             [at](const Block& each) { return at >= each.data && at < each.data + each.bytes; });
    auto range = b.free.emplace(static_cast<size_t>(at - b.data), bytes).first;
    if (const auto next = std::next(range); next != b.free.end() && range->first + range->second == next->first) {
      range->second += next->second;
      b.free.erase(next);
    }
    if (range == b.free.begin()) return;
    if (const auto before = std::prev(range); before->first + before->second == range->first) {
      before->second += range->second;
      b.free.erase(range);
    }
  }

  /// Taken from the device.
  size_t bytes() const {
    size_t sum = 0;
    for (const Block& b : blocks_) sum += b.bytes;
    return sum;
  }

 private:
  struct Block {
    char* data;
    size_t bytes;
    std::map<size_t, size_t> free;  // bytes from an offset on; no two touch
  };

  static size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + 255) / 256 * 256; }

  static void* take_from(Block& b, size_t bytes) {
    const auto range = std::find_if(b.free.begin(), b.free.end(), [bytes](const auto& r) { return r.second >= bytes; });
    if (range == b.free.end()) return nullptr;
    const auto [offset, size] = *range;
    b.free.erase(range);
    if (size > bytes) b.free.emplace(offset + bytes, size - bytes);
    return b.data + offset;
  }

  Arena::Source source_;
  size_t block_bytes_;
  std::vector<Block> blocks_;
};

}  // namespace fire
