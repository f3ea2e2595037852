// The emulator's own test: kernels with one planted fault each, and correct ones. selftest.cpp runs every one of them
// in a process of its own in every mode and checks who sees what.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "simt/emulator.h"
#include "simt/ptx.h"

namespace fire::simt::selftest {

enum Mode : unsigned { fifo = 1, lifo = 2, any_order = 4, eager = 8 };
constexpr unsigned every_mode = fifo | lifo | any_order | eager;
constexpr unsigned lazy_modes = fifo | lifo | any_order;

struct Result {
  bool right;
  uint64_t bits = 0;  // of the output, for comparison between modes
};

struct Planted {
  const char* name;
  Result (*run)();
  /// What the emulator has to say; nullptr where it has nothing to say.
  const char* report = nullptr;
  /// The modes in which the result has to be wrong.
  unsigned wrong_in = 0;
  /// What AddressSanitizer or UBSan has to say.
  const char* memory = nullptr;
  /// Whether ThreadSanitizer has to see a race; between threads of a block, or only between blocks.
  bool race = false;
  bool race_of_blocks = false;
  /// The modes that `report` is for.
  unsigned report_in = every_mode;
};

const std::vector<Planted>& planted_faults();
const std::vector<Planted>& hopper_faults();
const std::vector<Planted>& controls();
const std::vector<Planted>& hopper_controls();
/// The kernel in which most of hopper_faults are planted.
Result pipeline_without_fault();
Result read_after_store();

/// Device memory of exactly `count` elements, all bytes 0xFF.
template <class T>
class Array {
 public:
  explicit Array(size_t count) : count_(count), data_(static_cast<T*>(cuda::allocate(count * sizeof(T)))) {}
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { cuda::release(data_); }
  T* data() { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  size_t size() const { return count_; }
  /// FNV-1a of all bytes.
  uint64_t bits() const {
    uint64_t hash = 14695981039346656037u;
    const unsigned char* bytes = reinterpret_cast<const unsigned char*>(data_);
    for (size_t i = 0; i < count_ * sizeof(T); ++i) hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash;
  }

 private:
  size_t count_;
  T* data_;
};

template <class... P, class... A>
void launch(dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A... arguments) {
  cuda::gpu::launch("planted", grid, block, shared, nullptr, kernel, arguments...);
}

}  // namespace fire::simt::selftest
