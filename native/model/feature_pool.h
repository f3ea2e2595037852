// Device memory for the features of images, which come and go while the device works. A device's own allocator may wait
// for all queued work (cudaMalloc and cudaFree do), so memory is taken once, as places of fixed sizes. An image gets
// the smallest free place that is large enough. Where there is none, a smaller image in a larger place moves to a place
// of its own size: a copy on the device, queued like everything else. So places as large as the largest n images of a
// run hold any n of its images, and n images of one size take n places: what a run needs is known beforehand, and
// nothing lies unused between images. Memory changes hands while queued work may still read it: the next user's writes
// are queued behind.
#pragma once

#include <functional>
#include <list>
#include <vector>

#include "tensor/arena.h"

namespace fire {

class FeaturePool {
 public:
  using Copy = std::function<void(void* to, const void* from, size_t bytes)>;
  /// Told where its memory is now.
  using Moved = std::function<void(void*)>;

  /// Without `copy` nothing is kept, and all memory is as the device gives it (a CPU, where allocating waits for
  /// nobody).
  explicit FeaturePool(Arena::Source source, Copy copy = {}) : source_(std::move(source)), copy_(std::move(copy)) {}
  ~FeaturePool();
  FeaturePool(const FeaturePool&) = delete;
  FeaturePool& operator=(const FeaturePool&) = delete;

  static constexpr size_t unit = 256;
  /// What features of so many bytes take.
  static constexpr size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + unit - 1) / unit * unit; }

  /// Makes places for images of these sizes, all in use together, in one block that stays. What is there is counted.
  void reserve(std::vector<size_t> images);
  /// `moved` is called whenever a later `take` moves it.
  void* take(size_t bytes, Moved moved);
  void give(void* data, size_t bytes);

  /// Taken from the device.
  size_t bytes() const;

 private:
  struct Place {
    char* data;
    size_t bytes;
    bool alone;       // a block by itself, which another may take the place of
    size_t used = 0;  // 0 = free
    Moved moved = {};
  };
  struct Block {
    void* data;
    size_t bytes;
  };

  /// Free, and large enough.
  Place& place_for(size_t bytes);
  Place* smallest_free(size_t bytes);
  /// Moves the smallest image that is in a place of at least `bytes` and smaller than that; nullptr if there is none.
  Place* vacated(size_t bytes);
  Place& allocated(size_t bytes);

  Arena::Source source_;
  Copy copy_;
  std::list<Place> places_;
  std::vector<Block> blocks_;  // of the places that are not alone
};

}  // namespace fire
