#include "model/feature_pool.h"

#include <algorithm>
#include <utility>

namespace fire {

FeaturePool::~FeaturePool() {
  for (const Place& place : places_)
    if (place.alone) source_.release(place.data, place.bytes);
  for (const Block& block : blocks_) source_.release(block.data, block.bytes);
}

void FeaturePool::reserve(std::vector<size_t> images) {
  if (!copy_) return;
  places_.remove_if([&](const Place& place) {
    if (!place.alone || place.used > 0) return false;
    source_.release(place.data, place.bytes);
    return true;
  });
  const auto falling = [](const auto& all, auto size_of) {
    std::vector<size_t> sizes;
    for (const auto& each : all) sizes.push_back(size_of(each));
    std::sort(sizes.rbegin(), sizes.rend());
    return sizes;
  };
  const std::vector<size_t> there = falling(places_, [](const Place& place) { return place.bytes; });
  std::vector<size_t> missing;
  auto next = there.begin();
  for (const size_t bytes : falling(images, rounded)) {
    if (next != there.end() && *next >= bytes) {
      ++next;
    } else {
      missing.push_back(bytes);
    }
  }
  if (missing.empty()) return;
  size_t sum = 0;
  for (const size_t bytes : missing) sum += bytes;
  char* data = static_cast<char*>(source_.allocate(sum));
  blocks_.push_back({data, sum});
  for (const size_t bytes : missing) {
    places_.push_back({data, bytes, false});
    data += bytes;
  }
}

void* FeaturePool::take(size_t bytes, Moved moved) {
  bytes = rounded(bytes);
  if (!copy_) return source_.allocate(bytes);
  Place& place = place_for(bytes);
  place.used = bytes;
  place.moved = std::move(moved);
  return place.data;
}

void FeaturePool::give(void* data, size_t bytes) {
  if (!copy_) return source_.release(data, rounded(bytes));
  Place& place = *std::find_if(places_.begin(), places_.end(), [data](const Place& each) { return each.data == data; });
  place.used = 0;
  place.moved = {};
}

size_t FeaturePool::bytes() const {
  size_t sum = 0;
  for (const Place& place : places_) sum += place.bytes;
  return sum;
}

FeaturePool::Place& FeaturePool::place_for(size_t bytes) {
  if (Place* const place = smallest_free(bytes)) return *place;
  if (Place* const place = vacated(bytes)) return *place;
  return allocated(bytes);
}

FeaturePool::Place* FeaturePool::smallest_free(size_t bytes) {
  Place* found = nullptr;
  for (Place& place : places_)
    if (place.used == 0 && place.bytes >= bytes && (!found || place.bytes < found->bytes)) found = &place;
  return found;
}

FeaturePool::Place* FeaturePool::vacated(size_t bytes) {
  // The smallest: where a larger one could go, it could too.
  Place* found = nullptr;
  for (Place& place : places_)
    if (place.used > 0 && place.used < bytes && place.bytes >= bytes && (!found || place.used < found->used))
      found = &place;
  if (!found) return nullptr;
  Place& to = place_for(found->used);  // smaller than `bytes`, so this ends
  copy_(to.data, found->data, found->used);
  to.used = std::exchange(found->used, 0);
  to.moved = std::exchange(found->moved, {});
  to.moved(to.data);
  return found;
}

FeaturePool::Place& FeaturePool::allocated(size_t bytes) {
  // A free place is too small for an image that came: it goes, so that there are never more than were in use together.
  const auto free =
      std::find_if(places_.begin(), places_.end(), [](const Place& place) { return place.alone && place.used == 0; });
  if (free != places_.end()) {
    source_.release(free->data, free->bytes);
    places_.erase(free);
  }
  places_.push_back({static_cast<char*>(source_.allocate(bytes)), bytes, true});
  return places_.back();
}

}  // namespace fire
