#include "cuda/pinned_ring.h"

#include <algorithm>
#include <cstring>

namespace fire::cuda {
namespace {

constexpr size_t alignment = 64;
constexpr size_t round_up(size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

}  // namespace

PinnedRing::PinnedRing(size_t segment_bytes, size_t segments)
    : segment_bytes_(round_up(std::max<size_t>(segment_bytes, 1))), segments_(std::max<size_t>(segments, 2)) {
  try {
    for (Segment& s : segments_) {
      s.data = static_cast<char*>(allocate_pinned(segment_bytes_));
      s.passed = create_event();
    }
  } catch (...) {
    free_all();
    throw;
  }
}

PinnedRing::~PinnedRing() { free_all(); }

void PinnedRing::free_all() noexcept {
  for (const Segment& s : segments_) {
    destroy_event(s.passed);
    if (s.data != nullptr) release_pinned(s.data);
  }
}

void PinnedRing::advance(Stream stream) {
  Segment& left = segments_[current_];
  record(left.passed, stream);
  left.in_flight = true;
  current_ = (current_ + 1) % segments_.size();
  used_ = 0;
  Segment& entered = segments_[current_];
  if (entered.in_flight) wait(entered.passed);
  entered.in_flight = false;
}

void PinnedRing::upload(void* device, const void* host, size_t bytes, Stream stream) {
  const char* from = static_cast<const char*>(host);
  upload(
      device, bytes, [from](void* to, size_t offset, size_t count) { std::memcpy(to, from + offset, count); }, stream);
}

void PinnedRing::upload(void* device, size_t bytes, const Fill& fill, Stream stream) {
  for (size_t offset = 0; offset < bytes;) {
    if (used_ == segment_bytes_) advance(stream);
    const size_t piece = std::min(bytes - offset, segment_bytes_ - used_);
    char* staged = segments_[current_].data + used_;
    fill(staged, offset, piece);
    copy_to_device(static_cast<char*>(device) + offset, staged, piece, stream);
    used_ = std::min(segment_bytes_, used_ + round_up(piece));
    offset += piece;
  }
}

void PinnedRing::download(void* host, const void* device, size_t bytes, Stream stream) {
  if (bytes == 0) {
    synchronize(stream);
    return;
  }
  const auto size_at = [&](size_t offset) { return std::min(segment_bytes_, bytes - offset); };
  // Each piece has a segment of its own; while the host empties one, the GPU fills the next.
  const auto start = [&](size_t offset) {
    const size_t segment = current_;  // what was staged in it has left it by then: the stream is in order
    copy_to_host(segments_[segment].data, static_cast<const char*>(device) + offset, size_at(offset), stream);
    advance(stream);
    return segment;
  };
  size_t segment = start(0);
  for (size_t offset = 0; offset < bytes; offset += segment_bytes_) {
    const size_t following = offset + segment_bytes_;
    const size_t next = following < bytes ? start(following) : segment;
    wait(segments_[segment].passed);
    std::memcpy(static_cast<char*>(host) + offset, segments_[segment].data, size_at(offset));
    segment = next;
  }
  for (Segment& s : segments_) s.in_flight = false;  // all were recorded before the last one
}

}  // namespace fire::cuda
