// Host memory that a GPU copies from and to without stopping the host. A ring of segments: transfers fill one after the
// other, and a segment is used again once its event says that the GPU has passed it. So a transfer waits only when it
// has gone round the whole ring, however many or few bytes each takes. A ring serves one stream.
#pragma once

#include <functional>
#include <vector>

#include "cuda/runtime.h"

namespace fire::cuda {

class PinnedRing {
 public:
  explicit PinnedRing(size_t segment_bytes = size_t{8} << 20, size_t segments = 8);
  ~PinnedRing();
  PinnedRing(const PinnedRing&) = delete;
  PinnedRing& operator=(const PinnedRing&) = delete;

  /// Copies host memory, pinned or not, which may be reused when this returns; the GPU receives it in stream order.
  void upload(void* device, const void* host, size_t bytes, Stream stream);
  /// The same with values made on the way: `fill(to, offset, bytes)` writes the bytes [offset, offset + bytes) of the
  /// transfer to `to`. Pieces are cut at multiples of 64 bytes.
  using Fill = std::function<void(void* to, size_t offset, size_t bytes)>;
  void upload(void* device, size_t bytes, const Fill& fill, Stream stream);
  /// Waits until everything before it in the stream is done and `host` holds the bytes.
  void download(void* host, const void* device, size_t bytes, Stream stream);

 private:
  struct Segment {
    char* data = nullptr;
    Event passed = nullptr;
    bool in_flight = false;
  };
  void free_all() noexcept;
  /// Leaves the current segment to the stream and makes the next one current, waiting for what it was last used for.
  void advance(Stream stream);

  size_t segment_bytes_;
  std::vector<Segment> segments_;
  size_t current_ = 0;
  size_t used_ = 0;  // of the current segment
};

}  // namespace fire::cuda
