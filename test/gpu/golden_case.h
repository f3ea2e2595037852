// What wrapper_goldens.cu and hopper_goldens.cuh have in common: a case, its fixed inputs, its way to the device.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "cuda/gpu.h"
#include "cuda/runtime.h"

namespace fire::cuda::goldens {

using Words = std::vector<uint32_t>;

struct Case {
  std::string name;
  /// Sums of the tensor cores may be taken in any order and keep a few bits less: 1e-6 of the largest answer.
  bool exact;
  unsigned words;  // a line of the file
  std::function<Words(Stream)> ask;
  Words out;
};

// --- inputs --------------------

/// PCG (O'Neill 2014) output of a counter: the same words everywhere.
inline uint32_t noise(uint32_t i) {
  const uint32_t state = i * 747796405u + 2891336453u;
  const uint32_t word = ((state >> ((state >> 28) + 4)) ^ state) * 277803737u;
  return (word >> 22) ^ word;
}

inline Words noise_words(unsigned count, uint32_t first) {
  Words words(count);
  for (unsigned i = 0; i < count; ++i) words[i] = noise(first + i);
  return words;
}

inline uint32_t bits(float x) {
  uint32_t word;
  std::memcpy(&word, &x, sizeof word);
  return word;
}

inline float value(uint32_t word) {
  float x;
  std::memcpy(&x, &word, sizeof x);
  return x;
}

/// An integer of [-8, 8]: every product and sum is exact, whatever the order.
inline float small_integer(uint32_t word) { return static_cast<float>(static_cast<int>(word % 17) - 8); }

/// About [-4, 4] with many magnitudes.
inline float spread(uint32_t word) {
  return std::ldexp(static_cast<float>(word & 0xffff) / 32768.0f - 1.0f, static_cast<int>(word >> 28 & 7) - 5);
}

// --- the device --------------------

/// Words in device memory.
class DeviceWords {
 public:
  DeviceWords(const Words& words, Stream stream) : count_(words.size()) {
    data_ = static_cast<uint32_t*>(allocate(count_ * 4));
    host_ = static_cast<uint32_t*>(allocate_pinned(count_ * 4));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memcpy(host_, words.data(), count_ * 4);
    copy_to_device(data_, host_, count_ * 4, stream);
    synchronize(stream);
  }
  DeviceWords(const DeviceWords&) = delete;
  DeviceWords& operator=(const DeviceWords&) = delete;
  ~DeviceWords() {
    release(data_);
    release_pinned(host_);
  }
  uint32_t* data() { return data_; }
  Words read(Stream stream) {
    synchronize(stream);
    copy_to_host(host_, data_, count_ * 4, stream);
    synchronize(stream);
    return Words(host_, host_ + count_);
  }

 private:
  size_t count_;
  uint32_t *data_ = nullptr, *host_ = nullptr;
};

/// FNV-1a of each `each` words: what is exact need not be written out.
inline Words folded(const Words& words, size_t each) {
  Words folds;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i % each == 0) folds.push_back(2166136261u);
    for (int byte = 0; byte < 4; ++byte) folds.back() = (folds.back() ^ (words[i] >> 8 * byte & 0xff)) * 16777619u;
  }
  return folds;
}

}  // namespace fire::cuda::goldens
