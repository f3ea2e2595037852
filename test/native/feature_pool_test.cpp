// Memory of image features: how much is held, that nothing is in use twice, and that what moves keeps its values.
#include "model/feature_pool.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>

#include "check.h"
#include "fixture.h"

using namespace fire;
using namespace fire::test;

namespace {

/// A device whose memory is the host's.
struct Device {
  std::map<void*, size_t> blocks;
  size_t allocations = 0, moves = 0;

  size_t bytes() const {
    return std::accumulate(blocks.begin(), blocks.end(), size_t{0},
                           [](size_t sum, const auto& block) { return sum + block.second; });
  }
  Arena::Source source() {
    return {[this](size_t bytes) {
              ++allocations;
              void* data = std::aligned_alloc(256, bytes);
              blocks[data] = bytes;
              return data;
            },
            [this](void* data, size_t bytes) {
              CHECK(blocks.at(data) == bytes);
              blocks.erase(data);
              std::free(data);
            }};
  }
  FeaturePool::Copy copy() {
    return [this](void* to, const void* from, size_t bytes) {
      ++moves;
      std::memcpy(to, from, bytes);
    };
  }
};

/// Features full of a value of their own.
class Image {
 public:
  Image(FeaturePool& pool, size_t bytes, uint8_t value)
      : pool_(pool), bytes_(bytes), value_(value), data_(pool.take(bytes, [this](void* data) { data_ = data; })) {
    CHECK(reinterpret_cast<uintptr_t>(data_) % 256 == 0);
    std::memset(data_, value, bytes);
  }
  ~Image() {
    const auto* values = static_cast<const uint8_t*>(data_);
    CHECK(std::all_of(values, values + bytes_, [this](uint8_t x) { return x == value_; }));
    pool_.give(data_, bytes_);
  }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

 private:
  FeaturePool& pool_;
  size_t bytes_;
  uint8_t value_;
  void* data_;
};

/// The most that is held while images of these sizes come, so many in use at once, any of them giving way.
size_t most_held(Device& device, FeaturePool& pool, const std::vector<size_t>& sizes, size_t at_once) {
  Random random(5);
  std::vector<std::unique_ptr<Image>> held;
  size_t most = 0;
  for (const size_t bytes : sizes) {
    if (held.size() == at_once)
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(random.integer(0, static_cast<int64_t>(at_once) - 1)));
    held.push_back(std::make_unique<Image>(pool, bytes, static_cast<uint8_t>(random.integer(0, 255))));
    most = std::max(most, device.bytes());
    CHECK(pool.bytes() == device.bytes());
  }
  return most;
}

size_t largest(std::vector<size_t> sizes, size_t count) {
  std::sort(sizes.rbegin(), sizes.rend());
  size_t sum = 0;
  for (size_t i = 0; i < std::min(count, sizes.size()); ++i) sum += FeaturePool::rounded(sizes[i]);
  return sum;
}

}  // namespace

TEST("feature pool: places for the largest images of a run hold any of its images, and nothing more is taken") {
  Random random(3);
  size_t moves = 0;
  for (int run = 0; run < 60; ++run) {
    // Each image a size of its own or one of few, with outliers; in use together at most as many as there are places.
    const int64_t kinds = random.integer(1, 6);
    std::vector<size_t> images;
    for (int i = 0; i < 40; ++i)
      images.push_back(static_cast<size_t>(run % 2 ? random.integer(1, 6000) : 700 * random.integer(1, kinds)) *
                       static_cast<size_t>(random.integer(0, 9) == 0 ? 20 : 1));
    const size_t places = static_cast<size_t>(random.integer(1, 12));
    std::vector<size_t> sorted = images;
    std::sort(sorted.rbegin(), sorted.rend());
    sorted.resize(places);

    Device device;
    {
      FeaturePool pool(device.source(), device.copy());
      pool.reserve(sorted);
      CHECK(device.allocations == 1 && device.bytes() == largest(images, places));
      std::map<size_t, std::unique_ptr<Image>> held;  // by its place in `images`: none is there twice
      for (int turn = 0; turn < 400; ++turn) {
        const size_t next = static_cast<size_t>(random.integer(0, 39));
        if (held.count(next)) continue;
        if (held.size() == places)
          held.erase(std::next(held.begin(), random.integer(0, static_cast<int64_t>(places) - 1)));
        held[next] = std::make_unique<Image>(pool, images[next], static_cast<uint8_t>(turn));
      }
      pool.reserve(sorted);  // is there
      CHECK(device.allocations == 1);
      moves += device.moves;
    }
    CHECK(device.blocks.empty());
  }
  CHECK(moves > 0);
}

TEST("feature pool: without places it holds no more than as many of the largest images as were in use together") {
  Random random(5);
  std::vector<size_t> growing, single, several;
  for (size_t i = 1; i <= 500; ++i) growing.push_back(i * 1000);
  for (int i = 0; i < 2000; ++i) {
    single.push_back(static_cast<size_t>(random.integer(3300, 16384)));
    several.push_back(static_cast<size_t>(random.integer(1000, 5000)));
  }
  const struct {
    const std::vector<size_t>& sizes;
    size_t at_once;
  } cases[] = {{growing, 1}, {single, 1}, {several, 8}};
  for (const auto& [sizes, at_once] : cases) {
    Device device;
    {
      FeaturePool pool(device.source(), device.copy());
      CHECK(most_held(device, pool, sizes, at_once) <= at_once * largest(sizes, 1));
      const size_t settled = device.allocations;
      most_held(device, pool, sizes, at_once);
      CHECK(device.allocations == settled);
    }
    CHECK(device.blocks.empty());
  }
}

TEST("feature pool: an image that is larger than every place gets a block, which goes when another is needed") {
  Device device;
  {
    FeaturePool pool(device.source(), device.copy());
    pool.reserve({1000, 500});
    const size_t reserved = device.bytes();
    { const Image outlier(pool, 9000, 1); }
    CHECK(device.bytes() == reserved + FeaturePool::rounded(9000));
    { const Image again(pool, 8000, 2); }
    { const Image larger(pool, 20000, 3); }
    CHECK(device.bytes() == reserved + FeaturePool::rounded(20000));
    pool.reserve({1000, 500});
    CHECK(device.bytes() == reserved);
    pool.reserve({1000, 700, 300});  // one of them is there, and 512 hold 300
    CHECK(device.bytes() == reserved + FeaturePool::rounded(700));
  }
  CHECK(device.blocks.empty());
}

TEST("feature pool: a device that waits for nobody keeps nothing") {
  Device device;
  FeaturePool pool(device.source());
  pool.reserve({1000, 500});
  CHECK(device.allocations == 0);
  { const Image image(pool, 1000, 1); }
  CHECK(device.allocations == 1 && device.blocks.empty());
}
